"""k of the last n windows, and the newest."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from mediscale.core.errors import UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from monitoring import retrain_decision
from monitoring.drift import drift
from monitoring.performance_figures import PerformanceAlarm


def window(day: int, drifted: bool, version: int = 1, **other: Any) -> drift.Result:
    start = datetime(2026, 11, 1) + timedelta(days=day)
    values = {
        "dataset": "mimic-iii",
        "task": "mortality",
        "model": ModelRef(name="mimic-iii-mortality", version=version, uri="", digest=""),
        "start": start,
        "end": start + timedelta(days=1),
        "n": 100,
        "judged": 100,
        "n_ad_hoc": 0,
        "drifted": drifted,
        "summary": "",
    }
    return drift.Result(**(values | other))


def verdict(settings: Settings, *windows: drift.Result, **knobs: int) -> retrain_decision.Result:
    params = retrain_decision.Params(dataset="mimic-iii", task="mortality", windows=windows, **knobs)
    return retrain_decision.run(params, settings, "key")


@pytest.mark.parametrize(
    ("history", "retrains"),
    [
        ("d", False),  # one window alone, however drifted
        ("dd", True),
        ("qdd", True),
        ("dqd", True),
        ("ddq", False),  # it is over
        ("qqd", False),
        ("qqq", False),
        ("dddqqd", False),  # the old ones are forgotten
        ("qqqddd", True),
    ],
)
def test_two_of_the_last_three_and_the_newest(settings: Settings, history: str, retrains: bool) -> None:
    windows = [window(day, letter == "d") for day, letter in enumerate(history)]
    assert verdict(settings, *windows).retrain is retrains


@pytest.mark.parametrize(("k", "n", "retrains"), [(1, 1, True), (2, 2, False), (2, 4, True), (3, 4, False)])
def test_the_rule_can_be_set(settings: Settings, k: int, n: int, retrains: bool) -> None:
    windows = [window(day, letter == "d") for day, letter in enumerate("dqqd")]
    assert verdict(settings, *windows, k=k, n=n).retrain is retrains


def test_the_reason_is_one_sentence_with_the_numbers(settings: Settings) -> None:
    found = verdict(settings, window(0, True), window(1, False), window(2, True))
    assert found.reason == (
        "2 of the last 3 judged windows of mimic-iii-mortality v1 drifted and the newest one did "
        "(the rule: at least 2 of 3, and the newest)."
    )


@pytest.mark.parametrize(
    ("history", "retrains"),
    [
        ("dd-", True),  # nobody knows whether it is over
        ("d-d", True),
        ("-d", False),
        ("ddq-", False),
        ("--", False),
    ],
)
def test_a_window_that_was_not_judged_says_nothing(settings: Settings, history: str, retrains: bool) -> None:
    windows = [
        window(day, letter == "d", judged=0 if letter == "-" else 100) for day, letter in enumerate(history)
    ]
    assert verdict(settings, *windows).retrain is retrains


def test_windows_that_were_all_too_small_are_told_as_such(settings: Settings) -> None:
    found = verdict(settings, window(0, False, judged=0))
    assert found.reason == ("no window of mimic-iii-mortality v1 held predictions enough to be judged.")


@pytest.mark.parametrize(("nights", "retrains"), [(4, False), (5, True)])
def test_windows_that_overlap_are_one_witness(settings: Settings, nights: int, retrains: bool) -> None:
    """A window of four nights each night, all drifted: the first that shares none with the newest is the second."""
    windows = [window(day, True, end=window(day + 3, True).end) for day in range(nights)]
    assert verdict(settings, *windows).retrain is retrains


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([window(0, True), window(1, True, version=2)], "2 model versions"),
        (
            [window(0, True), window(1, True, task="readmission")],
            "1 of 2 windows are not of mimic-iii's mortality",
        ),
        ([window(0, True, dataset="mimic-iv")], "1 of 1 windows"),
        ([window(1, True), window(0, True)], "oldest first"),
    ],
)
def test_windows_that_do_not_belong_together_are_refused(
    settings: Settings, windows: list[drift.Result], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        verdict(settings, *windows)


def test_a_figure_of_outcomes_beyond_what_was_promised_is_reason_enough(settings: Settings) -> None:
    alarm = PerformanceAlarm(metric="auroc", attribute="sex", value="female", sentence="AUROC of women fell")
    params = retrain_decision.Params(
        dataset="mimic-iii", task="mortality", windows=(window(0, False),), performance_alarms=(alarm,)
    )
    found = retrain_decision.run(params, settings, "key")
    assert found.retrain
    assert found.reason.endswith("; AUROC of women fell.")


def test_an_impossible_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="must not exceed"):
        retrain_decision.Params(dataset="d", task="mortality", windows=(window(0, True),), k=3, n=2)
