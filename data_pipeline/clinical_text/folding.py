"""Character folding: a copy of a text in plain characters, in which patterns search, and the way back to the original.

Word processors and input methods write hyphens, blanks, quotes and letters that look like ASCII ones and are others,
and characters that nobody sees inside of words. Patterns that knew all of them would be slow and never complete.
"""

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple


class _Change(NamedTuple):
    """``original[start:end]`` stands at ``folded[at:to]``, not character by character."""

    at: int
    to: int
    start: int
    end: int


@dataclass(frozen=True)
class FoldedText:
    """A text in plain characters; ``changes`` are the places where it is not the original's, character by character."""

    text: str
    changes: tuple[_Change, ...] = ()

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of ``text[start:end]``, which is not empty: always whole characters."""
        return self._original(start).start, self._original(end - 1).end

    def _original(self, position: int) -> _Change:
        """The characters of the original that became the one at a position."""
        i = bisect_right(self.changes, position, key=lambda change: change.at)
        change = self.changes[i - 1] if i else _Change(0, 0, 0, 0)
        if position < change.to:
            return change
        start = change.end + position - change.to
        return _Change(position, position + 1, start, start + 1)


def fold(text: str) -> FoldedText:
    """The text with ASCII characters in place of their look-alikes, composed accents, and nothing invisible.

    A comma between words that are typed without a blank gets one, and a digit of another script is the ASCII one.

    >>> fold("482\u201161\u20117730, Quill\u00adfeather").text
    '482-61-7730, Quillfeather'
    """
    if text.isascii() and not _PACKED.search(text):
        return FoldedText(text)
    pieces, changes, end, length = [], [], 0, 0
    for match in _FOLDED.finditer(text):
        piece = _folded(match.group())
        pieces += [text[end : match.start()], piece]
        at, end = length + match.start() - end, match.end()
        length = at + len(piece)
        if not len(piece) == end - match.start() == 1:
            changes.append(_Change(at, length, match.start(), end))
    return FoldedText("".join([*pieces, text[end:]]), tuple(changes)) if pieces else FoldedText(text)


_HYPHENS = "\u2010-\u2013\u2043\u2212\ufe63"
_DASHES = "\u2014\u2015\ufe58"
"""Dashes that part words, while a hyphen joins them."""
_BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LINE_ENDS = "\u0085\u2028\u2029"
_APOSTROPHES = "\u00b4\u2018\u2019\u201b\u2032\u02b9\u02bb\u02bc\u02c8"
_QUOTES = "\u201c-\u201f\u2033\u00ab\u00bb"
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff"
_SLASHES = "\u2044\u2215\u29f8"
_POINTS = "\u2024\ufe52"
_COLONS = "\u02d0\u2236\ua789\ufe55"
_AT_SIGNS = "\ufe6b"
_WIDE = "\uff01-\uff5e\ufb00-\ufb06\U0001d400-\U0001d7ff"
"""Full-width forms, ligatures and mathematical letters, which are other letters in a costume."""
_ACCENTS = "\u0300-\u034e\u0350-\u036f"
_PACKED = re.compile(r",(?=[A-Z][A-Za-z])(?<=[^\W\d_]{2},)")
"""The comma of ``SURNAME,GIVEN``, after which a blank is missing."""
_FOLDED = re.compile(
    rf"{_PACKED.pattern}|(?![{_APOSTROPHES}])[^\W\d_](?:[{_INVISIBLE}]*[{_ACCENTS}])+"
    rf"|[{_HYPHENS}{_DASHES}{_BLANKS}{_LINE_ENDS}{_APOSTROPHES}{_QUOTES}{_SLASHES}{_POINTS}{_COLONS}{_AT_SIGNS}{_WIDE}]"
    rf"|(?![0-9])\d|[{_INVISIBLE}]+"
)
_REMOVED = re.compile(f"[{_INVISIBLE}]+")
_PLAIN = tuple(
    (re.compile(f"[{characters}]"), plain)
    for characters, plain in (
        (_HYPHENS, "-"),
        (_DASHES, " - "),
        (_BLANKS, " "),
        (_LINE_ENDS, "\n"),
        (_APOSTROPHES, "'"),
        (_QUOTES, '"'),
        (_SLASHES, "/"),
        (_POINTS, "."),
        (_COLONS, ":"),
        (_AT_SIGNS, "@"),
        (",", ", "),
    )
)


def _folded(piece: str) -> str:
    piece = unicodedata.normalize("NFKC", _REMOVED.sub("", piece)) if not _LOOKS_ALIKE.match(piece) else piece
    for characters, plain in _PLAIN:
        piece = characters.sub(plain, piece)
    return str(unicodedata.decimal(piece)) if piece.isdecimal() else piece


_LOOKS_ALIKE = re.compile(
    f"[{_HYPHENS}{_DASHES}{_BLANKS}{_LINE_ENDS}{_APOSTROPHES}{_QUOTES}{_SLASHES}{_POINTS}{_COLONS}{_AT_SIGNS},]"
)
"""What NFKC would turn into something else: an acute accent that stands alone becomes a blank and an accent."""
