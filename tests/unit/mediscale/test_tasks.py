"""A task is one YAML file: what a mistake in it says, and that a new file is a new task."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from data_pipeline.cohort import cohort_flow
from data_pipeline.features import kernel, plain_inputs
from mediscale.core import declaration_files, task_names, tasks
from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen
from mediscale.core.task_features import STATISTICS, WINDOWS, Statistic, Window
from mediscale.core.tasks import TaskName
from training.evaluation import baselines

Draw = Callable[[str], pa.Table]


def content(name: str) -> dict[str, Any]:
    """The content of a built-in task's file, with that of the shared ones written out."""
    stated = yaml.safe_load((task_names.FOLDER / f"{name}.yaml").read_text())
    whole = declaration_files.extended(task_names.SHARED, stated)
    return {key: value for key, value in whole.items() if key != "extends"}


MORTALITY, READMISSION = content("mortality"), content("readmission")

TOY = """
title: Death in hospital, asked a day later
intended_use: {purpose: To look again., users: Physicians., role: informs, cautioned: [Not for children.]}
needs: [laboratory]
prediction_time: {anchor: admission, hours_after: 48}
may_be_asked: {anchor: admission, hours: [24, 72]}
at_risk: {words: patient still admitted after two days}
outcome:
  event: death_in_hospital
  sentence: death in hospital, predicted 48 hours after admission
  labelled: {name: certain, words: stays whose outcome is certain}
  positive: {name: died, words: died}
  negative: {name: survived, words: survived}
features:
  measured:
    - {concepts: [creatinine, lactate], window: stay, statistics: [last, min, max]}
  treatments:
    - {groups: [vasopressor], window: 24h}
bedside_rule: creatinine_ratio
policy:
""" + "".join(f"  {name}: {json.dumps(value)}\n" for name, value in MORTALITY["policy"].items())

STAYS = """
subject_id | time             | code                          | numeric_value | visit_id
1          | 2080-06-01 00:00 | MEDS_BIRTH                    |               |
1          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY |               | 10
1          | 2150-01-01 11:00 | LOINC//2160-0                 | 1.5           | 10
1          | 2150-01-03 09:00 | LOINC//2160-0                 | 4.5           | 10
1          | 2150-01-03 09:30 | TREATMENT//vasopressor        |               | 10
1          | 2150-01-03 11:00 | LOINC//2160-0                 | 9.5           | 10
1          | 2150-01-07 12:00 | HOSPITAL_DISCHARGE//DIED      |               | 10
2          | 2080-06-01 00:00 | MEDS_BIRTH                    |               |
2          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//URGENT    |               | 20
2          | 2150-01-02 20:00 | HOSPITAL_DISCHARGE//HOME      |               | 20
3          | 2080-06-01 00:00 | MEDS_BIRTH                    |               |
3          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//URGENT    |               | 30
3          | 2150-01-09 10:00 | HOSPITAL_DISCHARGE//HOME      |               | 30
"""


def test_a_file_is_a_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, events: Draw) -> None:
    """No line of Python: labels and features of a task that only a folder of this test has."""
    (tmp_path / "toy_mortality_48h.yaml").write_text(TOY)
    monkeypatch.setattr(task_names, "FOLDER", tmp_path)
    drawn = events(STAYS)
    cohort = cohort_flow.cohort(drawn, "toy_mortality_48h", None, 0)
    assert sorted(zip(cohort["steps"].to_pylist(), cohort["outcome"].to_pylist(), strict=True)) == [
        (6, ""), (8, "died"), (8, "survived")
    ]  # fmt: skip
    asked = cohort.filter(pa.array([step == 8 for step in cohort["steps"].to_pylist()])).sort_by("subject_id")
    assert asked["prediction_time"].to_pylist() == [dt.datetime(2150, 1, 3, 10)] * 2
    assert asked["boolean_value"].to_pylist() == [True, False]
    names, values = kernel.names("toy_mortality_48h"), kernel.compute(drawn, asked, "toy_mortality_48h")
    first = dict(zip(names, values[0].tolist(), strict=True))
    assert first["creatinine_last_stay"] == first["creatinine_max_stay"] == 4.5
    assert first["treatment_vasopressor_24h"] == 1
    assert "in_icu" not in names
    assert plain_inputs.names("toy_mortality_48h") == ("age", "sex", "creatinine", "lactate")


