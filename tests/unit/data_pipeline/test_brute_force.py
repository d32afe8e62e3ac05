"""Cells of the feature matrix equal what plain Python computes from the raw files (benchmarks/brute_force_cells.py)."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import brute_force_cells as cells
from benchmarks.brute_force_records import READERS, Hospital
from data_pipeline import synthetic
from mediscale.core.settings import Settings


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, Path]:
    """The events of a small synthetic hospital, and its extract."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    made = synthetic.run(synthetic.Params(size="tiny", patients=80, notes=False), settings, "key")
    return cells.events_of(settings, "mimic-iv", settings.home / made.path), settings.home / made.path


def test_random_cells_equal_the_brute_force(hospital: tuple[pa.Table, Path]) -> None:
    events, root = hospital
    for task in cells.TASKS:
        found = cells.compare(events, READERS["mimic-iv"](root), task, cells=1_000)
        assert (found.cells >= 900, found.filled >= 500, found.differences) == (True, True, [])


def test_the_comparison_sees_what_is_known_too_early_and_what_is_converted_wrongly(
    hospital: tuple[pa.Table, Path],
) -> None:
    events, root = hospital
    right = READERS["mimic-iv"](root)
    early = Hospital(
        {
            who: [r._replace(known=r.time - timedelta(days=1)) for r in own]
            for who, own in right.records.items()
        }
    )
    hot = Hospital(
        {
            who: [r._replace(value=r.value * 1.8 + 32) if r.what == "temperature" else r for r in own]
            for who, own in right.records.items()
        }
    )
    assert len(cells.compare(events, early, "mortality", cells=1_000).differences) > 10
    wrong = cells.compare(events, hot, "mortality", cells=1_000).differences
    assert {one.feature.partition("_")[0] for one in wrong} == {"temperature"}
