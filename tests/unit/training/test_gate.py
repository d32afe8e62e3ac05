"""Every floor of the policy can refuse, and whatever is missing or not a number does."""

import pytest
from fixtures import leak_certificates
from hypothesis import given
from hypothesis import strategies as st

from mediscale.core import tasks
from mediscale.core.refs import ModelRef, TableRef
from training.evaluation.evaluation_report import (
    AlertBurden,
    Baseline,
    Benefit,
    Comparison,
    Counts,
    Curves,
    DataQuality,
    Evidence,
    Files,
    LeadTime,
    Oracle,
    PlainInputs,
    StressTest,
    Subgroup,
    SubgroupFamily,
)
from training.leakage.certificate import Check
from training.promotion import gate, operation_floors, staging
from training.promotion.floor import Floor, at_least, at_most, reaches, within
from training.promotion.gate import DecisionContext
from training.statistics.estimate import Estimate

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
        "counts": COUNTS, "status": "estimated", "auroc": _at(0.80), "auroc_gap": _at(-0.02),
        "calibration_intercept": _at(0.1, 0.3),
    }  # fmt: skip
    return Subgroup.model_validate({"attribute": attribute, "value": value, **usual, **changes})


def _too_few(attribute: str, value: str) -> Subgroup:
    return _subgroup(
        attribute, value, status="too few", auroc=None, auroc_gap=None, calibration_intercept=None
    )


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
    return _family((*kept, *groups))


def _family(
    groups: tuple[Subgroup, ...], error_rate: float = POLICY.subgroup_error_rate
) -> dict[str, object]:
    size = 2 * sum(group.status == "estimated" for group in groups)
    family = SubgroupFamily(error_rate=error_rate, size=size, critical_value=2.8) if size else None
    return {"subgroups": groups, "subgroup_family": family}


def _compared(**changes: object) -> Comparison:
    given = {"incumbent": ModelRef(name="h-mortality", version=3, uri="m3", digest="i"), "missing_inputs": 0}
    return Comparison.model_validate({**given, "probability_better": 0.95, **changes})


BURDEN = AlertBurden(
    threshold=POLICY.clinical_threshold,
    alerts=120,
    right_alerts=50,
    patient_days=6000,
    alerts_per_100_patient_days=_at(2.0, 0.3),
    sensitivity=_at(0.62, 0.1),
    ppv=_at(0.42, 0.05),
    number_needed_to_evaluate=_at(2.4, 0.3),
    lead_time=LeadTime(
        counts=COUNTS, lower_quartile=_at(20, 4), median=_at(60, 10), upper_quartile=_at(150, 20)
    ),
)
STRESSED = tuple(
    StressTest(
        kind=s.kind, share=s.share, group=s.group,
        auroc=_at(0.81), auroc_loss=_at(0.01, 0.005), intercept_shift=_at(0.05, 0.05),
    )
    for s in POLICY.stresses
)  # fmt: skip
QUALITY = DataQuality(
    validated_by="v", judged=40_000, quarantined=123, broken={"value_plausible": 100, "unit_known": 3},
    unlisted={"admissions.admission_type": 41}, records={"admissions.admission_type": 10_000},
)  # fmt: skip
FILES = Files(bytes=3_000_000, answers=20, median_seconds=0.0003, slowest_seconds=0.0009)
TRAINING_SET = TableRef(dataset="h", table="training_set_mortality", table_id="t", version=0)
GOOD = Evidence(
    dataset="h",
    task="mortality",
    model=ModelRef(name="h-mortality", version=4, uri="m4", digest="d"),
    training_set=TRAINING_SET,
    rows_digest="r",
    key="k",
    bootstrap=500,
    seed=0,
    assumptions=(),
    counts=COUNTS,
    metrics={"auroc": _at(0.82), "calibration_slope": _at(1.0, 0.1), "calibration_intercept": _at(0.0, 0.1)},
    calibration_curve=(),
    net_benefit=_benefit(0.03),
    **_family(JUDGED),
    alert_burden=BURDEN,
    robustness=STRESSED,
    data_quality=QUALITY,
    files=FILES,
    leakage=leak_certificates.passed(TRAINING_SET),
    baselines=_baseline(_at(0.08)),
    plain_inputs=(PlainInputs(inputs=("age", "sex"), auroc=_at(0.7), log_loss=_at(0.3)),),
    oracle=Oracle(counts=COUNTS, auroc=_at(0.9), model_auroc=_at(0.82), gap=_at(0.08)),
    comparison=_compared(),
)


def _metric(name: str, estimate: Estimate) -> dict[str, object]:
    return {"metrics": {**GOOD.metrics, name: estimate}}


