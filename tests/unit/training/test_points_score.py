"""The points score can be added up by hand, tells patients apart, and means what it says."""

import numpy as np
import pytest
from unit.training.test_calibration import _examples

from data_pipeline.features import kernel, plain_inputs
from mediscale.inference.points import Band, Item, PointsScore, PointsTable
from mediscale.report import points_table
from training.statistics import metrics
from training.tabular import points_score

AGE = Item(
    feature="age_years",
    name="age",
    bands=(Band(below=50, points=0), Band(below=70, points=2), Band(below=None, points=5)),
    missing=1,
    mean=2.5,
)
PRESSURE = Item(
    feature="systolic_blood_pressure_last_24h",
    name="systolic_blood_pressure",
    bands=(Band(below=100, points=4), Band(below=None, points=0)),
    missing=0,
    mean=0.5,
)
SCORE = PointsScore(
    items=(AGE, PRESSURE),
    log_odds_per_point=0.5,
    log_odds_at_zero=-4,
    strata={"low": 0, "intermediate": 3, "high": 6},
)


@pytest.mark.parametrize(
    ("row", "age", "pressure"),
    [
        ({"age_years": 49.9, "systolic_blood_pressure_last_24h": 100}, 0, 0),
        ({"age_years": 50, "systolic_blood_pressure_last_24h": 99}, 2, 4),
        ({"age_years": 90}, 5, 0),
        ({}, 1, 0),
    ],
)
def test_it_is_added_up_by_hand(row, age: int, pressure: int) -> None:
    features = ("systolic_blood_pressure_last_24h", "age_years")
    rows = np.array([[row.get(name, np.nan) for name in features]])
    assert SCORE.totals(rows, features).tolist() == [age + pressure]
    assert SCORE.risks(rows, features) == pytest.approx([1 / (1 + np.exp(4 - 0.5 * (age + pressure)))])
    table = PointsTable(SCORE, features)
    contributions = table.contributions(rows[0])
    assert contributions.tolist() == [0.5 * (pressure - 0.5), 0.5 * (age - 2.5)]
    assert table.bias + contributions.sum() == pytest.approx(-4 + 0.5 * (age + pressure))


def test_strata_begin_at_risks() -> None:
    at = {name: 1 / (1 + np.exp(4 - 0.5 * least)) for name, least in (("intermediate", 3), ("high", 6))}
    assert SCORE.thresholds == pytest.approx(at)


def named_examples(n: int, seed: int):
    """Rows whose outcome depends on age, which rises the risk, and blood pressure, which lowers it."""
    rows = _examples(n, seed)
    columns, rng = plain_inputs.newest_columns("mortality"), np.random.default_rng(seed)
    inputs = np.full_like(rows.inputs, np.nan)
    age, pressure = rng.uniform(20, 90, n), rng.normal(120, 20, n)
    inputs[:, columns["age"]], inputs[:, columns["systolic_blood_pressure"]] = age, pressure
    inputs[:, columns["heart_rate"]] = rng.normal(80, 10, n)
    inputs[rng.random(n) < 0.2, columns["systolic_blood_pressure"]] = np.nan
    log_odds = -2 + 0.06 * (age - 55) - 0.05 * (pressure - 120)
    outcomes = (rng.random(n) < metrics.sigmoid(log_odds)).astype(float)
    return type(rows)(**{**vars(rows), "inputs": inputs, "outcomes": outcomes})


def test_a_fitted_score_is_small_tells_patients_apart_and_is_calibrated() -> None:
    train, tuning, test = (named_examples(n, seed) for n, seed in ((3000, 0), (1500, 1), (3000, 2)))
    score = points_score.fit(train, tuning, "mortality")
    assert len(score.model_dump_json()) < 10_000
    assert score == PointsScore.model_validate_json(score.model_dump_json())
    points = {item.name: [band.points for band in item.bands] for item in score.items}
    assert points["age"] == sorted(points["age"])
    assert points["systolic_blood_pressure"] == sorted(points["systolic_blood_pressure"], reverse=True)
    assert max(points["heart_rate"], default=0) < max(points["age"]) <= points_score.MOST_POINTS
    assert min(min(own) for own in points.values()) == 0
    table = PointsTable(score, kernel.names("mortality"))
    explained = [table.contributions(row.astype(float)) for row in train.inputs]
    assert np.mean(explained, axis=0) == pytest.approx(0, abs=1e-3), "measured from the training rows' mean"
    risk, one = score.risks(test.inputs, kernel.names("mortality")), metrics.unweighted(test.outcomes)
    assert metrics.auroc(test.outcomes, risk, one)[0] > 0.8
    assert metrics.calibration_slope(test.outcomes, risk, one)[0] == pytest.approx(1, abs=0.2)
    assert risk.mean() == pytest.approx(test.outcomes.mean(), abs=0.03)
    totals = score.totals(test.inputs, kernel.names("mortality"))
    high, low = totals >= score.strata["high"], totals < score.strata["intermediate"]
    assert test.outcomes[high].mean() > 3 * test.outcomes[low].mean()


def test_too_few_patients_give_a_score_that_answers_the_usual_risk() -> None:
    score = points_score.fit(named_examples(60, 0), named_examples(40, 1), "mortality")
    assert score.items == ()
    rows = named_examples(10, 2).inputs
    assert len(set(score.risks(rows, kernel.names("mortality")))) == 1
    assert 0 < score.risks(rows, kernel.names("mortality"))[0] < 1


def test_the_report_shows_it_as_a_table() -> None:
    assert points_table.rows(SCORE) == [
        ("age", "below 50: 0, from 50: 2, from 70: 5; not known: 1"),
        ("systolic blood pressure", "below 100: 4, from 100: 0; not known: 0"),
    ]
    strata = points_table.strata(SCORE).replace("\N{NO-BREAK SPACE}", " ")
    assert strata.startswith("low from 0 points on (risk 2 %), intermediate from 3 points on (risk 8 %)")
