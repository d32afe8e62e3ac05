"""Reproduce: a registered version rebuilt from its call record, beside the registry, and compared with what it holds.

A version that was made from others (notes and table together) is reproduced with them, the oldest first: when each
part is the same to the bit, so is what was made of the parts. Nothing is registered: files go to a temporary folder,
and rows are read from the lake at the recorded versions.
"""

import importlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.core.errors import QualityError, StorageError
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from mediscale.governance import erasure, recorded_rows
from mediscale.inference import model_files, tabular
from mediscale.pipeline import call as stages
from mediscale.pipeline import steps
from mediscale.storage import calls, lake, registry
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Lineage

if TYPE_CHECKING:
    import pyarrow as pa

_MARGIN_KEY = ["subject_id", "prediction_time"]


@dataclass(frozen=True)
class Comparison:
    """A rebuilt version beside the registered one."""

    model: ModelRef
    stage: str
    layout: str
    """Workers and threads of the fit: sums of floats depend on them."""
    same: tuple[str, ...]
    """Names of the files that answer and are equal to the bit."""
    different: tuple[str, ...]
    """Names of those that are not, or that only one of the two has."""
    rows: int = 0
    """Rows of the training set, stays with notes, or tuning questions, for which both were asked."""
    largest: float = 0.0
    """Largest difference of their answers: in log-odds, or of a language model in log-likelihood per token; infinite
    where they can't be compared."""

    @property
    def identical(self) -> bool:
        return not self.different and not self.largest


def commit_to_rebuild(settings: Settings, name: str, version: int) -> str:
    """The commit whose code has to rebuild the version; empty where code and lock here are those of its record.

    Raises:
        NotFoundError: no record of this home registered the version.
        StorageError: it can't be rebuilt from here: the sentence names both sides.
    """
    for record in _parts(settings, Lineage(settings), name, version):
        code, lock = calls.code_digest(steps.STAGES[record.stage]), calls.lock()
        if record.lock != lock:
            place = record.commit[:12] or "that made it, which its record does not name"
            raise StorageError(
                f"{name}/{version} was made with the locked environment {record.lock[:12]}, and here is {lock[:12]}. "
                f"Check out the commit {place} into a folder of its own, build its environment there (make setup), and "
                "run this command in it with this home."
            )
        if record.code != code:
            if record.commit in ("", calls.commit()):
                commit = (
                    f"commit {record.commit[:12]}" if record.commit else "a commit, for its record names none"
                )
                raise StorageError(
                    f"{name}/{version} was made with the code {record.code[:12]}, and here is {code[:12]}; it can't be "
                    f"had from {commit}. Run this command with the code that made it."
                )
            return record.commit
    return ""


def at_commit(settings: Settings, commit: str, arguments: list[str]) -> int:
    """Runs a ``mediscale`` command with the code of another commit, in this environment; its exit code.

    Raises:
        StorageError: Git or the commit is not here.
    """
    with _worktree(commit) as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "MEDISCALE_HOME": str(settings.home),
            "MEDISCALE_LAKE": settings.lake
            if "://" in settings.lake
            else str(Path(settings.lake).absolute()),
        }
        program = "import sys; from mediscale.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    git = shutil.which("git")
    with tempfile.TemporaryDirectory(prefix="mediscale-code-") as temporary:
        folder = Path(temporary) / "code"
        repository = [git or "", "-C", str(calls.ROOT), "worktree"]
        add = [*repository, "add", "--detach", str(folder), commit]
        if git is None or subprocess.run(add, capture_output=True, check=False).returncode:
            raise StorageError(
                f"The version was made at commit {commit[:12]}, and Git has no such commit at {calls.ROOT}; fetch it, "
                "or run this command in a checkout of that commit."
            )
        try:
            yield folder
        finally:
            remove = [*repository, "remove", "--force", str(folder)]
            subprocess.run(remove, capture_output=True, check=False)


def rebuild(settings: Settings, name: str, version: int) -> Iterator[Comparison]:
    """Rebuilds the version, and before it those that it was made from; compares each with the registered one.

    Raises:
        NotFoundError: no record of this home registered the version, or a table or file that it needs is gone.
        StorageError: the record, the rows that it was made from, or the files of the registered version were changed.
    """
    lineage = Lineage(settings)
    for record in _parts(settings, lineage, name, version):
        _check(record)
        _check_rows(settings, lineage, record)
        with tempfile.TemporaryDirectory(prefix="mediscale-reproduce-") as scratch:
            yield _compared(settings, record, Path(scratch))


def _parts(settings: Settings, lineage: Lineage, name: str, version: int) -> list[Call]:
    """The calls that registered the version and the versions that it was made from, oldest first.

    Raises:
        QualityError: a patient on whom it was trained was erased since.
    """
    own = lineage.maker(name, version)
    if erased := erasure.of_version(settings, own.params["dataset"], f"{name}/{version}"):
        raise QualityError(
            f"{name}/{version} can't be reproduced: a patient on whom it was trained was erased on "
            f"{erased.at:%Y-%m-%d} (entry {erased.sequence} of the history), so its training set is another one now."
        )
    calls = lineage.upstream([own]).values()
    registering = (call for call in calls if any(a.startswith("model:") for a in call.produced))
    return sorted(registering, key=lambda call: call.started_at)


def _check(record: Call) -> None:
    """A call's key is a digest over all that it saw, so a record that was changed no longer gives its own."""
    if stages.key(record.stage, record.params) != record.key:
        raise StorageError(
            f"The record {record.stage} {record.key[:12]} does not give its own key: its parameters, or the file of "
            "the task that it names, were changed since. Restore the record from a backup, or the file from its commit."
        )