def test_a_task_takes_shared_features_and_floors_and_its_own_entries_stand_in_their_place() -> None:
    head = TOY.partition("features:")[0]
    own = tasks.parse(
        "own",
        "extends: [first_day_features, promotion_policy, readmission_policy]\n"
        + head
        + """
features: {course: [in_icu], treatments: [{groups: [insulin], window: 24h}]}
bedside_rule: news2
policy: {suspicious_above: 0.9, min_events: 50}
""",
    )
    mortality, readmission = tasks.load("mortality"), tasks.load("readmission")
    assert own.features.measured == mortality.features.measured
    assert [use.groups for use in own.features.treatments] == [("insulin",)]
    assert (own.policy.suspicious_above, own.policy.min_events) == (0.9, 50)
    assert own.policy.stresses == readmission.policy.stresses != mortality.policy.stresses
    assert own.policy.files == mortality.policy.files


def test_the_tasks_keep_their_order() -> None:
    assert task_names.TASKS == task_names.names() == ("mortality", "readmission")


def test_every_task_has_a_bedside_rule_whose_features_it_has() -> None:
    assert [baselines.rule_of(task).name for task in task_names.TASKS] == ["NEWS2", "LACE"]


def test_a_bedside_rule_that_reads_what_no_encounter_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LACE counts earlier visits, which the unit encounter does not look at."""
    text = (task_names.FOLDER / "optional" / "encounter_readmission.yaml").read_text()
    (tmp_path / "toy_rule.yaml").write_text(
        text.replace("bedside_rule: prior_admissions", "bedside_rule: lace")
    )
    monkeypatch.setattr(task_names, "FOLDER", tmp_path)
    with pytest.raises(
        UsageError, match=r"lace of the task file toy_rule.yaml reads .*prior_visits_365d, which"
    ):
        baselines.rule_of("toy_rule")


def test_the_name_of_a_task_is_checked() -> None:
    class Params(Frozen):
        task: TaskName

    assert Params(task="mortality").task == "mortality"
    with pytest.raises(
        ValidationError, match="there is no task 'sepsis'; the tasks are mortality, readmission"
    ):
        Params(task="sepsis")
    with pytest.raises(UsageError, match="There is no task 'sepsis'; the tasks are mortality, readmission"):
        tasks.load("sepsis")


def test_a_task_read_back_from_its_canonical_form_is_the_same() -> None:
    for name in task_names.TASKS:
        task = tasks.load(name)
        assert tasks.Task.model_validate_json(json.dumps(task.model_dump(mode="json")), strict=True) == task


def changed(task: dict[str, object], **changes: object) -> str:
    return yaml.safe_dump({**task, **changes}, sort_keys=False)


def measured(**block: object) -> dict[str, object]:
    usual = {"concepts": ["lactate"], "window": "24h", "statistics": ["last"]}
    return {"measured": [{**usual, **block}]}


OUTAGE = next(stress for stress in MORTALITY["policy"]["stresses"] if stress["kind"] == "unavailable")
DECLARED = content("optional/encounter_readmission")
NO_LEAD_TIME = {**MORTALITY["policy"]["alert_burden"], "lead_time_hours_low": None}
FLOW = {**MORTALITY["outcome"], "positive": {"name": "stays", "words": "died"}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a list", "it lacks title, intended_use, .*, policy; correct"),
        ("title: [", "while parsing"),
        (changed(MORTALITY, colour="red"), "line 229, colour: there is no such key; there are name, .* 1 more"),
        (changed(MORTALITY, policies={}), r"policies: there is no such key; did you mean policy\?"),
        (
            changed(MORTALITY, prediction_time={"anchor": "admission", "hour_after": 24}),
            r"prediction_time.hour_after: there is no such key; did you mean hours_after\?",
        ),
        (
            changed(MORTALITY, outcome={**MORTALITY["outcome"], "sentense": "x"}),
            r"outcome.sentense: there is no such key; did you mean sentence\?",
        ),
        (
            changed(MORTALITY, features=measured(statistic=["max"])),
            r"features.measured.0.statistic: there is no such key; did you mean statistics\?",
        ),
        (
            changed(MORTALITY, outcome={**MORTALITY["outcome"], "event": "death_in_hospitals"}),
            r"outcome: .* match any of the expected tags: .*; did you mean death_in_hospital\?",
        ),
        (
            changed(MORTALITY, prediction_time={"anchor": "admision", "hours_after": 24}),
            r"prediction_time.anchor: must be 'admission', .*; did you mean admission\?",
        ),
        (changed(MORTALITY, features=measured(concepts=["lactat"])), r"has no concept lactat; did you mean lactate\?"),
        (
            changed(MORTALITY, extends=["first_day_feature"]),
            r"extends.0: first_day_feature is none of the files in shared/; did you mean first_day_features\?",
        ),
        (changed(MORTALITY, needs=["tea"]), "needs.0: must be 'laboratory'"),
        (changed(MORTALITY, title=3), "title: must be text"),
        (changed(MORTALITY, features=measured(concepts=["tea"])), "features.measured.0: .*has no concept tea"),
        (changed(MORTALITY, features=measured(window="7h")), "features.measured.0.window: must be '6h'"),
        (changed(MORTALITY, features=measured(statistics=["max"])), "features: lactate needs the statistic last"),
        (
            changed(MORTALITY, features=measured(concepts=["lactate", "lactate"])),
            "features: lactate last 24h is declared twice",
        ),
        (
            changed(MORTALITY, features={**measured(), "treatments": [{"groups": ["tea"], "window": "6h"}]}),
            "features.treatments.0: .*has no treatment group tea",
        ),
        (changed(MORTALITY, prediction_time={"anchor": "admission"}), "prediction_time: give hours_after, at least 1"),
        (changed(MORTALITY, prediction_time={"anchor": "discharge"}), "death_in_hospital is predicted from admission"),
        (changed(MORTALITY, may_be_asked={"anchor": "admission"}), "may_be_asked: give hours, the first and the last"),
        (
            changed(MORTALITY, may_be_asked={"anchor": "admission", "hours": [48, 6]}),
            "may_be_asked: give hours, the first and the last",
        ),
        (
            changed(MORTALITY, may_be_asked={"anchor": "admission", "hours": [-6, 48]}),
            "may_be_asked.hours.0: must be at least 0",
        ),
        (
            changed(READMISSION, may_be_asked={"anchor": "discharge", "hours": [0, 6]}),
            "may_be_asked: give hours, .* and leave them out at discharge",
        ),
        (
            changed(MORTALITY, may_be_asked={"anchor": "admission", "hours": [30, 48]}),
            "may_be_asked leaves out the prediction_time",
        ),
        (
            changed(MORTALITY, may_be_asked={"anchor": "discharge"}),
            "may_be_asked leaves out the prediction_time",
        ),
        (
            changed(READMISSION, prediction_time={"anchor": "admission", "hours_after": 6}),
            "readmission is predicted from discharge",
        ),
        (
            changed(MORTALITY, at_risk={"words": "x", "excluded_destinations": ["HOSPICE"]}),
            "excluded_destinations is known at discharge only",
        ),
        (changed(MORTALITY, outcome=FLOW), "two lines of the flow have the name stays"),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "clinical_threshold": 0.11}),
            r"policy: thresholds lacks the clinical_threshold 0\.11",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "thresholds": [0.2, 0.1]}),
            r"policy: thresholds are risks between 0 and 1, each once and in order",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "thresholds": [-0.1, 0.1]}),
            r"policy: thresholds are risks between 0 and 1, each once and in order",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "auroc_low": 70}),
            r"policy\.auroc_low: must be below 1",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "suspicious_above": 2}),
            r"policy\.suspicious_above: must be below 1",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "auroc_low": 0.97}),
            "auroc_low is not below suspicious_above",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "calibration_slope": [1.2, 0.8]}),
            "calibration_slope ends below its beginning",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "stresses": [{**OUTAGE, "auroc_loss_max": 0.1}]}),
            r"policy\.stresses\.0: give group and auroc_low with the kind unavailable",
        ),
        (
            changed(MORTALITY, policy={**MORTALITY["policy"], "alert_burden": NO_LEAD_TIME}),
            "lead_time_hours_low may be null for a declared outcome only",
        ),
        (
            changed(
                DECLARED, policy={**DECLARED["policy"], "alert_burden": MORTALITY["policy"]["alert_burden"]}
            ),
            "lead_time_hours_low must be null for a declared outcome: no time of it is known",
        ),
        (
            changed(MORTALITY, policy={k: v for k, v in MORTALITY["policy"].items() if k != "auroc_low"}),
            "policy.auroc_low: is missing",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_one_sentence_that_says_where(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^The task file toy.yaml can't be used: .*{sentence}") as refused:
        tasks.parse("toy", text)
    assert str(refused.value).endswith(f"correct it in {task_names.FOLDER} and run again.")
    assert "\n" not in str(refused.value)


def test_every_statistic_and_window_has_its_words() -> None:
    assert tuple(STATISTICS) == get_args(Statistic)
    assert tuple(WINDOWS) == get_args(Window)
