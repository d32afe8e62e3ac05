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


def _subgroup(attribute: str = "sex", value: str = "female", **changes: object) -> Subgroup:
    usual = {
        "counts": COUNTS, "status": "estimated", "auroc": _at(0.80), "calibration_intercept": _at(0.1, 0.3)
    }  # fmt: skip
    return Subgroup.model_validate({"attribute": attribute, "value": value, **usual, **changes})


def _too_few(attribute: str, value: str) -> Subgroup:
    return _subgroup(attribute, value, status="too few", auroc=None, calibration_intercept=None)


JUDGED = tuple(
    _subgroup(attribute, value)
    for attribute, value in (
        ("sex", "female"),
        ("sex", "male"),
        ("age_band", "65-79"),
        ("ethnicity", "white"),
    )
)


def _but(*groups: Subgroup, without: str = "") -> dict[str, object]:
    """Evidence whose subgroups are the usual ones, but for an attribute or with others in the place of their like."""
    replaced = {(group.attribute, group.value) for group in groups}
    kept = [g for g in JUDGED if g.attribute != without and (g.attribute, g.value) not in replaced]
    return {"subgroups": (*kept, *groups)}


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
    subgroups=JUDGED,
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


SUBGROUPS = [
    pytest.param(_but(), [], [], id="all judged"),
    pytest.param(
        {"subgroups": ()},
        [
            "no subgroups by sex could be judged (none)",
            "no subgroups by age band could be judged (none)",
            "no subgroups by ethnicity could be judged (none)",
        ],
        [],
        id="empty",
    ),
    pytest.param(
        _but(without="ethnicity"),
        ["no subgroups by ethnicity could be judged (none)"],
        [],
        id="an attribute is missing",
    ),
    pytest.param(
        _but(_too_few("age_band", "65-79")),
        ["no subgroups by age band could be judged (too few in each)"],
        ["age band 65-79 (too few)"],
        id="all of an attribute are too few",
    ),
    pytest.param(
        _but(_too_few("ethnicity", "asian"), _too_few("sex", "unknown")),
        [],
        ["sex unknown (too few)", "ethnicity asian (too few)"],
        id="some are too few",
    ),
    pytest.param(
        _but(_subgroup("ethnicity", "unknown"), without="ethnicity"),
        [],
        ["any subgroups by ethnicity but unknown (not known)"],
        id="nobody's ethnicity is known",
    ),
    pytest.param(
        _but(_subgroup(status="not estimable", auroc=None, calibration_intercept=None)),
        ["AUROC of sex female is not estimable", "calibration intercept of sex female is not estimable"],
        [],
        id="one class only",
    ),
    pytest.param(_but(_subgroup(auroc=NOTHING)), ["AUROC of sex female is not estimable"], [], id="no AUROC"),
    pytest.param(
        _but(_subgroup(auroc=None)), ["AUROC of sex female is not estimable"], [], id="AUROC left out"
    ),
    pytest.param(
        _but(_subgroup(auroc=Estimate(value=0.8, low=None, high=None))),
        ["AUROC of sex female is not estimable"],
        [],
        id="an AUROC without an interval",
    ),
    pytest.param(
        _but(_subgroup(auroc=_at(float("nan")))),
        ["AUROC of sex female is not estimable"],
        [],
        id="not a number",
    ),
    pytest.param(
        _but(_subgroup(auroc=_at(0.70))),
        ["AUROC of sex female 0.700 (0.680 to 0.720) falls behind 0.820 overall"],
        [],
        id="far behind",
    ),
    pytest.param(_but(_subgroup(auroc=_at(0.70, 0.08))), [], [], id="behind, but perhaps not far"),
    pytest.param(
        _but(_subgroup(calibration_intercept=None)),
        ["calibration intercept of sex female is not estimable"],
        [],
        id="no calibration",
    ),
    pytest.param(
        _but(_subgroup("age_band", "65-79", calibration_intercept=_at(0.9, 0.3))),
        ["calibration intercept of age band 65-79 0.900 (0.600 to 1.200) lies outside -0.4 to 0.4"],
        [],
        id="risks far too low",
    ),
    pytest.param(
        _but(_subgroup("age_band", "65-79", calibration_intercept=_at(-0.9, 0.3))),
        ["calibration intercept of age band 65-79 -0.900 (-1.200 to -0.600) lies outside -0.4 to 0.4"],
        [],
        id="risks far too high",
    ),
    pytest.param(
        _but(_subgroup(calibration_intercept=_at(0.6, 0.3))), [], [], id="too low, but perhaps not far"
    ),
]


