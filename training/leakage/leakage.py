"""Stage: the leak certificate of one frozen training set, which the gate demands of every version made from it.

Static checks read the labels and the columns; dynamic ones compute sampled stays again from what was known at their
prediction times, with and without facts that nobody can have known then. A failed check stops nothing here: the gate
refuses production, and the report says why.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import SourceName
from mediscale.core import tasks
from mediscale.core.annotations import Digest, PatientCount, RuntimeInput
from mediscale.core.errors import NotFoundError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import Context, Stage
from mediscale.core.tasks import TaskName
from mediscale.storage import calls, lake
from mediscale.storage.calls import Call
from training import evidence_files
from training.leakage import declared, fitted, known_time, notes, single_predictors
from training.leakage.certificate import CERTIFICATE_FILE, Check, LeakCertificate
from training.leakage.end_of_stay import known_at_the_end
from training.leakage.sample import draw


class Params(Frozen):
    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    source: RuntimeInput[SourceName]
    events: RuntimeInput[TableRef]
    labels: RuntimeInput[TableRef]
    training_set: RuntimeInput[TableRef]
    note_tokens: RuntimeInput[TableRef | None] = None
    """None where the extract has no notes."""
    absent: RuntimeInput[tuple[str, ...]] = ()
    """Files that the extract does not have, as bronze reports them."""
    stays: int = Field(256, ge=2)
    """Most stays whose whole record is computed again, each of another patient."""


class Result(Frozen):
    certificate: str
    """Path of the certificate's file, relative to the home."""
    certificate_digest: Digest
    passed: bool
    failed: tuple[str, ...]
    """Names of the checks that failed."""
    sampled: PatientCount


def run(params: Params, settings: Settings, key: str) -> Result:
    """Checks a training set and writes its certificate, whatever comes out.

    Raises:
        InputError: the training set lacks features of the task.
    """
    sample = draw(settings, params.training_set, params.events, params.note_tokens, params.task, params.stays)
    splits = fitted.load(settings, params.training_set, params.task)
    checks = [
        *_declared(params, settings),
        known_at_the_end(sample, sources.load(params.source)),
        *known_time.checks(sample),
        fitted.rows_of_each_split(settings, params.training_set, params.task, splits),
        fitted.shuffled_labels(params.task, splits),
    ]
    alone, findings = single_predictors.single_features(params.task, splits["train"])
    checks.append(alone)
    if sample.notes.num_rows:
        read = notes.read(sample, sample.notes)
        tokens, of_tokens = single_predictors.single_tokens(params.task, read, sample.outcomes)
        checks += [*notes.checks(sample, read), tokens]
        findings += of_tokens
    certificate = LeakCertificate(
        key=key,
        dataset=params.dataset,
        task=params.task,
        training_set=params.training_set,
        sampled=len(sample),
        checks=tuple(checks),
        findings=findings,
    )
    path, digest = evidence_files.write(settings, certificate, CERTIFICATE_FILE)
    return Result(
        certificate=path,
        certificate_digest=digest,
        passed=certificate.passed,
        failed=tuple(check.name for check in certificate.failed),
        sampled=len(sample),
    )


def _declared(params: Params, settings: Settings) -> Iterator[Check]:
    task, labels = tasks.load(params.task), lake.read(settings, params.labels)
    training_set = lake.dataset(settings, params.training_set)
    frozen = training_set.to_table(columns=list(declared.LABEL_COLUMNS))
    yield declared.source_supports_task(sources.load(params.source), task, params.absent)
    yield declared.outcome_after_prediction(task, labels)
    yield declared.prediction_time_as_declared(task, labels)
    yield declared.one_patient_one_split(frozen)
    yield declared.rows_of_these_labels(labels, frozen)
    yield declared.columns_are_features(task, training_set.schema.names)


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """The newest training set and what it was made from, for a call that names a dataset and a task alone.

    Raises:
        NotFoundError: there is no training set of that dataset and task.
    """
    if "training_set" in params or not {"dataset", "task"} <= params.keys():
        return
    newest = calls.newest_night(settings, "training_set", params["dataset"], params["task"])
    if newest is None:
        raise NotFoundError(
            f"{params['dataset']} has no training set of {params['task']} yet; see `mediscale runs` for what there is, "
            "or make it with `mediscale run`."
        )
    yield Context(_params_of_call(settings, newest))


def _params_of_call(settings: Settings, training_set: Call) -> dict[str, Any]:
    """The parameters under which a run checks the training set that this call made."""
    labelled = [
        call.params
        for call in calls.of_stage(settings, "labels")
        if call.result["labels"] == training_set.params["labels"]
    ]
    tokenized = [
        call.result["note_tokens"]
        for call in calls.of_stage(settings, "note_tokens")
        if call.params["dataset"] == training_set.params["dataset"]
    ]
    return {
        **{name: training_set.params[name] for name in ("events", "labels")},
        **{name: labelled[-1][name] for name in ("source", "absent")},
        "training_set": training_set.result["training_set"],
        "note_tokens": tokenized[-1] if tokenized else None,
    }


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="check the training set for leaks",
    summary=lambda r: (
        f"no leak found; {count(r.sampled)} stays recomputed with and without later facts"
        if r.passed
        else f"suspected leak: {', '.join(r.failed).replace('_', ' ')} failed"
    ),
    runtime_inputs=runtime_inputs,
)
