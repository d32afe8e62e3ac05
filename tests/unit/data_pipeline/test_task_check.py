"""What ``mediscale task check`` says of a task on events that were landed, and that it writes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fixtures import leaky_hospital

from data_pipeline import task_check
from data_pipeline.cohort import cohort_flow
from data_pipeline.ingest import source
from data_pipeline.source_check import ConceptCheck, FactCheck, SourceCheck
from data_pipeline.task_check import TaskCheck
from mediscale.cli.source import details, source_lines
from mediscale.core import declaration_files, task_names, tasks
from mediscale.core.errors import UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings

LandEvents = Callable[..., TableRef]


def test_a_task_is_checked_by_hour_patient_and_feature(settings: Settings, land_events: LandEvents) -> None:
    recorded = leaky_hospital.with_steady_creatinine(leaky_hospital.record(120))
    ref = land_events(recorded.events, 2)
    found = task_check.of_dataset(settings, ref, source.load("mimic-iv"), (), tasks.load("kidney_injury"))
    rows = cohort_flow.cohort(recorded.events, "kidney_injury", None, 0)
    cohort = rows.filter(pc.is_valid(rows["subject_id"]))
    with_outcome = cohort.filter(cohort["boolean_value"])
    assert (found.at_risk, found.repeated) == (cohort.num_rows, True)
    assert found.prevalence == pytest.approx(with_outcome.num_rows / cohort.num_rows)
    assert found.patients == pc.count_distinct(cohort["subject_id"]).as_py()
    assert found.patients_with_outcome == pc.count_distinct(with_outcome["subject_id"]).as_py()
    assert [one.hour for one in found.by_hour][:4] == [24, 30, 36, 42]
    assert sum(one.n for one in found.by_hour) == cohort.num_rows
    assert sum(one.with_outcome for one in found.by_hour) == with_outcome.num_rows
    missing = {one.name: one.missing for one in found.features}
    assert (missing["urine_output_sum_24h"], missing["creatinine_last_stay"]) == (1, 0)
    alone = {one.name: one.auroc for one in found.features}
    assert alone["urine_output_sum_24h"] == 0.5
    assert alone["creatinine_last_stay"] > 0.5
    empty = [one.name for one in found.features if one.filled == 0]
    lines = details(found)
    assert any(
        line.startswith(f"  without a value, or with nothing but 0 ({len(empty)}): {empty[0]}, ")
        for line in lines
    )
    listed = {line.split()[0] for line in lines}
    assert "creatinine_last_stay" in listed
    assert listed.isdisjoint(empty), "a line for each would hide those that have values"


def test_a_feature_that_tells_the_outcome_is_suspicious(settings: Settings, land_events: LandEvents) -> None:
    """Lactate that was corrected, before the prediction, to what became of the patient."""
    events = leaky_hospital.record(150).events
    dead = pc.filter(events, pc.equal(events["code"], "HOSPITAL_DISCHARGE//DIED"))["visit_id"]
    lactate = pc.equal(events["code"], "LOINC//32693-4")
    told = pc.if_else(pc.is_in(events["visit_id"], value_set=dead.combine_chunks()), 9.0, 1.0)
    position = events.schema.get_field_index("numeric_value")
    leaky = events.set_column(position, "numeric_value", pc.if_else(lactate, told, events["numeric_value"]))
    found = task_check.of_dataset(
        settings, land_events(leaky, 1), source.load("mimic-iv"), (), tasks.load("mortality")
    )
    assert {"lactate_last_stay", "lactate_min_stay", "lactate_max_stay"} == set(found.suspicious)


def test_a_file_that_is_tried_is_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Any
) -> None:
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tasks, "_tried", {})
    text = (task_names.FOLDER / "mortality.yaml").read_text()
    file = tmp_path / "tried_mortality.yaml"
    file.write_text(text.replace("hours_after: 24", "hours_after: 30"))
    assert tasks.attempt(str(file)).prediction_time.hours_after == 30
    assert tasks.load("tried_mortality").prediction_time.hours_after == 30, "for this process"
    assert not (tmp_path / "home").exists()
    assert "tried_mortality" not in task_names.all_names()
    file.write_text(text.replace("hours_after: 24", "hours_after: 36"))
    assert tasks.attempt(str(file)).prediction_time.hours_after == 36
    drawn: pa.Table = events("subject_id | time | code\n1 | 2080-06-01 00:00 | MEDS_BIRTH")
    assert cohort_flow.cohort(drawn, "tried_mortality", None, 0).num_rows == 0
    shipped = tmp_path / "mortality.yaml"
    shipped.write_text(text)
    with pytest.raises(UsageError, match="A shipped task is called mortality"):
        tasks.attempt(str(shipped))
    assert declaration_files.home_folder("task") == tmp_path / "home" / "tasks"


def test_what_a_source_loses_few_rows_to_follows_from_no_other_number() -> None:
    """The check printed 23,144 stated and 23,142 usable facts beside "value_plausible fewer than 10"."""
    facts = FactCheck("labs", "result", 26_008, 23_144, 23_142, {"value_plausible": 2}, 0.0)
    liver = ConceptCheck("ast", "U/L", "labs", "50878", 181, 36, (8.0, 42.0, 10_660.0))
    found = SourceCheck(
        (), (), (), {"people.sex": 2}, (facts,), (liver,), (TaskCheck("long_stay", at_risk=0),), one_in=2
    )
    printed = "\n".join(source_lines(found))
    assert "23,142" not in printed
    assert "all but fewer than 10  value_plausible fewer than 10" in printed
    assert "words of people.sex that no list has: fewer than 10 rows" in printed
    assert printed.split("50878")[1].split()[2:5] == ["8", "42", "10,660"]
    assert "task long_stay, of one in 2 patients" in printed
