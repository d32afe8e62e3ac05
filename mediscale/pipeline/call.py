"""The one way into a stage: CLI, Kubeflow and Airflow all end in ``call``.

A stage is a module with frozen ``Params`` and ``Result`` and ``run(params, settings, key) -> Result``. ``key`` is the
identity of the call; a stage hands it to every write as the application transaction, so that a repeated call finds
what an interrupted one already committed.
"""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Protocol, cast

from pydantic import BaseModel, ValidationError

from mediscale.core.errors import BusyError, MediscaleError, StorageError, UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import steps
from mediscale.storage import calls

STAGES: dict[str, str] = {
    "synthetic": "data_pipeline.synthetic",
    "bronze": "data_pipeline.ingest.bronze",
    "quality": "data_pipeline.ingest.validate",
    "silver": "data_pipeline.ingest.silver",
    "deidentify": "data_pipeline.notes.deidentification.deidentify",
    "note_tokens": "data_pipeline.notes.note_tokens",
    "labels": "data_pipeline.cohort.labels",
    "gold": "data_pipeline.features.gold",
    "training_set": "data_pipeline.features.training_set",
    "risk_model": "training.tabular.risk_model",
    "note_model": "training.notes.note_model",
    "combination": "training.late_fusion",
    "evaluate": "training.evaluation.evaluate",
    "promotion": "training.promotion.promotion",
    "rehearsal": "mediscale.simulation.held_out_replay",
    "rounds": "mediscale.simulation.daily_predictions",
    "drift": "monitoring.drift.drift",
    "retrain": "monitoring.retrain_decision",
}

RunConfig = Mapping[str, Mapping[str, Any]]
"""Per stage of a run, the parameters that are not to be its defaults; the same for every task."""

_NOT_CONFIGURED = frozenset(
    {
        "source",
        "path",
        "extract_digest",
        "dataset",
        "size",
        "task",
        "oracle",
        "incumbent",
        "sequence",
        "actor",
        "moved_at",
        "surrogate_key",
    }
)
"""What a run's own options say, and what callers find out themselves (``resolve``): a configuration that could say it
too would decide by it."""


class Stage(Protocol):
    """What every module named in ``STAGES`` provides."""

    Params: type[BaseModel]
    Result: type[BaseModel]

    def run(self, params: Any, settings: Settings, key: str) -> BaseModel: ...


def load(name: str) -> Stage:
    """Imports a stage's module.

    Raises:
        UsageError: there is no stage of that name.
    """
    if name not in STAGES:
        raise UsageError(f"There is no stage {name!r}; the stages are {', '.join(STAGES)}.")
    return cast("Stage", import_module(STAGES[name]))


def call(name: str, config: Mapping[str, Any], settings: Settings) -> BaseModel:
    """Runs a stage, or returns what it returned before for the same key.

    ``config`` gives parameters by name. Leaves a manifest.

    Raises:
        UsageError: a parameter is missing, unknown or invalid.
        BusyError: the same stage is running on the same dataset, or the registry is locked.
        StorageError: the disk is full or the lake can't be written.
    """
    stage = load(name)
    params = fill(name, config)
    code = calls.code_digest(STAGES[name])
    key = calls.key_of(name, params, code)
    with exclusive(settings, _scope(name, params), f"Stage {name}"):
        finished = calls.find(settings, name, key)
        if finished is not None:
            return stage.Result.model_validate(finished.result)
        started, clock = datetime.now(UTC), time.perf_counter()
        with _readable_failures(name):
            result = stage.run(params, settings, key)
            outputs = _outputs(settings, result, inputs=set(_table_refs(params)))
        calls.write(
            settings,
            calls.Manifest(
                stage=name,
                key=key,
                params=params.model_dump(mode="json"),
                code=code,
                lock=calls.lock(),
                result=result.model_dump(mode="json"),
                outputs=outputs,
                started_at=started,
                seconds=round(time.perf_counter() - clock, 3),
            ),
        )
    return result


def finished(name: str, config: Mapping[str, Any], settings: Settings) -> bool:
    """Whether ``call`` with the same arguments would find its work done."""
    return calls.find(settings, name, key(name, config)) is not None


