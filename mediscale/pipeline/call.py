"""The one way into a stage: CLI, Kubeflow and Airflow all end in ``call``."""

import errno
import gc
import os
import sqlite3
import time
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from mediscale.core.errors import BusyError, MediscaleError, StorageError, UsageError
from mediscale.core.mistake_text import in_words
from mediscale.core.near_names import suggestion
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage, declarations, is_configurable
from mediscale.core.task_names import all_names
from mediscale.pipeline import steps
from mediscale.storage import calls, duckdb_tables, lake, last_calls, lineage, private_files, spark
from mediscale.storage.calls import Call
from mediscale.storage.locks import exclusive

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RunConfig = Mapping[str, Mapping[str, Any]]
"""Per stage of a run, the parameters that are not to be its defaults; the same for every task."""

_IDLE_THREADS = ("OMP_WAIT_POLICY", "PASSIVE")
"""Read when torch or XGBoost is imported. OpenMP's threads spin where they wait for each other: on a machine that has
other work too, that took three quarters of a fit's CPU and made it no faster."""


_ALLOCATIONS = 50_000
"""After so many does Python look for garbage among the newest objects. Nearly all that the import of a library makes
stays: with Python's own 700 a fifth of MLflow's import was such looking."""


@dataclass(frozen=True)
class FinishedCall:
    """A finished call: its record, its result, and whether another run had made it before."""

    record: Call
    result: Any
    cached: bool


def load(name: str) -> Stage:
    """Imports a stage.

    Raises:
        UsageError: there is no stage of that name.
    """
    if name not in steps.STAGES:
        raise UsageError(f"There is no stage {name!r}; the stages are {', '.join(steps.STAGES)}.")
    stage: Stage = import_module(steps.STAGES[name]).STAGE
    return stage


def call(name: str, config: Mapping[str, Any], settings: Settings, run_id: str) -> FinishedCall:
    """Runs a stage, or finds what it did before under the same key; lists the call in the run.

    ``config`` gives parameters by name.

    Raises:
        UsageError: a parameter is missing, unknown or invalid.
        BusyError: the same stage is running on the same dataset, or the registry is locked.
        StorageError: the disk is full, the lake can't be written, or an older version made it.
    """
    private_files.only_owner()
    gc.set_threshold(_ALLOCATIONS)
    stage, params = load(name), fill(name, config)
    call_key = _key(name, params)
    dataset, task = (str(getattr(params, field, None) or "") for field in ("dataset", "task"))
    with (
        exclusive(settings, _scope(name, params), f"Stage {name}"),
        last_calls.recording(settings, dataset, name, task),
    ):
        record = calls.find(settings, name, call_key)
        if record is None:
            calls.check_layout(settings)
            record = _run(name, stage, params, settings, call_key, run_id)
        cached = calls.list_in_run(settings, run_id, record)
    return FinishedCall(record, stage.Result.model_validate(record.result), cached)


def _run(name: str, stage: Stage, params: BaseModel, settings: Settings, key: str, run_id: str) -> Call:
    started, clock = datetime.now(UTC), time.perf_counter()
    inputs = lineage.artifact_ids(params)
    os.environ.setdefault(*_IDLE_THREADS)
    with _readable_failures(name):
        result = stage.run(params, settings, key)
        outputs = _outputs(settings, name, result, set(_table_refs(params)))
    record = Call(
        stage=name,
        key=key,
        run_id=run_id,
        params=params.model_dump(mode="json"),
        code=calls.code_digest(steps.STAGES[name]),
        lock=calls.lock(),
        result=result.model_dump(mode="json"),
        inputs=inputs,
        produced=tuple(a for a in lineage.artifact_ids(result) if a not in inputs),
        outputs=outputs,
        started_at=started,
        seconds=round(time.perf_counter() - clock, 3),
        commit=calls.commit(),
    )
    calls.write(settings, record)
    return record


def key(name: str, config: Mapping[str, Any]) -> str:
    """The identity of a call with these arguments."""
    return _key(name, fill(name, config))


def _key(name: str, params: BaseModel) -> str:
    return calls.key_of(name, params, declarations(params), calls.code_digest(steps.STAGES[name]))


def fill(name: str, config: Mapping[str, Any]) -> BaseModel:
    """The parameters of a call, validated as the stage's ``Params``.

    Raises:
        UsageError: a parameter is missing, unknown or invalid.
    """
    _check_numbers(name, config)
    try:
        return load(name).Params.model_validate(config)
    except ValidationError as error:
        raise UsageError(f"Stage {name}: {_sentence(error, load(name).Params)}") from error


def check(config: RunConfig, pipeline: str = "risk") -> None:
    """Refuses the configuration of a pipeline's run before anything is started.

    Raises:
        UsageError: the pipeline has no such stage, or the stage has no such parameter or would refuse its value, or the
            run itself gives that parameter.
    """
    begin = (steps.SYNTHETIC,) if pipeline == "risk" else ()
    configurable = [step.stage for step in (*begin, *steps.PIPELINES[pipeline])]
    for name, values in config.items():
        if name not in configurable:
            raise UsageError(f"A run has no stage {name!r} to configure; it has {', '.join(configurable)}.")
        if not isinstance(values, Mapping):
            raise UsageError(f"Stage {name}: its configuration is not parameters by name.")
        fields = load(name).Params.model_fields
        if fixed := sorted(n for n in values if n in fields and not is_configurable(fields[n])):
            raise UsageError(
                f"Stage {name}: {', '.join(fixed)} can't be configured; a run's own options give it, "
                "or it is looked up."
            )
        _check_numbers(name, values)
        try:
            load(name).Params.model_validate(values)
        except ValidationError as error:
            if problems := _sentence(error, load(name).Params, values):
                raise UsageError(f"Stage {name}: {problems}") from error


