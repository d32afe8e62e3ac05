"""Tasks whose unit is the encounter: each visit by its own rows, an outcome and codes that the source declares."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_pipeline.cohort import cohort_flow, labels
from data_pipeline.features import kernel
from data_pipeline.ingest import source
from mediscale.core import task_names, tasks
from mediscale.core.errors import QualityError, UsageError
from mediscale.core.refs import TableRef

Draw = Callable[[str], pa.Table]

OPTIONAL = ("encounter_readmission", "icu_mortality", "kidney_injury", "long_stay")
EVENTS = TableRef(dataset="d", table="events", table_id="1", version=0)

TWO_VISITS = """
subject_id | time             | available_time   | code                            | numeric_value | visit_id
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | GENDER//F                       |               |
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | HOSPITAL_ADMISSION//EMERGENCY   |               | 10
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | AGE                             | 65            | 10
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | ENCOUNTER//number_inpatient     | 2             | 10
1          | 2000-01-04 00:00 | 2000-01-04 00:00 | ENCOUNTER//insulin//Up          |               | 10
1          | 2000-01-04 00:00 | 2000-01-04 00:00 | HOSPITAL_DISCHARGE//HOME        |               | 10
1          | 2000-01-04 00:00 | 2000-02-03 00:00 | OUTCOME//readmitted_within_30_days | 1          | 10
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | HOSPITAL_ADMISSION//ELECTIVE    |               | 20
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | AGE                             | 75            | 20
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | ENCOUNTER//number_inpatient     | 5             | 20
1          | 2000-01-02 00:00 | 2000-01-02 00:00 | HOSPITAL_DISCHARGE//NURSING     |               | 20
1          | 2000-01-02 00:00 | 2000-02-01 00:00 | OUTCOME//readmitted_within_30_days | 0          | 20
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | HOSPITAL_ADMISSION//URGENT      |               | 30
1          | 2000-01-01 00:00 | 2000-01-01 00:00 | AGE                             | 85            | 30
1          | 2000-01-06 00:00 | 2000-01-06 00:00 | HOSPITAL_DISCHARGE//DIED        |               | 30
1          | 2000-01-06 00:00 | 2000-02-06 00:00 | OUTCOME//readmitted_within_30_days | 0          | 30
2          | 2000-01-01 00:00 | 2000-01-01 00:00 | HOSPITAL_ADMISSION//URGENT      |               | 40
2          | 2000-01-01 00:00 | 2000-01-01 00:00 | AGE                             | 15            | 40
2          | 2000-01-02 00:00 | 2000-01-02 00:00 | HOSPITAL_DISCHARGE//HOME        |               | 40
3          | 2000-01-01 00:00 | 2000-01-01 00:00 | HOSPITAL_ADMISSION//URGENT      |               | 50
3          | 2000-01-01 00:00 | 2000-01-01 00:00 | AGE                             | 45            | 50
3          | 2000-01-02 00:00 | 2000-01-02 00:00 | HOSPITAL_DISCHARGE//HOME        |               | 50
"""


def labelled(drawn: pa.Table, task: str = "encounter_readmission") -> pa.Table:
    rows = cohort_flow.cohort(drawn, task, None, 0)
    last = len(tasks.load(task).steps)
    return rows.filter(pa.array([step == last for step in rows["steps"].to_pylist()])).sort_by("stay_id")


def test_every_encounter_is_labelled_by_itself_and_as_the_source_says(events: Draw) -> None:
    drawn = events(TWO_VISITS)
    steps = cohort_flow.cohort(drawn, "encounter_readmission", None, 0)["steps"].to_pylist()
    names = [step.name for step in tasks.load("encounter_readmission").steps]
    reached = sorted(names[step - 1] for step in steps)
    # Who died is not at risk, who is a child is left out, of whom the source says nothing has no label.
    assert reached == ["at_risk", "clear_about_death", "encounters", "outcome_given", "outcome_given"]
    rows = labelled(drawn)
    assert rows["stay_id"].to_pylist() == [10, 20]
    assert rows["boolean_value"].to_pylist() == [True, False]
    assert rows["prediction_time"].to_pylist() == [dt.datetime(2000, 1, 4), dt.datetime(2000, 1, 2)]
    assert rows["known_time"].to_pylist() == [dt.datetime(2000, 2, 3), dt.datetime(2000, 2, 1)]


def test_an_encounter_sees_its_own_rows_and_the_patients_and_no_other_encounters(events: Draw) -> None:
    drawn = events(TWO_VISITS)
    predictions = labelled(drawn)
    values = kernel.compute(drawn, predictions, "encounter_readmission")
    names = kernel.names("encounter_readmission")
    first, second = (dict(zip(names, row, strict=True)) for row in values.tolist())
    assert (first["prior_inpatient_stays_last_stay"], second["prior_inpatient_stays_last_stay"]) == (2, 5)
    assert (first["insulin_up_stay"], second["insulin_up_stay"]) == (1, 0)
    assert (first["discharged_home_stay"], second["discharged_nursing_facility_stay"]) == (1, 1)
    assert (first["sex_female"], second["sex_female"]) == (1, 1), "a row without a visit is each visit's"
    assert (round(first["age_years"], 1), round(second["age_years"], 1)) == (65, 75)
    assert (first["emergency_admission"], second["emergency_admission"]) == (1, 0)
    assert (first["hours_since_admission"], second["hours_since_admission"]) == (72, 24)
    assert not {"prior_visits_365d", "days_since_last_discharge"} & set(names), "they compare visits"
    swapped = kernel.compute(drawn, predictions.take([1, 0]), "encounter_readmission")
    assert np.array_equal(swapped, values[::-1], equal_nan=True)


def test_a_number_that_is_not_known_yet_is_no_feature(events: Draw) -> None:
    late = TWO_VISITS.replace(
        "2000-01-01 00:00 | ENCOUNTER//number_inpatient     | 2 ",
        "2000-01-09 00:00 | ENCOUNTER//number_inpatient     | 2 ",
    )
    assert late != TWO_VISITS
    drawn = events(late)
    values = kernel.compute(drawn, labelled(drawn), "encounter_readmission")
    column = kernel.names("encounter_readmission").index("prior_inpatient_stays_last_stay")
    assert [str(value) for value in values[:, column]] == ["nan", "5.0"]


def test_a_source_without_a_calendar_is_refused_what_compares_visits() -> None:
    uci = source.load("uci-diabetes-130")
    for task in ("mortality", "readmission", "icu_mortality", "long_stay"):
        assert "no calendar (clock: relative)" in labels.unsupported(uci, tasks.load(task))
    assert labels.unsupported(uci, tasks.load("encounter_readmission")) == ""
    omop, mimic = source.load("omop"), source.load("mimic-iv")
    assert "declares no outcome OUTCOME//" in labels.unsupported(omop, tasks.load("encounter_readmission"))
    assert "it has notes" in labels.unsupported(mimic, tasks.load("encounter_readmission"))
    given = {"dataset": "d", "source": uci.name, "events": EVENTS, "task": "encounter_readmission"}
    with pytest.raises(UsageError, match="nothing of it was known as of a date"):
        labels.refuse_lacking(labels.Params.model_validate({**given, "as_of": dt.datetime(2020, 1, 1)}))
    with pytest.raises(
        QualityError,
        match=r"readmission can't be computed from uci-diabetes-130: it has no calendar .* is not known; of the tasks "
        "here, `--task encounter_readmission` can",
    ):
        labels.refuse_lacking(labels.Params.model_validate({**given, "task": "readmission"}))


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_task_is_one_that_a_run_takes_where_it_is_asked_for(name: str) -> None:
    task = tasks.load(name)
    assert name in task_names.all_names()
    assert name not in task_names.names()
    assert tasks.Task.model_validate_json(json.dumps(task.model_dump(mode="json")), strict=True) == task


INTENSIVE_CARE = """
subject_id | time             | code                          | visit_id
1          | 1950-06-01 00:00 | MEDS_BIRTH                    |
1          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 10
1          | 2150-01-03 10:00 | ICU_ADMISSION                 | 10
1          | 2150-01-05 10:00 | ICU_DISCHARGE                 | 10
1          | 2150-01-06 10:00 | ICU_ADMISSION                 | 10
1          | 2150-01-09 12:00 | HOSPITAL_DISCHARGE//DIED      | 10
2          | 1950-06-01 00:00 | MEDS_BIRTH                    |
2          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 20
2          | 2150-01-01 11:00 | ICU_ADMISSION                 | 20
2          | 2150-01-02 09:00 | ICU_DISCHARGE                 | 20
2          | 2150-01-09 12:00 | HOSPITAL_DISCHARGE//HOME      | 20
3          | 1950-06-01 00:00 | MEDS_BIRTH                    |
3          | 2150-01-01 10:00 | HOSPITAL_ADMISSION//EMERGENCY | 30
3          | 2150-01-09 12:00 | HOSPITAL_DISCHARGE//HOME      | 30
"""


def test_each_stay_in_intensive_care_is_predicted_while_it_lasts(events: Draw) -> None:
    drawn = events(INTENSIVE_CARE)
    first, second = labelled(drawn, "icu_mortality").sort_by("prediction_time").to_pylist()
    assert (first["subject_id"], first["prediction_time"]) == (1, dt.datetime(2150, 1, 4, 10))
    assert (first["outcome"], first["boolean_value"]) == ("died_later", False)
    assert (second["subject_id"], second["prediction_time"]) == (1, dt.datetime(2150, 1, 7, 10))
    assert (second["outcome"], second["outcome_time"]) == ("died_in_icu", dt.datetime(2150, 1, 9, 12))
    assert first["stay_id"] == second["stay_id"] == 10
    rows = cohort_flow.cohort(drawn, "icu_mortality", None, 0).to_pylist()
    counts = [cohort_flow.FlowCount(row["steps"], row["outcome"], row["further"], 1) for row in rows]
    flow, _ = cohort_flow.flow_of(tasks.load("icu_mortality"), counts)
    assert (flow["visits"], flow["at_risk"], flow["predictions_certain"]) == (3, 1, 2)


def test_a_stay_is_long_by_its_days_and_death_before_them_is_named(events: Draw) -> None:
    drawn = events(
        INTENSIVE_CARE.replace(
            "2150-01-09 12:00 | HOSPITAL_DISCHARGE//DIED", "2150-01-07 12:00 | HOSPITAL_DISCHARGE//DIED"
        )
    )
    rows = labelled(drawn, "long_stay")
    assert rows["outcome"].to_pylist() == ["died_before", "long", "long"]
    assert rows["outcome_time"].to_pylist() == [
        None,
        dt.datetime(2150, 1, 8, 10),
        dt.datetime(2150, 1, 8, 10),
    ]


ENCOUNTER = yaml.safe_load((task_names.FOLDER / "optional" / "encounter_readmission.yaml").read_text())


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        ({"x": "OUTCOME//readmitted_within_30_days"}, "x: .* could read the codes OUTCOME//"),
        ({"x": "*"}, "x: .* could read the codes OUTCOME//"),
        ({"x": "OUT*"}, "x: .* could read the codes OUTCOME//"),
        ({"lactate": "LAB//1"}, "lactate is a concept"),
        ({"X": "LAB//1"}, "must match pattern"),
        ({"prior_emergency_visits": "LAB//1"}, "prior_emergency_visits has two codes"),
        ({f"x{i}": f"LAB//{i}" for i in range(150)}, "a task can have 150"),
    ],
)
def test_codes_that_no_feature_may_read_are_refused(codes: dict[str, str], sentence: str) -> None:
    coded = [*ENCOUNTER["features"]["coded"], {"codes": codes, "window": "stay", "statistics": ["last"]}]
    changed = {**ENCOUNTER, "features": {**ENCOUNTER["features"], "coded": coded}}
    with pytest.raises(UsageError, match=sentence):
        tasks.parse("mine", yaml.safe_dump(changed))


def test_a_task_without_a_calendar_cannot_ask_for_a_return() -> None:
    readmission = yaml.safe_load((task_names.FOLDER / "readmission.yaml").read_text())
    with pytest.raises(UsageError, match="readmission compares visits"):
        tasks.parse("mine", yaml.safe_dump({**readmission, "unit": "encounter"}))


def test_patterns_of_codes_are_literal_but_for_the_star(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Draw
) -> None:
    occurred = [{"window": "stay", "codes": {"any_lab": "LAB//*", "odd": "LAB//[a]?"}}]
    changed = {**ENCOUNTER, "features": {**ENCOUNTER["features"], "occurred": occurred}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changed))
    monkeypatch.setattr(task_names, "FOLDER", tmp_path)
    drawn = events(TWO_VISITS.replace("ENCOUNTER//insulin//Up", "LAB//a           "))
    values = kernel.compute(drawn, labelled(drawn, "mine"), "mine")
    names = kernel.names("mine")
    assert values[0, names.index("any_lab_stay")] == 1
    assert values[0, names.index("odd_stay")] == 0