def _burden(**changes: object) -> dict[str, object]:
    return {"alert_burden": BURDEN.model_copy(update=changes)}


def _stress(i: int, **changes: object) -> dict[str, object]:
    tests = list(STRESSED)
    tests[i] = tests[i].model_copy(update=changes)
    return {"robustness": tuple(tests)}


def _quality(**changes: object) -> dict[str, object]:
    return {"data_quality": QUALITY.model_copy(update=changes)}


UNJUDGED = Check(
    name="shuffled_labels", asks="they tell nothing", passed=True, shown="not estimable", judged=False
)
FAILED = Check(name="later_facts", asks="nothing of later", passed=False, shown="lactate_last differs")


def _leak(**changes: object) -> dict[str, object]:
    assert GOOD.leakage is not None
    return {"leakage": GOOD.leakage.model_copy(update=changes)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"leakage": None}, "its training set has no leak certificate; run the stage leakage"),
        (_leak(checks=(FAILED,)), "suspected leak: later facts (lactate_last differs)"),
        (_leak(checks=()), "suspected leak: nothing was checked"),
        (_leak(checks=(UNJUDGED,)), "its leak certificate could not judge shuffled labels (not estimable)"),
        (
            _leak(training_set=TRAINING_SET.model_copy(update={"version": 1})),
            "its leak certificate is not of h/training_set_mortality@v0",
        ),
        (
            _leak(training_set=TRAINING_SET.model_copy(update={"table_id": "made anew"})),
            "its leak certificate is not of h/training_set_mortality@v0",
        ),
    ],
)
def test_only_a_passed_certificate_of_this_very_training_set_lets_a_version_pass(
    changes: dict[str, object], says: str
) -> None:
    (problem,) = gate.objections(GOOD.model_copy(update=changes), POLICY)
    assert problem.startswith(says)


def test_every_floor_is_told_with_what_was_asked_and_found() -> None:
    told = {floor.label: floor for floor in gate.floors(GOOD, POLICY)}
    assert {
        "held-out patients",
        "AUROC",
        "calibration slope",
        "AUROC of sex female over all patients",
    } <= told.keys()
    assert not any(floor.objection for floor in told.values())
    assert (told["AUROC"].required, told["AUROC"].observed) == (
        "whole interval above 0.7",
        "0.820 (0.800 to 0.840)",
    )


def test_good_evidence_meets_no_objection() -> None:
    assert list(gate.objections(GOOD, POLICY)) == []
    assert list(gate.objections(GOOD.model_copy(update={"oracle": None, "comparison": None}), POLICY)) == []


def test_counts_of_thousands_are_grouped_in_both_reasons() -> None:
    many = GOOD.model_copy(update={"counts": Counts(n=9000, events=1200, subjects=8130)})
    assert gate.promoted(many, POLICY).startswith(
        "Promoted: AUROC 0.820 (0.800 to 0.840) on 8,130 held-out patients with 1,200 events, every floor"
    )
    demanding = POLICY.model_copy(update={"min_subjects": 12_000})
    assert list(gate.objections(many, demanding)) == ["8,130 held-out patients where the policy needs 12,000"]


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
        (
            {"comparison": _compared(probability_better=0, auroc_gain=_at(0), log_loss_gain=_at(0))},
            "it answers these patients as v3 in production does",
        ),
        ({"comparison": _compared(probability_better=None)}, "in not estimable of resamples"),
        ({"comparison": _compared(probability_better=float("nan"))}, "better than v3"),
        ({"comparison": _compared(probability_better=float("inf"))}, "better than v3"),
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


AT_THE_LIMIT = {
    "patients": {"counts": Counts(n=900, events=POLICY.min_events, subjects=POLICY.min_subjects)},
    "the probability of being better": {
        "comparison": _compared(probability_better=POLICY.probability_better)
    },
    "facts that break a rule": _quality(broken={"unit_known": 4_000}),
    "no fact that breaks a rule": _quality(broken={}),
    "bytes": {"files": FILES.model_copy(update={"bytes": POLICY.files.bytes_max})},
    "seconds per answer": {
        "files": FILES.model_copy(update={"slowest_seconds": POLICY.files.seconds_per_answer_max})
    },
}


@pytest.mark.parametrize("changes", AT_THE_LIMIT.values(), ids=AT_THE_LIMIT)
def test_what_is_exactly_as_the_policy_asks_passes(changes: dict[str, object]) -> None:
    quality = POLICY.data_quality.model_copy(update={"rule_share_max": 0.1})
    policy = POLICY.model_copy(update={"data_quality": quality})
    assert list(gate.objections(GOOD.model_copy(update=changes), policy)) == []


