"""Documents are read with their provenance; what can't be read is left out with a reason, and the rest is kept."""

import hashlib
import json
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.documents import passages, readers
from data_pipeline.safety import injection
from data_pipeline.safety.layer import CheckedText
from mediscale.core.errors import InputError


def line(text: str, y: int = 100, size: int = 12, x: int = 10) -> str:
    """A line of a page."""
    return f"BT /F {size} Tf {x} {y} Td ({text}) Tj ET"


def pdf(path: Path, *pages: str, password: str = "", title: str = "Stroke") -> Path:
    """Writes a PDF with pages of ``line``s."""
    writer = pypdf.PdfWriter()
    writer.add_metadata({"/Title": title, "/CreationDate": "D:20240131120000"})
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {NameObject(f"/{name}"): NameObject(f"/{value}")
             for name, value in (("Type", "Font"), ("Subtype", "Type1"), ("BaseFont", "Helvetica"))}
        )  # fmt: skip
        fonts = DictionaryObject({NameObject("/F"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(text.encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password)
    writer.write(path)
    return path


def test_each_type_is_read_with_its_provenance(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Date: 2023-05-01\n\nAspirin is given after stroke.")
    (tmp_path / "b.md").write_text("# Renal dosing\n\nMetformin is stopped below 30 mL/min.")
    (tmp_path / "c.jsonl").write_text(
        json.dumps(
            {"text": "Levodopa treats tremor.", "source": "NICE 2017", "evidence_year": 2017, "id": "pd/1"}
        )
    )
    (tmp_path / "d.json").write_text(json.dumps([{"text": "One."}, {"text": "Two.", "roles": ["clinician"]}]))
    (tmp_path / "e.csv").write_text("title,text\nDialysis,Three times a week.\n")
    pdf(tmp_path / "f.pdf", line("Alteplase dissolves clots."), line("Its dose is 0.9 mg/kg."))
    read = readers.read([tmp_path])
    assert read.rejected == []
    seen = [(d.file, d.source, d.place, d.title, d.date, d.roles) for d in read.documents]
    assert seen == [
        ("a.txt", "a.txt", "", "", "2023-05-01", ()),
        ("b.md", "b.md", "", "Renal dosing", "", ()),
        ("c.jsonl", "NICE 2017", "pd/1", "", "2017", ()),
        ("d.json", "d.json", "row 1", "", "", ()),
        ("d.json", "d.json", "row 2", "", "", ("clinician",)),
        ("e.csv", "e.csv", "row 1", "Dialysis", "", ()),
        ("f.pdf", "f.pdf", "page 1", "Stroke", "2024-01-31", ()),
        ("f.pdf", "f.pdf", "page 2", "Stroke", "2024-01-31", ()),
    ]
    assert read.documents[-1].text.strip() == "Its dose is 0.9 mg/kg."
    assert all(
        d.digest == hashlib.sha256((tmp_path / d.file).read_bytes()).hexdigest() for d in read.documents
    )


def test_what_cannot_be_read_is_left_out_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MOST_BYTES", 10_000)
    (tmp_path / "good.txt").write_text("Aspirin is given after stroke.")
    (tmp_path / "large.txt").write_text("x" * 10_001)
    (tmp_path / "latin.txt").write_bytes("Niereninsuffizienz, Ödem".encode("latin-1"))
    (tmp_path / "binary.txt").write_bytes(bytes(range(128)))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\nrubbish")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "half.jsonl").write_text('{"text": "Kept."}\nno json\n{"title": "no text"}\n')
    (tmp_path / "none.json").write_text("not at all")
    pdf(tmp_path / "locked.pdf", line("Secret."), password="hunter2")
    pdf(tmp_path / "scan.pdf", "")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "good.txt")
    (tmp_path / "outside.txt").symlink_to(Path(__file__))
    read = readers.read([tmp_path])
    assert [document.file for document in read.documents] == ["good.txt", "half.jsonl", "linked.txt"]
    reasons = {each.file: each.reason for each in read.rejected}
    assert reasons == {
        "large.txt": "It is larger than 0 MiB; divide it into smaller files.",
        "latin.txt": "It is not text in UTF-8; save it as UTF-8.",
        "binary.txt": "It is binary, not text.",
        "photo.jpg": "Files of type .jpg are not read; csv, json, jsonl, markdown, md, pdf, txt are.",
        "broken.pdf": "It is damaged, or no PDF.",
        "empty.txt": "It holds no text; a scanned page needs text recognition first.",
        "half.jsonl": "2 of 3 rows hold no `text`, nor `question` and `answer`; the first is row 2.",
        "none.json": "It is not JSON.",
        "locked.pdf": "It is encrypted; save it without a password.",
        "scan.pdf": "It holds no text; a scanned page needs text recognition first.",
        "outside.txt": "It is a link to a file outside of the folder; copy the file itself into it.",
    }


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_row_by_row(tmp_path: Path, delimiter: str) -> None:
    """A spreadsheet where commas part decimals writes semicolons."""
    written = "poison,antidote,date\nmethanol,fomepizole,2025\niron,,\n".replace(",", delimiter)
    (tmp_path / "a.csv").write_text(written)
    seen = [(d.text, d.place, d.date) for d in readers.read([tmp_path]).documents]
    assert seen == [
        ("poison: methanol; antidote: fomepizole", "row 1", "2025"),
        ("poison: iron", "row 2", ""),
    ]


def test_questions_with_answers_are_titled_by_the_question(tmp_path: Path) -> None:
    """Read by columns, "answer fifth lumbar root" was an instruction to a model to answer as root."""
    question, answer = "Which root does weak inversion point to in foot drop?", "fifth lumbar root"
    (tmp_path / "a.csv").write_text(f"question,answer\n{question},{answer}\nWhy?,\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": question, "answer": answer, "id": "row 1"}))
    read = readers.read([tmp_path])
    assert [(d.title, d.text, d.place) for d in read.documents] == [
        (question, f"{question}\n\n{answer}", "row 1")
    ] * 2
    assert [(each.file, each.reason) for each in read.rejected] == [
        ("a.csv", "1 of 2 rows hold no `text`, nor `question` and `answer`; the first is row 2.")
    ]
    assert not injection.check(CheckedText(clinical_text.read(read.documents[0].text))).findings


def test_passages_of_a_pdf_know_their_section(tmp_path: Path) -> None:
    """Running headers are no text, headings no part of a sentence, and a row of a table is a line."""
    pdf(
        tmp_path / "a.pdf",
        "\n".join([
            line("Ward 7, page 1", 290), line("Dose by age", 250, 16), line("It depends on", 230), line("age.", 215),
            line("adult", 190), line("500 mg", 190, x=90), line("child", 175), line("150 mg", 175, x=90),
            line("Follow-up", 150, 16),
        ]),
        line("Ward 7, page 2", 290) + line("Seen after a week.", 250),
    )  # fmt: skip
    first, second = passages.table(readers.read([tmp_path]).documents).to_pylist()
    assert first["title"] == "Stroke: Dose by age"
    assert [first["text"][a:b] for a, b in sentences(first["text"])] == [
        "Dose by age", "It depends on\nage.", "adult | 500 mg", "child | 150 mg"
    ]  # fmt: skip
    assert (second["title"], second["place"], second["text"]) == (
        "Stroke: Follow-up", "page 2", "Seen after a week."
    )  # fmt: skip


def test_a_passage_does_not_go_over_a_heading(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Gout\nReviewed 2025-05-02.\n## Diet\nLess beer.\n## Audit\n")
    rows = passages.table(readers.read([tmp_path]).documents).to_pylist()
    assert [(row["title"], row["text"], row["date"]) for row in rows] == [
        ("Gout: Diet", "## Diet\nLess beer.", "2025-05-02")
    ]
    assert [rows[0]["text"][a:b] for a, b in sentences(rows[0]["text"])] == ["## Diet", "Less beer."]


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no document in what was named"):
        readers.read([tmp_path])
    (tmp_path / "a.txt").write_bytes(b"\0")
    with pytest.raises(InputError, match=r"No document could be read \(a.txt: It is binary"):
        readers.read([tmp_path])
    with pytest.raises(InputError, match="There is no file or folder"):
        readers.read([tmp_path / "absent"])


def test_passages_are_slices_that_cover_the_text() -> None:
    paragraph = "Dr. Smith gave 0.9 mg/kg, e.g. to J. Doe. It worked! Was it 3.5 h? Yes. "
    text = f"# Heading\n\n{paragraph * 20}\n\n- item one\n- item two\n\n{'x' * 2000}\n\nEnd."
    document = passages.Document(file="a", text=text, digest="d")
    rows = passages.table([document]).to_pylist()
    assert all(row["text"] == text[row["start"] : row["end"]] for row in rows)
    assert max(len(row["text"]) for row in rows) <= passages.LONGEST
    kept = "".join(row["text"] for row in rows)
    assert [letter for letter in text if letter.isalnum()] == [letter for letter in kept if letter.isalnum()]
    spans = sentences(paragraph)
    assert [paragraph[a:b] for a, b in spans] == [
        "Dr. Smith gave 0.9 mg/kg, e.g. to J. Doe.", "It worked!", "Was it 3.5 h?", "Yes."
    ]  # fmt: skip


def test_a_document_is_of_the_date_that_it_states(tmp_path: Path) -> None:
    for number, (stated, date) in enumerate(STATED.items()):
        (tmp_path / f"{number}.txt").write_text(f"Sepsis on the wards\n\n{stated}\n\nLactate is measured.")
        assert readers.read([tmp_path / f"{number}.txt"]).documents[0].date == date, stated
    pdf(tmp_path / "a.pdf", line("Version 4.2, valid from 1 March 2026.", 250), line("Lactate is measured."))
    assert {d.date for d in readers.read([tmp_path / "a.pdf"]).documents} == {"2026-03-01"}, (
        "not when it was printed"
    )


STATED = {
    "Last reviewed March 2024": "2024-03",
    "Updated on March 3, 2023": "2023-03-03",
    "Version 2, effective from 2021": "2021",
    "Next review: May 2028": "",
    "It replaces what was published in 2019 May": "",
    "Approved 9 July 2021 by the FDA, finerenone is a steroid's antagonist.": "",
    "Approved 9 July 2021, finerenone is given\nonce a day.": "",
    "Effective 2021 the trust has one way of measuring lactate on all of its wards and in both of its theatres.": "",
    "Approved 9 July 2021 by the sepsis board\nFinerenone is no treatment of it.": "2021-07-09",
    "Issued 2021 by the\nMHRA. Reviewed 2024-02-29.": "2024-02-29",
}


def test_no_document_is_of_a_day_that_never_was_or_has_not_come(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Sepsis\n\nValid from 31 February 2026.\n\nLactate is measured.")
    (tmp_path / "b.md").write_text("# Sepsis\nReviewed 2091-03\n\nLactate is measured.")
    (tmp_path / "c.csv").write_text("text,date\nLactate,2024-02-29\nUrea,2023-02-29\nSodium,2091\n")
    pdf(tmp_path / "d.pdf", line("Reviewed 2026-13-01.", 250), line("Lactate is measured."))
    read = readers.read([tmp_path])
    assert [each.date for each in read.documents] == ["", "", "2024-02-29", "", "", "", ""]
    assert {each.file: each.reason for each in read.rejected} == {
        "a.txt": "Only its date 2026-02-31, which is no day of the calendar.",
        "b.md": "Only its date 2091-03, which lies in the future.",
        "c.csv": "Only the dates of 2 of 3 rows, which are no days of the calendar or lie in the future; the first is "
        "row 2.",
        "d.pdf": "Only its date 2026-13-01, which is no day of the calendar.",
    }


def test_what_a_program_wrote_as_the_title_of_a_pdf_is_none(tmp_path: Path) -> None:
    page = "\n".join([line("Febrile seizures", 270, 16), line("Most stop by themselves.", 240)])
    pdf(tmp_path / "a.pdf", page, title="Microsoft Word - fever_final2.docx")
    pdf(tmp_path / "b.pdf", page, title="fever.html")
    pdf(tmp_path / "c.pdf", page, title=" ")
    titles = {row["title"] for row in passages.table(readers.read([tmp_path]).documents).to_pylist()}
    assert titles == {"Febrile seizures"}


def test_a_scanned_page_beside_others_is_named(tmp_path: Path) -> None:
    writer = pypdf.PdfWriter(pdf(tmp_path / "text.pdf", line("Lactate is measured."), ""))
    image = DecodedStreamObject()
    image.set_data(b"\xff")
    image.update({
        NameObject("/Subtype"): NameObject("/Image"), NameObject("/Width"): NumberObject(1),
        NameObject("/Height"): NumberObject(1), NameObject("/BitsPerComponent"): NumberObject(8),
        NameObject("/ColorSpace"): NameObject("/DeviceGray"),
    })  # fmt: skip
    shown = DictionaryObject({NameObject("/I"): writer._add_object(image)})
    writer.pages[1][NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): shown})
    writer.add_blank_page(300, 300)
    writer.write(tmp_path / "a.pdf")
    read = readers.read([tmp_path / "a.pdf"])
    assert [d.text for d in read.documents] == ["Lactate is measured."]
    (rejected,) = read.rejected
    assert rejected.reason == (
        "1 of its 3 pages, the first of them page 2, hold no text; a scanned page needs text recognition first."
    )


def test_words_of_a_pdf_are_whole_and_cells_of_several_lines_are_a_row(tmp_path: Path) -> None:
    pdf(
        tmp_path / "a.pdf",
        "\n".join([
            line("Treatment", 285, 16), line("Start anticoagu-", 260), line("lation early, in low-", 246),
            line("dose form. A low dose", 232), line("suffices.", 218), line("1", 222, 7, 62), line("Then stop.", 204),
            line("mild", 170), line("illness", 156), line("500 mg by", 177, x=90), line("mouth twice", 163, x=90),
            line("a day", 149, x=90), line("5 days", 163, x=180), line("severe", 120), line("1 g", 120, x=90),
            line("9 days", 120, x=180), line("1 Derived in adults alone.", 60, 8), line("And in men.", 50, 8),
        ]),
        line("It is continued.", 250),
    )  # fmt: skip
    section, footnote, continued = passages.table(readers.read([tmp_path / "a.pdf"]).documents).to_pylist()
    assert [section["text"][a:b] for a, b in sentences(section["text"])] == [
        "Treatment",
        "Start anticoagulation early, in low-dose form.",
        "A low dose\nsuffices.",
        "Then stop.",
        "mild illness | 500 mg by mouth twice a day | 5 days",
        "severe | 1 g | 9 days",
    ]
    assert (footnote["title"], footnote["text"]) == ("Stroke", "1 Derived in adults alone.\nAnd in men.")
    assert (continued["title"], continued["place"]) == ("Stroke: Treatment", "page 2")


def test_cells_of_a_centred_head_are_columns_and_a_compound_at_the_end_of_a_line_keeps_its_hyphen(
    tmp_path: Path,
) -> None:
    pdf(
        tmp_path / "a.pdf",
        "\n".join([
            line("Drug", 200, x=30), line("Low", 210, x=112), line("bleeding", 198, x=100), line("risk", 186, x=112),
            line("High", 204, x=217), line("bleeding risk", 192, x=190), line("Apixaban", 160, x=10),
            line("24 hours", 160, x=100), line("48 hours", 160, x=190), line("It is given in life-", 120),
            line("threatening bleeding and in hyper-", 106), line("kalaemia.", 92),
        ]),
    )  # fmt: skip
    text = "\n".join(each.text for each in readers.read([tmp_path / "a.pdf"]).documents)
    assert "Drug | Low bleeding risk | High bleeding risk" in text
    assert "in life-threatening bleeding and in hyperkalaemia." in text


def test_large_letters_that_go_on_are_no_heading(tmp_path: Path) -> None:
    rows = [line(f"A patient of group {n} receives what", 280 - 15 * n, 16) for n in range(8)]
    pdf(
        tmp_path / "a.pdf",
        "\n".join(
            [
                *rows,
                *(
                    line("Then he is seen by a doctor of the ward again and again.", 100 - 12 * n)
                    for n in range(6)
                ),
            ]
        ),
    )
    assert {
        row["title"] for row in passages.table(readers.read([tmp_path / "a.pdf"]).documents).to_pylist()
    } == {"Stroke"}


def test_the_first_line_of_a_text_is_its_title_and_no_sentence_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ketoacidosis on the ward\nreviewed 2025-09-01\nInsulin is begun early.")
    (tmp_path / "b.txt").write_text("Insulin is begun\nearly.\n\nPotassium is measured.")
    (row, other) = passages.table(readers.read([tmp_path]).documents).to_pylist()
    assert (row["title"], row["date"], other["title"]) == ("Ketoacidosis on the ward", "2025-09-01", "")
    assert [row["text"][a:b] for a, b in sentences(row["text"])] == [
        "Ketoacidosis on the ward", "reviewed 2025-09-01\nInsulin is begun early."
    ]  # fmt: skip
