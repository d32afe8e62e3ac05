"""Readers of documents: TXT, Markdown, JSON, JSONL, CSV and PDF. What can't be read is rejected with a reason.

A record of JSON, JSONL or CSV has ``text``, and may have ``title``, ``source``, ``id``, ``date`` (or ``evidence_year``)
and ``roles``; or it has ``question`` and ``answer``, and is titled by the question. A row of a CSV table with neither
is read as its columns by name. A text file or a PDF may say ``date: 2024-05-01``, ``Reviewed 2024-05-01`` or
``valid from 1 May 2024`` at its beginning.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.stated_dates import stated_dates, statement, why_impossible
from data_pipeline.documents import csv_rows, pdf_pages
from data_pipeline.documents.passages import Document, Heading
from data_pipeline.drugs.mentions import packaged
from data_pipeline.retrieval.index_files import RejectedDocument
from data_pipeline.retrieval.words import spelled
from mediscale.core import folder_files
from mediscale.core.errors import InputError

MOST_BYTES = 64 * 2**20
"""Of one file."""

_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d)?)?")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.M)
_LONGEST_TITLE = 120
_BEGINNING = 2000
"""Characters in which a text file may say its date."""
_LONGEST_STATEMENT = 16
"""Words with which a document says its own date; a longer sentence is about its subject."""
_AUTHORITIES = re.compile(
    r"\b(?:FDA|EMA|MHRA|Food and Drug|European (?:Commission|Medicines)|Health Canada|TGA|PMDA)\b"
)
"""Which approve drugs, and no document."""
_NO_TITLE = re.compile(
    r"\.(?:html?|docx?|pdf|odt|rtf|pptx?|xlsx?|tex|indd|md|txt)$|^Microsoft \w+ - "
    r"|^(?:untitled|document|presentation)\s?\d*$",
    re.I,
)
"""What a program writes as the title of a PDF that its author gave none."""


@dataclass
class Read:
    """The documents that were read, and the files that were rejected."""

    documents: list[Document] = field(default_factory=list)
    rejected: list[RejectedDocument] = field(default_factory=list)

    def reject(self, file: str, reason: str) -> None:
        """Notes why a file, or a part of it, is left out."""
        self.rejected.append(RejectedDocument(file=file, reason=reason))


class UnreadableError(Exception):
    """Why a file can't be read; its message is the reason."""


def read(paths: Sequence[Path], roles: Sequence[str] = ()) -> Read:
    """All documents of files and folders, in the order of their names.

    ``roles`` are those who may see what does not say so itself.

    Raises:
        InputError: a path does not exist, or not one document could be read.
    """
    result = Read()
    for path in paths:
        if not path.exists():
            raise InputError(f"There is no file or folder {path} with documents.")
        for file, name in _files(path):
            if path.is_dir() and not file.resolve().is_relative_to(path.resolve()):
                result.reject(
                    name, "It is a link to a file outside of the folder; copy the file itself into it."
                )
            else:
                _read_file(file, name, tuple(roles), result)
    if not result.documents:
        reasons = "; ".join(f"{each.file}: {each.reason}" for each in result.rejected[:3])
        raise InputError(
            f"No document could be read ({reasons})."
            if reasons
            else "There is no document in what was named."
        )
    return result