def _check_rows(settings: Settings, lineage: Lineage, record: Call) -> None:
    """The tables that a call read have the rows that the calls which wrote them left.

    A changed row may leave the model as it is. Where a patient was erased since, there is nothing to compare with: of a
    version that was trained on the patient, ``_parts`` has said so.
    """
    writers = lineage.parents(record)
    for writer, output in recorded_rows.comparable_tables(settings, record.params["dataset"], writers):
        is_read = f"table:{output.ref.table_id}@{output.ref.version}" in record.inputs
        if is_read and not recorded_rows.match_record(settings, output):
            raise StorageError(
                f"The table {output.ref}, from which {_model(record)} was made, has other rows than {writer.stage} "
                "wrote, so that the version can't be reproduced from it; restore the table from a backup."
            )


def _compared(settings: Settings, record: Call, scratch: Path) -> Comparison:
    registered = model_files.read_verified(settings, _model(record))
    margins = _fit(settings, record, scratch)
    rebuilt = model_files.answering_files(scratch / "model")
    names = registered.keys() | rebuilt.keys()
    same = {name for name in names if registered.get(name) == rebuilt.get(name)}
    rows, largest = _distance(settings, record, scratch / "model", margins)
    return Comparison(
        model=_model(record),
        stage=record.stage,
        layout=_layout(record),
        same=tuple(sorted(same)),
        different=tuple(sorted(names - same)),
        rows=rows,
        largest=largest,
    )


def _fit(settings: Settings, record: Call, scratch: Path) -> "pa.Table | None":
    """Writes the version anew into ``scratch/model``; returns the margins that the stage leaves beside it, if any."""
    stage = stages.load(record.stage)
    assert stage.fit is not None, "whoever registers a version says how to make it"
    importlib.import_module("mlflow")  # which sets its own level
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it remarks on what it writes beside the model
    elsewhere = {"home": scratch / "home", "tracking_uri": f"sqlite:///{scratch / 'mlflow.db'}"}
    (scratch / "home").mkdir()
    if (bases := settings.home.absolute() / "base_models").exists():
        # a base may have gigabytes, and its digest is compared
        (scratch / "home" / bases.name).symlink_to(bases)
    params = stage.Params.model_validate(_absolute(settings, record.params))
    fitted = stage.fit(params, settings.model_copy(update=elsewhere), record.key)
    fitted.save(scratch / "model")
    return fitted.margins


def _model(record: Call) -> ModelRef:
    result: Any = record.result
    return ModelRef.model_validate(result["model"] if "model" in result else result["note_model"]["model"])


def _absolute(settings: Settings, value: Any) -> Any:
    """The parameters with the folders of models where they are: a path of theirs is relative to the home."""
    if isinstance(value, dict):
        resolved = {name: _absolute(settings, inner) for name, inner in value.items()}
        is_model = value.keys() == ModelRef.model_fields.keys()
        return {**resolved, "uri": registry.locate(settings, value["uri"])} if is_model else resolved
    return value


def _layout(record: Call) -> str:
    layout = {name: record.params[name] for name in ("workers", "threads") if name in record.params}
    return ", ".join(f"{n} {name if n > 1 else name.removesuffix('s')}" for name, n in layout.items())


def _distance(
    settings: Settings, record: Call, folder: Path, margins: "pa.Table | None"
) -> tuple[int, float]:
    """The number of rows that both versions answered, and the largest difference between their answers."""
    if margins is not None:
        recorded = lake.read(settings, TableRef.model_validate(record.result["note_model"]["margins"]))
        return _apart(
            *(table.sort_by([(name, "ascending") for name in _MARGIN_KEY]) for table in (recorded, margins))
        )
    model = _model(record)
    if model.name.endswith(f"-{LANGUAGE}"):
        return _questions_apart(settings, record, model, folder)
    from training import training_examples

    rebuilt = model.model_copy(update={"uri": str(folder), "digest": model_files.digest(folder)})
    task = record.params["task"]
    registered = tabular.load(settings, model, task)
    other = tabular.load(settings.model_copy(update={"artifact_root": str(folder)}), rebuilt, task)
    if registered.spec.features != other.spec.features:
        return 0, float("inf")
    training_set = TableRef.model_validate(record.params["training_set"])
    rows = training_examples.load(settings, training_set, "tuning", registered.spec.features)
    differences = np.abs(registered.log_odds(rows.inputs) - other.log_odds(rows.inputs))
    return len(rows), float(differences.max(initial=0.0))


def _questions_apart(settings: Settings, record: Call, model: ModelRef, folder: Path) -> tuple[int, float]:
    """The number of tuning questions, and the largest difference of log-likelihood per token between two models."""
    from data_pipeline.documents import question_set
    from mediscale.inference import language_version

    questions = question_set.load(settings, TableRef.model_validate(record.params["questions"]), "tuning")
    triples = [(question.question, question.context, question.answer) for question in questions]
    registered, rebuilt = (
        language_version.load(settings, files).log_likelihoods(triples)
        for files in (model_files.read_verified(settings, model), model_files.answering_files(folder))
    )
    apart = [abs(one.per_token - other.per_token) for one, other in zip(registered, rebuilt, strict=True)]
    return len(apart), max(apart, default=0.0)


def _apart(recorded: "pa.Table", margins: "pa.Table") -> tuple[int, float]:
    if not recorded.select(_MARGIN_KEY).equals(margins.select(_MARGIN_KEY)):
        return 0, float("inf")
    differences = np.abs(recorded["margin"].to_numpy() - margins["margin"].to_numpy())
    return len(differences), float(differences.max(initial=0.0))
