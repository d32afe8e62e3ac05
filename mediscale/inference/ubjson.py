"""Universal Binary JSON (draft 12) as XGBoost writes it, so that a server reads ``model.ubj`` without XGBoost.

Typed arrays become NumPy arrays, everything else what ``json.loads`` would give. Numbers are big-endian.
"""

import struct
from typing import Any

import numpy as np

from mediscale.core.errors import InputError

_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"T": True, "F": False, "Z": None}


def decode(data: bytes) -> Any:
    """The value that the bytes hold.

    Raises:
        InputError: they are torn, or not this format.
    """
    try:
        return _Reader(data).value()
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InputError(f"{len(data)} bytes could not be read as Universal Binary JSON.") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> Any:
        return self._of_type(self._marker())

    def _of_type(self, marker: str) -> Any:
        if marker == "{":
            return self._object()
        if marker == "[":
            return self._array()
        if marker == "S":
            return self._text()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        return self._numbers(marker, 1)[0].item()

    def _object(self) -> dict[str, Any]:
        members = {}
        while not self._skip("}"):
            name = self._text()
            members[name] = self.value()
        return members

    def _array(self) -> Any:
        if self._skip("$"):
            marker = self._marker()
            return self._numbers(marker, self._count())
        if self._data[self._at] == ord("#"):
            return [self.value() for _ in range(self._count())]
        items = []
        while not self._skip("]"):
            items.append(self.value())
        return items

    def _text(self) -> str:
        return self._take(int(self.value())).decode()

    def _count(self) -> int:
        if not self._skip("#"):
            raise ValueError("a typed array without its length")
        return int(self.value())

    def _numbers(self, marker: str, count: int) -> "np.ndarray[Any, np.dtype[Any]]":
        kind = np.dtype(_NUMBERS[marker])
        raw = np.frombuffer(self._take(kind.itemsize * count), dtype=kind)
        return raw.astype(kind.newbyteorder("="))

    def _marker(self) -> str:
        return self._take(1).decode("ascii")

    def _skip(self, marker: str) -> bool:
        found = self._data[self._at] == ord(marker)
        self._at += found
        return found

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if length < 0 or len(taken) < length:
            raise ValueError("the data ends too early")
        self._at += length
        return taken
