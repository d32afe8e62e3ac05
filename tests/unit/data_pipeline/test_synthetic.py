"""The synthetic hospital: its shape, its dirt, and its truth."""

import gzip
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from data_pipeline import synthetic
from data_pipeline.synthetic import Params, blocks, clinical_notes, dirt, hospital
from data_pipeline.synthetic.blocks import Block
from data_pipeline.synthetic.clinical_notes import ADMISSION
from data_pipeline.synthetic.frames import stream
from data_pipeline.synthetic.patients import Visits, draw_subjects, simulate, truth
from mediscale.core.settings import Settings

HEADERS = {  # mimic.mit.edu/docs/iv, version 3.1; the capitals in procedureevents are the files' own
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,"
    "admission_location,discharge_location,insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag",
    "hosp/transfers": "subject_id,hadm_id,transfer_id,eventtype,careunit,intime,outtime",
    "hosp/services": "subject_id,hadm_id,transfertime,prev_service,curr_service",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/procedures_icd": "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version",
    "hosp/prescriptions": "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,"
    "drug_type,drug,formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,form_val_disp,form_unit_disp,"
    "doses_per_24_hrs,route",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,"
    "valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments",
    "hosp/d_labitems": "itemid,label,fluid,category",
    "hosp/microbiologyevents": "microevent_id,subject_id,hadm_id,micro_specimen_id,order_provider_id,chartdate,"
    "charttime,spec_itemid,spec_type_desc,test_seq,storedate,storetime,test_itemid,test_name,org_itemid,org_name,isolate_num,"
    "quantity,ab_itemid,ab_name,dilution_text,dilution_comparison,dilution_value,interpretation,comments",
    "hosp/omr": "subject_id,chartdate,seq_num,result_name,result_value",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,"
    "valueuom,warning",
    "icu/d_items": "itemid,label,abbreviation,linksto,category,unitname,param_type,lownormalvalue,highnormalvalue",
    "icu/inputevents": "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,amount,amountuom,"
    "rate,rateuom,orderid,linkorderid,ordercategoryname,secondaryordercategoryname,ordercomponenttypedescription,"
    "ordercategorydescription,patientweight,totalamount,totalamountuom,isopenbag,continueinnextdept,statusdescription,"
    "originalamount,originalrate",
    "icu/outputevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valueuom",
    "icu/procedureevents": "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,value,valueuom,"
    "location,locationcategory,orderid,linkorderid,ordercategoryname,ordercategorydescription,patientweight,isopenbag,"
    "continueinnextdept,statusdescription,ORIGINALAMOUNT,ORIGINALRATE",
    "note/admission": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "note/radiology": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
    "note/discharge": "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text",
}
KEY = "the-key-of-this-call"
NOT_READMISSIONS = ("EU OBSERVATION", "DIRECT OBSERVATION", "AMBULATORY OBSERVATION", "ELECTIVE",
                    "SURGICAL SAME DAY ADMISSION")  # fmt: skip


@pytest.fixture(scope="module")
def block() -> Block:
    """Every table of 1,500 patients."""
    return next(blocks.generate(1_500, seed=7))


@pytest.fixture(scope="module")
def cohort() -> tuple[Visits, pl.DataFrame, pl.DataFrame]:
    """12,000 patients' visits, admissions and truth, without the tables of measurements."""
    subjects = draw_subjects(stream(7, 0, "subjects"), 12_000, 10_000_000)
    visits = simulate(stream(7, 0, "visits"), subjects)
    encounters = hospital.draw_encounters(stream(7, 0, "encounters"), subjects, visits, 0)
    admissions = hospital.admissions(stream(7, 0, "admissions"), subjects, visits, encounters)
    return visits, admissions, truth(subjects, visits, encounters.hadm_id)


