"""Static leak checks: what a cohort, its splits and the columns of its training set say themselves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.cohort import labels as cohort
from data_pipeline.cohort.bitemporal import HOUR, microseconds
from data_pipeline.features import kernel, kinds
from data_pipeline.ingest.source import Source
from mediscale.core.outcomes import OUTCOME, DeclaredOutcome
from mediscale.core.privacy import count, count_of
from mediscale.core.splits import assign_split
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import Task
from training.leakage.certificate import Check, check

OUTCOME_CODES = ("MEDS_DEATH", "HOSPITAL_EXPIRE_FLAG", OUTCOME)
"""Heads of the codes that tell an outcome: no feature may be computed from them."""
LABEL_COLUMNS = (
    "subject_id", "stay_id", "admission_time", "prediction_time", "discharge_time", "boolean_value", "outcome_time",
    "split",
)  # fmt: skip
"""Of labels and of the training set alike."""


def source_supports_task(source: Source, task: Task, absent: Sequence[str]) -> Check:
    reasons = (cohort.unsupported(source, task), cohort.lacking(source, task, absent))
    return check(
        "source_supports_task",
        "the task can be computed from what the source maps and the extract has",
        [reason for reason in reasons if reason],
        f"{task.name} from {source.name}",
    )


def outcome_after_prediction(task: Task, labels: pa.Table) -> Check:
    """Check that outcomes come after their predictions. A declared one has the time of its visit's end, so what
    counts is when it was known."""
    at = microseconds(labels["prediction_time"])
    happened = labels["boolean_value"].to_numpy(zero_copy_only=False).astype(bool)
    dated = labels["outcome_time"].is_valid().to_numpy()
    outcome = microseconds(pc.coalesce(labels["outcome_time"], labels["prediction_time"]))
    early = outcome < at if isinstance(task.outcome, DeclaredOutcome) else outcome <= at
    problems = _problems(
        ("outcomes came at the prediction time or before", early & dated),
        ("stays have an outcome without a time, or a time without an outcome", happened != dated),
        ("labels were certain by the prediction time", microseconds(labels["known_time"]) <= at),
    )
    return check(
        "outcome_after_prediction",
        "the outcome comes after the prediction time, and nobody was certain of it by then",
        problems,
        f"{count_of(int(dated.sum()), len(dated))} outcomes of {count(len(dated))} stays",
    )


def prediction_time_as_declared(task: Task, labels: pa.Table) -> Check:
    at, admitted, left = (
        microseconds(labels[name]) for name in ("prediction_time", "admission_time", "discharge_time")
    )
    declared = task.prediction_time
    hours = (at - admitted) / HOUR
    as_declared = {"admission": np.isin(hours, list(declared.hours)), "discharge": at == left}
    expected = as_declared.get(declared.anchor, np.ones(len(at), dtype=np.bool_))
    return check(
        "prediction_time_as_declared",
        "every stay is predicted at the time that the task declares, within the stay",
        _problems(
            (f"stays are not predicted {declared.words}", ~expected),
            ("stays are predicted before their admission or after their end", (at < admitted) | (at > left)),
        ),
        declared.words,
    )


def one_patient_one_split(frozen: pa.Table) -> Check:
    subjects, split = frozen["subject_id"].to_numpy(), np.asarray(frozen["split"].to_pylist(), dtype=np.str_)
    own, index = np.unique(subjects, return_inverse=True)
    assigned = np.array([assign_split(int(subject)) for subject in own], dtype=np.str_)
    splits = frozen.group_by("subject_id").aggregate([("split", "count_distinct")])
    n_twice = pc.sum(pc.greater(splits["split_count_distinct"], 1)).as_py()
    problems = [f"{count(n_twice)} patients stand in several splits"] if n_twice else []
    problems += _problems(
        ("stays are not in the split that their patient is assigned to", split != assigned[index])
    )
    return check(
        "one_patient_one_split",
        "all stays of a patient are in one split, the one that the fixed hash assigns",
        problems,
        f"{count(len(own))} patients",
    )


def rows_of_these_labels(labels: pa.Table, frozen: pa.Table) -> Check:
    order = [(name, "ascending") for name in TRAINING_SET.key]
    columns = list(LABEL_COLUMNS)
    same = (
        labels.select(columns)
        .sort_by(order)
        .equals(frozen.select(columns).sort_by(order).cast(labels.select(columns).schema))
    )
    problem = "stays, times, outcomes or splits differ between the labels and the training set"
    return check(
        "rows_of_these_labels",
        "the training set has the stays, times, outcomes and splits of its labels",
        [] if same else [problem],
        f"{count(frozen.num_rows)} stays",
    )


def columns_are_features(task: Task, columns: Sequence[str]) -> Check:
    names = kernel.names(task.name)
    listed = (
        (
            "columns that are no feature of the task",
            [c for c in columns if c not in {*TRAINING_SET.column_names, *names}],
        ),
        (
            "identifiers or outcomes among the features",
            [name for name in names if name in TRAINING_SET.column_names],
        ),
        ("outcomes that the kernel reads", [code for code in OUTCOME_CODES if kinds.reads_code(code)]),
    )
    return check(
        "columns_are_features",
        "every input is a feature that the task declares, and none is an identifier or an outcome",
        [f"{words}: {shortened(columns_found)}" for words, columns_found in listed if columns_found],
        f"{len(names)} features",
    )


def shortened(names: Sequence[str]) -> str:
    """A list cut short: at most three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _problems(*broken: tuple[str, npt.NDArray[np.bool_]]) -> list[str]:
    """What is wrong, with the number of rows of which it is."""
    return [f"{count(int(rows.sum()))} {words}" for words, rows in broken if rows.any()]
