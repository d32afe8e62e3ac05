"""Simultaneous intervals of subgroups: of one figure they are the usual one's, of many they hold together."""

import numpy as np
import pytest
from scipy import stats

from mediscale.core import tasks
from mediscale.core.settings import Settings
from mediscale.storage import lineage
from training.evaluation import evaluation_report, subgroups
from training.evaluation.evaluation_report import Counts, Subgroup
from training.evaluation.performance import Performance
from training.statistics import metrics
from training.statistics.bootstrap import Resamples, simultaneous_estimates
from training.training_examples import Examples

POLICY = tasks.load("mortality").policy


def test_of_one_normal_figure_the_critical_value_is_the_normal_one() -> None:
    drawn = np.random.default_rng(0).normal(3, 2, size=(20_000, 1))
    (estimate,), critical = simultaneous_estimates(np.array([3.0]), drawn, 0.05)
    assert critical == pytest.approx(1.96, abs=0.03)
    assert (estimate.low, estimate.high) == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2), abs=0.08)


def test_of_many_independent_figures_it_is_sidak_s() -> None:
    """Šidák 1967: m independent intervals hold together at 1 - a where each holds at (1 - a)^(1/m)."""
    drawn = np.random.default_rng(1).normal(size=(20_000, 12))
    _, critical = simultaneous_estimates(np.zeros(12), drawn, 0.05)
    assert critical == pytest.approx(stats.norm.ppf(0.5 + 0.95 ** (1 / 12) / 2), abs=0.05)


def test_copies_of_one_figure_are_one_figure() -> None:
    drawn = np.repeat(np.random.default_rng(2).normal(size=(20_000, 1)), 12, axis=1)
    _, critical = simultaneous_estimates(np.zeros(12), drawn, 0.05)
    assert critical == pytest.approx(1.96, abs=0.03), "Bonferroni's would be 2.87"


def test_what_can_t_be_estimated_has_no_interval_and_takes_none_from_the_others() -> None:
    drawn = np.random.default_rng(3).normal(size=(500, 3))
    drawn[:100, 1], drawn[:, 2] = np.nan, 7.0
    told, critical = simultaneous_estimates(np.array([0.0, 0.0, 7.0]), drawn, 0.05)
    assert [estimate.low is None for estimate in told] == [False, True, True]
    assert critical == pytest.approx(1.96, abs=0.2)


def test_resamples_in_which_nothing_can_be_estimated_take_no_interval_from_the_others() -> None:
    drawn = np.random.default_rng(3).normal(size=(500, 2))
    drawn[:10] = np.nan  # an only group of few outcomes, none of which was drawn
    estimates, critical = simultaneous_estimates(np.zeros(2), drawn, 0.05)
    assert critical == simultaneous_estimates(np.zeros(2), drawn[10:], 0.05)[1]
    assert all(estimate.interval is not None for estimate in estimates)


def _hospital(seed: int, n: int = 900, bad: bool = False) -> Performance:
    """Risks that are right for everybody, or for all but one age band, whose order they turn round."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-1.5, 1.3, n)
    times = np.full(n, np.datetime64("2150-01-01", "us"))
    bands = rng.choice(["18-44", "45-64", "65-79", "80+"], n)
    outcomes = (rng.random(n) < metrics.sigmoid(log_odds)).astype(np.float64)
    if bad:
        log_odds = np.where(bands == "80+", -3.0 - log_odds, log_odds)
    attributes = {
        "sex": rng.choice(["female", "male"], n), "age_band": bands, "ethnicity": rng.choice(["a", "b", "c"], n)
    }  # fmt: skip
    rows = Examples(np.arange(n), times, outcomes, np.zeros((n, 1), np.float32), attributes, times)
    return Performance(rows, metrics.sigmoid(log_odds), Resamples(rows.subjects, 150, seed))


def test_the_figures_of_a_group_are_those_of_its_rows_alone() -> None:
    held_out = _hospital(5)
    groups, family = subgroups.judge(held_out, POLICY)
    women = next(group for group in groups if group.value == "female")
    part = held_out.part(held_out.rows.attributes["sex"] == "female")
    one = metrics.unweighted(part.rows.outcomes)
    auroc = metrics.auroc(part.rows.outcomes, part.risk, one)[0]
    everybody = metrics.auroc(held_out.rows.outcomes, held_out.risk, np.ones((1, 900)))[0]
    assert women.auroc.value == pytest.approx(auroc)
    assert women.auroc_gap.value == pytest.approx(auroc - everybody)
    intercept = metrics.calibration_intercept(part.rows.outcomes, part.risk, one)[0]
    assert women.calibration_intercept.value == pytest.approx(intercept)
    assert (family.size, family.error_rate) == (2 * 9, POLICY.subgroup_error_rate)
    assert 2.2 < family.critical_value < 3.5


def test_the_family_s_error_rate_is_kept_and_pointwise_intervals_would_not() -> None:
    """Redrawn sixty times, risks that are right: how often some interval of the family misses its true value."""
    missed, pointwise, trials = 0, 0, 60
    for seed in range(trials):
        groups, family = subgroups.judge(_hospital(seed), POLICY)
        ends = np.array(
            [[getattr(g.calibration_intercept, x) for x in ("low", "value", "high")] for g in groups]
        )
        low, value, high = ends.astype(np.float64).T
        missed += bool(((low > 0) | (high < 0)).any())
        pointwise += bool((np.abs(value) > 1.96 / family.critical_value * (high - low) / 2).any())
    assert missed <= 8, "at 5 % there are three, and more than eight once in 200"
    assert pointwise >= 12


def test_a_group_that_is_ranked_the_wrong_way_round_is_found() -> None:
    groups, _ = subgroups.judge(_hospital(3, bad=True), POLICY)
    old = next(group for group in groups if group.value == "80+")
    assert old.auroc_gap.high < -POLICY.subgroup_gap_max


def test_what_leaves_the_lake_lets_nobody_subtract_the_outcomes_of_a_small_group(one_run: Settings) -> None:
    """93 outcomes, of which three age bands had 19, 41 and 32: the fourth had one, and its patient 18 to 44 years."""
    (decision, *_) = lineage.find(one_run, "synthetic-mortality/1").all("promotion", "mortality")
    read = evaluation_report.read(one_run, decision.params["evidence"], decision.params["evidence_digest"])
    sizes = {"18-44": (158, 1), "45-64": (431, 19), "65-79": (353, 41), "80+": (213, 32)}
    groups = [
        Subgroup(
            attribute="age_band",
            value=value,
            counts=Counts(n=n, events=events, subjects=n),
            status="estimated",
        )
        for value, (n, events) in sizes.items()
    ]
    counts = Counts(n=1155, events=93, subjects=822)
    evidence = read.model_copy(update={"counts": counts, "subgroups": tuple(groups)})
    assert subgroups.outcomes_in_words(evidence) == ["fewer than 10", "suppressed", "41", "32"]
    released = [group["counts"].get("events") for group in subgroups.released(evidence)["subgroups"]]
    assert released == [None, None, 41, 32]
