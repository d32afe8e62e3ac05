"""Stage: held-out patients of a synthetic hospital are sent to the real server, in quiet and in planted windows.

A first run has no users yet, so drift and the verdict would have nothing to look at. Each window is a simulated day
that begins after the promotion; each of its requests is the newest plain values of one held-out stay, sent through the
application itself: parsed, answered, logged, flushed to Delta. Planted windows are the same hospital after a change
that nobody announced. The predictions go to a log of their own (dataset ``<dataset>-rehearsal-<key>``), never to the
hospital's.
"""

import math
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from data_pipeline.features import kernel, plain_inputs
from data_pipeline.synthetic.analyser import READS_HIGH
from mediscale.core.annotations import PatientCount
from mediscale.core.errors import QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.core.tasks import TaskName
from mediscale.simulation.replay_server import Question, Server
from mediscale.storage import datasets, lake
from serving import schemas

PLANTED = {"age": 1.10, "heart_rate": 1.12, **READS_HIGH}
"""What changes in a planted window, as factors: older patients, and an analyser that reads high."""

SHORTEST = 20
"""A window of fewer requests says nothing."""


class Window(Frozen):
    """One simulated day of requests; ``start`` is in it, ``end`` is not."""

    name: str
    start: datetime
    end: datetime
    planted: bool


class Params(Frozen):
    dataset: str
    task: TaskName
    training_set: TableRef
    model: ModelRef
    moved_at: datetime
    """When the model was promoted; the first window begins a day later."""
    quiet: int = 1
    planted: int = 2


class Result(Frozen):
    windows: tuple[Window, ...]
    predictions: TableRef
    answered: PatientCount


def run(params: Params, settings: Settings, key: str) -> Result:
    """Sends every held-out stay once, spread over the windows, so that no two windows share one.

    Raises:
        QualityError: too few held-out stays for the windows.
        NotFoundError: the model is not under the alias ``staging``.
    """
    log_dataset = f"{params.dataset}-rehearsal-{key[:8]}"
    datasets.delete(settings, log_dataset)  # a rehearsal that was cut short
    shutil.rmtree(settings.home / "serving" / log_dataset, ignore_errors=True)
    requests = held_out_requests(settings, params)
    windows = _windows(params)
    share = len(requests) // len(windows)
    if share < SHORTEST:
        raise QualityError(
            f"{count(len(requests))} held-out stays are too few to rehearse {len(windows)} windows of {SHORTEST}."
        )
    days = [requests[i * share : (i + 1) * share] for i in range(len(windows))]
    server = Server(settings, params.dataset, params.task, params.model, "staging", log_dataset)
    server.ask(
        question for window, day in zip(windows, days, strict=True) for question in _asked_in(window, day)
    )
    predictions = lake.latest(settings, log_dataset, "predictions")
    return Result(windows=windows, predictions=predictions, answered=share * len(windows))


def _windows(params: Params) -> tuple[Window, ...]:
    kinds = [False] * params.quiet + [True] * params.planted
    day = timedelta(days=1)
    return tuple(
        Window(
            name=f"{'planted' if planted else 'quiet'} {i + 1}",
            start=params.moved_at + (i + 1) * day,
            end=params.moved_at + (i + 2) * day,
            planted=planted,
        )
        for i, planted in enumerate(kinds)
    )


def held_out_requests(settings: Settings, params: Params) -> list[dict[str, Any]]:
    """A held-out stay's newest plain values, as a request would give them; in an order that says nothing."""
    import numpy as np
    import pyarrow.compute as pc

    rows = lake.dataset(settings, params.training_set).to_table(filter=pc.field("split") == "held_out")
    # a hash of the source's id
    rows = rows.sort_by([("stay_id", "ascending"), ("prediction_time", "ascending")])
    names = kernel.names(params.task)
    matrix = np.column_stack([rows[name].to_numpy() for name in names])
    return [plain_request(plain_inputs.newest_values(row, params.task)) for row in matrix]


def plain_request(values: dict[str, float]) -> dict[str, Any]:
    """A request that the server answers, of a stay's newest plain values."""
    sex = values.pop("sex", None)
    # Who is 18 by the calendar may be hours younger in years of mean length; a request of a child is refused.
    values["age"] = max(values["age"], schemas.ADULT[0])
    # The newest pressures may be of several moments, and the server refuses them where they seem to be swapped.
    systolic = values.get("systolic_blood_pressure", math.inf)
    if systolic < values.get("diastolic_blood_pressure", -math.inf):
        del values["diastolic_blood_pressure"]
    diastolic, mean = values.get("diastolic_blood_pressure", -math.inf), values.get("mean_blood_pressure")
    if mean is not None and not diastolic <= mean <= systolic:
        del values["mean_blood_pressure"]
    return values if sex is None else {**values, "sex": "female" if sex else "male"}


def as_planted(request: dict[str, Any]) -> dict[str, Any]:
    """The request as the hospital would send it after the change."""
    return {name: value * PLANTED.get(name, 1) if name != "sex" else value for name, value in request.items()}


def _asked_in(window: Window, requests: list[dict[str, Any]]) -> Iterator[Question]:
    step = (window.end - window.start) / len(requests)
    for i, request in enumerate(requests):
        yield Question(window.start + i * step, as_planted(request) if window.planted else request)


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="replay held-out patients",
    summary=lambda r: f"{count(r.answered)} predictions answered and logged in {len(r.windows)} windows",
)
