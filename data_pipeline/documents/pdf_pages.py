"""Text of a PDF's pages with its headings: rows of tables as lines, words whole that the end of a line parts, footnotes
apart, and without what every page has at its edges."""

import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from data_pipeline.clinical_text.spelling import may_be_misspelt
from data_pipeline.documents.passages import Heading

_EDGE = 0.09
"""Share of a page's height, at the top and at the bottom, where running headers and footers stand."""
_LARGER = 1.1
"""How much larger than most of the text a heading is, where it is not bold."""
_WIDTH, _GAP = 0.5, 1.5
"""Of a character, about, and between cells of a table at least, as shares of the size of the letters."""
_CELL_LINES = 8
"""Lines of a table's cell at most: beside a longer one stands another column of text."""
_SMALLER = 0.9
"""How much smaller than most of the text a footnote is, and its mark than the text behind which it stands."""
_FOOTNOTE = re.compile(r"(?:\d{1,2}|[*†‡§a-z])[.)]?\s+\S")
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
_PARTED = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")
_LONGEST_HEADING = 120
_END_OF_SENTENCE = (".", "!", "?", ";", ",")


@dataclass
class Page:
    """A page as it is cited."""

    text: str
    headings: list[Heading]


@dataclass
class _Line:
    text: str
    x: float
    end: float
    """Where it ends, about: a file says where text begins."""
    y: float
    size: float
    bold: bool
    edge: bool
    cells: int = 1
    bottom: float = 0.0
    """Where its last line stands: cells of a row may have several."""


def pages(reader: Any) -> list[Page]:
    """The pages of a ``pypdf.PdfReader``; a section that goes on has its heading on the next page, too."""
    lines_of = [_lines(page) for page in reader.pages]
    running = _running(lines_of)
    sizes = Counter[float]()
    for line in (line for lines in lines_of for line in lines):
        sizes[round(line.size, 1)] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    bold = _mostly_bold(lines_of)
    spelled = frozenset(
        word.lower()
        for lines in lines_of
        for line in lines
        for word in re.findall(r"[^\W\d_]+", _PARTED.sub("", line.text))
    )
    made, last = [], ""
    for lines in lines_of:
        kept = [line for line in lines if not (line.edge and _shape(line) in running)]
        page = _page(kept, _kinds(kept, body, bold), spelled, last)
        if last and not (page.headings and page.headings[0].start == 0):
            page.headings.insert(0, Heading(0, last))
        last = next((heading.title for heading in reversed(page.headings) if heading.title), "")
        made.append(page)
    return made


def scanned(reader: Any) -> list[int]:
    """The numbers of pages that show an image and hold no text."""
    numbers = []
    for number, page in enumerate(reader.pages, start=1):
        resources = page.get("/Resources")
        if resources and "/XObject" in resources.get_object() and not page.extract_text().strip():
            numbers.append(number)
    return numbers


def open_pdf(content: bytes) -> Any:
    """A reader that keeps silent about the oddities of a file, which it would log with the file's content."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    return pypdf.PdfReader(io.BytesIO(content))


def _lines(page: Any) -> list[_Line]:
    """Lines in the order of the file; what stands beside each other is one line: cells of a table's row."""
    lines: list[_Line] = []
    height = float(page.mediabox.height) or 1.0
    begins = True

    def visit(text: str, cm: Sequence[float], tm: Sequence[float], font: Any, size: float) -> None:
        nonlocal begins
        words = text.strip("\n").translate(_LIGATURES)
        if words.strip():
            x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
            y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
            size *= abs(tm[3] * cm[3]) or 1.0
            last = lines[-1] if lines else None
            beside = last is not None and abs(last.bottom - y) < 0.3 * size and x > last.x
            end = x + _WIDTH * size * len(words)
            if last and not begins and _marks_footnote(words, size, last):
                pass
            elif last and (
                (beside and (begins or x > last.end + _GAP * size)) or _is_cell(lines, x, y, size)
            ):
                row = _row(lines, y, size)
                row.text, row.x, row.cells = f"{row.text} | {words.strip()}", x, row.cells + 1
                row.end, row.bottom = end, y
            elif (
                last
                and begins
                and last.cells > 1
                and min(abs(x - last.x), abs(x + end - last.x - last.end) / 2)
                < size  # its left edge, or its middle
                and 0 < last.bottom - y < 2 * size
            ):
                last.text, last.end, last.bottom = f"{last.text} {words.strip()}", end, y
            elif last and not begins:
                last.text += words
                if last.bottom - y > 0.8 * size:  # a centred cell goes on in its next line
                    last.bottom = y
                last.end = (x if beside else last.end) + _WIDTH * size * len(words)
            else:
                is_bold = "bold" in str((font or {}).get("/BaseFont", "")).lower()
                edge = not _EDGE * height < y < (1 - _EDGE) * height
                lines.append(_Line(words.strip(), x, end, y, size, is_bold, edge, bottom=y))
        begins = text.endswith("\n") or (begins and not words.strip())

    page.extract_text(visitor_text=visit)
    return lines


def _marks_footnote(words: str, size: float, last: _Line) -> bool:
    """Whether a small number stands behind the end of a sentence; one within it may be an exponent."""
    return (
        words.strip().isdigit() and size < _SMALLER * last.size and last.text.endswith((".", ",", ";", ")"))
    )


