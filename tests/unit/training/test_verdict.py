"""Every floor of the policy can refuse, and whatever is missing or not a number does."""

import pytest

from mediscale.core import tasks
from mediscale.core.refs import ModelRef, TableRef
from training.evaluation.evaluation_report import (
    Baseline,
    Benefit,
    Comparison,
    Counts,
    Estimate,
    Evidence,
    Oracle,
    PlainInputs,
    Subgroup,
)
from training.promotion import gate

POLICY = tasks.load("mortality").policy
COUNTS = Counts(n=900, events=80, subjects=600)
NOTHING = Estimate(value=None, low=None, high=None)


def _at(value: float, width: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - width, high=value + width)


def _benefit(over: float) -> tuple[Benefit, ...]:
    return tuple(
        Benefit(threshold=t, model=_at(0.05), treat_all=_at(0.01), over_best_alternative=_at(over))
        for t in POLICY.thresholds
    )


def _baseline(gain: Estimate) -> tuple[Baseline, ...]:
    return (Baseline(kind="bedside rule", name="NEWS2", source="", auroc=_at(0.7), gain=gain),)


def _subgroup(auroc: Estimate, status: str = "estimated") -> tuple[Subgroup, ...]:
    return (Subgroup(attribute="sex", value="female", counts=COUNTS, status=status, auroc=auroc),)


def _compared(**changes: object) -> Comparison:
    given = {
        "incumbent": ModelRef(name="h-mortality", version=3, uri="m3", digest="i"),
        "missing_inputs": 0,
    }
    return Comparison.model_validate({**given, "probability_better": 0.95, **changes})


GOOD = Evidence(
    dataset="h",
    task="mortality",
    model=ModelRef(name="h-mortality", version=4, uri="m4", digest="d"),
    training_set=TableRef(dataset="h", table="training_set_mortality", table_id="t", version=0),
    rows_digest="r",
    key="k",
    bootstrap=500,
    seed=0,
    assumptions=(),
    counts=COUNTS,
    metrics={
        "auroc": _at(0.82),
        "calibration_slope": _at(1.0, 0.1),
        "calibration_intercept": _at(0.0, 0.1),
    },
    calibration_curve=(),
    net_benefit=_benefit(0.03),
    subgroups=_subgroup(_at(0.80)),
    baselines=_baseline(_at(0.08)),
    plain_inputs=(PlainInputs(inputs=("age", "sex"), auroc=_at(0.7), log_loss=_at(0.3)),),
    oracle=Oracle(counts=COUNTS, auroc=_at(0.9), model_auroc=_at(0.82), gap=_at(0.08)),
    comparison=_compared(),
)


def _metric(name: str, estimate: Estimate) -> dict[str, object]:
    return {"metrics": {**GOOD.metrics, name: estimate}}


def test_every_floor_is_told_with_what_was_asked_and_found() -> None:
    told = {floor.what: floor for floor in gate.floors(GOOD, POLICY)}
    assert {"held-out patients", "AUROC", "calibration slope", "AUROC of sex female"} <= told.keys()
    assert not any(floor.objection for floor in told.values())
    assert (told["AUROC"].asked, told["AUROC"].found) == ("interval above 0.7", "0.820 (0.800 to 0.840)")


