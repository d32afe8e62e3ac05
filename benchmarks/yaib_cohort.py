"""YAIB's cohorts of the MIMIC-III demo beside ours: the counts of each step, stay by stay, or the rule of a difference.

    .venv/bin/python benchmarks/yaib_cohort.py MIMIC_III_DIR YAIB_DIR

YAIB (van de Water et al. 2024, github.com/rvandewater/YAIB) publishes the cohorts of the demo with the counts of each
step (``attrition.csv``). Its steps are counted here from our events. Where a task can say the cohort, its own is
compared, too: ``icu_mortality``, and ``kidney_injury`` asked six hours after each admission to intensive care. The
script ends with 1 where a count or a stay differs without a rule that is named. What a task can't say: sepsis, for its
onset is a rise of the SOFA score with antibiotics and cultures, and no outcome of ours is a rise of a score; how long
intensive care goes on, and the creatinine of the second day, which are numbers and no events.
"""

import csv
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.brute_force_cells import DATASET, events_of
from benchmarks.brute_force_records import rows
from data_pipeline.cohort import cohort_flow
from data_pipeline.ingest import engine
from mediscale.core import task_names, tasks
from mediscale.core.concepts import by_name
from mediscale.core.settings import Settings

AKI = "icu_kidney_injury"
CREATININE, URINE = by_name()["creatinine"].code, by_name()["urine_output"].code
RENAL_INSUFFICIENCY = 4
"""The first creatinine, mg/dL, above which YAIB takes the kidney as ill before."""
OLIGURIA = 0.5
"""mL per kilogram and hour over six hours: KDIGO's first stage by urine."""

OLIGURIC = f"""
select stay from los_sta join stay on stay = stay_id join (select subject_id as subject, time, numeric_value as amount
  from events where code = '{URINE}') using (subject)
where time >= began and time < began + interval 6 hour
group by stay, weight having sum(amount) / 6 / weight < {OLIGURIA}
"""
"""Who has an injury by urine before hour 6. It is asked of those only whom YAIB excludes and creatinine does not: our
sums find some three in four of YAIB's onsets by urine, so it is no step by itself."""

TABLES = f"""
create view stay as -- a stay in intensive care, with what our events say of its patient
  with listed as (select icustay_id::int as stay, subject, visit, intime::timestamp as began,
                  outtime::timestamp as ended, lag(ended) over (partition by visit order by began) as before
                  from icustays),
  birth as (select subject_id as subject, max(time) as born from events where code = 'MEDS_BIRTH' group by all),
  death as (select subject_id as subject, min(time) as died from events where code = 'MEDS_DEATH' group by all)
  select listed.*, date_diff('second', began, ended) / 3600 as hours, date_diff('year', born, began)
    - (strftime(born, '%m%d') > strftime(began, '%m%d'))::int as age,
    died <= ended and date_diff('second', began, died) / 3600 < 30 as died_early
  from listed left join birth using (subject) left join death using (subject);
create view base as from stay where age >= 18 and hours >= 6;
create table value as -- each creatinine, in hours after intensive care began; own ones are of YAIB's part of the visit
  select stay, date_diff('second', began, time) / 3600 as hour, numeric_value as value,
    visit_id = visit and (before is null or time > before) as own
  from events join stay on subject_id = subject
  where code = '{CREATININE}' and time <= ended and time > began - interval 30 day;
create view lowest as -- of the values before each, in two and in seven days, by whole hours, in admission and record
  with pair as (select a.*, b.value as before, b.own as same, floor(a.hour) - floor(b.hour) as hours
                from value a join value b on a.stay = b.stay and b.hour < a.hour)
  select stay, hour, value, own, min(before) filter (same and hours <= 48) as two_days,
    min(before) filter (same) as week, min(before) filter (hours <= 48) as two_days_of_record,
    min(before) as week_of_record
  from pair where hours <= 168 group by stay, hour, value, own;
create view risen as -- the first rise of KDIGO's: in the admission, the same in binary fractions, in the whole record
  select stay,
    min(hour) filter (own and (value - two_days >= 0.3 - 1e-9 or value >= 1.5 * week)) as own,
    min(hour) filter (own and (value - two_days >= 0.3 or value >= 1.5 * week)) as own_strictly,
    min(hour) filter (value - two_days_of_record >= 0.3 - 1e-9 or value >= 1.5 * week_of_record) as record
  from lowest group by stay;
create view first as select stay, arg_min(value, hour) as creatinine from value where own group by stay;
"""
"""What YAIB's steps are counted from. It takes the values of the admission, ours those of the record."""

STEPS = {
    "los": (("of 18 years or older, for six hours or longer", "true"),),
    "mortality24": (
        ("who did not die there within 30 hours", "not coalesce(died_early, false)"),
        ("for 30 hours", "hours >= 30"),
    ),
    "kidney_function": (
        ("for 48 hours", "hours >= 48"),
        ("with a creatinine in hours 25 to 48, counted whole",
         "stay in (select stay from value where own and floor(hour) between 25 and 48)"),
    ),
    "aki": (
        ("of hospitals that code the outcome", "true"),
        ("without an injury by creatinine before hour 6",
         "stay not in (select stay from risen where own_strictly < 6)"),
        ("whose first creatinine is at most 4 mg/dL",
         f"stay not in (select stay from first where creatinine > {RENAL_INSUFFICIENCY})"),
    ),
}  # fmt: skip
"""Per cohort, YAIB's steps in words and as conditions over ``base``; sepsis has one that we can't say."""


