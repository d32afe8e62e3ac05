"""Served note readers: their networks lie in a helper process, which replaces the identifiers of a note and reads it.

A version's reader belongs to the version: the network is dropped when no request and no alias holds the version any
more, and is loaded again from the verified files where the process had to be started anew.
"""

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TypeVar, TypeVarTuple

from data_pipeline.clinical_text.languages import language
from data_pipeline.notes.deidentification import deidentifier as deidentifiers
from data_pipeline.notes.deidentification import pseudonym_secret
from data_pipeline.notes.deidentification.deidentifier import Deidentifier
from mediscale.core.errors import BusyError, RemoteError, failure_location
from mediscale.inference.collate import Tokens
from mediscale.inference.note_model_spec import NoteSpec
from mediscale.inference.notes import Floats, NoteReader, Reader
from serving.helper_process import HelperProcess

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Files = Mapping[str, bytes]

_NOBODY = 0
"""The number by which the surrogates of a request's note are chosen, as it does not say of whom it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a network made of a note."""

    margin: float | None
    """None where nothing was written."""
    tokens: int
    """That were read."""
    whole: bool
    """Whether the note has no others."""
    language: str
    """That the note is in."""


class ServedReader(Reader):
    """The note model of a served version."""

    _numbers = itertools.count()
    _unused: deque[tuple[HelperProcess, int]] = deque()

    def __init__(self, process: HelperProcess, verified: Callable[[], Files], files: Files) -> None:
        """``files`` are the note model's by name, and ``verified`` reads them again.

        Raises:
            StorageError: as ``NoteReader``.
        """
        self.process, self.number, self._verified = process, next(self._numbers), verified
        super().__init__(process.call(_load, self.number, files))
        weakref.finalize(self, self._unused.append, (process, self.number))

    def load_again(self) -> None:
        """Loads the network again, into a process that was started anew.

        Raises:
            MediscaleError: the files are gone or were changed.
        """
        self.process.call(_load, self.number, self._verified())

    def margins(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        return _asked([self], _margins, stays)


Readings = Mapping[Reader, Reading | RemoteError]
"""Of one note, by who read it, or how that failed."""


def read(readers: Sequence[ServedReader], note: str, deidentifier: str, now: datetime) -> Readings:
    """What some versions, at least one, make of a note of a request.

    Identifiers in the note are replaced, as in all notes that models are trained on, by whom ``deidentifier`` names.

    Raises:
        BusyError: the process ended meanwhile.
        MediscaleError: it had to be started anew, and the files of a version are gone or were changed.
    """
    text = _beginning(note, max(reader.characters for reader in readers))
    readings = _asked(readers, _read, text, text == note, deidentifier, now)
    return dict(zip(readers, readings, strict=True))


def drop_unused() -> None:
    """Lets the helper processes drop the networks of versions that nobody holds any more."""
    with suppress(IndexError):
        while True:
            process, number = ServedReader._unused.popleft()
            if process.pid is not None:
                with suppress(BusyError):  # it ended, and with it the network
                    process.call(_drop, number)


def _asked(
    readers: Sequence[ServedReader], work: Callable[[Sequence[int], *Ts], T | None], *arguments: *Ts
) -> T:
    """What the helper process works out by some of its networks, which it first loads if it was started anew."""
    process, numbers = readers[0].process, [reader.number for reader in readers]
    result = process.call(work, numbers, *arguments)
    if result is None:
        for reader in readers:
            reader.load_again()
        result = process.call(work, numbers, *arguments)
    if result is None:
        raise BusyError("The process that reads notes begins anew; ask again in a moment.")
    return result


def _beginning(text: str, most: int) -> str:
    """The part of a note that is read, so that nothing works on more; it ends between words."""
    if len(text) <= most:
        return text
    start = len(text) - len(text.lstrip())
    return text[start : start + most + 1].rsplit(maxsplit=1)[0]


# --- in the helper process ------------------------------------------------------------------------------------------

_LOADED: dict[int, NoteReader] = {}


def _load(number: int, files: Files) -> NoteSpec:
    _LOADED[number] = NoteReader(files)
    return _LOADED[number].spec


def _drop(number: int) -> None:
    _LOADED.pop(number, None)


def _margins(numbers: Sequence[int], stays: Sequence[Sequence[Tokens]]) -> Floats | None:
    [number] = numbers
    return _LOADED[number].margins(stays) if number in _LOADED else None


def _read(
    numbers: Sequence[int], text: str, whole: bool, deidentifier: str, now: datetime
) -> list[Reading | RemoteError] | None:
    """None where one of the networks is not loaded."""
    if not _LOADED.keys() >= set(numbers):
        return None
    [note] = _deidentifier(deidentifier).deidentify(_NOBODY, [text], [now])
    return [_reading(_LOADED[number], note.text, whole, language(text)) for number in numbers]


def _reading(reader: NoteReader, text: str, whole: bool, written_in: str) -> Reading | RemoteError:
    try:
        tokens = reader.tokens(text)
        if not len(tokens):
            return Reading(None, 0, whole, written_in)
        windows = reader.windows([tokens])
        count = sum(map(len, windows))
        margin = float(reader.margins([windows])[0])
        return Reading(margin, count, whole and count == len(tokens), written_in)
    except Exception as error:
        return RemoteError(failure_location(error))


@cache
def _deidentifier(name: str) -> Deidentifier:
    """The deidentifier of that name.

    What it puts in place of identifiers is never stored, so that it need not be secret, and equal notes give equal
    answers.
    """
    return deidentifiers.load(name, pseudonym_secret.PUBLISHED_SECRET)