def test_good_evidence_meets_no_objection() -> None:
    assert list(gate.objections(GOOD, POLICY)) == []
    assert list(gate.objections(GOOD.model_copy(update={"oracle": None, "comparison": None}), POLICY)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counts": Counts(n=20, events=40, subjects=14)}, "14 held-out patients where the policy needs 200"),
        (
            {"counts": Counts(n=900, events=3, subjects=600)},
            "fewer than 10 held-out events where the policy needs 30",
        ),
        (_metric("auroc", _at(0.985, 0.01)), "suspected leak: AUROC 0.985"),
        (
            {"oracle": GOOD.oracle.model_copy(update={"gap": _at(-0.05)})},
            "suspected leak: the model does better",
        ),
        (
            {"oracle": GOOD.oracle.model_copy(update={"gap": Estimate(value=0.0, low=None, high=None)})},
            "AUROC below the best possible is not estimable",
        ),
        (_metric("auroc", _at(0.71)), "AUROC 0.710 (0.690 to 0.730) may lie below 0.7"),
        (_metric("auroc", NOTHING), "AUROC is not estimable"),
        (_metric("auroc", Estimate(value=0.8, low=None, high=None)), "AUROC is not estimable"),
        (_metric("auroc", Estimate(value=float("nan"), low=0.8, high=0.9)), "AUROC is not estimable"),
        ({"metrics": {}}, "calibration slope is not estimable"),
        (
            _metric("calibration_slope", _at(0.5, 0.1)),
            "calibration slope 0.500 (0.400 to 0.600) lies outside",
        ),
        (_metric("calibration_slope", _at(1.5, 0.1)), "calibration slope 1.500"),
        (
            _metric("calibration_slope", _at(0.7, 0.4)),
            "calibration slope 0.700 (0.300 to 1.100) lies outside",
        ),
        (_metric("calibration_slope", NOTHING), "calibration slope is not estimable"),
        (_metric("calibration_intercept", _at(-0.9, 0.1)), "calibration intercept -0.900"),
        (_metric("calibration_intercept", _at(0.5, 0.3)), "calibration intercept 0.500"),
        ({"net_benefit": _benefit(0.01)}, "net benefit at 10% over treating all or none"),
        (
            {
                "net_benefit": (
                    GOOD.net_benefit[1].model_copy(
                        update={"over_best_alternative": Estimate(value=0.0, low=None, high=None)}
                    ),
                )
            },
            "net benefit at 10% over treating all or none is not estimable",
        ),
        ({"net_benefit": ()}, "net benefit at 10% over treating all or none is not estimable"),
        ({"subgroups": _subgroup(_at(0.70))}, "AUROC of sex female 0.700 (0.680 to 0.720) falls behind"),
        ({"subgroups": _subgroup(NOTHING)}, "AUROC of sex female is not estimable"),
        ({"baselines": _baseline(_at(0.01))}, "AUROC over NEWS2 0.010 (-0.010 to 0.030) may lie below 0"),
        ({"baselines": ()}, "AUROC over a bedside rule is not estimable"),
        ({"plain_inputs": ()}, "AUROC with bedside inputs only is not estimable"),
        (
            {"comparison": _compared(probability_better=0.6)},
            "better than v3 in production in 60% of resamples",
        ),
        ({"comparison": _compared(probability_better=None)}, "in not estimable of resamples"),
        ({"comparison": _compared(probability_better=float("nan"))}, "better than v3"),
        (
            {"comparison": _compared(missing_inputs=7)},
            "v3 in production can't be compared: 7 of its inputs are gone",
        ),
        (
            {"comparison": _compared(missing_notes=True)},
            "v3 in production can't be compared: it reads notes, and there are none in its tokenizer's numbers",
        ),
    ],
)
def test_each_floor_refuses(changes: dict[str, object], says: str) -> None:
    problems = list(gate.objections(GOOD.model_copy(update=changes), POLICY))
    assert any(says in problem for problem in problems), problems


def test_a_subgroup_that_is_too_small_to_judge_does_not_refuse() -> None:
    small = GOOD.model_copy(update={"subgroups": _subgroup(NOTHING, status="too few")})
    assert list(gate.objections(small, POLICY)) == []


@pytest.mark.parametrize(("n", "ends"), [(1, "a"), (3, "a; b; c"), (5, "a; b; c; and 2 more")])
def test_the_sentence_stays_readable(n: int, ends: str) -> None:
    assert gate.sentence(list("abcde")[:n]) == ends


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_the_policy_judges_at_a_threshold_that_evidence_holds(task: str) -> None:
    floors = tasks.load(task).policy
    assert floors.clinical_threshold in floors.thresholds
    assert floors.min_subjects > 90, "the 100 patients of the MIMIC-III demo can't carry a production model"
