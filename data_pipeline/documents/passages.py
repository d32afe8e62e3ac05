"""Documents cut into passages, each a slice of its document's text with the provenance of that document."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from data_pipeline.clinical_text.sentences import Span, sentences
from data_pipeline.clinical_text.stated_dates import stated_dates

LONGEST = 600
"""Characters of a passage: about those of the project's own, which an index's abstention was fitted on. In a longer one
a question's answer is one subject of several, and is found less well (``benchmarks/grounded_answers.py``)."""
SHORTEST = 300
"""Characters from which a passage ends at a blank line or a heading."""

PASSAGES = pa.schema(
    [
        ("text", pa.string()),
        ("title", pa.string()),
        ("file", pa.string()),
        ("source", pa.string()),
        ("place", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("digest", pa.string()),
        ("date", pa.string()),
        ("roles", pa.list_(pa.string())),
        ("dataset", pa.string()),
        ("subject_id", pa.int64()),
    ]
)
"""Rows of an index. ``start`` and ``end`` are characters of the text of ``place`` in ``source``."""


class Heading(NamedTuple):
    """A heading of a document's text."""

    start: int
    """Character of the text at which the section begins."""
    title: str


@dataclass(frozen=True)
class Document:
    """A text that can be cited: a file, a page or a row of one, or a note of the lake."""

    file: str
    """Its name, relative to the folder that was read; by it a document is replaced and removed."""
    text: str
    digest: str
    """SHA-256 of the file."""
    source: str = ""
    """What is cited: of a record what it names as its source, else the file."""
    title: str = ""
    place: str = ""
    """Where in the file: ``page 3``, ``row 12``; empty for the whole."""
    date: str = ""
    """Of the evidence, as ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``; empty where the document doesn't say."""
    roles: tuple[str, ...] = ()
    """Who may see it; empty for everybody."""
    headings: tuple[Heading, ...] = ()
    """Of its sections, in order: no passage goes over one, and each has that of its section in its title."""
    dataset: str = ""
    """Of a note: the dataset that ``subject_id`` is a patient of."""
    subject_id: int | None = None


def table(documents: Iterable[Document]) -> pa.Table:
    """The passages of documents in their order, with the columns ``PASSAGES``."""
    rows = [
        {
            "text": document.text[start + begin : start + end],
            "start": start + begin,
            "end": start + end,
            **{name: getattr(document, name) for name in _CARRIED},
            "title": title,
        }
        for document in documents
        for start, stop, title in _sections(document)
        for begin, end in _packed(document.text[start:stop])
    ]
    return pa.Table.from_pylist(rows, schema=PASSAGES)


def _sections(document: Document) -> Iterator[tuple[int, int, str]]:
    """Where each section begins and ends, and its title: the document's, and the section's heading behind it.

    A heading with nothing or a date alone below it makes no passage, unless the document is nothing else.
    """
    text = document.text
    marks = [Heading(0, ""), *document.headings]
    ends = [*(heading.start for heading in document.headings), len(text)]
    sections = [
        (heading.start, end, heading.title)
        for heading, end in zip(marks, ends, strict=True)
        if _says_something(text[heading.start : end], heading.title)
    ]
    for start, end, heading in sections or [(0, len(text), "")]:
        yield start, end, ": ".join(dict.fromkeys(filter(None, (document.title, heading))))


def _says_something(section: str, title: str) -> bool:
    below = section.strip("# \n").removeprefix(title)
    if stated := next(stated_dates(below), None):
        below = below[: stated.start] + below[stated.end :]
    return any(letter.isalnum() for letter in below)


_CARRIED = [name for name in PASSAGES.names if name not in ("text", "start", "end")]


def _packed(text: str) -> Iterator[Span]:
    """Whole sentences, as many as fit; a sentence that is longer than a passage is cut at blanks."""
    current: Span | None = None
    for sentence in sentences(text):
        for piece in _pieces(text, sentence):
            if current and (
                piece.end - current.start > LONGEST
                or (current.end - current.start >= SHORTEST and "\n\n" in text[current.end : piece.start])
            ):
                yield current
                current = None
            current = Span(current.start, piece.end) if current else piece
    if current:
        yield current


def _pieces(text: str, sentence: Span) -> Iterator[Span]:
    start = sentence.start
    while sentence.end - start > LONGEST:
        blank = text.rfind(" ", start + 1, start + LONGEST)
        end = blank if blank > start else start + LONGEST
        yield Span(start, end)
        start = end + (blank > start)
    if start < sentence.end:
        yield Span(start, sentence.end)