@pytest.mark.parametrize(("changes", "objections", "limits"), SUBGROUPS)
def test_subgroups_are_judged_or_refuse_or_are_a_limit_that_is_named(
    changes: dict[str, object], objections: list[str], limits: list[str]
) -> None:
    evidence = GOOD.model_copy(update=changes)
    assert list(gate.objections(evidence, POLICY)) == objections
    assert list(gate.limits(evidence, POLICY)) == limits


@pytest.mark.parametrize(("changes", "objections", "limits"), SUBGROUPS)
def test_a_policy_may_refuse_what_another_names(
    changes: dict[str, object], objections: list[str], limits: list[str]
) -> None:
    strict = POLICY.model_copy(update={"subgroup_unjudged": "refuse"})
    evidence = GOOD.model_copy(update=changes)
    assert sorted(gate.objections(evidence, strict)) == sorted(
        [*objections, *(f"{limit} could not be judged" for limit in limits)]
    )
    assert list(gate.limits(evidence, strict)) == []


@pytest.mark.parametrize("width", [0.05, 0.5, 5.0])
def test_silence_about_the_whole_is_no_word_for_its_parts(width: float) -> None:
    """Without an AUROC of all patients there is nothing to be behind of, and no subgroup passes."""
    evidence = GOOD.model_copy(update=_metric("auroc", NOTHING) | _but(_subgroup(auroc=_at(0.2, width))))
    problems = list(gate.objections(evidence, POLICY))
    assert {"AUROC is not estimable", "AUROC of sex female is not estimable"} <= set(problems)


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({}, ""),
        (_metric("auroc", NOTHING), "AUROC is not estimable on 600 held-out patients with 80 events"),
        ({"metrics": {}}, "AUROC is not estimable on 600 held-out patients with 80 events"),
        (_metric("auroc", Estimate(value=0.8, low=None, high=None)), "AUROC is not estimable on 600"),
        (_metric("auroc", _at(float("nan"))), "AUROC is not estimable on 600"),
        (
            _metric("auroc", NOTHING) | {"counts": Counts(n=9, events=0, subjects=7)},
            "AUROC is not estimable on fewer than 10 held-out patients with 0 events",
        ),
        (_but(without="sex"), "there are no subgroups by sex"),
        (_but(without="age_band"), "there are no subgroups by age band"),
        ({"net_benefit": GOOD.net_benefit[:1]}, "there is no net benefit at 10%"),
        ({"baselines": ()}, "it is not compared with a bedside rule"),
        ({"plain_inputs": ()}, "it is not tried with bedside inputs only"),
        ({"subgroups": tuple(_too_few(g.attribute, g.value) for g in JUDGED)}, ""),
    ],
)
def test_what_incomplete_evidence_lacks_is_named(changes: dict[str, object], lacks: str) -> None:
    problems = list(gate.lacking(GOOD.model_copy(update=changes), POLICY))
    assert len(problems) == bool(lacks)
    assert "".join(problems).startswith(lacks)


def test_what_was_looked_at_is_said_with_what_could_not_be_judged() -> None:
    some = GOOD.model_copy(update=_but(_too_few("ethnicity", "asian")))
    assert gate.looked_at(some) == (
        "AUROC 0.820 (0.800 to 0.840), calibration, net benefit, a bedside rule and 4 of 5 subgroups (1 could not be "
        "judged) were looked at on 600 held-out patients with 80 events"
    )


@pytest.mark.parametrize(("n", "ends"), [(1, "a"), (3, "a; b; c"), (5, "a; b; c; and 2 more")])
def test_the_sentence_stays_readable(n: int, ends: str) -> None:
    assert gate.sentence(list("abcde")[:n]) == ends


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_the_policy_judges_at_a_threshold_that_evidence_holds(task: str) -> None:
    floors = tasks.load(task).policy
    assert floors.clinical_threshold in floors.thresholds
    assert floors.min_subjects > 90, "the 100 patients of the MIMIC-III demo can't carry a production model"
