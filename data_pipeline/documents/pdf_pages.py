"""Text of a PDF's pages with its headings: rows of tables as lines, without what every page has at its edges."""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipeline.documents.passages import Heading

_EDGE = 0.09
"""Share of a page's height, at the top and at the bottom, where running headers and footers stand."""
_LARGER = 1.1
"""How much larger than most of the text a heading is, where it is not bold."""
_WIDTH, _GAP = 0.5, 1.5
"""Of a character, about, and between cells of a table at least, as shares of the size of the letters."""
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


def pages(reader: Any) -> list[Page]:
    """The pages of a ``pypdf.PdfReader``; a section that goes on has its heading on the next page, too."""
    lines_of = [_lines(page) for page in reader.pages]
    running = _running(lines_of)
    sizes = Counter[float]()
    for line in (line for lines in lines_of for line in lines):
        sizes[round(line.size, 1)] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    bold = _mostly_bold(lines_of)
    made, last = [], ""
    for lines in lines_of:
        page = _page([line for line in lines if not (line.edge and _shape(line) in running)], body, bold)
        if last and not (page.headings and page.headings[0].start == 0):
            page.headings.insert(0, Heading(0, last))
        last = page.headings[-1].title if page.headings else ""
        made.append(page)
    return made


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
        words = text.strip("\n")
        if words.strip():
            x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
            y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
            size *= abs(tm[3] * cm[3]) or 1.0
            last = lines[-1] if lines else None
            beside = last is not None and abs(last.y - y) < 0.3 * size and x > last.x
            if last and beside and (begins or x > last.end + _GAP * size):
                last.text, last.x, last.cells = f"{last.text} | {words.strip()}", x, last.cells + 1
                last.end = x + _WIDTH * size * len(words)
            elif last and not begins:
                last.text += words
                last.end = (x if beside else last.end) + _WIDTH * size * len(words)
            else:
                is_bold = "bold" in str((font or {}).get("/BaseFont", "")).lower()
                edge = not _EDGE * height < y < (1 - _EDGE) * height
                end = x + _WIDTH * size * len(words)
                lines.append(_Line(words.strip(), x, end, y, size, is_bold, edge))
        begins = text.endswith("\n") or (begins and not words.strip())

    page.extract_text(visitor_text=visit)
    return lines


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


def _page(lines: Sequence[_Line], body: float, mostly_bold: bool) -> Page:
    """A blank line parts headings, paragraphs of text and tables."""
    text, before = "", ""
    headings: list[Heading] = []
    for line, kind in zip(lines, _kinds(lines, body, mostly_bold), strict=True):
        text += ("\n\n" if kind != before else "\n") if text else ""
        if kind == "heading":
            if before == "heading":  # one that goes on
                headings[-1] = Heading(headings[-1].start, f"{headings[-1].title} {line.text}")
            else:
                headings.append(Heading(len(text), line.text))
        text += line.text
        before = kind
    return Page(text.encode("utf-8", "replace").decode(), headings)  # half of a surrogate pair is no text


def _kinds(lines: Sequence[_Line], body: float, mostly_bold: bool) -> Iterator[str]:
    for line in lines:
        marked = line.size > _LARGER * body or (line.bold and not mostly_bold)
        if line.cells > 1:
            yield "table"
        elif marked and len(line.text) <= _LONGEST_HEADING and not line.text.endswith(_END_OF_SENTENCE):
            yield "heading"
        else:
            yield "text"
