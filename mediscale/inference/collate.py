"""Collation of notes: windows of tokens, padded together in length-bucketed batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core.refs import Frozen

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Tokens = NDArray[np.int32]


def windows(notes: Sequence[Tokens], window: int, most: int) -> list[Tokens]:
    """Splits notes, newest first, into pieces of at most ``window - 2`` tokens and keeps the first ``most``.

    A note's pieces are of about equal length, so that none is a stump; no notes give one empty piece. What lies beyond
    ``most`` full windows of a note changes nothing, so that whoever has its beginning reads the same.

    >>> [piece.tolist() for piece in windows([np.array([1, 2, 3, 4, 5]), np.array([6])], 6, 3)]
    [[1, 2, 3], [4, 5], [6]]
    """
    pieces: list[Tokens] = []
    for note in (note[: most * (window - 2)] for note in notes):
        count = -(-len(note) // (window - 2))
        length = -(-len(note) // count) if count else 0
        pieces += [note[i * length : (i + 1) * length] for i in range(count)]
        if len(pieces) >= most:
            break
    return pieces[:most] or [np.empty(0, dtype=np.int32)]


class Special(Frozen):
    """Token numbers of the tokenizer's special tokens."""

    start: int
    end: int
    padding: int


def special(tokenizer: "Tokenizer") -> Special:
    """The special tokens of a BERT's tokenizer."""
    names = {"start": "[CLS]", "end": "[SEP]", "padding": "[PAD]"}
    return Special.model_validate({name: tokenizer.token_to_id(token) for name, token in names.items()})


def lengths(stays: Sequence[Sequence[Tokens]]) -> NDArray[np.int64]:
    """(n, 2): number of windows, and tokens of the longest with the two special ones."""
    return np.array([[len(p), 2 + max(map(len, p))] for p in stays], dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Batch:
    """Windows of some stays, padded: ``ids`` and ``mask`` (w, length), ``owner`` (w): the stay's place in the batch."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    owner: NDArray[np.int64]


def batch(stays: Sequence[Sequence[Tokens]], special: Special) -> Batch:
    """Collates the windows of some stays into a batch, padded to the longest of them."""
    pieces = [piece for pieces in stays for piece in pieces]
    ids = np.full((len(pieces), 2 + max(map(len, pieces))), special.padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, piece in enumerate(pieces):
        ids[i, : len(piece) + 2] = [special.start, *piece, special.end]
        mask[i, : len(piece) + 2] = 1
    return Batch(ids, mask, np.repeat(np.arange(len(stays)), [len(pieces) for pieces in stays]))


def bucket_by_length(lengths: NDArray[np.int64], budget: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Indices of stays of like length, batch by batch in random order, each of about ``budget`` padded tokens.

    Padding costs as much as reading: with stays of all lengths together most of the work is on nothing.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(lengths)), lengths[:, 1]))
    groups: list[list[int]] = [[]]
    size = longest = 0
    for i in order:
        pieces, length = lengths[i]
        if groups[-1] and (size + pieces) * max(longest, length) > budget:
            groups.append([])
            size = longest = 0
        groups[-1].append(int(i))
        size, longest = size + pieces, max(longest, length)
    for g in rng.permutation(len(groups)) if len(lengths) else []:
        yield np.array(groups[g], dtype=np.int64)