def digest(path: Path) -> str:
    """SHA-256 over the names and contents of a file, or of all files of a folder.

    Raises:
        InputError: there is no such file or folder.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path} with documents.")
    whole = hashlib.sha256()
    for file, name in _files(path):
        with file.open("rb") as content:
            whole.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_dir():
        for file in folder_files.files_within(path):
            yield file, file.relative_to(path).as_posix()
    else:
        yield path, path.name


def _read_file(file: Path, name: str, roles: tuple[str, ...], result: Read) -> None:
    reader = _READERS.get(file.suffix.lower())
    try:
        if reader is None:
            raise UnreadableError(f"Files of type {file.suffix or 'none'} are not read; {_TYPES} are.")
        if file.stat().st_size > MOST_BYTES:
            raise UnreadableError(f"It is larger than {MOST_BYTES >> 20} MiB; divide it into smaller files.")
        content = file.read_bytes()
        documents = list(reader(content, name, result))
    except UnreadableError as error:
        result.reject(name, str(error))
        return
    except OSError as error:
        result.reject(name, f"It can't be opened: {error.strerror}.")
        return
    digest = hashlib.sha256(content).hexdigest()
    with_text = [each for each in documents if any(letter.isalnum() for letter in each["text"])]
    if not with_text:
        result.reject(name, "It holds no text; a scanned page needs text recognition first.")
    result.documents += [
        Document(**{"file": name, "source": name, "digest": digest, "roles": roles, **each})
        for each in with_text
    ]


# --- one reader per type: fields of documents ---------------------------------------------------------------------


def _text(content: bytes, name: str, result: Read) -> Iterator[dict[str, Any]]:
    text = _decoded(content)
    headings = tuple(Heading(heading.start(), heading[1]) for heading in _HEADING.finditer(text))
    title = next((each.title for each in headings if each.start < _BEGINNING), "") or _title_line(text)
    yield {"text": text, "title": title, "date": _own_date(text, name, result) or "", "headings": headings}


def _title_line(text: str) -> str:
    """The first line of a text without headings, where it is short, no sentence, and above a blank line or a date."""
    first, _, rest = text.strip().partition("\n")
    is_apart = rest.startswith("\n") or _begins_with_date(rest)
    is_title = (
        is_apart and len(first) <= _LONGEST_TITLE and first[-1:].isalnum() and not _begins_with_date(first)
    )
    return first if is_title else ""


def _begins_with_date(text: str) -> bool:
    line = text.partition("\n")[0]
    stated = next(stated_dates(line), None)
    return stated is not None and not any(letter.isalnum() for letter in line[: stated.start])


def _own_date(text: str, name: str, result: Read) -> str | None:
    """The date that a text states of itself at its beginning; None where it states none, empty where none can be so.

    One that its sentence says of a drug, such as "Approved 9 July 2021 by the FDA, finerenone is …", is none.
    """
    beginning = text[:_BEGINNING]
    for stated in stated_dates(beginning):
        said = statement(beginning, stated)
        if (
            len(spelled(said)) <= _LONGEST_STATEMENT
            and not _AUTHORITIES.search(said)
            and not packaged().find(clinical_text.read(said))
        ):
            if reason := why_impossible(stated.date):
                result.reject(name, f"Only its date {stated.date}, which {reason}.")
            return "" if reason else stated.date
    return None


def _json(content: bytes, name: str, result: Read) -> Iterator[dict[str, Any]]:
    try:
        loaded = json.loads(_decoded(content))
    except (ValueError, RecursionError):
        yield from _jsonl(content, name, result)
        return
    yield from _records(loaded if isinstance(loaded, list) else [loaded], name, result)


def _jsonl(content: bytes, name: str, result: Read) -> Iterator[dict[str, Any]]:
    records: list[Any] = []
    for line in _decoded(content).splitlines():
        try:
            records.append(json.loads(line) if line.strip() else None)
        except (ValueError, RecursionError):
            records.append(_DAMAGED)
    if all(record is _DAMAGED or record is None for record in records):
        raise UnreadableError("It is not JSON.")
    yield from _records(records, name, result)


_DAMAGED = object()


def _csv(content: bytes, name: str, result: Read) -> Iterator[dict[str, Any]]:
    try:
        reader = csv_rows.reader(_decoded(content))
        records = list(reader)
    except csv.Error as error:
        raise UnreadableError(
            "It is not CSV: a quotation mark is not closed, or a field is too long."
        ) from error
    names = set(reader.fieldnames or ())
    if "text" not in names and not {"question", "answer"} <= names:
        records = [{**record, "text": _columns(record)} for record in records]
    yield from _records(records, name, result)


def _columns(record: Mapping[str | None, Any]) -> str:
    """A row in words: what each column holds, behind its name. What stands behind the last column has no name."""
    filled = ((name, " ".join(value.split())) for name, value in record.items() if name and value)
    return "; ".join(f"{name}: {value}" for name, value in filled if value and name not in _ABOUT_RECORDS)


def _pdf(content: bytes, name: str, result: Read) -> Iterator[dict[str, Any]]:
    try:
        reader = pdf_pages.open_pdf(content)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("It is encrypted; save it without a password.")
        metadata: Mapping[str, Any] = reader.metadata or {}
        title, pages = str(metadata.get("/Title") or "").strip(), pdf_pages.pages(reader)
        without_text = pdf_pages.scanned(reader)
    except UnreadableError:
        raise
    except Exception as error:  # pypdf raises whatever the place of damage leads to
        raise UnreadableError("It is damaged, or no PDF.") from error
    if 0 < len(without_text) < len(pages):
        result.reject(
            name,
            f"{len(without_text)} of its {len(pages)} pages, the first of them page {without_text[0]}, hold no text; a "
            "scanned page needs text recognition first.",
        )
    if not title or _NO_TITLE.search(title):
        title = next((each.title for page in pages[:1] for each in page.headings if each.title), "")
    stated = _own_date(pages[0].text, name, result) if pages else None
    date = _pdf_date(metadata) if stated is None else stated
    for number, page in enumerate(pages, start=1):
        yield {
            "text": page.text,
            "title": title,
            "place": f"page {number}",
            "date": date,
            "headings": tuple(page.headings),
        }


def _pdf_date(metadata: Mapping[str, Any]) -> str:
    stated = re.match(r"D:(\d{4})(\d\d)(\d\d)", str(metadata.get("/CreationDate") or ""))
    date = "-".join(stated.groups()) if stated else ""
    return "" if date and why_impossible(date) else date


_READERS = {
    ".txt": _text,
    ".md": _text,
    ".markdown": _text,
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".pdf": _pdf,
}
_TYPES = ", ".join(sorted({suffix[1:] for suffix in _READERS}))


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("It is not text in UTF-8; save it as UTF-8.") from None
    if "\0" in text:
        raise UnreadableError("It is binary, not text.")
    return text


_ABOUT_RECORDS = ("title", "source", "id", "date", "evidence_year", "roles")
"""Columns that say something about a record, and are none of its text."""


def _records(records: Sequence[Any], name: str, result: Read) -> Iterator[dict[str, Any]]:
    unusable, undated = [], []
    for number, record in enumerate(records, start=1):
        if record is None:
            continue
        record = _answered(record)
        if isinstance(record, Mapping) and isinstance(record.get("text"), str) and record["text"].strip():
            fields = _record(record, name, number)
            if fields["date"] and why_impossible(fields["date"]):
                undated.append(number)
                fields["date"] = ""
            yield fields
        else:
            unusable.append(number)
    if unusable:
        result.reject(
            name,
            f"{len(unusable)} of {len(records)} rows hold no `text`, nor `question` and `answer`; the first is "
            f"row {unusable[0]}.",
        )
    if undated:
        result.reject(
            name,
            f"Only the dates of {len(undated)} of {len(records)} rows, which are no days of the calendar or lie in the "
            f"future; the first is row {undated[0]}.",
        )


def _answered(record: Any) -> Any:
    """A question with its answer as a text titled by the question, so that the answer is quoted; others as they are."""
    if not isinstance(record, Mapping) or "text" in record:
        return record
    question, answer = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str) or not answer.strip():
        return record
    return {"title": question.strip(), **record, "text": f"{question.strip()}\n\n{answer}"}


def _record(record: Mapping[str, Any], name: str, number: int) -> dict[str, Any]:
    date = str(record.get("date") or record.get("evidence_year") or "")
    fields = {
        "text": record["text"],
        "title": str(record.get("title") or ""),
        "source": str(record.get("source") or name),
        "place": str(record.get("id") or f"row {number}"),
        "date": date if _DATE.fullmatch(date) else "",
    }
    roles = record.get("roles")
    if roles:
        fields["roles"] = tuple(roles.split(";") if isinstance(roles, str) else map(str, roles))
    return fields