@pytest.mark.parametrize(
    "floor",
    [
        at_least("f", Estimate(value=0.5, low=0.2, high=0.8), 0.2),
        at_most("f", Estimate(value=0.5, low=0.2, high=0.8), 0.8),
        within("f", Estimate(value=0.5, low=0.2, high=0.8), 0.5, 0.6),
        within("f", Estimate(value=0.5, low=0.2, high=0.8), 0.4, 0.5),
        reaches("f", Estimate(value=0.5, low=0.2, high=0.8), 0.8, 0.9),
        reaches("f", Estimate(value=0.5, low=0.2, high=0.8), 0.1, 0.2),
    ],
)
def test_every_kind_of_floor_is_reached_at_its_limit(floor: Floor) -> None:
    assert not floor.objection


def test_an_interval_that_just_reaches_a_limit_passes() -> None:
    gap = Estimate(value=-0.1, low=-0.2, high=-POLICY.subgroup_gap_max)
    behind = GOOD.model_copy(update=_but(_subgroup(auroc_gap=gap)))
    assert list(gate.objections(behind, POLICY)) == []


def test_a_version_that_gains_something_is_not_called_the_same_as_production() -> None:
    """Only where neither figure moved does it answer as production does."""
    gains = _compared(probability_better=0, auroc_gain=_at(0), log_loss_gain=_at(-0.01))
    (problem,) = gate.objections(GOOD.model_copy(update={"comparison": gains}), POLICY)
    assert problem.startswith("better than v3 in production in 0% of resamples")


def test_a_promotion_says_what_it_was_better_than() -> None:
    assert ", and better than v3 on the same patients" in gate.promoted(GOOD, POLICY)
    assert "better than" not in gate.promoted(GOOD.model_copy(update={"comparison": None}), POLICY)


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
    pytest.param(_but(_subgroup("ethnicity", "unknown")), [], [], id="somebody's ethnicity is not known"),
    pytest.param(
        _but(_subgroup(status="not estimable", auroc=None, auroc_gap=None, calibration_intercept=None)),
        [
            "AUROC of sex female over all patients is not estimable",
            "calibration intercept of sex female is not estimable",
        ],
        [],
        id="one class only",
    ),
    pytest.param(
        _but(_subgroup(auroc_gap=NOTHING)),
        ["AUROC of sex female over all patients is not estimable"],
        [],
        id="no AUROC",
    ),
    pytest.param(
        _but(_subgroup(auroc_gap=None)),
        ["AUROC of sex female over all patients is not estimable"],
        [],
        id="AUROC left out",
    ),
    pytest.param(
        _but(_subgroup(auroc_gap=Estimate(value=0.0, low=None, high=None))),
        ["AUROC of sex female over all patients is not estimable"],
        [],
        id="an AUROC without an interval",
    ),
    pytest.param(
        _but(_subgroup(auroc_gap=_at(float("nan")))),
        ["AUROC of sex female over all patients is not estimable"],
        [],
        id="not a number",
    ),
    pytest.param(
        _but(_subgroup(auroc_gap=_at(-0.12))),
        ["AUROC of sex female over all patients -0.120 (-0.140 to -0.100) falls behind by more than 0.05"],
        [],
        id="far behind",
    ),
    pytest.param(_but(_subgroup(auroc_gap=_at(-0.12, 0.08))), [], [], id="behind, but perhaps not far"),
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


