"""A worker of the server, killed with -9: what it had answered is in Delta, once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from mediscale.core.settings import Settings
from mediscale.storage import lake
from serving.log.logged_answers import Prediction, Requester
from serving.log.prediction_log import PredictionLog, flush_orphaned_logs

DATASET = "synthetic"
REQUESTER = Requester("a test", "treatment")


def prediction(name: str) -> Prediction:
    return Prediction(name, datetime(2026, 11, 22), "mortality", "synthetic-mortality", 3, 0.25, np.zeros(3))


def delta_rows(settings: Settings) -> list[dict[str, object]]:
    ref = lake.latest(settings, DATASET, "predictions")
    rows: list[dict[str, object]] = (
        lake.read(settings, ref).sort_by([("worker", "ascending"), ("sequence", "ascending")]).to_pylist()
    )
    return rows


def file_of(settings: Settings) -> Path:
    return settings.home / "serving" / DATASET / "0.sqlite"


_WORKER = """
import asyncio, os, signal, sys
from datetime import datetime
from pathlib import Path
import numpy as np
from mediscale.storage import commits
from mediscale.core.settings import Settings
from serving.log.prediction_log import PredictionLog
from serving.log.logged_answers import Requester, Prediction

def prediction(name):
    return Prediction(name, datetime(2026, 1, 1), "mortality", "synthetic-mortality", 3, 0.25, np.zeros(3))

REQUESTER = Requester("a test", "treatment")
settings = Settings(home=Path(sys.argv[1]))
log = PredictionLog(settings, "synthetic")
if sys.argv[2] == "dies-after-delta":
    real = commits.append
    def append(*args, **kwargs):
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    commits.append = append
    asyncio.run(log.append([prediction("a"), prediction("b")], REQUESTER))
    log.flush()
number = 0
while True:
    name = f"{os.getpid()}-{number}"
    asyncio.run(log.append([prediction(name)], REQUESTER))
    print(name, flush=True)
    number += 1
    if number % 7 == 0:
        log.flush()
"""


def worker(settings: Settings, mode: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _WORKER, str(settings.home), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_between_delta_and_the_local_delete_nothing_is_there_twice(settings: Settings) -> None:
    process = worker(settings, "dies-after-delta")
    assert process.wait(300) == -signal.SIGKILL
    process.communicate()
    log = PredictionLog(settings, DATASET)
    assert log.backlog == 2
    asyncio.run(log.append([prediction("c")], REQUESTER))
    assert log.flush() == 1
    log.close()
    assert [row["prediction_id"] for row in delta_rows(settings)] == ["a", "b", "c"]


@pytest.mark.soak
def test_killed_at_any_moment_every_answered_prediction_is_in_delta_once(
    settings: Settings, soak: bool
) -> None:
    chance = random.Random(3)
    answered: list[str] = []
    for _ in range(48 if soak else 3):
        process = worker(settings, "loops")
        assert process.stdout
        answered.append(process.stdout.readline().strip())
        time.sleep(chance.uniform(0.05, 0.5))
        os.kill(process.pid, signal.SIGKILL)
        answered += process.communicate()[0].split()
    flush_orphaned_logs(settings, DATASET)
    rows = delta_rows(settings)
    logged = [row["prediction_id"] for row in rows]
    assert len(set(logged)) == len(logged)
    assert set(answered) <= set(logged)
    assert len({row["worker"] for row in rows}) == 1
    assert not file_of(settings).with_suffix(".lock").read_text()
