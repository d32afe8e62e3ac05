"""From an extract's files to silver, beside Polars reading the same files and writing Parquet, in CPU seconds.

    python benchmarks/ingest.py [--size small | --patients 120000 | --source NAME --path DIR]

Without ``--path`` the synthetic hospital is made first, without notes. Polars infers the columns' types, as people use
it, and writes a Parquet file for each file that the source names. Ours lands, types, judges and sorts the rows and
commits four Delta tables beside bronze. Each contender has a process of its own; CPU seconds are those of the process
and its children. Start is importing and the first use of each engine, on an extract of forty patients for ours.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline import synthetic
from data_pipeline.ingest import bronze, extract_files, silver, validate
from data_pipeline.ingest import source as sources
from mediscale.core.settings import Settings

DATASET = "bench"
FEW = 40


def with_polars(source: str, path: Path, home: Path) -> Iterator[str]:
    import polars as pl

    files = extract_files.locate(sources.load(source), path)
    (home / "polars").mkdir(exist_ok=True)
    for name, parts in files.items():
        for number, file in enumerate(parts):
            readers: dict[str, Callable[..., pl.DataFrame]] = {
                "CSV": lambda one: pl.read_csv(one, infer_schema_length=10_000, ignore_errors=True),
                "Parquet": pl.read_parquet,
                "NDJSON": pl.read_ndjson,
            }
            frame = readers[extract_files.format_of(file)](file)
            frame.write_parquet(home / "polars" / f"{name}-{number}.parquet")
    yield "read and write"


def with_ingest(source: str, path: Path, home: Path) -> Iterator[str]:
    settings = Settings(home=home / "ours")
    digest = extract_files.digest_of(str(path), source)
    landed = bronze.run(
        bronze.Params(source=source, dataset=DATASET, path=str(path), extract_digest=digest), settings, "b"
    )
    yield "bronze"
    judged = validate.run(
        validate.Params(source=source, dataset=DATASET, bronze=landed.bronze, max_quarantine_share=1),
        settings,
        "v",
    )
    yield "validate"
    silver.run(
        silver.Params(source=source, dataset=DATASET, bronze=landed.bronze, facts=judged.facts), settings, "s"
    )
    yield "silver"


CONTENDERS = {"polars": with_polars, "ingest": with_ingest}


def cpu_seconds() -> float:
    """Of this process and of its children that ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, source: str, path: Path, few: Path, home: Path) -> dict[str, dict[str, float]]:
    """CPU and wall seconds of each step; ``start`` is everything on the few patients, imports included."""
    with tempfile.TemporaryDirectory(dir=home) as warm:
        for _ in CONTENDERS[name]("mimic-iv", few, Path(warm)):
            pass
    figures = {"start": {"cpu": cpu_seconds(), "wall": 0.0}}
    cpu, wall = cpu_seconds(), time.perf_counter()
    for step in CONTENDERS[name](source, path, home):
        figures[step] = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
        cpu, wall = cpu_seconds(), time.perf_counter()
    figures["memory"] = {"gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    return figures


@contextmanager
def extracts(options: argparse.Namespace) -> Iterator[tuple[str, Path, Path, Path]]:
    """The source and the folder of the extract, the folder of one of few patients, and a home."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        few = synthetic.run(synthetic.Params(size="tiny", patients=FEW, notes=False), settings, "few")
        if options.path:
            yield options.source, options.path.resolve(), settings.home / few.path, settings.home
            return
        made = synthetic.run(
            synthetic.Params(size=options.size, patients=options.patients, dataset=DATASET, notes=False),
            settings,
            "made",
        )
        yield "mimic-iv", settings.home / made.path, settings.home / few.path, settings.home


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=synthetic.SUBJECTS, default="small")
    parser.add_argument("--patients", type=int, help="of the synthetic hospital, instead of a size")
    parser.add_argument("--path", type=Path, help="folder of an extract of your own")
    parser.add_argument("--source", default="mimic-iv", help="its source")
    parser.add_argument("--only", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, source, *folders = options.only
        print(json.dumps(measure(name, source, *map(Path, folders))))
        return
    with extracts(options) as (source, path, few, home):
        figures = {}
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--only", name, source, str(path), str(few), str(home)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures[name] = json.loads(done.stdout.splitlines()[-1])
    report(figures)


def report(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    print(f"{'':24}{'CPU s':>8}{'wall s':>8}")
    total = {}
    for name, steps in figures.items():
        memory = steps.pop("memory")["gigabytes"]
        total[name] = sum(step["cpu"] for kind, step in steps.items() if kind != "start")
        for kind, step in steps.items():
            wall = f"{step['wall']:8.2f}" if step["wall"] else ""
            print(f"{name:8}{kind:16}{step['cpu']:8.2f}{wall}")
        print(f"{name:8}{'at most':16}{memory:8.2f} GB in memory")
    ratio = total["ingest"] / total["polars"]
    print(f"figure: CPU from the files to silver, once it runs, over that of Polars = {ratio:.2f}")


if __name__ == "__main__":
    main()
