"""Stage: the daily predictions of a simulated hospital, for every patient who has reached the prediction time.

Each patient of the lake is asked for by name, at the prediction time itself, through the application itself; so an
answer can be held against the outcome once that is known. What was answered before a crash is not asked again.
"""

from collections.abc import Iterator
from datetime import timedelta

from pydantic import NaiveDatetime

from data_pipeline.cohort import prediction_times
from mediscale.core import tasks
from mediscale.core.annotations import PatientCount
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.core.tables import PREDICTIONS
from mediscale.core.tasks import TaskName
from mediscale.simulation.replay_server import Question, Server
from mediscale.storage import lake
from mediscale.storage.history_entries import Alias
from serving.log.prediction_log import flush_orphaned_logs

_BETWEEN = timedelta(minutes=1)
"""From one question to the next."""


class Params(Frozen):
    dataset: str
    task: TaskName
    model: ModelRef
    alias: Alias
    """That points to ``model``."""
    events: TableRef
    subjects: TableRef
    since: NaiveDatetime
    """Prediction times after it …"""
    until: NaiveDatetime
    """… and up to here are asked about, by what was known then."""
    at: NaiveDatetime
    """When the round begins."""


class Result(Frozen):
    asked: PatientCount
    predictions: TableRef | None
    """The log after the round; None as long as nobody was ever asked about."""


def run(params: Params, settings: Settings, key: str) -> Result:  # noqa: ARG001 - a stage's signature
    """Asks for every due prediction, and returns when all of them are in the lake.

    Raises:
        NotFoundError: the alias points to another version.
    """
    flush_orphaned_logs(settings, params.dataset)
    events = lake.read(settings, params.events, prediction_times.COLUMNS)
    due = prediction_times.due_predictions(events, tasks.load(params.task), params.since, params.until)
    questions = list(_questions(settings, params, due))
    if questions:
        server = Server(
            settings, params.dataset, params.task, params.model, params.alias, log_dataset=params.dataset
        )
        server.ask(questions)
    return Result(asked=len(due), predictions=lake.find_latest(settings, params.dataset, PREDICTIONS.name))


def _questions(
    settings: Settings, params: Params, due: list[tuple[int, NaiveDatetime]]
) -> Iterator[Question]:
    answered = _answered(settings, params)
    listed = lake.read(settings, params.subjects, ["subject_id", "source_subject"]).to_pylist()
    names = {row["subject_id"]: row["source_subject"] for row in listed}
    for i, (subject, moment) in enumerate(due):
        if (subject, moment) not in answered:
            body = {"patient": names[subject], "prediction_time": moment.isoformat()}
            yield Question(params.at + i * _BETWEEN, body)


def _answered(settings: Settings, params: Params) -> set[tuple[int, NaiveDatetime]]:
    """The predictions that an interrupted call had made already."""
    import pyarrow.compute as pc

    newest = lake.find_latest(settings, params.dataset, PREDICTIONS.name)
    if newest is None:
        return set()
    mine = (pc.field("model_version") == params.model.version) & (pc.field("task") == params.task)
    rows = lake.dataset(settings, newest).to_table(
        columns=["subject_id", "prediction_time"], filter=mine & (pc.field("predicted_at") >= params.at)
    )
    return {(row["subject_id"], row["prediction_time"]) for row in rows.to_pylist()}


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="predict for patients at the landmark",
    summary=lambda r: f"{count(r.asked)} patients asked about",
)