def _groups_of(rate: float) -> dict[str, object]:
    return _family(JUDGED, rate)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (_groups_of(1e-9), "hold for 8 figures at an error rate of 1e-09, not for 8 at the policy's 0.05"),
        ({"subgroup_family": None}, "the intervals of subgroups are not those of a family of floors"),
        (
            {"subgroup_family": SubgroupFamily(error_rate=0.05, size=800, critical_value=9.0)},
            "hold for 800 figures at an error rate of 0.05, not for 8",
        ),
        ({"alert_burden": None}, "alerts per 100 patient-days at 10% is not estimable"),
        (_burden(threshold=0.2), "alerts per 100 patient-days at 10% is not estimable"),
        (
            _burden(alerts_per_100_patient_days=_at(4.9, 0.3)),
            "alerts per 100 patient-days at 10% 4.90 (4.60 to",
        ),
        (_burden(alerts_per_100_patient_days=NOTHING), "alerts per 100 patient-days at 10% is not estimable"),
        (_burden(number_needed_to_evaluate=_at(9.9, 0.3)), "number needed to evaluate at 10% 9.9"),
        (
            _burden(number_needed_to_evaluate=Estimate(value=3.0, low=2.0, high=None)),
            "number needed to evaluate at 10% is not estimable",
        ),
        (_burden(sensitivity=_at(0.45, 0.1)), "sensitivity at 10% 0.450 (0.350 to 0.550) may lie below 0.4"),
        (_burden(lead_time=None), "median hours from alert to outcome at 10% is not estimable"),
        (
            _burden(lead_time=BURDEN.lead_time.model_copy(update={"median": _at(15, 5)})),
            "median hours from alert to outcome at 10% 15.0 (10.0 to 20.0) may lie below 12",
        ),
        ({"robustness": ()}, "AUROC lost with 10% of values missing is not estimable"),
        ({"robustness": STRESSED[1:]}, "AUROC lost with 10% of values missing is not estimable"),
        (_stress(0, share=0.01), "AUROC lost with 10% of values missing is not estimable"),
        (
            _stress(0, auroc_loss=_at(0.03)),
            "AUROC lost with 10% of values missing 0.030 (0.010 to 0.050) may",
        ),
        (_stress(2, auroc=_at(0.56)), "AUROC with no laboratory 0.560 (0.540 to 0.580) may lie below 0.55"),
        (_stress(2, auroc=NOTHING), "AUROC with no laboratory is not estimable"),
        (_stress(2, intercept_shift=_at(-0.5)), "calibration intercept changed by no laboratory -0.500"),
        (
            _stress(3, auroc_loss=NOTHING),
            "AUROC lost with 10% of a standard deviation as noise is not estimable",
        ),
        (
            _stress(4, intercept_shift=_at(0.41)),
            "calibration intercept changed by 30% of a standard deviation as noise",
        ),
        ({"data_quality": None}, "no record says how the extract was validated"),
        (_quality(judged=0), "no record says how the extract was validated"),
        (
            _quality(broken={"value_plausible": 2400}),
            "facts that break the rule value_plausible: 2,400 of 40,000 facts, where the policy allows 5%",
        ),
        (
            _quality(unlisted={"admissions.admission_type": 900}),
            "words of admissions.admission_type in no list: 900 of 10,000 records, where the policy allows 5%",
        ),
        (_quality(records={}), "words of admissions.admission_type in no list: 41 of 0 records"),
        ({"files": None}, "size and speed were not measured"),
        ({"files": FILES.model_copy(update={"answers": 0})}, "size and speed were not measured"),
        (
            {"files": FILES.model_copy(update={"bytes": 900_000_000})},
            "the files have 900.0 MB where the policy",
        ),
        (
            {"files": FILES.model_copy(update={"slowest_seconds": 3.0})},
            "an answer took 3 s where the policy allows 2",
        ),
        ({"files": FILES.model_copy(update={"slowest_seconds": float("nan")})}, "an answer took nan s"),
    ],
)
def test_each_floor_of_a_model_in_use_refuses(changes: dict[str, object], says: str) -> None:
    problems = list(gate.objections(GOOD.model_copy(update=changes), POLICY))
    assert any(says in problem for problem in problems), problems


def test_a_handful_of_facts_is_not_told() -> None:
    told = {floor.label: floor.observed for floor in gate.floors(GOOD, POLICY)}
    assert told["facts that break the rule unit_known"] == "fewer than 10 of 40,000 facts"


CONTEXT = DecisionContext(incumbent=GOOD.comparison.incumbent, true_probabilities=True)


def _decision(evidence: Evidence) -> bool:
    """Whether a version with this evidence would go to production, while another one is there."""
    problems = [*staging.lacking(evidence, POLICY), *gate.objections(evidence, POLICY, CONTEXT)]
    return not problems


BAD = [
    _metric("auroc", _at(0.71)),
    _metric("calibration_slope", _at(0.5, 0.1)),
    {"oracle": GOOD.oracle.model_copy(update={"gap": _at(-0.05)})},
    {"net_benefit": _benefit(-0.01)},
    {"baselines": _baseline(_at(-0.1))},
    {"comparison": _compared(probability_better=0.2)},
    {"plain_inputs": (PlainInputs(inputs=("age",), auroc=_at(0.4), log_loss=_at(0.3)),)},
    _but(_subgroup(auroc_gap=_at(-0.3))),
    _burden(sensitivity=_at(0.2)),
    _stress(1, auroc_loss=_at(0.3)),
    _quality(broken={"value_plausible": 30_000}),
    {"files": FILES.model_copy(update={"slowest_seconds": 9.0})},
    _leak(checks=(FAILED,)),
]