def opened(mimic: Path, yaib: Path) -> tuple[duckdb.DuckDBPyConnection, pa.Table]:
    """The extract's stays in intensive care, our events of it and YAIB's cohorts, as tables; and our events."""
    with tempfile.TemporaryDirectory() as scratch:
        events = events_of(Settings(home=Path(scratch)), "mimic-iii", mimic)
    stays = pa.Table.from_pylist(list(rows(mimic, "icustays")))
    for name, column in (("subject", "subject_id"), ("visit", "hadm_id")):
        stays = stays.append_column(name, engine.pseudonyms(stays[column].combine_chunks(), DATASET))
    database = duckdb.connect()
    database.register("events", events)
    database.register("icustays", stays)
    for cohort in ("los", "mortality24", "kidney_function", "aki", "sepsis"):
        for table in ("sta", "outc", "dyn"):
            path = yaib / cohort / f"{table}.parquet"
            database.execute(f"create view {cohort}_{table} as from read_parquet('{path}')")
    database.execute(TABLES)
    return database, events


def numbers(database: duckdb.DuckDBPyConnection, sql: str) -> set[int]:
    """The numbers of stays that a query finds."""
    return {int(stay) for (stay,) in database.execute(sql).fetchall()}


def steps(database: duckdb.DuckDBPyConnection, yaib: Path, cohort: str) -> int:
    """Prints YAIB's counts of a cohort beside ours, and returns how many stays differ without a rule."""
    theirs = numbers(database, f"select stay_id from {cohort}_sta")
    stated = [len(theirs)]
    if (attrition := yaib / cohort / "attrition.csv").exists():
        with attrition.open() as file:
            stated = [int(row["incl_n"]) for row in csv.DictReader(file)]
    conditions: list[str] = []
    unexplained = 0
    for (words, condition), count in zip(STEPS[cohort], stated, strict=True):
        conditions.append(condition)
        ours = numbers(database, f"select stay from base where {' and '.join(conditions)}")
        by_urine = (ours - theirs) & numbers(database, OLIGURIC) if "hour 6" in words else set()
        print(f"  {cohort:<16} {words:<50} YAIB {count:>4}, from our events {len(ours):>4}", end="")
        print(f", {len(by_urine)} by rule 'urine'" if by_urine else "")
        unexplained += abs(len(ours - by_urine) - count)
        conditions += [f"stay <> {stay}" for stay in by_urine]
        ours -= by_urine
    return unexplained + len(ours ^ theirs)


def outcomes(database: duckdb.DuckDBPyConnection) -> int:
    """Prints how YAIB's outcomes stand beside those of our events, and returns how many differ without a rule."""
    hours, equal = database.execute(
        "select count(*), count(*) filter (label = least(168, floor(hours - time / 3600))) "
        "from los_outc join stay on stay = stay_id"
    ).fetchall()[0]
    print(f"  los: {equal:,} of {hours:,} hours left in intensive care are equal")
    low = by_name()["creatinine"].low
    medians, same, implausible = database.execute(
        f"""
        with ours as (select stay, median(value) as median from value where own and floor(hour) between 25 and 48
                      group by stay),
        odd as (select distinct stay_id from los_dyn where crea < {low} and time / 3600 between 25 and 48)
        select count(*), count(*) filter (abs(label - median) < 1e-9),
          count(*) filter (abs(label - median) >= 1e-9 and stay_id in (from odd))
        from kidney_function_outc join ours on stay = stay_id
        """
    ).fetchall()[0]
    print(
        f"  kidney_function: {same} of {medians} medians of the second day are equal; rule 'implausible', a "
        f"value below {low} that we quarantine and YAIB takes: {implausible}"
    )
    return int(hours - equal + medians - same - implausible) + _onsets(database)


def _onsets(database: duckdb.DuckDBPyConnection) -> int:
    """Beside our first rises of creatinine, YAIB's onsets, which also are by urine and end with the seventh day."""
    seen = database.execute(
        f"""
        with theirs as (select stay_id as stay, max(time) filter (label) / 3600 - 6 as onset, max(time) / 3600 as last
                        from aki_outc group by all),
        compared as (select stay, onset, last, floor(own_strictly) as ours from theirs left join risen using (stay)),
        urine as (select stay, floor(date_diff('second', began, time) / 3600) as hour, sum(numeric_value) as amount
                  from events join stay on subject_id = subject where code = '{URINE}' group by all),
        rate as (select stay, (select coalesce(sum(amount), 0) from urine where urine.stay = compared.stay and hour
                 between onset - 5 and onset) / 6 / weight as rate from compared join aki_sta on stay_id = stay)
        select count(*), count(*) filter (onset is not distinct from ours),
          count(*) filter (onset is null and ours > last), count(*) filter (onset < coalesce(ours, 1e9)),
          count(*) filter (onset < coalesce(ours, 1e9) and rate < {OLIGURIA})
        from compared join rate using (stay)
        """
    ).fetchall()[0]
    stays, same, late, by_urine, reproduced = map(int, seen)
    print(
        f"  aki: of {stays} stays {same} have the same onset by creatinine, or none; rule 'seventh day', after which "
        f"YAIB looks no further: {late}; rule 'urine', by which an onset is earlier: {by_urine}, of which our urine of "
        f"the six hours is below {OLIGURIA} mL/kg/h in {reproduced}"
    )
    return stays - same - late - by_urine


