"""A night's append beside a rebuild from everything, in CPU seconds.

    python benchmarks/append.py [--size small | --patients 20000] [--share 0.01]

A synthetic hospital without notes is divided at the moment after which the last share of its rows was recorded: what
came before lands first. Then the night comes: a file of its own for each table with times, and the list of visits as it
is by then. The stages ``bronze``, ``validate`` and ``silver`` take it in as a run does, by
``mediscale.pipeline``, with records and digests; a rebuild takes the whole extract into a home of its own. Each has a
process of its own that ingested forty patients before, so that starting counts for neither; the lake was compacted
before the night, as ``mediscale compact`` does.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from data_pipeline import shards, synthetic
from data_pipeline.ingest.extract_files import digest_of
from mediscale.core.settings import Settings
from mediscale.pipeline import runtime_inputs, steps

DATASET, SOURCE = "bench", "mimic-iv"
FEW = 40
KNOWN = ("storetime", "charttime", "starttime", "intime", "transfertime")
"""Columns that say when a row was recorded, the first that a table has."""
LISTS = ("hosp/patients", "hosp/admissions")
"""Tables that an extract has whole every night."""


def ingest(home: Path, extract: Path, seen_at: datetime, dataset: str = DATASET) -> None:
    settings = Settings(home=home)
    results: dict[str, dict[str, Any]] = {
        steps.PREPARE_SOURCE: {
            "source": SOURCE,
            "dataset": dataset,
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
    tables = {
        file.relative_to(extract).as_posix().removesuffix(".csv.gz"): pl.read_csv(file, infer_schema=False)
        for file in sorted(extract.rglob("*.csv.gz"))
    }
    dated = {name: next(c for c in KNOWN if c in rows.columns) for name, rows in tables.items()
             if name not in LISTS and any(c in rows.columns for c in KNOWN)}  # fmt: skip
    times = pl.concat([tables[name][column] for name, column in dated.items()]).drop_nulls().sort()
    cut = str(times[int(len(times) * (1 - share))])
    visits = tables["hosp/admissions"]
    ended = visits.filter(pl.col("dischtime") <= cut)["hadm_id"]
    for name, rows in tables.items():
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
        write(whole / name / "before.csv.gz", early)
        if len(night):
            write(whole / name / "night.csv.gz", night)
    return datetime.fromisoformat(cut)


def write(file: Path, rows: pl.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(rows.write_csv().encode(), 1, mtime=0))


def measure(home: Path, extract: Path, few: Path, at: datetime) -> float:
    """CPU seconds of taking the extract in, once everything runs."""
    with tempfile.TemporaryDirectory(dir=home.parent) as warm:
        for number in (1, 2):
            ingest(Path(warm), few, datetime(2020, 1, number), "warm")
    began = time.process_time()
    ingest(home, extract, at)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=synthetic.SUBJECTS, default="small")
    parser.add_argument("--patients", type=int, help="of the synthetic hospital, instead of a size")
    parser.add_argument("--share", type=float, default=0.01, help="of the rows, that the night brings (0.01)")
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        home, extract, few = map(Path, options.only[:3])
        print(json.dumps(measure(home, extract, few, datetime.fromisoformat(options.only[3]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings(home=root / "made")
        sizes: dict[str, dict[str, Any]] = {
            "few": {"size": "tiny", "patients": FEW},
            "all": {"size": options.size, "patients": options.patients},
        }
        made = {
            name: settings.home / synthetic.run(
                synthetic.Params(**size, dataset=name, notes=False), settings, name
            ).path
            for name, size in sizes.items()
        }  # fmt: skip
        before, whole = root / "before", root / "whole"
        cut = divide(made["all"], before, whole, options.share)
        ingest(root / "append", before, cut)
        shards.compact(Settings(home=root / "append"), DATASET, "subject_id")
        seconds = {}
        for name in ("append", "rebuild"):
            command = [
                sys.executable,
                __file__,
                "--only",
                str(root / name),
                str(whole),
                str(made["few"]),
                "2026-01-01",
            ]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds[name] = float(done.stdout.splitlines()[-1])
            print(f"{name:10}{seconds[name]:8.2f} CPU s")
        shutil.rmtree(root / "made")
    ratio = seconds["append"] / seconds["rebuild"]
    print(f"figure: CPU of a night's append over that of a rebuild = {ratio:.3f}")


if __name__ == "__main__":
    main()
