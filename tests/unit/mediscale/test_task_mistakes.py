"""Task files that say what can't be, or what nothing would ever be: refused where they are read, in one sentence."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.cohort.bitemporal import HOUR
from data_pipeline.cohort.value_rises import risen
from data_pipeline.features import kernel
from mediscale.core import bedside_rules, task_names, tasks, yaml_text
from mediscale.core.concepts import CONCEPTS
from mediscale.core.errors import UsageError
from mediscale.core.outcomes import Rise, ValueRise
from mediscale.core.task_features import code_pattern
from training.evaluation import baselines

SHIPPED = {path.stem: path.read_text() for path in task_names.FOLDER.rglob("*.yaml")}


def changed(task: str, old: str, new: str) -> str:
    text = SHIPPED[task]
    assert old in text, old
    return text.replace(old, new, 1)


def refusal(text: str) -> str:
    with pytest.raises(UsageError, match=r"^The task file mine\.yaml can't be used: ") as refused:
        tasks.parse("mine", text)
    return str(refused.value)


DIALYSIS = "codes: [TREATMENT//renal_replacement]"
LAST_FLOOR = "suspicious_above: 0.96"
BY = "    - {by: 0.3, within_hours: 48}\n    - {times: 1.5, within_hours: 168}\n"


@pytest.mark.parametrize(
    ("task", "old", "new", "sentence"),
    [
        ("mortality", "bedside_rule: news2", "bedside_rule: newss2", "bedside_rule: .* did you mean news2"),
        ("mortality", "bedside_rule: news2", "bedside_rule: lace", "lace reads hours_since_admission, which"),
        ("mortality", "[first_day_features, promotion_policy]", "[../mortality]", "none of the files in shared"),
        ("mortality", "[first_day_features, promotion_policy]", '["a\\0"]', "none of the files in shared"),
        ("mortality", "title: Death in hospital", 'title: "  "', "line 4, title"),
        ("mortality", "title: Death in hospital", 'title: "a\\nb"', "line 4, title"),
        ("mortality", LAST_FLOOR, LAST_FLOOR + "\n  calibration_slope: [2, 3]", "leaves out 1, that of a model"),
        ("mortality", LAST_FLOOR, LAST_FLOOR + "\n  calibration_slope: [-.inf, .inf]", "-.inf is no number"),
        ("mortality", LAST_FLOOR, LAST_FLOOR + "\n  calibration_slope: [0, 1.0e+999]", "is no number"),
        ("mortality", LAST_FLOOR, LAST_FLOOR + "\n  calibration_intercept: [0.1, 1]", "leaves out 0, that of"),
        (
            "mortality",
            LAST_FLOOR,
            LAST_FLOOR + "\n  silent_period: {min_outcomes: 30, min_events: 300, auroc_low: 0.7, "
            "calibration_intercept: [-0.4, 0.4]}",
            "min_events is not below min_outcomes",
        ),
        ("readmission", "[EMERGENCY, URGENT, OTHER]", "[Emergency]", "must be .EMERGENCY.,"),
        ("readmission", "[EMERGENCY, URGENT, OTHER]", "[EMERGENCY, ELECTIV]", "did you mean ELECTIVE"),
        ("readmission", "[EMERGENCY, URGENT, OTHER]", "[OBSERVATION]", "unplanned_admissions"),
        ("readmission", "[DIED, HOSPICE, TRANSFER]", "[Hospice]", "excluded_destinations"),
        ("kidney_injury", "{by: 0.3,", "{by: .inf,", ".inf is no number"),
        ("kidney_injury", "{by: 0.3,", "{by: 1000,", "above 60 mg/dL, where .* can't happen"),
        ("kidney_injury", "concept: creatinine\n", "concept: urine_output\n", "urine_output may be 0 mL, .* give by"),
        ("kidney_injury", DIALYSIS, "codes: [TREATMENT//renal_replacment]", "did you mean renal_replacement"),
        ("kidney_injury", DIALYSIS, "codes: [treatment//renal_replacement]", "write TREATMENT//renal_repl"),
        ("kidney_injury", DIALYSIS, "codes: [ICD9CM//585.6]", "without dots, ICD9CM//5856"),
        ("kidney_injury", DIALYSIS, "codes: [ICD10CM//n18*]", "ICD10CM//N18"),
        ("kidney_injury", DIALYSIS, "codes: [OUTCOME//readmitted]", "which are outcomes"),
        ("kidney_injury", DIALYSIS, 'codes: ["*"]', "which are outcomes"),
        ("kidney_injury", DIALYSIS, 'codes: [" TREATMENT//renal_replacement"]', "has blanks around it"),
        ("encounter_readmission", "code: OUTCOME//readmitted_within_30_days", "code: OUTCOME//re*", "outcome.code"),
        ("encounter_readmission", "ENCOUNTER//num_procedures", '"outcome//readmitted"', "which are outcomes"),
        ("encounter_readmission", "ENCOUNTER//num_procedures", '" OUTCOME//x"', "which are outcomes"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_where_it_is_read(task: str, old: str, new: str, sentence: str) -> None:
    import re

    said = refusal(changed(task, old, new))
    assert re.search(sentence, said), said


def test_a_feature_that_is_called_as_another_one_is_refused() -> None:
    codes = "course: [in_icu]\n  coded:\n    - {window: 24h, statistics: [last], codes: {treatment: A//B}}"
    tasks.parse("mine", changed("mortality", "course: [in_icu]", codes))
    twice = codes + "\n  occurred:\n    - {window: 24h, codes: {treatment_insulin: A//B}}"
    assert "two features are called treatment_insulin_24h" in refusal(
        changed("mortality", "course: [in_icu]", twice)
    )


def test_every_rule_is_computed_and_reads_what_a_task_must_declare() -> None:
    assert set(get_args(bedside_rules.BedsideRule)) == set(bedside_rules.READ) == set(baselines.RULES)
    always = set(kernel.names("mortality")) - set(tasks.load("mortality").features.names)
    for name, rule in baselines.RULES.items():
        assert set(rule.reads) - always == set(bedside_rules.READ[name]), name


@given(
    st.sampled_from(["ICD9CM", "ICD10CM"]), st.from_regex(r"[A-Z][0-9]{2}\.?[0-9A-Z]{0,3}\*?", fullmatch=True)
)
def test_a_diagnosis_is_refused_exactly_where_silver_never_has_it(system: str, code: str) -> None:
    text = changed("kidney_injury", DIALYSIS, f'codes: ["{system}//{code}"]')
    if "." in code:
        assert f"{system}//{code.replace('.', '')}" in refusal(text)
    else:
        assert tasks.parse("mine", text).at_risk.excluded[0].codes == (f"{system}//{code}",)


@given(st.text(st.sampled_from("OUTCMEoutcme*/ ab"), min_size=1, max_size=12))
def test_no_code_that_is_taken_reads_an_outcome(code: str) -> None:
    try:
        task = tasks.parse("mine", changed("kidney_injury", DIALYSIS, f'codes: ["{code}"]'))
    except UsageError:
        return
    pattern = code_pattern(task.at_risk.excluded[0].codes[0])
    assert not any(pattern.fullmatch(one) for one in ("OUTCOME//a", "OUTCOME//ab/o", "OUTCOME//C*"))


@given(
    st.lists(st.sampled_from([0.0, 0.0, -4.0, 1.0, 2.0, 5.0]), min_size=2, max_size=6),
    st.sampled_from([1.5, 3.0]),
)
def test_so_many_times_of_nothing_is_no_rise(values: list[float], times: float) -> None:
    """A baseline of 0 made every value after it a rise, and one below 0 made falls rises."""
    declared = tasks.load("kidney_injury").outcome
    outcome = declared.model_copy(update={"rises": (Rise(times=times, within_hours=1000),)})
    assert isinstance(outcome, ValueRise)
    measured = np.array(values)
    at = np.arange(len(values)) * HOUR
    before = [min(values[:i], default=np.inf) for i in range(len(values))]
    expected = [low > 0 and value >= low * times for low, value in zip(before, values, strict=True)]
    assert risen(at, measured, outcome).tolist() == expected


@given(
    st.floats(), st.sampled_from(["plain", ".inf", "-.INF", "+.inf", ".NaN", ".nan", "1.0e+400", "-2.5E+999"])
)
def test_a_declaration_holds_finite_numbers_alone(number: float, writing: str) -> None:
    import yaml

    text = f"a: {yaml.safe_dump(number).split()[0] if writing == 'plain' else writing}"
    try:
        content = yaml_text.content(text)
    except yaml.YAMLError as error:
        assert "is no number" in str(error)  # noqa: PT017 -- half of the texts are refused
        assert not np.isfinite(float(yaml.safe_load(text)["a"])) or abs(number) >= 1e100
    else:
        assert np.isfinite(content["a"])


def test_a_rise_that_can_happen_is_taken_for_every_concept() -> None:
    for concept in CONCEPTS:
        text = changed("kidney_injury", "concept: creatinine\n", f"concept: {concept.name}\n")
        step = (concept.high - concept.low) / 2
        text = text.replace(BY, f"    - {{by: {step:.3f}, within_hours: 48}}\n")
        assert tasks.parse("mine", text).outcome.event == "value_rise", concept.name
