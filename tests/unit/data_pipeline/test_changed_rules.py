"""Rules that changed, by a mended YAML or another release: what was wrong was never true, what was known stays so."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fixtures.wards import Ward, night, with_own_yaml, without_data_docs

from data_pipeline.ingest import source as sources
from data_pipeline.ingest import supersede
from mediscale.core import declaration_files
from mediscale.storage import lake

CREATININE = "LOINC//2160-0"
CONVERSION = "mg/dl: value, umol/l: value / 88.42"
CORRECTED = ("12:00:00,1.2,1.2,", "12:00:00,2.4,2.4,")
FIRST = datetime(2026, 1, 1, 12)

Said = list[tuple[float | None, datetime, bool]]


@pytest.fixture(autouse=True)
def _without_data_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    without_data_docs(monkeypatch)


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ward:
    return with_own_yaml(tmp_path, monkeypatch)


def mend(ward: Ward, old: str, new: str) -> None:
    text = (declaration_files.home_folder("source") / f"{ward.source}.yaml").read_text()
    assert text.count(old) == 1
    mended = ward.folder / f"{ward.source}.yaml"
    mended.write_text(text.replace(old, new))
    sources.register(str(mended))


def creatinine(ward: Ward) -> Said:
    """Value, since when it is known, and whether it is withdrawn, of every assertion."""
    rows = lake.read(ward.settings, ward.results["silver"].events).to_pylist()
    own = [row for row in rows if row["code"] == CREATININE]
    return sorted((row["numeric_value"], row["available_time"], row["retracted"]) for row in own)


def test_a_mended_time_of_knowing_holds_for_all_that_is_there(ward: Ward) -> None:
    available = "available: coalesce(storetime, charttime + {laboratory_delay})"
    mend(ward, available, "available: coalesce(storetime, charttime) + interval 3 hours")
    ward.ingest(night(3))
    later = datetime(2026, 1, 1, 15)
    assert creatinine(ward) == [(1.2, later, False), (1.9, later, False)]
    assert ward.results["silver"].rebuilt
    mend(ward, "available: coalesce(storetime, charttime) + interval 3 hours", available)
    ward.ingest(night(4))
    assert creatinine(ward) == [(1.2, FIRST, False), (1.9, FIRST, False)]


def test_a_corrected_value_stays_known_from_its_correction_on_whatever_the_rules_make_of_it(
    ward: Ward,
) -> None:
    ward.replace("hosp/labevents", *CORRECTED)
    ward.ingest(night(3))
    history = [(1.2, FIRST, False), (1.9, FIRST, False), (2.4, night(3), False)]
    assert creatinine(ward) == history
    mend(ward, CONVERSION, f"furlong: value * 3, {CONVERSION}")
    ward.ingest(night(4))
    assert creatinine(ward) == sorted([*history, (3.0, FIRST, False)]), (
        "what is newly usable was known when it was"
    )
    mend(ward, CONVERSION, "mg/dl: value * 2, umol/l: value / 88.42")
    ward.ingest(night(5))
    assert creatinine(ward) == [(3.0, FIRST, False), (3.8, FIRST, False), (4.8, night(3), False)], (
        "of the row before the correction nothing can be said by the new rules"
    )


def test_what_an_extract_corrects_on_the_night_of_a_release_is_known_from_that_night(ward: Ward) -> None:
    """A release that changes how nothing of this extract is read, and one that does."""
    mend(ward, CONVERSION, f"furlong_of_water: value, {CONVERSION}")
    ward.replace("hosp/labevents", *CORRECTED)
    before = ward.as_of(night(2))
    ward.ingest(night(3))
    assert creatinine(ward) == [(1.2, FIRST, False), (1.9, FIRST, False), (2.4, night(3), False)]
    assert ward.as_of(night(2)) == before
    assert not ward.results["silver"].rebuilt
    mend(ward, CONVERSION, "mg/dl: value * 2, umol/l: value / 88.42")
    ward.replace("hosp/labevents", "12:00:00,1.9,1.9,", "12:00:00,0.7,0.7,")
    ward.ingest(night(4))
    assert creatinine(ward) == [(1.4, night(4), False), (3.8, FIRST, False), (4.8, night(3), False)]


def test_what_the_rules_drop_is_gone_and_what_an_extract_dropped_stays(ward: Ward) -> None:
    ward.replace(
        "hosp/labevents", "        2,2,21,50912,2026-01-01 11:00:00,2026-01-01 12:00:00,1.9,1.9,mg/dL\n", ""
    )
    ward.ingest(night(3))
    assert len(creatinine(ward)) == 2, "an extract that need not be complete withdraws nothing"
    mend(ward, f"{{{CONVERSION}}}", "{umol/l: value / 88.42}")
    ward.ingest(night(4))
    assert creatinine(ward) == [(1.9, FIRST, False)]


def test_what_was_withdrawn_was_known_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ward = with_own_yaml(tmp_path, monkeypatch, "\ncomplete: true\n")
    ward.replace(
        "hosp/labevents", "        2,2,21,50912,2026-01-01 11:00:00,2026-01-01 12:00:00,1.9,1.9,mg/dL\n", ""
    )
    ward.ingest(night(3))
    mend(ward, CONVERSION, "mg/dl: value * 2, umol/l: value / 88.42")
    ward.ingest(night(4))
    assert creatinine(ward) == [(1.9, FIRST, False), (1.9, night(3), True), (2.4, FIRST, False)]


@pytest.mark.parametrize(
    "conversion", [f"furlong_of_water: value, {CONVERSION}", CONVERSION.replace("value,", "value * 2,")]
)
def test_patients_of_whom_nothing_changes_need_not_be_restated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conversion: str
) -> None:
    """The same release on the same night of a correction, with everybody restated and without."""
    tables: list[list[str]] = []
    restated: list[set[int]] = []
    told_alike, restate = supersede.subjects_told_alike, supersede.restate

    def counted(asserted: pa.Table, *others: Any) -> pa.Table:
        restated[-1] |= set(asserted["subject_id"].to_pylist())
        return restate(asserted, *others)

    monkeypatch.setattr(supersede, "restate", counted)
    for name, alike in (("some", told_alike), ("all", lambda _: pa.array([], pa.int64()))):
        monkeypatch.setattr(supersede, "subjects_told_alike", alike)
        restated.append(set())
        ward = with_own_yaml(tmp_path / name, monkeypatch)
        mend(ward, CONVERSION, conversion)
        ward.replace("hosp/labevents", *CORRECTED)
        ward.ingest(night(3))
        events = lake.read(ward.settings, ward.results["silver"].events)
        tables.append(sorted(map(str, events.to_pylist())))
    assert tables[0] == tables[1]
    assert restated[0] < restated[1]
    assert len(restated[1]) == len(ward.tables["hosp/patients"].split()) - 1
