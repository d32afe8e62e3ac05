"""A night's append beside a rebuild from everything, in CPU seconds.

    python benchmarks/append.py [--patients 6000] [--share 0.01 0.001]

A synthetic hospital without notes is divided at the moment after which the last share of its rows was recorded: what
came before lands first. Then the night comes: a file of its own for each table with times, and the list of visits as it
is by then. Of its three and a half years, a row in a hundred is of the last two weeks, one in a thousand of a day.
The stages ``bronze``, ``validate`` and ``silver`` take it in as a run does, by ``mediscale.pipeline``, with records and
digests; a rebuild takes the whole extract into a home of its own. Each has a process of its own that took in 250
patients and a night of theirs before, so that starting counts for neither. What those cost is the fixed part of any
night and of any rebuild; the rest grows with the hospital, and so a larger one can be told from this one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from data_pipeline import shards, synthetic
from data_pipeline.ingest.extract_files import digest_of
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs, steps

DATASET, SOURCE = "bench", "mimic-iv"
FEW, FEW_SHARE = 250, 0.02
NIGHT = datetime(2026, 1, 1)
AIM = 0.05
KNOWN = ("storetime", "charttime", "starttime", "intime", "transfertime")
"""Columns that say when a row was recorded, the first that a table has."""
LISTS = ("hosp/patients", "hosp/admissions")
"""Tables that an extract has whole every night."""


def ingest(home: Path, extract: Path, seen_at: datetime) -> None:
    settings = Settings(home=home)
    results: dict[str, dict[str, Any]] = {
        steps.PREPARE_SOURCE: {
            "source": SOURCE,
            "dataset": DATASET,
            "path": str(extract),
            "extract_digest": digest_of(str(extract), SOURCE),
            "seen_at": seen_at,
        }
    }
    for step in steps.INGEST:
        given = {"max_quarantine_share": 1} if step.stage == "validate" else {}
        upstream = [results[name] for name in step.upstream]
        done = runtime_inputs.call(step.stage, given, upstream, settings, f"bench-{seen_at:%Y%m%d}")
        results[step.stage] = done.result.model_dump()


def divide(extract: Path, before: Path, whole: Path, share: float) -> datetime:
    """Writes the extract as it was before the last share of its rows, and with the night's files; when it was."""
    files = {file.relative_to(extract).as_posix().removesuffix(".csv.gz"): file
             for file in sorted(extract.rglob("*.csv.gz"))}  # fmt: skip
    dated = {name: column for name, file in files.items() if name not in LISTS and (column := recorded(file))}
    times = pl.concat(
        [read(files[name], [column])[column].str.to_datetime() for name, column in dated.items()]
    )
    cut = str(times.drop_nulls().sort()[int((len(times) - times.null_count()) * (1 - share))])
    visits = read(files["hosp/admissions"], ["hadm_id", "dischtime"])
    ended = visits.filter(pl.col("dischtime") <= cut)["hadm_id"]
    for name, file in files.items():
        rows = read(file)
        if name in dated:
            late = (pl.col(dated[name]) > cut).fill_null(False)
        elif name in LISTS or "hadm_id" not in rows.columns:
            late = pl.lit(False)
        else:  # coded after discharge
            late = ~pl.col("hadm_id").is_in(ended.to_list())
        early, night = rows.filter(~late), rows.filter(late)
        if name == "hosp/admissions":
            early = rows.filter(pl.col("admittime") <= cut).with_columns(
                *(pl.when(pl.col("dischtime") <= cut).then(pl.col(c)) for c in ("dischtime", "deathtime"))
            )
            write(before / f"{name}.csv.gz", early)
            write(whole / f"{name}.csv.gz", rows)
            continue
        write(before / name / "before.csv.gz", early)
        (whole / name).mkdir(parents=True, exist_ok=True)
        os.link(before / name / "before.csv.gz", whole / name / "before.csv.gz")
        if len(night):
            write(whole / name / "night.csv.gz", night)
    return datetime.fromisoformat(cut)


def recorded(file: Path) -> str | None:
    """The column that says when a row of this file was recorded, if it has one."""
    header = pl.read_csv(file, n_rows=0).columns
    return next((column for column in KNOWN if column in header), None)


def read(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    return pl.read_csv(file, infer_schema=False, columns=columns)


def write(file: Path, rows: pl.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows.write_csv(file, compression="gzip", compression_level=1)


class Taken(NamedTuple):
    """CPU seconds in one process."""

    few_append: float
    """Of the night of the few patients."""
    few_rebuild: float
    own: float
    """Of taking the extract in after it."""


def measure(home: Path, extract: Path, few: Path) -> Taken:
    with tempfile.TemporaryDirectory(dir=home.parent) as warm:
        one, other = Path(warm) / "one", Path(warm) / "other"
        ingest(one, few / "before", datetime(2025, 1, 1))
        return Taken(cpu_of(one, few / "whole"), cpu_of(other, few / "whole"), cpu_of(home, extract))


def cpu_of(home: Path, extract: Path) -> float:
    began = time.process_time()
    ingest(home, extract, NIGHT)
    return time.process_time() - began


def make(root: Path, patients: int) -> Path:
    """The folder of a synthetic hospital's extract."""
    settings = Settings(home=root / f"made-{patients}")
    made = synthetic.run(synthetic.Params(patients=patients, notes=False), settings, f"made-{patients}")
    return settings.home / made.path


def report(patients: int, share: float, append: Taken, rebuild: Taken) -> None:
    fixed, of_rebuild = append.few_append, rebuild.few_rebuild
    growing, growing_rebuild = append.own - fixed, rebuild.own - of_rebuild
    night = f"a night of {share:.1%} of the rows of {patients:,} patients"
    print(f"{night}: {append.own:.2f} CPU s, {fixed:.2f} of them for any hospital")
    print(f"a rebuild: {rebuild.own:.2f} CPU s, {of_rebuild:.2f} of them for any hospital")
    print(f"figure: CPU of {night} over that of a rebuild = {append.own / rebuild.own:.3f}")
    print(f"figure: the same of what grows with the hospital = {growing / growing_rebuild:.3f}")
    room = AIM * growing_rebuild - growing
    if room > 0:
        met = patients * (fixed - AIM * of_rebuild) / room
        print(f"figure: patients from whom on it is {AIM} = {met:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=6000, help="of the synthetic hospital (6000)")
    parser.add_argument(
        "--share", type=float, nargs="+", default=[0.01, 0.001], help="of the rows, that a night brings"
    )
    parser.add_argument("--only", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(*options.only)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        few, extract = root / "few", make(root, options.patients)
        divide(make(root, FEW), few / "before", few / "whole", FEW_SHARE)
        rebuild: Taken | None = None
        for share in options.share:
            night, home = root / f"night-{share}", root / f"home-{share}"
            ingest(home, night / "before", divide(extract, night / "before", night / "whole", share))
            shards.compact(Settings(home=home), DATASET, "subject_id")
            rebuild = rebuild or in_a_process(root / "rebuild", night / "whole", few)
            report(options.patients, share, in_a_process(home, night / "whole", few), rebuild)


def in_a_process(home: Path, extract: Path, few: Path) -> Taken:
    """``measure`` in a process of its own."""
    command = [sys.executable, __file__, "--only", str(home), str(extract), str(few)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Taken(*json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
