"""Continued training: the trees of an earlier version, grown on with the stays that were labelled since (XGBoost's own
``xgb_model``).

What comes of it is a version like any other: rounds and calibration are chosen on the tuning split, and it is judged
on the held-out patients by the same gate. Where the new trees bring nothing, the tuning split chooses none of them.
"""

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.features import kernel
from mediscale.core.errors import InputError, NotFoundError, QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files
from mediscale.inference.model_files import MODEL_FILE
from mediscale.storage import calls, registry
from training import training_examples

if TYPE_CHECKING:
    import xgboost

    from training.training_examples import Examples


class Parent(Frozen):
    """The version whose trees are grown on, and the training set that it learnt from."""

    model: ModelRef
    training_set: TableRef


def find(settings: Settings, dataset: str, task: TaskName, version: int) -> Parent:
    """The table model of a version; of one that reads notes, the trees that it was joined from.

    Raises:
        NotFoundError: the lake has no record of its training.
    """
    name = registry.model_name(dataset, task)
    for call in reversed(calls.of_stage(settings, "late_fusion")):
        if _version(call.result["model"]) == (name, version):
            version = ModelRef.model_validate(call.params["model"]).version
            break
    for call in reversed(calls.of_stage(settings, "risk_model")):
        if _version(call.result["model"]) == (name, version):
            return Parent.model_validate(
                {"model": call.result["model"], "training_set": call.params["training_set"]}
            )
    raise NotFoundError(
        f"The lake has no record of the training of {name} v{version}, so that it can't be continued."
    )


def _version(model: dict[str, object]) -> tuple[object, object]:
    return model["name"], model["version"]


def trees(settings: Settings, parent: Parent, task: TaskName) -> "xgboost.Booster":
    """The parent's trees, from files whose digest was compared.

    Raises:
        InputError: they were grown on other features than the task has today.
        StorageError: the files were changed.
    """
    import xgboost

    booster = xgboost.Booster(
        model_file=bytearray(model_files.read_verified(settings, parent.model)[MODEL_FILE])
    )
    if tuple(booster.feature_names or ()) != kernel.names(task):
        raise InputError(f"{parent.model} was trained on other features than {task} has today; train anew.")
    return booster


def new_training_rows(settings: Settings, parent: Parent, train: "Examples") -> "Examples":
    """The training rows that the parent did not learn from."""
    learnt = _rows(settings, parent, "train")
    learnt_rows = set(zip(learnt.subjects.tolist(), learnt.times.tolist(), strict=True))
    rows = zip(train.subjects.tolist(), train.times.tolist(), strict=True)
    return train.where(np.array([row not in learnt_rows for row in rows], dtype=np.bool_))


def check(settings: Settings, parent: Parent, new: "Examples", held_out: "Examples") -> None:
    """Whether there is anything to learn, and the held-out patients are still unseen.

    Raises:
        QualityError: no stay of each outcome was labelled since, or the parent learnt from patients who are held out.
    """
    if new.events in (0, len(new)):
        raise QualityError(
            f"{count(len(new))} stays with {count(new.events)} events were labelled since {parent.model} was trained; "
            "both outcomes are needed to train on."
        )
    for split in ("train", "tuning"):
        n_learnt = np.isin(np.unique(held_out.subjects), _rows(settings, parent, split).subjects).sum()
        if n_learnt:
            raise QualityError(
                f"{parent.model} learnt from {count(int(n_learnt))} patients who are held out today; train anew."
            )


def _rows(settings: Settings, parent: Parent, split: Split) -> "Examples":
    return training_examples.load(settings, parent.training_set, split, ())
