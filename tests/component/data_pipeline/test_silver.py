"""Events: what they mean, when they were known, to which visit they belong, and how they are laid out."""

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from data_pipeline import shards
from mediscale.core import tables
from mediscale.storage import lake

if TYPE_CHECKING:
    from fixtures.drawn_hospitals import Hospital

SODIUM, CREATININE, TEMPERATURE = "LOINC//2951-2", "LOINC//2160-0", "LOINC//8310-5"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_events_have_the_declared_columns_and_no_assertion_twice(iii: "Hospital", iv: "Hospital") -> None:
    for hospital in (iii, iv):
        events = lake.read(hospital.settings, hospital.silver.events)
        assert set(events.column_names) == set(tables.EVENTS.column_names)
        rows = events.to_pylist()
        assert len(rows) == hospital.silver.event_count
        assert len({(row["event_id"], row["available_time"]) for row in rows}) == len(rows)


def test_nothing_is_known_before_it_is_true(iii: "Hospital", iv: "Hospital") -> None:
    for hospital in (iii, iv):
        rows = hospital.rows(hospital.silver.events)
        assert all(row["available_time"] >= row["time"] for row in rows)


def test_a_row_stored_before_it_was_charted_is_known_when_charted(iii: "Hospital") -> None:
    first, *_ = iii.events("LOINC//8867-4")
    assert first["available_time"] == at("2160-01-01 12:00")


def test_a_laboratory_without_store_times_is_known_after_the_assumed_delay(iii: "Hospital") -> None:
    first, *_ = iii.events(CREATININE)
    assert (first["time"], first["available_time"]) == (at("2160-01-01 07:00"), at("2160-01-01 09:00"))


def test_a_bedside_row_without_store_time_is_known_after_the_assumed_delay(iii: "Hospital") -> None:
    assert [row["available_time"] for row in iii.events("LOINC//59408-5")] == [at("2160-01-01 16:00")]


def test_units_are_converted_to_the_concept(iii: "Hospital") -> None:
    assert [row["numeric_value"] for row in iii.events(CREATININE)] == [1.2, 1.0]
    assert [(row["numeric_value"], row["unit"]) for row in iii.events("LOINC//1988-5")] == [(20, "mg/L")]


def test_a_value_below_the_limit_of_detection_is_that_limit(iii: "Hospital") -> None:
    assert [row["numeric_value"] for row in iii.events("LOINC//6598-7")] == [0.01]


def test_oxygen_as_fraction_and_as_percent_is_percent(iii: "Hospital") -> None:
    assert [row["numeric_value"] for row in iii.events("LOINC//3150-6")] == [50, 40]


def test_a_temperature_charted_in_both_units_is_one_event(iii: "Hospital") -> None:
    (event,) = iii.events(TEMPERATURE)
    assert abs(event["numeric_value"] - 37) < 1e-9


def test_a_numeric_laboratory_item_of_no_concept_keeps_the_source_s_code(iii: "Hospital") -> None:
    assert [(row["numeric_value"], row["unit"]) for row in iii.events("MIMIC-III//LAB//51249")] == [(33, "%")]


def test_unmapped_bedside_items_stay_in_bronze(iii: "Hospital") -> None:
    assert not [
        r for r in iii.rows(iii.silver.events) if r["source"] == "chartevents" and "LOINC" not in r["code"]
    ]


def test_a_draw_in_the_emergency_department_belongs_to_the_visit_and_one_months_before_to_none(
    iii: "Hospital",
) -> None:
    emergency, during = iii.events(CREATININE)
    assert emergency["visit_id"] == during["visit_id"] is not None
    assert [row["visit_id"] for row in iii.events("LOINC//2823-3")] == [None]


def test_a_date_without_a_time_is_known_at_the_end_of_that_day(iii: "Hospital", iv: "Hospital") -> None:
    for code in ("MEDICATION//vancomycin", "TREATMENT//antibiotic"):
        (drug,) = iii.events(code)
        assert (drug["time"], drug["available_time"]) == (at("2160-01-02"), at("2160-01-03"))
    (weight,) = iv.events("LOINC//29463-7")
    assert (weight["time"], weight["available_time"]) == (at("2159-12-01"), at("2159-12-02"))
    assert abs(weight["numeric_value"] - 99.79) < 0.01
    assert [row["numeric_value"] for row in iv.events("LOINC//8480-6")] == [120]


def test_billing_codes_are_known_after_discharge_and_the_coding_delay(iii: "Hospital") -> None:
    (code,) = iii.events("ICD9CM//0389")
    assert (code["time"], code["available_time"]) == (at("2160-01-05 12:00"), at("2160-01-12 12:00"))