def key(name: str, config: Mapping[str, Any]) -> str:
    """The identity of a call with these arguments."""
    return calls.key_of(name, fill(name, config), calls.code_digest(STAGES[name]))


def fill(name: str, config: Mapping[str, Any]) -> BaseModel:
    """A stage's Params.

    Raises:
        UsageError: a parameter is missing, unknown or invalid.
    """
    try:
        return load(name).Params.model_validate(config)
    except ValidationError as error:
        raise UsageError(f"Stage {name}: {_sentence(error)}.") from error


def check(config: RunConfig) -> None:
    """Refuses a run's configuration before anything is started.

    Raises:
        UsageError: the loop has no such stage, or the stage has no such parameter or would refuse its value.
    """
    known = ["synthetic", *(step.stage for step in steps.LOOP)]
    for name, given in config.items():
        if name not in known:
            raise UsageError(f"A run has no stage {name!r} to configure; it has {', '.join(known)}.")
        if not isinstance(given, Mapping):
            raise UsageError(f"Stage {name}: its configuration is not parameters by name.")
        if fixed := sorted(_NOT_CONFIGURED & given.keys()):
            raise UsageError(
                f"Stage {name}: {', '.join(fixed)} can't be configured; a run's own options give it, "
                "or it is looked up."
            )
        try:
            load(name).Params.model_validate(given)
        except ValidationError as error:
            if problems := _sentence(error, given):
                raise UsageError(f"Stage {name}: {problems}.") from error


def configured(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a finished call's parameters that a run's configuration gave it, or would have to give it again."""
    fields = load(name).Params.model_fields
    return {
        field: value
        for field, value in params.items()
        if field in fields.keys() - _NOT_CONFIGURED
        and isinstance(value, bool | int | float | str)
        and not fields[field].is_required()
        and value != fields[field].default
    }


def _sentence(error: ValidationError, only: Container[str] | None = None) -> str:
    """What is wrong with the parameters, or with some of them."""
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'the parameters'}: {problem['msg'].lower()}"
        for problem in error.errors(include_input=False, include_url=False)
        if only is None or problem["loc"][0] in only
    ]
    return "; ".join(problems)


def _table_refs(value: Any) -> Iterator[TableRef]:
    if isinstance(value, TableRef):
        yield value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _table_refs(getattr(value, field))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _table_refs(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _table_refs(item)


def _outputs(settings: Settings, result: BaseModel, inputs: set[TableRef]) -> tuple[calls.Output, ...]:
    refs = [ref for ref in dict.fromkeys(_table_refs(result)) if ref not in inputs]
    if not refs:
        return ()
    from mediscale.storage import spark  # a stage that left a table has the session open already

    return tuple(
        calls.Output(ref=ref, rows=rows, digest=digest)
        for ref, (rows, digest) in zip(refs, (spark.digest(settings, ref) for ref in refs), strict=True)
    )


def _scope(name: str, params: BaseModel) -> str:
    return "-".join([name, *(str(getattr(params, f)) for f in ("dataset", "task") if hasattr(params, f))])


@contextmanager
def exclusive(settings: Settings, scope: str, what: str) -> Iterator[None]:
    """One holder of ``scope`` at a time; the kernel frees it when the holder dies, however it dies.

    Raises:
        BusyError: another process holds it; ``what`` begins the sentence.
    """
    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{scope}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BusyError(
                f"{what} is already running here (process {file.read().strip() or 'unknown'}); "
                "wait for it to end, or stop that process, and run again."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _readable_failures(name: str) -> Iterator[None]:
    """Turns what the machine refuses (disk, registry) into a sentence; leaves our own errors as they are."""
    try:
        yield
    except MediscaleError:
        raise
    except Exception as error:
        chain = list(_causes(error))
        if any(isinstance(e, OSError) and e.errno == errno.ENOSPC for e in chain) or any(
            "No space left on device" in str(e) for e in chain
        ):
            raise StorageError(
                f"Stage {name}: the disk is full; nothing of this stage was committed. Free space and run again."
            ) from error
        if any(isinstance(e, sqlite3.OperationalError) and "locked" in str(e) for e in chain):
            raise BusyError(
                f"Stage {name}: the model registry is locked by another process; wait for it and run again."
            ) from error
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
