"""Rows of a frozen training set as arrays, in an order that does not depend on how Delta laid them out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import InputError, QualityError
from mediscale.core.privacy import count
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.core.tables import TRAINING_SET
from mediscale.core.tasks import TaskName
from mediscale.storage import lake

if TYPE_CHECKING:
    import pyarrow as pa

Inputs = NDArray[np.float32]
ATTRIBUTES = ("sex", "age_band", "ethnicity")
ORDER = [(name, "ascending") for name in TRAINING_SET.key]
"""In which rows are read, wherever arrays are held beside each other."""
_KEYS = ("subject_id", "stay_id", "admission_time", "prediction_time", "boolean_value", *ATTRIBUTES)


@dataclass(frozen=True)
class Examples:
    """n rows ordered by patient, stay and prediction time. ``inputs`` is (n, features) float32, NaN where missing: as
    served."""

    subjects: NDArray[np.int64]
    times: NDArray[np.datetime64]
    outcomes: NDArray[np.float64]
    inputs: Inputs
    attributes: dict[str, NDArray[np.str_]]
    admissions: NDArray[np.datetime64]
    stays: NDArray[np.int64] | None = None
    """The stay of each row; None where each row is of a stay of its own."""

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def patients(self) -> int:
        """Distinct patients."""
        return len(np.unique(self.subjects))

    @property
    def events(self) -> int:
        """Rows with the outcome."""
        return int(self.outcomes.sum())

    @property
    def first_of_stay(self) -> NDArray[np.intp]:
        """The first row of each row's stay, shape (n)."""
        if self.stays is None:
            return np.arange(len(self))
        _, first, stay = np.unique(self.stays, return_index=True, return_inverse=True)
        return first[stay]

    @property
    def repeated(self) -> bool:
        """Whether a stay has more than one row."""
        return bool((self.first_of_stay != np.arange(len(self))).any())

    @property
    def stays_with_outcome(self) -> int:
        """Stays of which a row has the outcome."""
        return len(np.unique(self.first_of_stay[self.outcomes == 1]))

    @property
    def weights(self) -> NDArray[np.float64]:
        """What each row weighs in a fit (n), so that every stay weighs 1, however often it is predicted.

        Rows of one stay are nearly the same evidence. Which risk is learnt does not change: the time since admission is
        an input of the tasks that predict more than once.
        """
        first = self.first_of_stay
        return 1 / np.bincount(first, minlength=len(self))[first]

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Some of the rows."""
        attributes = {name: values[chosen] for name, values in self.attributes.items()}
        return Examples(
            self.subjects[chosen],
            self.times[chosen],
            self.outcomes[chosen],
            self.inputs[chosen],
            attributes,
            self.admissions[chosen],
            None if self.stays is None else self.stays[chosen],
        )

    def digest(self) -> str:
        """SHA-256 over patients, outcomes and inputs: the same rows give the same, whatever table they came from."""
        digest = hashlib.sha256()
        for part in (self.subjects, self.outcomes, self.inputs):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def load(
    settings: Settings,
    ref: TableRef,
    split: Split | None,
    features: Sequence[str],
    part: tuple[int, int] = (0, 1),
) -> Examples:
    """The rows of one split, or of all (None). ``part = (i, n)`` reads only the patients that fall to worker i of n.

    Raises:
        InputError: the table lacks some of the features.
    """
    import pyarrow.compute as pc

    rows = lake.dataset(settings, ref)
    absent = set(features) - set(rows.schema.names)
    if absent:
        raise InputError(
            f"{ref} lacks {len(absent)} of the {len(features)} inputs; build it again with this version."
        )
    row_filter = pc.scalar(True) if split is None else pc.field("split") == split
    worker, workers = part
    if workers > 1:
        subject = pc.field("subject_id")
        row_filter &= (subject - pc.divide(subject, workers) * workers) == worker
    table = rows.to_table(columns=[*_KEYS, *features], filter=row_filter)
    return _arrays(table.sort_by(ORDER), features)


def check_trainable(train: Examples, tuning: Examples, task: TaskName) -> None:
    """Refuses splits that nothing can be learnt from.

    Raises:
        QualityError: the training or tuning split has no rows, or the training split one outcome only.
    """
    if not len(tuning) or train.events in (0, len(train)):
        raise QualityError(
            f"Too few patients to train {task}: {count(len(train))} stays with {count(train.events)} events to train "
            f"on and {count(len(tuning))} to tune on; both outcomes are needed in the first and at least one stay in "
            "the second."
        )


def counts(train: Examples, tuning: Examples) -> dict[str, int]:
    """Rows and events of the splits that a model is fitted on."""
    return {
        "train_rows": len(train),
        "train_events": train.events,
        "tuning_rows": len(tuning),
        "tuning_events": tuning.events,
    }


def columns(settings: Settings, ref: TableRef) -> frozenset[str]:
    """Names of the table's columns."""
    return frozenset(lake.dataset(settings, ref).schema.names)


def _arrays(table: "pa.Table", features: Sequence[str]) -> Examples:
    inputs = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for i, name in enumerate(features):
        inputs[:, i] = table[name].to_numpy()
    return Examples(
        subjects=np.asarray(table["subject_id"].to_numpy(), dtype=np.int64),
        times=np.asarray(table["prediction_time"].to_numpy()).astype("datetime64[us]"),
        outcomes=np.asarray(table["boolean_value"].to_numpy(zero_copy_only=False), dtype=np.float64),
        inputs=inputs,
        attributes={name: np.asarray(table[name].to_pylist(), dtype=np.str_) for name in ATTRIBUTES},
        admissions=np.asarray(table["admission_time"].to_numpy()).astype("datetime64[us]"),
        stays=np.asarray(table["stay_id"].to_numpy(), dtype=np.int64),
    )