def test_icd_codes_have_no_dots_and_all_their_zeros(iv: "Hospital") -> None:
    codes = sorted(row["code"] for row in iv.rows(iv.silver.events) if row["source"] == "diagnoses_icd")
    assert codes == ["ICD10CM//I509", "ICD9CM//0389", "ICD9CM//0389", "ICD9CM//4139", "ICD9CM//V707"]


def test_an_infusion_s_amount_is_known_at_its_end_and_a_rewritten_row_says_nothing(iii: "Hospital") -> None:
    (start,) = iii.events("TREATMENT//vasopressor")
    assert (start["available_time"], start["numeric_value"]) == (at("2160-01-01 12:05"), None)
    (end,) = iii.events("MIMIC-III//INPUT//221906")
    assert (end["available_time"], end["numeric_value"]) == (at("2160-01-01 20:00"), 8)


def test_the_length_of_an_icu_stay_is_known_when_it_ends(iii: "Hospital") -> None:
    (end,) = iii.events("ICU_DISCHARGE")
    assert (end["available_time"], end["numeric_value"]) == (at("2160-01-03 11:00"), 2)


def test_ages_over_89_are_what_the_source_documents(iii: "Hospital", iv: "Hospital") -> None:
    births = [row["time"] for row in iii.events("MEDS_BIRTH")]
    assert births == [at("2068-09-01"), at("2090-01-01"), at("2100-03-04")]
    assert [row["time"] for row in iv.events("MEDS_BIRTH")] == [at("2069-07-01"), at("2100-07-01")]


def test_a_death_is_told_once_in_hospital_to_the_minute_else_at_the_end_of_its_day(iii: "Hospital") -> None:
    inside, outside = iii.events("MEDS_DEATH")
    assert inside["available_time"] == at("2160-04-03 09:30")
    assert outside["available_time"] == at("2160-05-04")


def test_what_a_discharge_tells_is_not_known_at_admission(iii: "Hospital") -> None:
    for destination, when in (("FACILITY", "2160-01-05 12:00"), ("DIED", "2160-04-03 09:30")):
        (discharge,) = iii.events(f"HOSPITAL_DISCHARGE//{destination}")
        assert discharge["available_time"] == at(when)


def test_an_inverted_visit_is_no_visit(iii: "Hospital") -> None:
    assert not iii.events("HOSPITAL_ADMISSION//ELECTIVE")


def test_observation_stays_are_told_from_admissions(iv: "Hospital") -> None:
    assert len(iv.events("HOSPITAL_ADMISSION//OBSERVATION")) == 1
    assert len(iv.events("HOSPITAL_ADMISSION//EMERGENCY")) == 2


def test_a_correction_is_a_later_assertion_of_the_same_event(iv: "Hospital") -> None:
    _, reported, corrected = iv.events(CREATININE)
    assert reported["event_id"] == corrected["event_id"]
    assert (reported["numeric_value"], corrected["numeric_value"]) == (9.9, 1.9)
    assert corrected["available_time"] == at("2160-01-02 12:00")


def test_notes_stay_in_bronze(iv: "Hospital", iii: "Hospital") -> None:
    assert iv.silver.notes_in_bronze
    assert not iii.silver.notes_in_bronze
    assert not [row for row in iv.rows(iv.silver.events) if row["source"] == "discharge"]


def test_each_shard_is_one_file_in_the_order_of_subject_and_time(iii: "Hospital") -> None:
    assert lake.fact(iii.settings, iii.silver.events, shards.SHARD_COUNT) == iii.silver.shards == 2
    for shard in range(iii.silver.shards):
        files = lake.files(iii.settings, iii.silver.events, ("shard", str(shard)))
        assert len(files) <= 1
        for file in files:
            rows = pq.read_table(file, columns=["subject_id", "time"], partitioning=None).to_pylist()
            order = [(row["subject_id"], row["time"]) for row in rows]
            assert order == sorted(order)
            assert all(row["subject_id"] % iii.silver.shards == shard for row in rows)


def test_the_subject_map_leads_back_to_every_patient(iii: "Hospital") -> None:
    subjects = {row["source_subject"]: row["subject_id"] for row in iii.rows(iii.silver.subjects)}
    assert set(subjects) == {"1", "2", "3"}
    assert max(subjects.values()) < 2**53
    assert {row["subject_id"] for row in iii.rows(iii.silver.events)} == set(subjects.values())
