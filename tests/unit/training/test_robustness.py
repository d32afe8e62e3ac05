"""Stresses of the inputs: what they change, what they leave, and that the same seed gives the same."""

from typing import Any, get_args

import numpy as np
import pytest

from data_pipeline.features import kernel, plain_inputs
from mediscale.core import tasks
from mediscale.core.concepts import by_name
from mediscale.core.policy import Stress
from mediscale.core.task_features import Statistic
from training.evaluation import robustness
from training.evaluation.evaluation_report import StressTest
from training.evaluation.performance import Performance
from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.training_examples import Examples

TASK = "mortality"
NAMES = kernel.names(TASK)
N = 400


def _stress(**given: object) -> Stress:
    bound = "auroc_low" if "group" in given else "auroc_loss_max"
    return Stress.model_validate({bound: 0.6, "intercept_shift_max": 0.1, **given})


def _rows(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, len(NAMES)))
    for concept in plain_inputs.names(TASK)[2:]:
        middle = (by_name()[concept].low + by_name()[concept].high) / 2
        for i in (i for i, name in enumerate(NAMES) if name.startswith(f"{concept}_")):
            rows[:, i] += middle
    return rows.astype(np.float32)


def _columns(*begin: str) -> list[int]:
    return [i for i, name in enumerate(NAMES) if name.startswith(begin)]


def _stressed(stress: Stress, rows: np.ndarray, seed: int = 1) -> np.ndarray:
    spread = robustness.spread_of(rows)
    return robustness.apply_stress(rows, TASK, stress, spread, np.random.default_rng(seed))


def test_every_feature_that_is_measured_given_or_coded_has_one_source() -> None:
    used = [i for source in robustness.sources(TASK) for i in (*source.values, *source.counts)]
    assert len(used) == len(set(used))
    untouched = {NAMES[i] for i in set(range(len(NAMES))) - set(used)}
    assert untouched == {
        "age_years", "sex_female", "emergency_admission", "prior_visits_365d", "days_since_last_discharge",
        "icu_stays_this_visit", "in_icu",
    }  # fmt: skip


def test_without_a_laboratory_its_values_are_missing_and_its_counts_are_nothing() -> None:
    rows = _rows()
    out = _stressed(_stress(kind="unavailable", group="laboratory"), rows)
    assert np.isnan(out[:, _columns("lactate_last", "creatinine_trend", "ph_min")]).all()
    assert (out[:, _columns("lactate_count")] == 0).all()
    kept = _columns("heart_rate", "age", "treatment", "gcs", "charlson")
    assert (out[:, kept] == rows[:, kept]).all()


def test_the_share_that_is_missing_is_the_share_that_was_said_and_goes_by_measurement() -> None:
    out = _stressed(_stress(kind="missing", share=0.3), _rows())
    gone = np.isnan(out[:, _columns("lactate_last", "lactate_max")])
    assert (gone[:, 0] == gone[:, 1]).all()
    assert np.isnan(out[:, _columns("heart_rate_last")]).mean() == pytest.approx(0.3, abs=0.08)
    everywhere = np.isnan(out).sum() / sum(len(s.values) for s in robustness.sources(TASK)) / N
    assert everywhere == pytest.approx(0.3, abs=0.01)
    assert not np.isnan(out[:, _columns("age")]).any()


def test_noise_has_the_size_that_was_said_in_the_measurement_s_unit() -> None:
    rows = _rows()
    [last, high] = _columns("heart_rate_last_24h", "heart_rate_max_24h")
    out = _stressed(_stress(kind="noise", share=0.3), rows)
    moved = (out - rows)[:, last]
    assert moved.std() == pytest.approx(0.3 * rows[:, last].std(), rel=0.15)
    assert (out - rows)[:, high] == pytest.approx(moved, abs=1e-4), "a high reading is high throughout"
    assert np.array_equal(out[:, _columns("heart_rate_count", "age", "treatment")],
                          rows[:, _columns("heart_rate_count", "age", "treatment")])  # fmt: skip


def test_noise_of_measurements_leaves_when_they_were_charted() -> None:
    names = kernel.names("kidney_injury")
    rows = np.random.default_rng(0).normal(1, 0.2, (50, len(names))).astype(np.float32)
    noise, draws = _stress(kind="noise", share=0.3), np.random.default_rng(1)
    changed = robustness.apply_stress(rows, "kidney_injury", noise, robustness.spread_of(rows), draws) != rows
    moved = {name for name, of_name in zip(names, changed.any(axis=0), strict=True) if of_name}
    assert moved & {f"creatinine_{statistic}_stay" for statistic in get_args(Statistic)} == {
        f"creatinine_{statistic}_stay" for statistic in ("last", "min", "max", "trend")
    }


def test_noise_makes_nothing_that_nobody_could_have() -> None:
    rows = _rows()
    [saturation] = _columns("oxygen_saturation_last_24h")
    rows[:, saturation] = 99.5
    rows[::2, saturation] = np.nan
    out = _stressed(_stress(kind="noise", share=1.0), rows)
    assert np.nanmax(out[:, saturation]) <= 100
    assert np.isnan(out[::2, saturation]).all()


def _measured(risks: Any, seed: int = 0) -> list[StressTest]:
    rng = np.random.default_rng(4)
    log_odds = rng.normal(-1, 1.2, N)
    outcomes = (rng.random(N) < metrics.sigmoid(log_odds)).astype(np.float64)
    times = np.full(N, np.datetime64("2150-01-01", "us"))
    rows = Examples(np.arange(N), times, outcomes, _rows(), {}, times)
    held_out = Performance(rows, metrics.sigmoid(log_odds), Resamples(rows.subjects, 100, seed))
    stresses = [_stress(kind="missing", share=0.2), _stress(kind="unavailable", group="laboratory")]
    return list(robustness.measure(held_out, TASK, stresses, rows.inputs, risks(log_odds)))


def test_a_model_that_does_not_care_loses_nothing() -> None:
    for test in _measured(lambda log_odds: lambda _: metrics.sigmoid(log_odds)):
        assert test.auroc_loss.model_dump() == {"value": 0, "low": None, "high": None}
        assert test.unchanged


def test_risks_that_double_shift_the_intercept_and_lose_no_order() -> None:
    for test in _measured(lambda log_odds: lambda _: metrics.sigmoid(log_odds + np.log(2))):
        assert test.auroc_loss.value == pytest.approx(0)
        assert not test.unchanged
        assert test.intercept_shift.value == pytest.approx(-np.log(2))


def test_a_model_that_read_only_what_is_gone_loses_all() -> None:
    def risks(log_odds: np.ndarray) -> Any:
        return lambda rows: metrics.sigmoid(
            np.where(np.isnan(rows[:, _columns("lactate_last")[0]]), 0, log_odds)
        )

    some, laboratory = _measured(risks)
    assert laboratory.auroc.value == pytest.approx(0.5)
    assert laboratory.auroc_loss.low > 0.2
    assert 0 < some.auroc_loss.value < laboratory.auroc_loss.value
    assert _measured(risks) == [some, laboratory], "the same seed"


def test_the_stresses_of_the_tasks_can_be_done() -> None:
    for task in ("mortality", "readmission"):
        groups = {source.group for source in robustness.sources(task)}
        for stress in tasks.load(task).policy.stresses:
            assert stress.group is None or stress.group in groups
