"""Stays with what their notes said by the moment of prediction, as windows of tokens."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_pipeline.notes import note_visibility
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.inference import collate
from mediscale.inference.collate import Tokens
from mediscale.storage import lake
from training import training_examples
from training.training_examples import Examples

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Stays:
    """n stays in the order of ``rows``: per stay its windows of tokens, newest note first, at least one."""

    rows: Examples
    windows: list[list[Tokens]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Real tokens, without special ones."""
        return int(self.read().sum())

    def read(self) -> NDArray[np.int64]:
        """(n): tokens that are read of each stay's notes; 0 where none could be read."""
        return np.array([sum(map(len, pieces)) for pieces in self.windows], dtype=np.int64)

    def lengths(self) -> NDArray[np.int64]:
        """(n, 2): number of windows, and tokens of the longest with the two special ones."""
        return collate.lengths(self.windows)


@dataclass(frozen=True)
class Tables:
    """Where stays and their notes are."""

    training_set: TableRef
    note_tokens: TableRef


def load(settings: Settings, tables: Tables, split: Split, tokenizer: str, window: int, most: int) -> Stays:
    """One split, with the notes that could be read by each prediction time, in the numbers of one tokenizer: to a model
    of another they are other words."""
    rows = training_examples.load(settings, tables.training_set, split, [])
    notes = note_visibility.by_patient(_numbers(settings, tables.note_tokens, tokenizer))
    stays: list[list[Tokens]] = []
    for subject, admitted, time in zip(rows.subjects.tolist(), rows.admissions, rows.times, strict=True):
        visible = note_visibility.visible_tokens(notes.get(subject, []), admitted, time)
        stays.append(collate.windows(visible, window, most))
    return Stays(rows, stays)


def tokenizers(settings: Settings, note_tokens: TableRef) -> frozenset[str]:
    """Whose numbers the notes are there in."""
    return frozenset(lake.read(settings, note_tokens, ["tokenizer"])["tokenizer"].unique().to_pylist())


def _numbers(settings: Settings, note_tokens: TableRef, tokenizer: str) -> "pa.Table":
    import pyarrow.compute as pc

    of_one = pc.field("tokenizer") == tokenizer
    return lake.dataset(settings, note_tokens).to_table(columns=list(note_visibility.COLUMNS), filter=of_one)
