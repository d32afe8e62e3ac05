"""Point-in-time windows on the same events: our kernel, the gold stage, Polars and DuckDB, in CPU seconds.

    python benchmarks/feature_job.py [--events 5000000] [--shards 8]

Every contender reads the same Delta files and writes one Parquet (or Delta) row per prediction; the results are
compared cell by cell. Each runs in a process of its own; CPU seconds are those of the process and all its children,
measured from after its imports. The gold stage is measured as in the loop, after the labels of the same events were
made in the same process; what worker processes and labels took is given as its start.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.cohort import labels
from data_pipeline.cohort.bitemporal import HOUR
from data_pipeline.features import gold, kernel
from mediscale.core import tables
from mediscale.core.concepts import CONCEPTS, TREATMENTS, by_name
from mediscale.core.settings import Settings
from mediscale.storage import lake

TASK = "mortality"
DATASET = "bench"
EVENTS_PER_STAY = 250
EPOCH = np.datetime64("2150-01-01", "us")
MINUTE = HOUR // 60
EXACT = ("last", "min", "max", "count", "any")


def made_events(n: int, shards: int) -> pa.Table:
    """Stays of four days: vital signs, laboratory, treatments, a third that no feature uses; 2 % corrected later, 1 %
    withdrawn, results known up to hours after they were true."""
    random = np.random.default_rng(7)
    usual = (
        [c.code for c in CONCEPTS]
        + [f"TREATMENT//{t}" for t in TREATMENTS]
        + [f"LAB//{i}" for i in range(300)]
    )
    often = np.repeat([30.0, 4.0, 3.0, 0.8], [11, len(CONCEPTS) - 11, len(TREATMENTS), 300])
    subject = subjects(random.integers(0, stays_in(n), n))
    time = admission(subject) + (random.gamma(1.2, 40.0, n) * 60 - 720).astype(np.int64) * MINUTE
    base = {
        "subject_id": subject,
        "time": time,
        "code": random.choice(len(usual), n, p=often / often.sum()),
        "numeric_value": np.round(random.lognormal(3, 1, n), 1),
        "available_time": time + (random.exponential(42, n)).astype(np.int64) * MINUTE,
        "event_id": random.permutation(n) + 1,
        "retracted": np.zeros(n, dtype=bool),
        "visit_id": np.zeros(n, dtype=np.int64),
    }
    again = random.choice(n, n * 3 // 100, replace=False)
    later = {name: column[again] for name, column in base.items()}
    later["available_time"] = later["available_time"] + MINUTE * random.integers(1, 60 * 24, len(again))
    later["numeric_value"] = np.round(later["numeric_value"] * 1.1, 1)
    later["retracted"] = np.arange(len(again)) % 3 == 0
    course = [made_course(n, kind, len(usual) + kind, days) for kind, days in enumerate((-20_000, 0, 4))]
    columns = {name: np.concatenate([part[name] for part in (base, later, *course)]) for name in base}
    order = np.lexsort((columns["time"], columns["subject_id"]))
    codes = [*usual, "MEDS_BIRTH", "HOSPITAL_ADMISSION//EMERGENCY", "HOSPITAL_DISCHARGE//HOME"]
    return as_table({name: column[order] for name, column in columns.items()}, codes, shards)


def made_course(n: int, kind: int, code: int, days: int) -> dict[str, np.ndarray]:
    """Birth, admission or discharge of every stay."""
    subject = subjects(np.arange(stays_in(n)))
    time = admission(subject) + days * 24 * HOUR
    return {
        "subject_id": subject,
        "time": time,
        "code": np.full(len(subject), code),
        "numeric_value": np.full(len(subject), np.nan),
        "available_time": time,
        "event_id": n + 1 + kind * len(subject) + np.arange(len(subject)),
        "retracted": np.zeros(len(subject), dtype=bool),
        "visit_id": subject * 10,
    }


def stays_in(n: int) -> int:
    return max(n // EVENTS_PER_STAY, 1)


def subjects(stay: np.ndarray) -> np.ndarray:
    return stay * 7919 + 11


def admission(subject: np.ndarray) -> np.ndarray:
    return EPOCH.astype(np.int64) + subject % 1_000_003 * 17 * MINUTE


def as_table(columns: dict[str, np.ndarray], codes: list[str], shards: int) -> pa.Table:
    n = len(columns["subject_id"])
    schema = tables.EVENTS.arrow_schema()
    filled: dict[str, pa.Array] = {
        **{name: pa.array(column) for name, column in columns.items()},
        "numeric_value": pa.array(columns["numeric_value"], from_pandas=True),
        "time": pa.array(columns["time"]).cast(pa.timestamp("us")),
        "available_time": pa.array(columns["available_time"]).cast(pa.timestamp("us")),
        "code": pa.DictionaryArray.from_arrays(pa.array(columns["code"]), pa.array(codes)).cast(pa.string()),
        "source": pa.array(["made"] * n),
        "shard": pa.array(columns["subject_id"] % shards),
    }
    return pa.table({f.name: filled.get(f.name, pa.nulls(n, f.type)) for f in schema})


def made_labels(n: int, shards: int) -> pa.Table:
    subject = subjects(np.arange(stays_in(n)))
    admitted = pa.array(admission(subject)).cast(pa.timestamp("us"))
    at = pa.array(admission(subject) + 24 * HOUR).cast(pa.timestamp("us"))
    filled = {
        "subject_id": pa.array(subject),
        "stay_id": pa.array(subject * 10),
        "admission_time": admitted,
        "prediction_time": at,
        "shard": pa.array(subject % shards),
    }
    schema = tables.LABELS.arrow_schema()
    return pa.table({f.name: filled.get(f.name, pa.nulls(len(subject), f.type)) for f in schema})


def land(settings: Settings, n: int, shards: int) -> None:
    from deltalake import CommitProperties, write_deltalake

    number = CommitProperties(custom_metadata={"userMetadata": json.dumps({"shards": shards})})
    uri, events = settings.table_uri(DATASET, "events"), made_events(n, shards)
    write_deltalake(uri, events, partition_by=["shard"], commit_properties=number)
    write_deltalake(settings.table_uri(DATASET, f"labels_{TASK}"), made_labels(n, shards))


# What the contenders compute: the kernel's measured features, by concept (or treatment), statistic and window.


def wanted() -> list[tuple[str, str, str, str]]:
    """The measured features as tuples of feature, code, statistic and window."""
    found = []
    for name in kernel.names(TASK):
        stem, _, window = name.rpartition("_")
        what, _, stat = stem.rpartition("_")
        if name.startswith("treatment_"):
            found.append((name, f"TREATMENT//{stem.removeprefix('treatment_')}", "any", window))
        elif what in by_name() and window in ("6h", "24h", "stay"):
            found.append((name, by_name()[what].code, stat, window))
    return found


def files(settings: Settings) -> list[str]:
    return lake.files(settings, lake.latest(settings, DATASET, "events"))


def with_kernel(settings: Settings, shards: int, out: Path) -> None:
    """The kernel alone: one process, shard after shard."""
    from data_pipeline.shards import read

    events = lake.latest(settings, DATASET, "events")
    cohort = lake.read(settings, lake.latest(settings, DATASET, f"labels_{TASK}"))
    parts = []
    for shard in range(shards):
        asked = cohort.filter(pa.array(cohort["shard"].to_numpy() == shard))
        values = kernel.compute(read(settings, events, shard, kernel.COLUMNS), asked, TASK)
        parts.append(gold._table(asked, values, TASK))
    pq.write_table(pa.concat_tables(parts), out)


def with_gold_stage(settings: Settings, _shards: int, out: Path) -> None:
    """The gold stage as the loop runs it, with its leak audit, written as a Delta table."""
    events, cohort = (lake.latest(settings, DATASET, name) for name in ("events", f"labels_{TASK}"))
    params = gold.Params(dataset=DATASET, events=events, labels=cohort, task=TASK)
    result = gold.run(params, settings, "bench")
    out.write_text(result.features.model_dump_json())


def with_polars(settings: Settings, _shards: int, out: Path) -> None:
    import polars as pl

    asked = pl.from_arrow(lake.read(settings, lake.latest(settings, DATASET, f"labels_{TASK}")))
    assert isinstance(asked, pl.DataFrame)
    asked = asked.select("subject_id", "stay_id", "admission_time", "prediction_time")
    events = pl.scan_parquet(files(settings), hive_partitioning=False).select(kernel.COLUMNS).drop("visit_id")
    seen = (
        events.join(asked.lazy(), on="subject_id")
        .filter(
            pl.col("available_time") <= pl.col("prediction_time"),
            pl.col("time") > pl.col("admission_time") - pl.duration(hours=24),
            pl.col("time") <= pl.col("prediction_time"),
        )
        .sort("available_time")
        .unique(["stay_id", "event_id"], keep="last")
        .filter(~pl.col("retracted"), pl.col("code").is_in([code for _, code, _, _ in wanted()]))
        .sort("time", "available_time", "event_id")
        .with_columns(hours=(pl.col("time") - pl.col("prediction_time")).dt.total_microseconds() / HOUR)
    )
    value, hours = pl.col("numeric_value"), pl.col("hours")
    centred = hours - hours.mean()
    stats = {
        "last": value.last(), "min": value.min(), "max": value.max(), "sum": value.sum(), "mean": value.mean(),
        "count": pl.len().cast(pl.Float64), "any": pl.lit(1.0),
        "trend": pl.when(hours.min() < hours.max()).then((centred * value).sum() / (centred * centred).sum()),
    }  # fmt: skip
    held = seen.collect()
    result = asked.select("stay_id")
    for window in ("6h", "24h", "stay"):
        cells = [cell for cell in wanted() if cell[3] == window]
        inside = held.filter(pl.col("hours") > -float(window[:-1])) if window != "stay" else held
        inside = inside.filter(pl.col("code").is_in([code for _, code, _, _ in cells]))
        used = {stat for _, _, stat, _ in cells}
        long = inside.group_by("stay_id", "code", maintain_order=True).agg(
            **{s: stats[s] for s in sorted(used)}
        )
        by_code = long.partition_by("code", as_dict=True)
        for code in dict.fromkeys(code for _, code, _, _ in cells):
            names = {stat: name for name, c, stat, _ in cells if c == code}
            if (code,) in by_code:
                one = by_code[(code,)].select("stay_id", *names).rename(names)
                result = result.join(one, on="stay_id", how="left")
    counted = [name for name, _, stat, _ in wanted() if stat in ("count", "any") and name in result.columns]
    result.with_columns(pl.col(counted).fill_null(0.0)).write_parquet(out)


def with_duckdb(settings: Settings, _shards: int, out: Path) -> None:
    import duckdb

    asked = lake.read(settings, lake.latest(settings, DATASET, f"labels_{TASK}"))
    connection = duckdb.connect()
    connection.register("asked", asked)
    order = "(time, available_time, event_id)"
    sql = {
        "last": f"arg_max(numeric_value, {order})", "min": "min(numeric_value)", "max": "max(numeric_value)",
        "sum": "sum(numeric_value)", "mean": "avg(numeric_value)", "count": "count(*)", "any": "1.0::DOUBLE",
        "trend": "regr_slope(numeric_value, hours)",
    }  # fmt: skip
    hours = {"6h": 6, "24h": 24, "stay": 10_000}
    grouped = ", ".join(
        f"{expression} FILTER (hours > -{hours[w]}) AS {stat}_{w}" if stat != "any"
        else f"(count(*) FILTER (hours > -{hours[w]}) > 0)::DOUBLE AS any_{w}"
        for w in hours for stat, expression in sql.items()
        if any((stat, w) == (s, v) for _, _, s, v in wanted())
    )  # fmt: skip
    columns = ", ".join(
        f"{'coalesce(' if stat in ('count', 'any') else ''}any_value({stat}_{w}) FILTER (code = '{code}')"
        f"{', 0)' if stat in ('count', 'any') else ''} AS {name}"
        for name, code, stat, w in wanted()
    )
    codes = ", ".join(f"'{code}'" for code in dict.fromkeys(code for _, code, _, _ in wanted()))
    paths = ", ".join(f"'{path}'" for path in files(settings))
    connection.execute(f"""
        COPY (
            WITH seen AS (
                SELECT a.stay_id, e.*, (epoch_us(e.time) - epoch_us(a.prediction_time)) / {HOUR}.0 AS hours
                FROM read_parquet([{paths}], hive_partitioning = false) e JOIN asked a USING (subject_id)
                WHERE e.available_time <= a.prediction_time AND e.time <= a.prediction_time
                  AND e.time > a.admission_time - INTERVAL 24 HOUR
                QUALIFY row_number() OVER (PARTITION BY a.stay_id, e.event_id ORDER BY e.available_time DESC) = 1
            ), grouped AS (
                SELECT stay_id, code, {grouped} FROM seen WHERE NOT retracted AND code IN ({codes}) GROUP BY ALL
            )
            SELECT asked.stay_id, {columns} FROM asked LEFT JOIN grouped USING (stay_id) GROUP BY asked.stay_id
        ) TO '{out}' (FORMAT parquet)
        """)


CONTENDERS: dict[str, Callable[[Settings, int, Path], None]] = {
    "polars": with_polars,
    "duckdb": with_duckdb,
    "kernel": with_kernel,
    "gold": with_gold_stage,
}


def cpu_seconds() -> float:
    """Of this process and every descendant, the ended ones too."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def measure(name: str, home: Path, shards: int) -> dict[str, float]:
    settings = Settings(home=home)
    before = cpu_seconds()
    if name == "gold":
        labels_before(settings)
    else:
        __import__({"kernel": "deltalake"}.get(name, name))
    started, clock = cpu_seconds(), time.perf_counter()
    CONTENDERS[name](settings, shards, home / f"{name}.out")
    return {"wall": time.perf_counter() - clock, "cpu": cpu_seconds() - started, "start": started - before}


