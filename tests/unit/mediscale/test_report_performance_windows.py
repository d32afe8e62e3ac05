"""Performance since the decision on the page of a run: measured and estimated windows are told apart."""

from dataclasses import replace
from datetime import timedelta

import pytest
from fixtures import performance_tables
from fixtures.performance_tables import MEASURED, figure

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.report import performance_windows
from mediscale.report.data import collect
from mediscale.report.page import Page
from mediscale.report.templates import environment
from mediscale.storage import lineage

MODEL = ModelRef(name="synthetic-mortality", version=1, uri="", digest="")


@pytest.fixture
def windows(settings: Settings) -> tuple[performance_windows.Window, ...]:
    interval = {"low": 0.66, "high": 0.75, "limit_low": 0.78, "n": 400, "events": 40, "alarm": True}
    rows = [
        figure("measured", "auroc", 0.71, **interval),
        figure("measured", "ppv", None, n=400, events=40),
        figure("measured", "auroc_gap", -0.2, attribute="sex", value="female", n=200, alarm=True),
        figure("estimated", "auroc", 0.85, window_start=MEASURED + timedelta(days=28)),
        figure("inputs", "drifted_columns", 3.0, alarm=True),
        figure("measured", "auroc", 0.5, model_version=2),
    ]
    performance_tables.write(settings, rows, "series")
    return performance_windows.collect(settings, "synthetic", "mortality", MODEL)


def test_a_version_that_nobody_followed_has_no_series(settings: Settings) -> None:
    assert performance_windows.collect(settings, "synthetic", "mortality", MODEL) == ()
    assert performance_windows.over_time("mortality", ()) is None


def test_windows_of_the_version_say_how_they_are_known(
    windows: tuple[performance_windows.Window, ...],
) -> None:
    measured, opened = windows
    assert (measured.measured, measured.counted, measured.promised) == (True, "400 / 40", 0.78)
    assert measured.alarms == ("auroc", "auroc gap of sex female")
    assert measured.figures["auroc"].value == 0.71
    assert (opened.basis, opened.counted) == ("estimated (CBPE), outcomes not matured", "fewer than 10")
    assert opened.alarms == ()


def test_the_chart_tells_measured_from_estimated(windows: tuple[performance_windows.Window, ...]) -> None:
    drawn = performance_windows.over_time("mortality", windows)
    assert drawn is not None
    for words in (">measured<", ">estimated, not measured<", ">promised at least<"):
        assert words in drawn.svg
    assert "measured: 0.710; 2026-10-29 estimated (CBPE), outcomes not matured: 0.850" in drawn.svg
    assert performance_windows.over_time("mortality", windows[1:]) is not None


def test_every_followed_metric_has_a_label() -> None:
    label = environment().filters["metric"]
    assert all(label(name)[0].isupper() for name in performance_windows.METRICS)


@pytest.mark.usefixtures("empty_charts")
def test_the_page_of_a_run_shows_every_window(
    one_run: Settings, windows: tuple[performance_windows.Window, ...]
) -> None:
    contents = collect(one_run, lineage.find(one_run, ""))
    assert "as outcomes mature" not in Page(replace(contents, tasks=contents.tasks[:1])).render()
    followed = tuple(replace(task, windows=windows) for task in contents.tasks if task.decided)
    text = Page(replace(contents, tasks=followed)).render()
    assert text.count("Since the decision, as outcomes mature") == len(followed) > 0
    assert "estimated (CBPE), outcomes not matured" in text
    assert "auroc gap of sex female" in text
    assert "Positive predictive value (alerts that are right)" in text
