"""What Ray costs a fit, and when it pays: the same rows by plain XGBoost, by Ray Train in this process, by its workers.

    .venv/bin/python -m benchmarks.ray_train [--rows 3000] [--rounds 100]

CPU is that of this process and of everything that it started, from the kernel's accounts: a busy machine changes it
little. A cluster costs the same whatever the rows: a dozen processes that import Python libraries, before the first
tree. It pays when a fit takes many minutes, or does not fit into one machine.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from deltalake import write_deltalake
from rich.console import Console
from rich.table import Table

from data_pipeline.features import kernel
from mediscale.core.settings import Settings
from mediscale.storage import lake
from training import training_examples
from training.tabular import tree_training, xgboost_training
from training.tabular.recipe import Recipe

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


def measured(work: Callable[[], object]) -> tuple[float, float, int]:
    """Wall and CPU seconds, and processes started; the CPU of those still running is read just before they end."""
    spent: dict[int, float] = {}
    own, clock = time.process_time(), time.perf_counter()
    with _Watching(spent):
        work()
    return time.perf_counter() - clock, time.process_time() - own + sum(spent.values()), len(spent)


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    table = Table("fit", "wall s", "CPU s", "processes started")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        job = frozen(settings, options.rows)
        job = job.model_copy(update={"recipe": job.recipe.model_copy(update={"rounds": options.rounds})})
        fits: dict[str, Callable[[], object]] = {
            "plain XGBoost, libraries imported now": lambda: plain(settings, job),
            "plain XGBoost": lambda: plain(settings, job),
            "Ray Train in this process, imported now": lambda: tree_training.on_ray(
                settings, job, 1, "first"
            ),
            "Ray Train in this process": lambda: tree_training.on_ray(settings, job, 1, "again"),
            "Ray Train, cluster of 2 workers": lambda: tree_training.on_ray(settings, job, 2, "pair"),
        }
        for name, fit in fits.items():
            wall, cpu, processes = measured(fit)
            table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", str(processes))
    Console().print(table)


if __name__ == "__main__":
    main()
