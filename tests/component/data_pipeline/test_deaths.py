"""From an extract's four columns about a death to labels, in both sources' layouts."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from data_pipeline.cohort import labels

if TYPE_CHECKING:
    from fixtures.drawn_hospitals import Hospital

III = {
    "PATIENTS": """
        SUBJECT_ID,GENDER,DOB,DOD
        {patients}""",
    "ADMISSIONS": """
        SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,DISCHARGE_LOCATION,HOSPITAL_EXPIRE_FLAG,ETHNICITY,EDREGTIME
        {admissions}""",
}
IV = {
    "hosp/patients": """
        subject_id,gender,anchor_age,anchor_year,dod
        {patients}""",
    "hosp/admissions": """
        subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admission_location,discharge_location,hospital_expire_flag,race,edregtime
        {admissions}""",
}
STORIES = (
    # deathtime, discharge_location, hospital_expire_flag, dod, and what is right for either task
    ("", "HOME", "0", "", "left_alive", "not_readmitted"),
    ("2150-02-06 12:00:00", "DIED", "1", "2150-02-06", "died_in_hospital", ""),
    ("2150-02-07 12:00:00", "DIED", "1", "2150-02-07", "died_in_hospital", ""),
    ("2150-03-15 08:00:00", "HOME", "0", "", "left_alive", "not_readmitted"),
    ("2150-02-26 08:00:00", "HOME", "0", "", "left_alive", "died_after_discharge"),
    ("", "HOME", "1", "", "", ""),
    ("", "DIED", "0", "", "", ""),
    ("", "HOME", "0", "2150-02-26", "left_alive", "died_after_discharge"),
    ("", "HOME", "0", "2150-02-04", "died_in_hospital", ""),
    ("2150-02-05 08:00:00", "DIED", "1", "2150-02-26", "died_in_hospital", ""),
)
CONTRADICTIONS = 6


def drawn(source: str) -> Mapping[str, str]:
    """A patient and an admission for each story; the subject is the story's place."""
    dead = "DEAD/EXPIRED" if source == "mimic-iii" else "DIED"
    kind = "EMERGENCY" if source == "mimic-iii" else "EW EMER."
    born = "2090-01-01 00:00:00" if source == "mimic-iii" else "60,2150"
    patients = [f"{i},F,{born},{story[3]}" for i, story in enumerate(STORIES, start=1)]
    admissions = [
        f"{i},{100 + i},2150-02-01 10:00:00,2150-02-06 12:00:00,{deathtime},{kind},"
        f"CLINIC,{dead if place == 'DIED' else place},{flag},WHITE,"
        for i, (deathtime, place, flag, *_) in enumerate(STORIES, start=1)
    ]
    lines = {"patients": "\n".join(patients), "admissions": "\n".join(admissions)}
    return {name: text.format(**lines) for name, text in (III if source == "mimic-iii" else IV).items()}


@pytest.mark.parametrize("source", ["mimic-iii", "mimic-iv"])
def test_a_time_of_death_decides_and_what_contradicts_it_is_counted(
    take_in: "Callable[[str, Mapping[str, str]], Hospital]", source: str
) -> None:
    hospital = take_in(source, drawn(source))
    names = {row["subject_id"]: int(row["source_subject"]) for row in hospital.rows(hospital.silver.subjects)}
    results = {}
    for task, right in (("mortality", 4), ("readmission", 5)):
        params = labels.Params(
            dataset=source, source=source, events=hospital.silver.events, task=task, absent=()
        )
        results[task] = labels.run(params, hospital.settings, f"{source} {task}")
        labelled = {names[row["subject_id"]]: row for row in hospital.rows(results[task].labels)}
        expected = {i: story[right] for i, story in enumerate(STORIES, start=1) if story[right]}
        assert labelled.keys() == expected.keys()
        positive = {i for i, row in labelled.items() if row["boolean_value"]}
        assert positive == {i for i, outcome in expected.items() if outcome == "died_in_hospital"}
        for outcome in set(expected.values()):
            assert results[task].outcomes[outcome] == list(expected.values()).count(outcome)
        assert results[task].flow["ended"] == len(STORIES)
        assert results[task].flow["clear_about_death"] == len(STORIES) - 2
        assert results[task].contradictions == CONTRADICTIONS