def _check_numbers(name: str, values: Mapping[str, Any]) -> None:
    """Refuses true for a number, which would count as 1."""
    fields = load(name).Params.model_fields
    for parameter, value in values.items():
        kinds = (
            {*get_args(fields[parameter].annotation), fields[parameter].annotation}
            if parameter in fields
            else set()
        )
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise UsageError(f"Stage {name}: {parameter}: {str(value).lower()} is no number.")


def configured(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a finished call that a run's configuration set, or would have to set to repeat it."""
    fields = load(name).Params.model_fields
    return {
        field: value
        for field, value in params.items()
        if field in fields and is_configurable(fields[field]) and value != fields[field].default
    }


def _sentence(error: ValidationError, params: type[BaseModel], only: Container[str] | None = None) -> str:
    """What is wrong with the parameters, or with some of them, which a run's configuration gives."""
    fields = params.model_fields
    names = [name for name in fields if only is None or is_configurable(fields[name])]
    problems = [
        _problem(problem, names)
        for problem in error.errors(include_input=False, include_url=False)
        if only is None or problem["loc"][0] in only
    ]
    return "; ".join(problems) + "." * (bool(problems) and not problems[-1].endswith("?"))


def _problem(problem: "ErrorDetails", names: Collection[str]) -> str:
    place = ".".join(map(str, problem["loc"])) or "the parameters"
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return f"there is no parameter {place}; {suggestion(place, names)}"
    return f"{place}: {in_words(problem['msg'])}"


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


def _outputs(
    settings: Settings, stage: str, result: BaseModel, inputs: set[TableRef]
) -> tuple[calls.Output, ...]:
    """The tables that a call left, each with its digest; of one that was appended to, from that of the version before,
    which an earlier call of the stage left."""
    refs = [ref for ref in dict.fromkeys(_table_refs(result)) if ref not in inputs]
    if not refs:
        return ()
    earlier = _earlier(settings, stage, refs, inputs)
    return tuple(
        calls.Output(ref=ref, rows=rows, digest=digest)
        for ref in refs
        for rows, digest in [duckdb_tables.digest(settings, ref, earlier.get(ref.table_id))]
    )


def _earlier(
    settings: Settings, stage: str, refs: Collection[TableRef], inputs: set[TableRef]
) -> dict[str, calls.Output]:
    """What earlier calls of the stage left of tables that were appended to, by table, as of the version that was: no
    compaction between has changed a row."""
    tables = {ref.table_id for ref in refs}
    appended_to = {lake.before_compactions(settings, ref): ref for ref in inputs if ref.table_id in tables}
    return {
        output.ref.table_id: output.model_copy(update={"ref": appended_to[output.ref]})
        for call in (calls.of_stage(settings, stage) if appended_to else ())
        for output in call.outputs
        if output.ref in appended_to
    }


@contextmanager
def none_running(settings: Settings, dataset: str) -> Iterator[None]:
    """No stage works on the dataset within the block: what it read before it could write after.

    Raises:
        BusyError: one does.
    """
    with ExitStack() as stack:
        for stage in steps.STAGES:
            for scope in (f"{stage}-{dataset}", *(f"{stage}-{dataset}-{task}" for task in all_names())):
                stack.enter_context(exclusive(settings, scope, f"Stage {stage}"))
        yield


def _scope(name: str, params: BaseModel) -> str:
    return "-".join([name, *(str(getattr(params, f)) for f in ("dataset", "task") if hasattr(params, f))])


@contextmanager
def _readable_failures(name: str) -> Iterator[None]:
    """Turns what the machine refuses (disk, registry, Java) into a sentence; leaves our own errors as they are."""
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
        if any(".parquet" in str(e) and _is_absence(e) for e in chain):
            raise StorageError(
                f"Stage {name}: a file of a table's version is gone: nothing needed that version when `mediscale "
                "clean` reclaimed it, or it was lost. Run the stages before this one again, or restore a backup."
            ) from error
        if any(isinstance(e, sqlite3.OperationalError) and "locked" in str(e) for e in chain):
            raise BusyError(
                f"Stage {name}: the model registry is locked by another process; wait for it and run again."
            ) from error
        if any(words in str(e) for e in chain for words in _OF_STORES):
            raise StorageError(
                f"Stage {name}: the object store of the lake or of the models stopped answering, or refused a request; "
                "finished stages are kept, the same command goes on."
            ) from error
        if spark.java_ended():
            raise MediscaleError(
                f"Stage {name}: Spark's Java process was killed or ended; finished stages are kept, the same command "
                "goes on. If it lacked memory, set MEDISCALE_SPARK_MEMORY."
            ) from error
        raise


_OF_STORES = ("Generic S3 error", "Generic GCS error", "Generic MicrosoftAzure error", "fs.s3a.")
"""How the clients of an object store begin what they say: deltalake's and Spark's."""


def _is_absence(error: BaseException) -> bool:
    """Whether an error of Python or Spark says that a file is not there."""
    return isinstance(error, FileNotFoundError) or "PATH_NOT_FOUND" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