def _is_cell(lines: Sequence[_Line], x: float, y: float, size: float) -> bool:
    """Whether text stands beside the lines that came last, higher than the last of them: the next cell of their row."""
    return lines[-1].bottom < y - 0.3 * size and len(_beside(lines, y, size)) > 0 and x > lines[-1].x + size


def _beside(lines: Sequence[_Line], y: float, size: float) -> list[_Line]:
    """The lines of the cell that came last, if text at this height can stand beside it; a row that has begun is one."""
    cell: list[_Line] = []
    for line in reversed(lines[-_CELL_LINES:]):
        apart = cell and (abs(line.x - cell[0].x) > size or line.y - cell[0].y > 2 * size or line.cells > 1)
        if apart:
            break
        cell.insert(0, line)
    is_column = len(cell) == _CELL_LINES or y > cell[0].y + _CELL_LINES / 2 * size
    return [] if is_column else cell


def _row(lines: list[_Line], y: float, size: float) -> _Line:
    """The row that a cell belongs to: the lines of its first cell become one."""
    cell = _beside(lines, y, size) if lines[-1].bottom < y - 0.3 * size else lines[-1:]
    row = cell[0]
    row.text = " ".join(line.text for line in cell)
    del lines[len(lines) - len(cell) + 1 :]
    return row


def _shape(line: _Line) -> str:
    return re.sub(r"\d+", "#", line.text)


def _running(lines_of: Sequence[Sequence[_Line]]) -> set[str]:
    """What stands at the edges of more than half of at least two pages, numbers aside, and a page's number alone."""
    counts = Counter(shape for lines in lines_of for shape in {_shape(line) for line in lines if line.edge})
    return {"#"} | {shape for shape, n in counts.items() if n > 1 and n > len(lines_of) / 2}


def _mostly_bold(lines_of: Sequence[Sequence[_Line]]) -> bool:
    bold, total = (
        sum(len(line.text) for lines in lines_of for line in lines if line.bold or every)
        for every in (False, True)
    )
    return bold > total / 2


def _page(lines: Sequence[_Line], kinds: Sequence[str], spelled: Set[str], section: str) -> Page:
    """A blank line parts headings, paragraphs of text, tables and footnotes; these are no part of the section that they
    stand in."""
    text, before = "", ""
    headings: list[Heading] = []
    for line, kind in zip(lines, kinds, strict=True):
        whole = _without_hyphen(text, line.text, spelled) if kind == before == "text" else None
        if whole is None:
            text += ("\n\n" if kind != before else "\n") if text else ""
        else:
            text = whole
        if kind == "heading" and before == "heading":  # one that goes on
            headings[-1] = Heading(headings[-1].start, f"{headings[-1].title} {line.text}")
        elif kind == "heading":
            headings.append(Heading(len(text), line.text))
        elif "footnote" in (kind, before) and kind != before:
            named = [heading.title for heading in headings if heading.title]
            headings.append(Heading(len(text), "" if kind == "footnote" else (named or [section])[-1]))
        text += line.text
        before = kind
    return Page(text.encode("utf-8", "replace").decode(), headings)  # half of a surrogate pair is no text


def _without_hyphen(text: str, following: str, spelled: Set[str]) -> str | None:
    """The text, ready for the next line, whose first word goes on where a hyphen ends it; None where none does.

    The hyphen stays where what stands before it is a word of the document by itself, as in "low-dose", or where both
    are words and together they are none, as in "life-threatening".
    """
    parted, rest = _PARTED.search(text), re.match(r"[^\W\d_]+", following)
    if not parted or not rest or not following[0].islower():
        return None
    first, second = parted[1].lower(), rest[0].lower()
    are_two = first in spelled or not (may_be_misspelt(first) or may_be_misspelt(second))
    stays = (
        are_two and first + second not in spelled and (first in spelled or may_be_misspelt(first + second))
    )
    return f"{text[:-1]}-" if stays else text[:-1]


def _kinds(lines: Sequence[_Line], body: float, mostly_bold: bool) -> list[str]:
    """What each line is. Large letters that go on for longer than a heading are text, as those of a table are."""
    each = [_kind(line, body, mostly_bold) for line in lines]
    kinds: list[str] = []
    for kind, run in groupby(zip(each, lines, strict=True), key=lambda pair: pair[0]):
        texts = [line.text for _, line in run]
        is_text = kind == "heading" and sum(map(len, texts)) > _LONGEST_HEADING
        kinds += ["text" if is_text else kind] * len(texts)
    for place in range(1, len(lines)):  # a footnote goes on in its small letters
        is_small = lines[place].size < _SMALLER * body and kinds[place] == "text"
        kinds[place] = "footnote" if is_small and kinds[place - 1] == "footnote" else kinds[place]
    return kinds


def _kind(line: _Line, body: float, mostly_bold: bool) -> str:
    marked = line.size > _LARGER * body or (line.bold and not mostly_bold)
    if line.cells > 1:
        return "table"
    if line.size < _SMALLER * body and _FOOTNOTE.match(line.text):
        return "footnote"
    is_heading = marked and len(line.text) <= _LONGEST_HEADING and not line.text.endswith(_END_OF_SENTENCE)
    return "heading" if is_heading else "text"