@given(st.sampled_from(BAD), st.sets(st.sampled_from(sorted(Evidence.model_fields)), min_size=1))
def test_what_is_taken_away_never_turns_a_refusal_into_a_promotion(
    bad: dict[str, object], removed: set[str]
) -> None:
    """Parts are removed as a foreign or an older evaluation would leave them out: null, or empty."""
    assert not _decision(GOOD.model_copy(update=bad))
    gone = {name: EMPTY[name] for name in removed & EMPTY.keys()}
    assert not _decision(GOOD.model_copy(update=bad | gone))


EMPTY: dict[str, object] = {
    "metrics": {}, "net_benefit": (), "subgroups": (), "subgroup_family": None, "baselines": (), "plain_inputs": (),
    "comparison": None, "alert_burden": None, "robustness": (), "data_quality": None, "files": None,
    "leakage": None,
    "curves": Curves(), "alarms": (), "calibration_curve": (), "notes": None, "oracle": None, "assumptions": (),
}  # fmt: skip


@pytest.mark.parametrize(
    "part", sorted(EMPTY.keys() - {"notes", "curves", "alarms", "calibration_curve", "assumptions"})
)
def test_each_part_that_the_policy_judges_is_missed(part: str) -> None:
    assert _decision(GOOD)
    assert not _decision(GOOD.model_copy(update={part: EMPTY[part]}))


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
        ({"robustness": STRESSED[:-1]}, "it is not tried with 30% of a standard deviation as noise"),
        ({"files": None}, "size and speed of its files were not measured"),
        ({"alert_burden": None, "data_quality": None}, ""),
        ({"subgroups": tuple(_too_few(g.attribute, g.value) for g in JUDGED)}, ""),
    ],
)
def test_what_incomplete_evidence_lacks_is_named(changes: dict[str, object], lacks: str) -> None:
    problems = list(staging.lacking(GOOD.model_copy(update=changes), POLICY))
    assert len(problems) == bool(lacks)
    assert "".join(problems).startswith(lacks)


def test_what_was_looked_at_is_said_with_what_could_not_be_judged() -> None:
    some = GOOD.model_copy(update=_but(_too_few("ethnicity", "asian")))
    assert staging.evidence_summary(some, POLICY) == (
        "AUROC 0.820 (0.800 to 0.840) on 600 held-out patients with 80 events; the evidence that staging needs is "
        "complete (discrimination, net benefit, subgroups, bedside rule, bedside inputs, robustness, files); 4 of 5 "
        "subgroups could be judged"
    )


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("alert_burden", "there is no alert burden"),
        ("data_quality", "no record says how the extract was validated"),
    ],
)
def test_a_policy_may_need_more_for_staging(part: str, says: str) -> None:
    strict = POLICY.model_copy(update={"staging_needs": (*POLICY.staging_needs, part)})
    assert list(staging.lacking(GOOD, strict)) == []
    assert list(staging.lacking(GOOD.model_copy(update={part: None}), strict)) == [says]
    assert part.replace("_", " ") in staging.evidence_summary(GOOD, strict)


@pytest.mark.parametrize(("n", "ends"), [(1, "a"), (3, "a; b; c"), (5, "a; b; c; and 2 more")])
def test_the_sentence_stays_readable(n: int, ends: str) -> None:
    assert gate.sentence(list("abcde")[:n]) == ends


@pytest.mark.parametrize("task", ["mortality", "readmission"])
def test_the_policy_judges_at_a_threshold_that_evidence_holds(task: str) -> None:
    floors = tasks.load(task).policy
    assert floors.clinical_threshold in floors.thresholds
    assert floors.min_subjects > 90, "the 100 patients of the MIMIC-III demo can't carry a production model"


def test_a_stress_that_changes_no_answer_has_no_interval_and_is_no_objection() -> None:
    """As without a laboratory where no input is a laboratory's."""
    changes = {"auroc_loss": NOTHING, "intercept_shift": NOTHING}
    for unchanged, n_objections in ((True, 0), (False, 1)):
        evidence = GOOD.model_copy(update=_stress(2, **changes, unchanged=unchanged))
        floors = operation_floors.robustness_floors(evidence, POLICY)
        assert len([floor for floor in floors if floor.objection]) == n_objections


def test_of_a_declared_outcome_no_lead_time_is_asked_for() -> None:
    """UCI's readmission has no time: with 8,130 held-out patients each version was refused for its lead time alone."""
    policy = tasks.load("encounter_readmission").policy
    labels = [floor.label for floor in operation_floors.alert_burden_floors(GOOD, policy)]
    assert not [label for label in labels if "hours from alert" in label]
    asked = [floor.label for floor in operation_floors.alert_burden_floors(GOOD, POLICY)]
    assert len(asked) == len(labels) + 1
