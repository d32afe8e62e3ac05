"""YAIB's cohort for death in intensive care beside ours, on the MIMIC-III demo: the same stays, or why not.

    .venv/bin/python benchmarks/yaib_cohort.py MIMIC_III_DIR YAIB_DIR

YAIB (van de Water et al. 2024, github.com/rvandewater/YAIB) publishes the cohorts of the demo with the counts of each
step (``attrition.csv``). Ours is the task ``icu_mortality``. YAIB asks for 30 hours in intensive care, ours for 24: a
difference is explained where that is its reason, and the script ends with 1 where another is left.
"""

import csv
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from benchmarks.brute_force_cells import DATASET, events_of
from benchmarks.brute_force_records import moment, rows
from data_pipeline.cohort import labels
from data_pipeline.ingest import engine
from mediscale.core import tasks
from mediscale.core.settings import Settings

TASK = "icu_mortality"
THEIRS, OURS = timedelta(hours=30), timedelta(hours=24)
"""How long a patient has to be in intensive care, alive."""


def predicted(root: Path) -> set[tuple[int, object]]:
    """Our predictions: the pseudonym of the patient, and when intensive care began."""
    with tempfile.TemporaryDirectory() as scratch:
        events = events_of(Settings(home=Path(scratch)), "mimic-iii", root)
    cohort = labels.cohort(events, TASK, None, 0)
    cohort = cohort.filter(pc.equal(cohort["steps"], len(tasks.load(TASK).steps)))
    pairs = zip(cohort["subject_id"].to_pylist(), cohort["prediction_time"].to_pylist(), strict=True)
    return {(subject, at - OURS) for subject, at in pairs}


def main(mimic: Path, yaib: Path) -> int:
    """Prints both counts and what each difference is of."""
    stays = list(rows(mimic, "icustays"))
    numbers = engine.pseudonyms(pa.array([row["subject_id"] for row in stays]), DATASET).to_pylist()
    own = predicted(mimic)
    ours = {r["icustay_id"] for r, n in zip(stays, numbers, strict=True) if (n, moment(r["intime"])) in own}
    death24 = parquet.read_table(yaib / "mortality24" / "sta.parquet")["stay_id"].to_pylist()
    theirs = set(map(str, death24))
    left = {row["icustay_id"]: _hours(row) for row in stays}
    with (yaib / "mortality24" / "attrition.csv").open() as file:
        counts = [int(row["incl_n"]) for row in csv.DictReader(file)]
    base = {str(n) for n in parquet.read_table(yaib / "los" / "sta.parquet")["stay_id"].to_pylist()}
    print(
        f"{len(stays)} stays in intensive care; YAIB's base cohort {len(base)}, then {' and '.join(map(str, counts))}"
    )
    early = {stay for stay in ours - theirs if left[stay] < THEIRS}
    unexplained = (ours ^ theirs) - early
    print(f"ours {len(ours)}: {len(ours & theirs)} are YAIB's, {len(early)} ended between 24 and 30 hours")
    print(f"figure: stays of YAIB's cohort = {len(theirs)}")
    print(f"figure: stays of YAIB's cohort that ours has = {len(ours & theirs)}")
    print(f"figure: differences that are not explained = {len(unexplained)}")
    return int(bool(unexplained))


def _hours(row: dict[str, str]) -> timedelta:
    begin, end = moment(row["intime"]), moment(row["outtime"])
    return end - begin if begin and end else timedelta.max


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    print("Give the folders of the MIMIC-III demo and of YAIB's demo data.")