def labels_before(settings: Settings) -> None:
    """What the loop has done before gold: the worker processes are up, and a table was written."""
    events = lake.latest(settings, DATASET, "events")
    params = labels.Params(dataset=DATASET, source="mimic-iii", events=events, task=TASK)
    labels.run(params, settings, "bench")


def result_of(name: str, home: Path) -> dict[str, np.ndarray]:
    path = home / f"{name}.out"
    if name == "gold":
        from mediscale.core.refs import TableRef

        rows = lake.read(Settings(home=home), TableRef.model_validate_json(path.read_text()))
    else:
        rows = pq.read_table(path)
    rows = rows.sort_by("stay_id")
    names = [cell[0] for cell in wanted()]
    return {
        n: rows[n].to_numpy() if n in rows.column_names else np.full(rows.num_rows, np.nan) for n in names
    }


def compare(name: str, home: Path, reference: dict[str, np.ndarray]) -> tuple[int, int]:
    """Cells compared with the kernel's, and those that differ: by any bit where nothing is summed, else beyond 1e-9."""
    cells = differ = 0
    for feature, values in result_of(name, home).items():
        mine = reference[feature]
        exact = any(f"_{stat}_" in feature for stat in EXACT) or feature.startswith("treatment_")
        same = np.isclose(values, mine, rtol=0 if exact else 1e-9, atol=0 if exact else 1e-9, equal_nan=True)
        cells, differ = cells + len(same), differ + int((~same).sum())
    return cells, differ


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.home, options.shards)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), options.events, options.shards)


def report(home: Path, events: int, shards: int) -> None:
    land(Settings(home=home), events, shards)
    figures = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--only", name, "--home", str(home), "--shards", str(shards)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures[name] = json.loads(done.stdout.splitlines()[-1])
    reference = result_of("kernel", home)
    print(f"{events:,} events, {len(wanted())} features, {shards} shards; CPU seconds with all children")
    print(f"{'':8}{'CPU s':>8}{'/polars':>9}{'wall s':>8}{'start':>8}{'cells':>12}{'differ':>8}")
    differing = 0
    for name, figure in figures.items():
        cells, differ = compare(name, home, reference)
        differing += differ
        ratio = figure["cpu"] / figures["polars"]["cpu"]
        print(
            f"{name:8}{figure['cpu']:8.2f}{ratio:9.2f}{figure['wall']:8.2f}{figure['start']:8.2f}{cells:12,}{differ:8,}"
        )
        print(f"figure: CPU of {name}, once it runs, over that of Polars = {ratio:.2f}")
    if differing:
        raise SystemExit(f"{differing} cells differ from the kernel's")


if __name__ == "__main__":
    main()
