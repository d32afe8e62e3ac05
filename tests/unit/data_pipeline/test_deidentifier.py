"""What is found and replaced in notes, and what must stay."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import islice, product
from string import ascii_lowercase

import pytest

from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier

WRITTEN = datetime(2150, 3, 20, 8)
DEIDENTIFIER = RuleBasedDeidentifier(b"a secret of the tests")


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in DEIDENTIFIER.find([text])[0]]


def clean(*texts: str, subject: int = 1) -> list[str]:
    return [note.text for note in DEIDENTIFIER.deidentify(subject, texts, [WRITTEN] * len(texts))]


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
        ("He died at 95. She turned 93.", [("age", "95"), ("age", "93")]),
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
        ("seen march 5, 2023 and may 7th, 2023", [("date", "march 5, 2023"), ("date", "may 7th, 2023")]),
        ("from 5 may 2023 to the 7th of may", [("date", "5 may 2023"), ("date", "7th of may")]),
        ("since march 3, may 2021 at the latest", [("date", "march 3"), ("date", "may 2021")]),
        ("seen 01.05.24, DOB 5.1.51", [("date", "01.05.24"), ("date", "5.1.51")]),
        (
            "scans 12-2023, 05.2022 and 2021-03",
            [("date", "12-2023"), ("date", "05.2022"), ("date", "2021-03")],
        ),
        ("She is 101. His mother was 94, well.", [("age", "101"), ("age", "94")]),
        ("Jolanta is ninety-two.", [("name", "Jolanta"), ("age", "ninety-two")]),
        ("a ninety-three-year-old in her nineties", [("age", "ninety-three"), ("age", "nineties")]),
        ("her father died at 97, a nonagenarian", [("age", "97"), ("age", "nonagenarian")]),
        ("MRN 12 34 56, case # 500", [("record", "12 34 56"), ("record", "500")]),
        ("wife, maria, at bedside; son (jose luis)", [("name", "maria"), ("name", "jose"), ("name", "luis")]),
        ("Mueller, A. and LINDQVIST, J.", [("name", n) for n in ("Mueller", "A", "LINDQVIST", "J")]),
        (
            "Anna MUELLER and Dr. Ottokar WEXCOMBE",
            [("name", n) for n in ("Anna", "MUELLER", "Ottokar", "WEXCOMBE")],
        ),
        ("seen by Иван Петров; И. Петрова", [("name", n) for n in ("Иван", "Петров", "И", "Петрова")]),
        ("Μαρία Παπαδοπούλου called", [("name", "Μαρία"), ("name", "Παπαδοπούλου")]),
        ("patient 王小明, sister of 김민수", [("name", "王小明"), ("name", "김민수")]),
        ("Dr. Řezník and Mrs. Őry", [("name", "Řezník"), ("name", "Őry")]),
        ("QUILLFEATHER,TESSA", [("name", "QUILLFEATHER"), ("name", "TESSA")]),
        ("cc: Quillfeather TM; Wexcombe JR", [("name", n) for n in ("Quillfeather", "TM", "Wexcombe", "JR")]),
        ("pt quillfeather c/o sob; wife maria called", [("name", "quillfeather"), ("name", "maria")]),
        ("Drs. Long, Wexcombe and Hand agree", [("name", n) for n in ("Long", "Wexcombe", "Hand")]),
        ("Team: Quillfeather/Wexcombe", [("name", "Quillfeather"), ("name", "Wexcombe")]),
        ("JOLANTA WEXCOMBE IS A PLEASANT LADY", [("name", "JOLANTA"), ("name", "WEXCOMBE")]),
        ("Baby girl WEXCOMBE, apgars 8 and 9", [("name", "WEXCOMBE")]),
        (
            "(617)  555-0148, pager 617-555-0148 x12",
            [("phone", "(617)  555-0148"), ("phone", "617-555-0148 x12")],
        ),
        ("since Mar '21; father at 94", [("date", "Mar '21"), ("age", "94")]),
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
        "One unit 500 ml transfused; in this case 100% stenosis. Last visit 2021, chart of 1998. Implant 300 cc.",
        "He may 2 tablets a day take, may 1990 mL drink, and on the 4th may be discharged. Range 10-2000 units.",
        "Glucose was 101. Temp is 98.6. She was 101.4 and is 98% on air; he turned 95 degrees.",
        "Father: cad, dm, htn. Mother, healthy, 60. Friend, who is here, left. Version 1.5.24, hepatitis, A.",
        "COPD plan: γδ T cells, β-blocker, TNF-α 5 μg, ΔFVC, Ω-3.",
        "End-stage renal disease. Average tolerance. Low-average speed.",
        "A 90+ year old man, aged 90+.",
        "Concern for Clostridioides difficile, will follow. E. coli, Tropheryma whipplei, Bartonella henselae.",
        "McBurney's point tender. Wenckebach on telemetry. Sgarbossa criteria, Brugada pattern, Charcot triad.",
        "pt satting well, pt desatted, mother htn, father cad; wife asleep. Zosyn IV, Chest CT, Tylenol/Codeine.",
        "Mast cell tryptase was raised. Sickle cell crisis. Clear cell carcinoma. Hurthle cells. Berry aneurysm.",
        "ASTHMA, COPD. METOPROLOL, LISINOPRIL. HEPATOMEGALY CHOLELITHIASIS. Hashimoto/Graves.",
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


def test_a_date_in_small_letters_or_with_dots_keeps_its_form() -> None:
    [text] = clean("may 7, 2150; 07.05.2150; 05.2150; 2150-05; 05.07.50")
    word, dotted, month, iso, short = text.split("; ")
    day = datetime.strptime(word, "%B %d, %Y")
    assert word == word.lower()
    assert datetime.strptime(short, "%m.%d.%y").date().replace(year=day.year) == day.date()
    assert month == f"{iso[5:]}.{iso[:4]}"
    assert abs((datetime.strptime(dotted, "%m.%d.%Y") - datetime.strptime(month, "%m.%Y")).days) < 90


@pytest.mark.parametrize("written", [datetime(9999, 12, 31), datetime(1, 1, 1)])
def test_dates_move_also_where_the_calendar_ends(written: datetime) -> None:
    for subject in range(8):  # some are moved forwards and some back
        [note] = DEIDENTIFIER.deidentify(subject, ["Seen 12/28, since 1/2/2299, again Feb 29."], [written])
        assert not {"12/28", "1/2/2299"} & set(note.text.replace(",", "").split())


def test_patients_differ_and_repeats_do_not() -> None:
    text = "Mr. Wexcombe, MRN 7654321, 2150-03-02"
    assert clean(text) == clean(text)
    assert clean(text) != clean(text, subject=2)
    assert clean(text) != [
        note.text for note in RuleBasedDeidentifier(b"another").deidentify(1, [text], [WRITTEN])
    ]


@pytest.mark.soak
def test_a_long_note_takes_time_in_proportion(most: int) -> None:
    sentence = "Seen by Dr. Wexcombe on 3/14; Parkinson's disease, 40 mg, A 1/2 B-C 555 12 . "
    assert in_proportion(most, lambda size: sentence * (size // len(sentence)))


LABELS = (
    "Signed by Dr. Wexcombe", "Wexcombe is", "Wexcombe,", "Anna WEXCOMBE", "MRN", "MRN no", "visit #", "unit", "tel",
    "pager", "12 Elm St", "12 Elm St Apt", "Boston,", "3 May", "May 3,", "wife,", "talk to", "thanks", "aged", "she is",
    "born in",
)  # fmt: skip
PIECES = (
    ("0", "f0", "_", "-"), (".", ",", "@", "#"), ("'", "\n", "a@", "a."), ("a'", "A", "A-", "A."),
    ("A'", "Aa ", "Aa-", "Aa, "), ("AAAA ", "AAAA, ", "1-", "1."), ("1/", "1 ", "(1", "+1"),
    ("95 ", "id ", "id#", "id-1"), ("MRN ", "Dr. ", "Dr. Aa ", "J. "), ("van ", "Aa and ", "May ", "3 May "),
    ("12 Elm St ", "1 Aa ", "Boston, MA ", "wife, "), ("talk to ", "王", "Жж ", "αβ"),
)  # fmt: skip


def taken(text: str) -> float:
    started = time.thread_time()
    DEIDENTIFIER.find([text])
    return time.thread_time() - started


@pytest.fixture
def most(soak: bool) -> int:
    """Characters of the longer of two texts: a search that takes the square of them needs seconds for 60,000."""
    return 200_000 if soak else 60_000


def in_proportion(most: int, shape: Callable[[int], str]) -> bool:
    """Whether a text takes about four times as long as a quarter of it, not sixteen times. A pause may hit one of two
    tries."""
    return any(taken(shape(most)) < 8 * taken(shape(most // 4)) + most / 1e6 for _ in range(2))


@pytest.mark.soak
@pytest.mark.parametrize("blank", [" ", "\t", "\n", " \n"])
def test_blanks_after_a_label_do_not_hang_the_search(most: int, blank: str) -> None:
    assert in_proportion(
        most, lambda size: "!".join(at + blank * (size // len(LABELS) // len(blank)) for at in LABELS)
    )


@pytest.mark.soak
@pytest.mark.parametrize("pieces", PIECES)
def test_nothing_repeated_hangs_the_search(most: int, pieces: tuple[str, ...]) -> None:
    assert in_proportion(
        most, lambda size: "! ".join(piece * (size // len(pieces) // len(piece)) for piece in pieces)
    )


@pytest.mark.soak
@pytest.mark.parametrize("announced", ["Dr. ", "and then "])
def test_many_names_that_differ_do_not_hang_the_search(most: int, announced: str) -> None:
    letters = product(ascii_lowercase, repeat=4)
    names = [f"{announced}X{''.join(four)} went. " for four in islice(letters, 20_000)]
    assert in_proportion(most, lambda size: "".join(names[: size // len(names[0])]))
