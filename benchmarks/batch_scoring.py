"""CPU of scoring a cohort, from Parquet to risks, beside XGBoost's own predict of the same rows.

    python benchmarks/batch_scoring.py [ROWS]

Theirs reads the same columns of the same Parquet files with Arrow, hands the table to XGBoost, predicts, and writes
keys and risks to Parquet. Ours is ``batch_scoring.write``: it checks the version's signature, files and known answers,
computes the first row of every batch by the server's code too, sorts, says in each row which inputs are missing (30 %
are), whether the risk is uncertain, who asked and why, and signs the export in the history. Each is a process of its
own; its imports are not counted. The risks are compared.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.predict_request import DATASET, promote, set_apart, write_model
from data_pipeline.features import kernel, plain_inputs
from mediscale.core.settings import Settings
from mediscale.storage import calls, commits, lake

FILES, TURNS, TASK = 8, 3, "mortality"
NAMES = kernel.names(TASK)
INPUTS = plain_inputs.names(TASK)
THEIRS = """
import json, sys, time
import pyarrow as pa, pyarrow.parquet as pq, xgboost
model, output, names, *files = sys.argv[1:]
names = json.loads(names)
begun = time.process_time()
rows = pa.concat_tables([pq.read_table(file, columns=["subject_id", "stay_id", *names]) for file in files])
risks = xgboost.Booster(model_file=model).predict(xgboost.DMatrix(rows.select(names)))
pq.write_table(rows.select(["subject_id", "stay_id"]).append_column("risk", pa.array(risks)), output)
print(time.process_time() - begun)
"""
OURS = """
import sys, time
from pathlib import Path
import xgboost
from mediscale.core.settings import Settings
from mediscale.storage import signing
from serving import batch_scoring
from serving.log.logged_answers import Requester
home, dataset, task, output = sys.argv[1:]
settings = Settings(home=Path(home))
requester = Requester(signing.actor(settings), "quality")
begun = time.process_time()
batch_scoring.write(settings, dataset, task, "production", Path(output), requester)
print(time.process_time() - begun)
"""


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        set_apart(home)
        settings = Settings(home=home / "home")
        write_model(home / TASK, TASK)
        promote(settings, {TASK: home / TASK}, (TASK,))
        files = write_features(settings, rows)
        theirs, ours = home / "theirs.parquet", home / "ours.parquet"
        by_xgboost = (THEIRS, str(home / TASK / "model.json"), str(theirs), json.dumps(NAMES), *files)
        by_us = (OURS, str(settings.home), DATASET, TASK, str(ours))
        seconds = np.array([[cpu(*by_xgboost), cpu(*by_us)] for _ in range(TURNS)])
        compare(theirs, ours)
    xgboost_seconds, our_seconds = np.median(seconds, axis=0)
    print(
        f"{rows:,} rows of {len(NAMES)} features: XGBoost {xgboost_seconds:.2f} s of CPU, ours {our_seconds:.2f} s"
    )
    print(f"figure: CPU of scoring a cohort over XGBoost's own = {our_seconds / xgboost_seconds:.2f}")


def write_features(settings: Settings, rows: int) -> list[str]:
    chance = np.random.default_rng(0)
    for number in range(FILES):
        n = rows // FILES
        values = chance.normal(100, 30, (n, len(NAMES)))
        values[chance.random(values.shape) < 0.5] = np.nan
        missing = chance.random((n, len(INPUTS))) < 0.3
        for i, plain in enumerate(INPUTS):
            of_input = np.array([j for j, name in enumerate(NAMES) if name.startswith(f"{plain}_")])
            values[np.ix_(np.flatnonzero(missing[:, i]), of_input)] = np.nan
        stays = np.arange(n) + number * n
        moment = pa.array([datetime(2026, 1, 1)] * n, pa.timestamp("us"))
        keys = {"subject_id": stays, "stay_id": stays, "admission_time": moment, "prediction_time": moment}
        features = {name: pa.array(values[:, i], mask=np.isnan(values[:, i])) for i, name in enumerate(NAMES)}
        commits.append(
            settings, f"features_{TASK}", pa.table({**keys, **features}), DATASET, "bench", number + 1
        )
    table = lake.latest(settings, DATASET, f"features_{TASK}")
    calls.write(
        settings,
        calls.Call(
            stage="gold", key="bench", run_id="bench", params={"dataset": DATASET, "task": TASK}, code="", lock="",
            result={"features": table.model_dump()}, inputs=(), produced=(), outputs=(),
            started_at=datetime.now(UTC), seconds=1,
        ),
    )  # fmt: skip
    return lake.files(settings, table)


def cpu(code: str, *arguments: str) -> float:
    """Seconds of CPU that a process says its work took."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=os.environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def compare(theirs: Path, ours: Path) -> None:
    tables = [pq.read_table(file).sort_by("stay_id") for file in (theirs, ours)]
    apart = np.abs(tables[0]["risk"].to_numpy() - tables[1]["risk"].to_numpy()).max()
    if apart > 1e-6:
        raise SystemExit(f"the risks differ by {apart}")
    print(f"largest difference of a risk: {apart:.1e}")


if __name__ == "__main__":
    main()
