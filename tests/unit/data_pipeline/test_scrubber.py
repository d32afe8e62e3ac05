"""What is found and replaced in notes, and what must stay."""

import time
from datetime import datetime

import pytest

from data_pipeline.scrubber import Scrubber

WRITTEN = datetime(2150, 3, 20, 8)
SCRUBBER = Scrubber(b"a secret of the tests")


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in SCRUBBER.find([text])[0]]


def clean(*texts: str, subject: int = 1) -> list[str]:
    return [note.text for note in SCRUBBER.scrub(subject, texts, [WRITTEN] * len(texts))]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Seen by Dr. Oyelaran today", [("name", "Oyelaran")]),
        ("Mrs. van der Merwe and mr. delacroix", [("name", "Merwe"), ("name", "delacroix")]),
        ("Patient: O'Shaughnessy, Sean", [("name", "O'Shaughnessy"), ("name", "Sean")]),
        ("her daughter Anneke called", [("name", "Anneke")]),
        ("signed by Grace Long, MD", [("name", "Grace"), ("name", "Long")]),
        ("DOB: 3/4/1957, seen 2150-03-19", [("date", "3/4/1957"), ("date", "2150-03-19")]),
        ("since Feb 3rd, 2150 and 4 March", [("date", "Feb 3rd, 2150"), ("date", "4 March")]),
        ("follow up on 4/11", [("date", "4/11")]),
        ("a 94-year-old man, 91 F, age 95", [("age", "94"), ("age", "91"), ("age", "95")]),
        ("call (413) 555-0173 x12 or pager 30412", [("phone", "(413) 555-0173 x12"), ("phone", "30412")]),
        ("MRN: 812-44-09, SSN 078-05-1120", [("record", "812-44-09"), ("record", "078-05-1120")]),
        (
            "lives at 12 Elm St, Apt 3B, Easton, MA 02356",
            [("address", "12 Elm St, Apt 3B, Easton, MA 02356")],
        ),
        ("Wexcombe was tearful and asked to go home", [("name", "Wexcombe")]),
        ("the plan was shared with Wexcombe at length", [("name", "Wexcombe")]),
        ("Jolanta Wexcombe RRT weaned the ventilator", [("name", "Jolanta"), ("name", "Wexcombe")]),
        ("Robin French slept well", [("name", "Robin"), ("name", "French")]),
        ("Fisher's office faxed the records", [("name", "Fisher")]),
        ("seen by R. Wexcombe; R. Hand swollen", [("name", "R"), ("name", "Wexcombe")]),
        ("brought in from 214 Keller Orchard Apt. 9", [("address", "214 Keller Orchard Apt. 9")]),
        ("retired to Wexcombeville, PA in 1998", [("address", "Wexcombeville, PA")]),
        ("extubated 03/04-03/06, afebrile", [("date", "03/04"), ("date", "03/06")]),
        ("band MR000090 checked", [("record", "MR000090")]),
        ("j.doe@clinic.example", [("email", "j.doe@clinic.example")]),
        ("see https://portal.example/p/77 for it", [("url", "https://portal.example/p/77")]),
    ],
)
def test_identifiers_are_found_in_their_place(text: str, wanted: list[tuple[str, str]]) -> None:
    assert found(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Parkinson's disease, Crohn disease, Graves' disease; Foley in place, Murphy's sign, Babinski downgoing.",
        "Metoprolol 25 mg b.i.d., furosemide 40 mg, insulin 10 units, 1/2 tablet, K 4.5, WBC 11.2, platelets 250000.",
        "Strength 5/5 throughout, pain 7/10, II/VI systolic murmur, BP 120/80, pulses 2/2, A&Ox3, GCS 14/15.",
        "A 67 year old woman may rest. Will follow. Head and neck: supple. Right foot warm. Long history, 1998.",
        "Xarelto held, Zosyn day 4 of 7. She takes Lasix. Wheezes cleared with Xopenex. Entresto 24/26 mg.",
        "Cholelithiasis without cholecystitis. Hepatomegaly noted. Swan-Ganz out, Jackson-Pratt 30 mL.",
        "CHEST X-RAY PA AND LATERAL. Chronic Kidney Disease. Assessment and Plan. Past Medical History.",
    ],
)
def test_clinical_meaning_stays(text: str) -> None:
    assert clean(text) == [text]


def test_a_name_introduced_in_one_note_is_found_in_the_others() -> None:
    first, second = clean("Admitted by Dr. Wexcombe.", "Wexcombe agrees. WEXCOMBE signed.")
    surname = first.split("Dr. ")[1].rstrip(".")
    assert second == f"{surname} agrees. {surname.upper()} signed."


def test_a_patient_called_parkinson_does_not_take_the_disease_away() -> None:
    [text] = clean("Mr. Parkinson has Parkinson's disease. Parkinson was seen.")
    assert "has Parkinson's disease" in text
    assert text.count("Parkinson") == 1


def test_dates_move_together_and_keep_their_form() -> None:
    [text] = clean("On 2150-03-02 until 03/16/2150, that is Mar 2, 2150 to 16 March 2150, seen 3/2.")
    words = text.rstrip(".").replace(",", "").split()
    start, end = datetime.fromisoformat(words[1]), datetime.strptime(words[3], "%m/%d/%Y")
    assert (end - start).days == 14
    assert start.weekday() == datetime(2150, 3, 2).weekday()
    assert words[6:9] == [start.strftime("%b"), str(start.day), str(start.year)]
    assert words[10:13] == [str(end.day), end.strftime("%B"), str(end.year)]
    assert words[-1] == f"{start.month}/{start.day}"


@pytest.mark.parametrize("written", [datetime(9999, 12, 31), datetime(1, 1, 1)])
def test_dates_move_also_where_the_calendar_ends(written: datetime) -> None:
    for subject in range(8):  # some are moved forwards and some back
        [note] = SCRUBBER.scrub(subject, ["Seen 12/28, since 1/2/2299, again Feb 29."], [written])
        assert not {"12/28", "1/2/2299"} & set(note.text.replace(",", "").split())


def test_patients_differ_and_repeats_do_not() -> None:
    text = "Mr. Wexcombe, MRN 7654321, 2150-03-02"
    assert clean(text) == clean(text)
    assert clean(text) != clean(text, subject=2)
    assert clean(text) != [note.text for note in Scrubber(b"another").scrub(1, [text], [WRITTEN])]


def test_a_megabyte_takes_time_in_proportion() -> None:
    sentence = "Seen by Dr. Wexcombe on 3/14; Parkinson's disease, 40 mg, A 1/2 B-C 555 12 . "
    started = time.process_time()
    clean(sentence * (100_000 // len(sentence)))
    tenth = time.process_time() - started
    clean(sentence * (400_000 // len(sentence)))
    assert time.process_time() - started - tenth < 12 * tenth + 1