def outcomes(admissions: pl.DataFrame, probabilities: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Per task the truth with what happened, worked out from the admissions table alone: stays a day or less apart
    are one, and an unplanned inpatient stay that begins within 30 days is a readmission."""
    rows = admissions.with_columns(
        dischtime=pl.max_horizontal("dischtime", pl.col("admittime") + pl.duration(hours=25))
    ).sort("subject_id", "admittime")
    gap = pl.col("admittime") - pl.col("dischtime").shift(1).over("subject_id")
    stays = (
        rows.with_columns(stay=(gap > pl.duration(days=1)).fill_null(True).cum_sum().over("subject_id"))
        .group_by("subject_id", "stay", maintain_order=True)
        .agg(
            pl.col("hadm_id", "admittime", "admission_type").first(),
            pl.col("dischtime").last(),
            died=pl.col("hospital_expire_flag").max() == 1,
        )
    )
    unplanned = stays.filter(~pl.col("admission_type").is_in(NOT_READMISSIONS))
    back = (
        stays.join(unplanned.select("subject_id", again="admittime"), on="subject_id")
        .filter(
            (pl.col("again") > pl.col("dischtime"))
            & (pl.col("again") <= pl.col("dischtime") + pl.duration(days=30))
        )
        .select("hadm_id")
        .unique()
    )
    known = probabilities.join(stays, on="hadm_id", how="left", validate="m:1").with_columns(
        returned=pl.col("hadm_id").is_in(back["hadm_id"].implode())
    )
    return {
        "mortality": known.filter(pl.col("task") == "mortality").with_columns(outcome="died"),
        "readmission": known.filter(pl.col("task") == "readmission").with_columns(outcome="returned"),
    }


def auroc(outcome: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    rank = np.argsort(np.argsort(score)) + 1.0
    events = int(outcome.sum())
    return float((rank[outcome].sum() - events * (events + 1) / 2) / (events * (len(outcome) - events)))


def share(frame: pl.DataFrame, condition: pl.Expr) -> float:
    return float(frame.select(condition.fill_null(False).mean()).item())


def run(home: Path, seed: int = 3, key: str = KEY) -> tuple[synthetic.Result, dict[str, bytes]]:
    result = synthetic.run(Params(size="tiny", seed=seed), Settings(home=home), key)
    files = sorted((home / "extracts").rglob("*.csv.gz"))
    return result, {str(file.relative_to(home)): file.read_bytes() for file in files}


def test_columns_are_those_of_mimic_iv(block: Block) -> None:
    assert {name: ",".join(table.columns) for name, table in block.tables.items()} == HEADERS


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    (_, first), (_, second), (_, other) = (
        run(tmp_path / "a"),
        run(tmp_path / "b"),
        run(tmp_path / "c", seed=4),
    )
    assert first == second
    assert len(first) == len(HEADERS) + 1
    same = {name.partition("-3")[2] for name in first if first[name] == other.get(name.replace("-3", "-4"))}
    assert same == {"/hosp/d_labitems.csv.gz", "/icu/d_items.csv.gz"}


def test_the_truth_lies_beside_the_extract_and_not_in_it(tmp_path: Path) -> None:
    result, files = run(tmp_path)
    assert result.path == "extracts/synthetic-tiny-3"
    assert result.oracle == "extracts/synthetic-tiny-3.truth.csv.gz"
    inside = {
        path.relative_to(tmp_path / result.path).as_posix() for path in (tmp_path / result.path).rglob("*.*")
    }
    assert inside == {f"{table}.csv.gz" for table in HEADERS} | {synthetic.FINISHED}
    truth_header = gzip.decompress(files[result.oracle]).splitlines()[0]
    assert truth_header == b"subject_id,hadm_id,task,prediction_time,probability"
    assert result.patients == 250
    assert result.visits == pytest.approx(350, abs=40)


def test_a_finished_extract_is_not_written_again(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    labs = tmp_path / result.path / "hosp" / "labevents.csv.gz"
    written = labs.stat().st_mtime_ns
    again, _ = run(tmp_path)
    assert (again, labs.stat().st_mtime_ns) == (result, written)


@pytest.mark.parametrize("harm", ["torn", "other code", "half-written"])
def test_an_extract_that_is_not_this_calls_is_made_anew(tmp_path: Path, harm: str) -> None:
    result, whole = run(tmp_path)
    folder = tmp_path / result.path
    labs = folder / "hosp" / "labevents.csv.gz"
    labs.write_bytes(labs.read_bytes()[:1000])
    if harm == "half-written":
        (folder / synthetic.FINISHED).unlink()
    _, repaired = run(tmp_path, key="another-key" if harm == "other code" else KEY)
    assert repaired == whole


def test_event_rates(cohort: tuple[Visits, pl.DataFrame, pl.DataFrame]) -> None:
    visits, admissions, probabilities = cohort
    known = outcomes(admissions, probabilities)
    assert visits.died.mean() == pytest.approx(0.08, abs=0.01)
    assert known["mortality"]["outcome"].mean() == pytest.approx(0.083, abs=0.01)
    assert known["readmission"]["outcome"].mean() == pytest.approx(0.15, abs=0.015)


@pytest.mark.parametrize(("task", "low", "high"), [("mortality", 0.85, 0.90), ("readmission", 0.70, 0.76)])
def test_the_oracle_is_calibrated_and_as_good_as_designed(
    cohort: tuple[Visits, pl.DataFrame, pl.DataFrame], task: str, low: float, high: float
) -> None:
    known = outcomes(*cohort[1:])[task].sort("probability")
    probability, outcome = known["probability"].to_numpy(), known["outcome"].to_numpy()
    for fifth in np.array_split(np.arange(len(known)), 5):
        error = np.sqrt((probability[fifth] * (1 - probability[fifth])).sum()) / len(fifth)
        assert abs(outcome[fifth].mean() - probability[fifth].mean()) < 3.5 * error
    assert low < auroc(outcome, probability) < high


def test_nothing_known_at_the_landmark_tells_more_than_the_oracle(block: Block) -> None:
    """Given the true probability, the outcome is independent of all that was recorded by then."""
    known = outcomes(block.tables["hosp/admissions"], block.truth)
    pulse = block.tables["icu/chartevents"].filter(pl.col("itemid") == 220045)
    labs = block.tables["hosp/labevents"].filter(pl.col("hadm_id").is_not_null())
    for task, events in (
        ("mortality", pulse),
        ("mortality", labs),
        ("readmission", pulse),
        ("readmission", labs),
    ):
        recorded = (
            known[task]
            .select("hadm_id", "prediction_time")
            .join(events, on="hadm_id")
            .filter(pl.col("charttime") <= pl.col("prediction_time"))
            .group_by("hadm_id")
            .agg(pl.len().cast(pl.Float64).alias("count"), pl.col("valuenum").mean().alias("mean"))
        )
        joined = known[task].join(recorded, on="hadm_id").drop_nulls("mean")
        surprise = joined["outcome"].cast(pl.Float64) - joined["probability"]
        for trace in ("count", "mean"):
            correlation = np.corrcoef(surprise, joined[trace].rank())[0, 1]
            assert abs(correlation) * np.sqrt(len(joined)) < 3.5, (task, trace)


def test_labs_are_as_dirty_as_stated(block: Block) -> None:
    labs = block.tables["hosp/labevents"]
    admitted = block.tables["hosp/admissions"].select("hadm_id", "admittime")
    linked = labs.join(admitted, on="hadm_id")
    creatinine = labs.filter(pl.col("itemid") == dirt.CREATININE)
    number = pl.col("valuenum")
    distinct = labs.unique(["labevent_id", "storetime"])
    assert labs["hadm_id"].null_count() / len(labs) == pytest.approx(0.19, abs=0.02)
    assert share(linked, pl.col("charttime") < pl.col("admittime")) == pytest.approx(0.08, abs=0.02)
    assert distinct["labevent_id"].is_duplicated().mean() == pytest.approx(2 * dirt.CORRECTED, rel=0.1)
    assert share(labs, number.is_null()) == pytest.approx(dirt.UNREADABLE, rel=0.2)
    assert share(labs, number < 0) == pytest.approx(dirt.NEGATIVE, rel=0.5)
    assert 1 - len(distinct) / len(labs) == pytest.approx(dirt.REPEATED, rel=0.2)
    assert share(creatinine, pl.col("valueuom") == "umol/L") == pytest.approx(dirt.LAB_UNIT, rel=0.3)
    assert share(creatinine, (pl.col("valueuom") == "mg/dL") & (number > 40)) < 3 * dirt.LAB_UNIT_UNLABELLED


def test_charts_are_as_dirty_as_stated(block: Block) -> None:
    charts = block.tables["icu/chartevents"]
    number = pl.col("valuenum")
    zero = charts.filter(pl.col("itemid") == 220045)
    oxygen = charts.filter(pl.col("itemid") == 223835)
    celsius, fahrenheit = (
        charts.filter(pl.col("itemid") == item).unique(["hadm_id", "charttime"]) for item in (223762, 223761)
    )
    both = celsius.join(fahrenheit, on=["hadm_id", "charttime"])
    assert share(zero, number == 0) == pytest.approx(dirt.HEART_RATE_ZERO, rel=0.4)
    assert share(oxygen, number <= 1) == pytest.approx(dirt.FIO2_FRACTION, rel=0.15)
    assert len(both) / len(fahrenheit) == pytest.approx(dirt.TEMPERATURE_TWICE, rel=0.15)
    assert share(charts, pl.col("storetime") < pl.col("charttime")) == pytest.approx(0.06, abs=0.005)
    assert both["valuenum"].to_numpy() * 1.8 + 32 == pytest.approx(both["valuenum_right"].to_numpy(), abs=0.2)


def test_no_more_than_one_row_in_a_hundred_is_useless(block: Block) -> None:
    labs, charts = block.tables["hosp/labevents"], block.tables["icu/chartevents"]
    useless = pl.col("valuenum").is_null() | (pl.col("valuenum") < 0) | pl.struct(pl.all()).is_duplicated()
    assert share(labs, useless) < 0.01
    assert share(charts, useless | ((pl.col("itemid") == 220045) & (pl.col("valuenum") == 0))) < 0.01


def test_results_arrive_after_they_were_drawn_and_corrections_later_still(block: Block) -> None:
    labs = block.tables["hosp/labevents"]
    delay = pl.col("storetime") - pl.col("charttime")
    gas = labs.filter(pl.col("itemid") == 50813).select(delay.dt.total_minutes()).to_series()
    chemistry = labs.filter(pl.col("itemid") == 50912).select(delay.dt.total_minutes()).to_series()
    assert labs.select((delay > pl.duration(minutes=0)).all()).item()
    assert gas.median() < 20 < 60 < chemistry.median() < 100
    twice = (
        labs.unique(["labevent_id", "storetime"])
        .sort("labevent_id", "storetime")
        .filter(pl.col("labevent_id").is_duplicated())
    )
    first, second = (
        twice.group_by("labevent_id", maintain_order=True).agg(getattr(pl.all(), end)())
        for end in ("first", "last")
    )
    assert (second["storetime"] > first["storetime"]).all()
    assert second["comments"].str.starts_with("CORRECTED").all()
    assert (second["value"] != first["value"]).mean() > 0.85
    cultures = block.tables["hosp/microbiologyevents"].unique("micro_specimen_id")
    assert cultures.select(delay.dt.total_hours()).to_series().median() == pytest.approx(73, abs=4)


def test_the_sicker_are_measured_more(block: Block) -> None:
    known = outcomes(block.tables["hosp/admissions"], block.truth)["mortality"]
    lactate = (
        block.tables["hosp/labevents"].filter(pl.col("itemid") == 50813)["hadm_id"].drop_nulls().implode()
    )
    risk = known.with_columns(measured=pl.col("hadm_id").is_in(lactate)).sort("probability")["measured"]
    assert risk.tail(400).mean() > risk.head(400).mean() + 0.3


def test_traps_of_real_admissions(cohort: tuple[Visits, pl.DataFrame, pl.DataFrame], block: Block) -> None:
    _, admissions, _ = cohort
    rows = admissions.sort("subject_id", "admittime")
    gap = rows["admittime"] - rows["dischtime"].shift(1)
    near = (rows["subject_id"] == rows["subject_id"].shift(1)) & gap.is_between(
        pl.duration(hours=0), pl.duration(days=1)
    )
    assert share(admissions, pl.col("dischtime") < pl.col("admittime")) == pytest.approx(0.0014, abs=0.001)
    assert near.sum() > 50
    assert set(NOT_READMISSIONS) < set(admissions["admission_type"])
    age = block.tables["hosp/patients"]["anchor_age"]
    assert (age.max(), (age == 90).sum()) == (91, 0)
    assert block.tables["hosp/patients"]["dod"].is_not_null().any()


def test_every_row_belongs_to_its_stay(block: Block) -> None:
    stays = block.tables["hosp/admissions"].with_columns(
        begin=pl.min_horizontal("admittime", "edregtime"), end=pl.max_horizontal("dischtime", "admittime")
    )
    sound = stays.filter(pl.col("dischtime") > pl.col("admittime"))
    for name, time_column in (("icu/chartevents", "charttime"), ("hosp/labevents", "charttime"),
                              ("hosp/prescriptions", "starttime"), ("icu/outputevents", "charttime"),
                              ("icu/inputevents", "endtime"), ("hosp/microbiologyevents", "charttime")):  # fmt: skip
        rows = block.tables[name].join(sound.select("hadm_id", "begin", "end"), on="hadm_id")
        inside = pl.col(time_column).is_between(pl.col("begin") - pl.duration(hours=1), "end")
        assert rows.select(inside.all()).item(), name
    first_parts = block.truth.filter(pl.col("task") == "mortality")["hadm_id"]
    assert first_parts.is_in(block.tables["icu/chartevents"]["hadm_id"].implode()).all()


def test_codes_come_in_both_versions_and_without_dots(block: Block) -> None:
    codes = block.tables["hosp/diagnoses_icd"]
    assert set(codes["icd_version"]) == {9, 10}
    assert codes["icd_code"].str.contains(r"^[A-Z0-9]{3,7}$").all()
    assert not codes.select("hadm_id", "icd_code").is_duplicated().any()
    charlson = ("412", "4280", "4439", "4389", "29420", "496", "7140", "53390", "5715", "25000", "25040", "34290",
                "5853", "1629", "4561", "1970", "042")  # fmt: skip
    assert set(charlson) <= set(codes.filter(pl.col("icd_version") == 9)["icd_code"])


def test_planted_identifiers_are_where_they_are_said_to_be(block: Block) -> None:
    kinds = {span.kind for note in block.notes for span in note.spans}
    assert kinds == {"name", "date", "age", "phone", "record", "address", "email", "url"}
    shapes = {
        "phone": r"555.\d{4}$",
        "email": r"^\S+@mailbox\.example$",
        "url": r"^https://",
        "age": r"^9\d$",
    }
    for note in block.notes:
        for span in note.spans:
            assert re.search(shapes.get(span.kind, r"\w"), note.text[span.start : span.end])
        old = [m.start(1) for m in re.finditer(r"(?<![\d/-])(9\d)(?: y/o| year|-year| [MF] with)", note.text)]
        assert set(old) <= {span.start for span in note.spans if span.kind == "age"}
        assert "{" not in note.text


def test_notes_say_what_the_tables_do_not(block: Block) -> None:
    """Goals of care stand in the notes and in no table, and go with death."""
    known = outcomes(block.tables["hosp/admissions"], block.truth)["mortality"]
    limited = {
        note.hadm_id for note in block.notes if note.kind == ADMISSION and re.search("DNR|Comfort", note.text)
    }
    risk = (
        known.with_columns(limited=pl.col("hadm_id").is_in(list(limited)))
        .group_by("limited")
        .agg(pl.col("probability").mean())
    )
    high, low = (risk.filter(pl.col("limited") == value)["probability"].item() for value in (True, False))
    assert 0.03 < len(limited) / len(known) < 0.15
    assert high > 2 * low
    codes = block.tables["hosp/diagnoses_icd"]["icd_code"]
    assert not codes.is_in(["Z66", "V4986", "Z515", "V667"]).any()


def test_notes_vary_and_arrive_late(block: Block) -> None:
    texts = [note.text for note in block.notes]
    assert len(set(texts)) > 0.99 * len(texts)
    summaries = block.tables["note/discharge"].join(
        block.tables["hosp/admissions"].select("hadm_id", "dischtime"), on="hadm_id"
    )
    assert share(summaries, pl.col("storetime") <= pl.col("charttime")) == pytest.approx(0.7, abs=0.04)
    admission = block.tables["note/admission"]
    assert (admission["storetime"] > admission["charttime"]).all()
    assert not block.tables["note/discharge"]["note_id"].is_duplicated().any()


def test_blocks_are_reproducible_and_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 80)
    first, second = blocks.generate(120, seed=5)
    for name, column in (("hosp/patients", "subject_id"), ("hosp/admissions", "hadm_id"), ("icu/icustays", "stay_id"),
                         ("hosp/labevents", "labevent_id"), ("hosp/labevents", "specimen_id")):  # fmt: skip
        shared = set(first.tables[name][column]) & set(second.tables[name][column])
        assert not shared, column
    again = list(blocks.generate(120, seed=5))[1]
    assert all(again.tables[name].equals(table) for name, table in second.tables.items())


def test_without_notes_none_are_drawn_and_slices_of_any_length_make_the_same_files(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for rows in (50, 1 << 14):
        monkeypatch.setattr(synthetic, "SLICE", rows)
        params = Params(patients=30, seed=5, dataset=f"by-{rows}")
        digests.add(synthetic.run(params, settings, f"by-{rows}").extract_digest)
    assert len(digests) == 1

    def drawn(*_: object) -> None:
        raise AssertionError("notes were drawn")

    monkeypatch.setattr(clinical_notes, "generate_notes", drawn)
    without = synthetic.run(Params(patients=30, seed=5, notes=False), settings, "without")
    assert not list((settings.home / without.path).rglob("note/*"))
