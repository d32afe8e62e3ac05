"""When Spark or Ray pays: the same work on this machine alone and by two workers of a cluster, in CPU seconds.

    .venv/bin/python benchmarks/when_clusters_pay.py

Spark is a standalone cluster of a master and two workers, which make labels and gold features of the same events; on
this machine alone two processes make them. Ray is two training workers, which grow the trees of the same rows that one
process grows. CPU seconds are those of all processes, from the kernel's accounts: a busy machine changes them little.
What a cluster costs more at the small size is its start; what it costs more at the large one, beyond that, is its way
of working.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks import feature_job
from data_pipeline.features import kernel
from mediscale.core.settings import Settings
from mediscale.storage import lake
from training import training_examples
from training.tabular import tree_training, xgboost_training
from training.tabular.recipe import Recipe

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from fixtures import clusters

EVENTS = (100_000, 1_000_000)
ROWS = (2_000, 20_000)
NAMES = kernel.names("mortality")


def frozen(settings: Settings, rows: int) -> tree_training.Job:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(rows, len(NAMES)))
    inputs[rng.random(inputs.shape) < 0.3] = np.nan
    keys = {
        "subject_id": np.arange(rows),
        "stay_id": np.arange(rows),
        "admission_time": np.full(rows, np.datetime64("2149-12-31", "us")),
        "prediction_time": np.full(rows, np.datetime64("2150-01-01", "us")),
        "boolean_value": rng.random(rows) < 1 / (1 + np.exp(3 - np.nan_to_num(inputs[:, :20]).sum(axis=1))),
        "split": np.where(np.arange(rows) % 4 == 3, "tuning", "train"),
        "sex": np.full(rows, "unknown"),
        "age_band": np.full(rows, "unknown"),
        "ethnicity": np.full(rows, "unknown"),
    }
    table = pa.table({**keys, **dict(zip(NAMES, inputs.T, strict=True))})
    write_deltalake(settings.table_uri("bench", "training_set_mortality"), table)
    return tree_training.Job(
        home=str(settings.home),
        lake=settings.lake,
        training_set=lake.latest(settings, "bench", "training_set_mortality"),
        task="mortality",
        recipe=Recipe(rounds=1, patience=1000, depth=4, learning_rate=0.06, threads=1, seed=0),
    )


def plain(settings: Settings, job: tree_training.Job) -> None:
    train, tuning = (
        training_examples.load(settings, job.training_set, split, NAMES) for split in ("train", "tuning")
    )
    xgboost_training.train(train, tuning, job.task, job.recipe)


def measured(work: Callable[[], object]) -> float:
    """CPU seconds, those of processes that are still running read just before they end."""
    spent: dict[int, float] = {}
    own = time.process_time()
    with _Watching(spent):
        work()
    return time.process_time() - own + sum(spent.values())


class _Watching:
    """Samples the children's CPU times, because Ray's processes are not waited for by this one."""

    def __init__(self, spent: dict[int, float]) -> None:
        self._spent, self._ended = spent, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.2):
            for child in me.children(recursive=True):
                try:
                    times = child.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                self._spent[child.pid] = times.user + times.system


def fit(home: Path, rows: int, workers: int) -> float:
    """CPU seconds of growing 100 trees, in this process alone where no worker is asked for; imports are not counted."""
    settings = Settings(home=home)
    job = frozen(settings, rows)
    job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"rounds": 100})})
    plain(settings, job.model_copy(update={"recipe": job.recipe.model_copy(update={"rounds": 1})}))
    if not workers:
        return measured(lambda: plain(settings, job))
    return measured(lambda: tree_training.on_ray(settings, job, workers, "pair"))


def features(home: Path) -> str:
    """Makes labels and features by the settings of the environment; the digest of the latter."""
    settings = Settings(home=home)
    feature_job.labels_before(settings)
    feature_job.with_gold_stage(settings, 0, home / "features")
    rows = lake.read(settings, lake.latest(settings, feature_job.DATASET, f"features_{feature_job.TASK}"))
    return str(hash(rows.sort_by("stay_id").select(sorted(rows.column_names)).to_pandas().to_csv()))


def in_a_process(*options: object, master: str = "local[2]") -> tuple[float, str]:
    """What this script prints with these options, and the CPU seconds of that process and of the cluster's."""
    around = {
        **os.environ,
        **clusters.SHORT_LIVED_JAVA,
        "MEDISCALE_SPARK_MASTER": master,
        "PYTHONHASHSEED": "0",
    }
    command = [sys.executable, __file__, *map(str, options)]
    before = feature_job.cpu_seconds()
    done = subprocess.run(command, env=around, check=True, stdout=subprocess.PIPE, text=True)
    time.sleep(5)  # executors end, and are counted by the worker that waited for them
    return feature_job.cpu_seconds() - before, done.stdout.splitlines()[-1]


def spark(folder: Path) -> None:
    for events in EVENTS:
        home = folder / f"events-{events}"
        feature_job.land(Settings(home=home), events, 8)
        alone, digest = in_a_process("--features", home)
        with tempfile.TemporaryDirectory() as place, clusters.spark_standalone(Path(place)) as master:
            by_cluster, again = in_a_process("--features", home, master=master)
        if digest != again:
            raise SystemExit("the cluster's features are not those of this machine")
        report("Spark, two workers, labels and features", f"{events:,} events", alone, by_cluster)


def ray(folder: Path) -> None:
    for rows in ROWS:
        place = folder / f"rows-{rows}"
        alone, by_cluster = (
            json.loads(in_a_process("--fit", place / str(workers), rows, workers)[1]) for workers in (0, 2)
        )
        report("Ray, two workers, 100 trees", f"{rows:,} rows", alone, by_cluster)


def report(what: str, size: str, alone: float, by_cluster: float) -> None:
    print(f"{what}: {size}: {alone:.1f} s here, {by_cluster:.1f} s by the cluster")
    print(f"figure: CPU of {what}, {size}, over that of this machine alone = {by_cluster / alone:.2f}")
    print(f"figure: CPU seconds more of {what}, {size} = {by_cluster - alone:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.features:
        print(features(options.features))
    elif options.fit:
        home, rows, workers = options.fit
        print(fit(Path(home), int(rows), int(workers)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            spark(Path(folder))
            ray(Path(folder))


if __name__ == "__main__":
    main()