def predicted(database: duckdb.DuckDBPyConnection, events: pa.Table, task: str) -> set[int]:
    """The stays in intensive care that a task of ours predicts."""
    declared = tasks.load(task)
    cohort = cohort_flow.cohort(events, task, None, 0)
    cohort = cohort.filter(pc.equal(cohort["steps"], len(declared.steps)))
    after = timedelta(hours=declared.prediction_time.hours_after)
    began = pc.subtract(cohort["prediction_time"], pa.scalar(after, pa.duration("us")))
    database.register("ours", pa.table({"subject": cohort["subject_id"], "began": began}))
    return numbers(database, "select stay from stay join ours using (subject, began)")


def explained(database: duckdb.DuckDBPyConnection, cohort: str, ours: set[int], rules: dict[str, str]) -> int:
    """Prints the stays that a task and YAIB do not share, by rule, and returns how many no rule explains."""
    theirs = numbers(database, f"select stay_id from {cohort}_sta")
    left = ours ^ theirs
    print(f"  {cohort}: YAIB {len(theirs)}, our task {len(ours)}, both {len(ours & theirs)}")
    for words, condition in rules.items():
        found = left & numbers(database, f"select stay from stay where {condition}")
        print(f"    rule '{words}': {len(found)}")
        left -= found
    return len(left)


RULES = {
    "mortality24": {"24 hours are asked for, not 30": "hours < 30"},
    "aki": {
        "a first creatinine above 4 mg/dL does not exclude": (
            f"stay in (select stay from first where creatinine > {RENAL_INSUFFICIENCY})"
        ),
        "a rise from 1.1 to 1.4 is one of 0.3, though not in binary fractions": (
            "stay in (select stay from risen where own < 6 and coalesce(own_strictly, 99) >= 6)"
        ),
        "earlier admissions of the record count, too": (
            "stay in (select stay from risen where record < 6 and coalesce(own, 99) >= 6)"
        ),
        "no creatinine in the 48 hours after: not known": (
            "stay not in (select stay from value where hour > 6 and hour <= 54)"
        ),
        "no creatinine of the seven days before to compare with": (
            "stay not in (select stay from value where hour <= 6 and hour > 6 - 168)"
        ),
        "kidney failure in earlier diagnoses excludes": (
            "subject in (select subject_id from events where regexp_matches(code, '^(ICD9CM//(5856|V4511)|"
            "ICD10CM//(N186|Z992))') and time < began)"
        ),
    },
}
"""What explains a stay that is in one cohort alone."""


def main(mimic: Path, yaib: Path) -> int:
    """Prints all counts and what each difference is of."""
    database, events = opened(mimic, yaib)
    everybody = len(numbers(database, "select stay from stay"))
    print(f"YAIB's steps, of {everybody} stays in intensive care")
    counts = sum(steps(database, yaib, cohort) for cohort in STEPS)
    print("  sepsis           not said: its onset is a rise of the SOFA score with antibiotics and cultures")
    print("YAIB's outcomes")
    differing = outcomes(database)
    print("Our tasks")
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / f"{AKI}.yaml"
        own.write_text(_at_hour_six(), encoding="utf-8")
        cohorts = {"mortality24": "icu_mortality", "aki": tasks.attempt(str(own)).name}
        unexplained = sum(
            explained(database, cohort, predicted(database, events, task), RULES[cohort])
            for cohort, task in cohorts.items()
        )
    print(f"figure: counts and stays of YAIB's steps that differ = {counts}")
    print(f"figure: outcomes of YAIB's that differ without a rule = {differing}")
    print(f"figure: stays of our tasks that differ without a rule = {unexplained}")
    return int(bool(counts + differing + unexplained))


def _at_hour_six() -> str:
    """The task of the kidneys, asked once, six hours after each admission to intensive care."""
    shipped = task_names.FOLDER / "optional" / "kidney_injury.yaml"
    lines = shipped.read_text(encoding="utf-8").splitlines()
    own = {
        "prediction_time:": "prediction_time: {anchor: icu_admission, hours_after: 6}",
        "may_be_asked:": "may_be_asked: {anchor: icu_admission, hours: [6, 24]}",
    }
    return "\n".join(own.get(line.split(" ")[0], line) for line in lines)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    print("Give the folders of the MIMIC-III demo and of YAIB's demo data.")
