"""Identifiers in writings of a kind: whatever is drawn of it, nothing of it stays in the note."""

from collections.abc import Callable
from datetime import date, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_pipeline.drugs.mentions import packaged
from data_pipeline.notes.deidentification import dates_in_words
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier

DEIDENTIFIER = RuleBasedDeidentifier(b"a secret of the tests")
WRITTEN = datetime(2150, 3, 20, 8)

LOCAL = st.from_regex(r"[a-z]{3,8}([._+-][a-z]{2,8})?[0-9]{0,3}", fullmatch=True)
DOMAIN = st.from_regex(r"[a-z]{4,10}(-[a-z]{2,5})?", fullmatch=True)
AT = st.sampled_from(["@", " @ ", "[at]", " [at] ", "(at)", " (AT) ", "{at}"])
POINT = st.sampled_from([".", " . ", "[dot]", " (dot) ", " dot "])
TOP = st.sampled_from(["com", "org", "edu", "de", "invalid"])


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in DEIDENTIFIER.find([text])[0]]


def cleaned(text: str) -> str:
    [note] = DEIDENTIFIER.deidentify(1, [text], [WRITTEN])
    return note.text


@given(LOCAL, AT, DOMAIN, POINT, TOP)
def test_an_e_mail_address_is_found_however_it_is_broken_up(
    local: str, at: str, domain: str, point: str, top: str
) -> None:
    address = f"{local}{at}{domain}{point}{top}"
    assert found(f"reach her: {address}, please") == [("email", address)]


@given(LOCAL, DOMAIN, TOP)
def test_an_e_mail_address_in_words_is_found(local: str, domain: str, top: str) -> None:
    address = f"{local.replace('.', ' dot ')} at {domain} dot {top}"
    assert found(f"e-mail: {address}; thanks") == [("email", address)]


@given(
    st.sampled_from(["0", "00"]),
    st.lists(st.integers(100, 999), min_size=3, max_size=4),
    st.sampled_from(" -."),
)
def test_a_number_with_a_trunk_prefix_is_found_and_a_date_or_hours_are_not(
    prefix: str, groups: list[int], sign: str
) -> None:
    number = prefix + sign.join(map(str, groups))
    digits = sum(map(str.isdigit, number))
    assume(9 <= digits <= 15 and not number.startswith("000"))
    assert [kind for kind, _ in found(f"ring {number} at home")] in (["phone"], ["record"])
    assert number not in cleaned(f"ring {number} at home")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("020 7946 0958 or 030/901820", [("phone", "020 7946 0958"), ("phone", "030/901820")]),
        ("0049-30-901820, (020) 7946 0958", [("phone", "0049-30-901820"), ("phone", "(020) 7946 0958")]),
        ("it is six one seven five five five zero", [("phone", "six one seven five five five zero")]),
        ("IP 192.168.14.77, card 00:1B:44:11:3A:B7", [("url", "192.168.14.77"), ("url", "00:1B:44:11:3A:B7")]),
        ("host 2001:db8::8a2e:370:7334", [("url", "2001:db8::8a2e:370:7334")]),
        ("at 2001:0db8:85a3:08d3:1319:8a2e:0370:7334", [("url", "2001:0db8:85a3:08d3:1319:8a2e:0370:7334")]),
        (r"scan in \\fileserv\quill\1.pdf", [("url", r"\\fileserv\quill\1.pdf")]),
        ("scan in /home/tquill/scan.dcm", [("url", "/home/tquill/scan.dcm")]),
        ("Instagram: tessaquill, twitter @quill_t", [("url", "tessaquill"), ("url", "quill_t")]),
        ("Hospital no. 4471, Patient No. 88412", [("record", "4471"), ("record", "88412")]),
        ("Medicare ID 1EG4-TE5-MK73", [("record", "1EG4-TE5-MK73")]),
        ("accession 23-SP-04412, S23-10422", [("record", "23-SP-04412"), ("record", "S23-10422")]),
        ("AB 12 34 56 C; CPF 123.456.789-09", [("record", "AB 12 34 56 C"), ("record", "123.456.789-09")]),
        ("device SN 44812-A", [("record", "44812-A")]),
        ("lives on Elm Street near the mill", [("address", "Elm Street")]),
        ("at the corner of Maple and 5th", [("address", "Maple and 5th")]),
        ("address: Hauptstraße 12, 10115 Berlin", [("address", "Hauptstraße 12, 10115 Berlin")]),
        ("address: Hansaring 12, 50670 Köln", [("address", "Hansaring 12, 50670 Köln")]),
        ("moved to Calle Mayor 5, 28013 Madrid", [("address", "Calle Mayor 5, 28013 Madrid")]),
        ("from 12 rue de la Paix, 75002 Paris", [("address", "12 rue de la Paix, 75002 Paris")]),
        ("sent to NW1 6XE and K1A 0B1", [("address", "NW1 6XE"), ("address", "K1A 0B1")]),
        ("aged ninety three; her 95th birthday", [("age", "ninety three"), ("age", "95th")]),
        ("94 y F, 94yF", [("age", "94"), ("age", "94")]),
        ("born 4.III.1957, DOB 03 04 1957", [("date", "4.III.1957"), ("date", "03 04 1957")]),
        ("admitted on Christmas Eve", [("date", "Christmas Eve")]),
        ("RN Hollingberry paged; Capt. Brannock here", [("name", "Hollingberry"), ("name", "Brannock")]),
        ("surname is spelled Q-U-I-L-L", [("name", "Q-U-I-L-L")]),
        ("Stable.\n-- Tamsin", [("name", "Tamsin")]),
        ("seen by Oyelaran (cards)", [("name", "Oyelaran")]),
    ],
)  # fmt: skip
def test_other_writings_are_found_in_their_place(text: str, wanted: list[tuple[str, str]]) -> None:
    assert found(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Pain 7/10 @ rest, 2 L @ 4.5, seen @bedside, given at 0600 0800 1200 and 0600 0800 120 mg.",
        "T2N0M0 tumour, L4 5MM, C3 2CM, ratio 12:30:45, range 03-05, 0.5 1.2 3.4 5.6 7.8.",
        "First may be held; the second may follow; a third of the dose at home. March in place.",
        "Case no. 1 of 3, unit 5. Platelets 250000. Respiratory drive intact, a two way valve.",
        "A hundred mL; ninety mL given, two three four times, one two three.",
    ],
)
def test_what_looks_like_them_stays(text: str) -> None:
    assert cleaned(text) == text


DAYS = st.dates(date(1931, 1, 1), date(2099, 12, 28))
UNITS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(number: int) -> str:
    if number < len(UNITS):
        return UNITS[number]
    return TENS[number // 10] + (f"-{UNITS[number % 10]}" if number % 10 else "")


def year_in_words(year: int) -> str:
    if year >= 2000:
        return f"two thousand {in_words(year - 2000)}".strip()
    return f"nineteen {in_words(year - 1900)}"


@given(DAYS, st.booleans(), st.booleans(), st.booleans())
def test_a_date_in_words_moves_as_the_same_one_in_figures(
    day: date, month_first: bool, worded_year: bool, of: bool
) -> None:
    ordinal, month = dates_in_words.ORDINALS[day.day - 1], f"{day:%B}"
    year = year_in_words(day.year) if worded_year else str(day.year)
    words = f"{month} {ordinal} {year}" if month_first else f"{ordinal} {'of ' if of else ''}{month} {year}"
    text = f"Seen on {words}."
    assert found(text) == [("date", words)]
    moved = date.fromisoformat(cleaned(f"Seen on {day}.").removeprefix("Seen on ").rstrip("."))
    assert {f"{moved:%B}", str(moved.year)} <= set(cleaned(text).rstrip(".").split())


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("daughter Siobhán Ní Mhaoláin at bedside", ["Siobhán", "Mhaoláin"]),
        ("Seen by Dr. al-Rashidi and Mr. d'Aubigny", ["Rashidi", "Aubigny"]),
        ("Mr. X. Æ. Wexcombe-Hollis is stable", ["Wexcombe", "Hollis"]),
        ("Mr. Kettle-\nburn was seen", ["Kettle", "burn"]),
        ('Goes by "Buddy" at home. Her nickname is Skeeter.', ["Buddy", "Skeeter"]),
        ("J.R.W. is a 67M with COPD. Initials: KLM.", ["J.R.W", "KLM"]),
        ("Signed electronically: Wexcombe, Ethel B., RN", ["Wexcombe", "Ethel"]),
        ("wife of Senator Blatherwick; Deputy Wexcombe, badge 4471", ["Blatherwick", "Wexcombe", "4471"]),
        ("quillfeather shauna is a 56 y/o woman", ["quillfeather", "shauna"]),
        ("Skype live:t.wexcombe, IG: wex.k50", ["wexcombe", "wex.k50"]),
        ("ph: 555.0148. Beeper #9-3321", ["0148", "3321"]),
        ("SSN last four 7730; card ending in 4412", ["7730", "4412"]),
        ("DL# D123-4567-8901, license plate 7ABC 123, plate KLM-482", ["4567", "7ABC", "482"]),
        ("Room 412B, in rm 4-112", ["412B", "4-112"]),
        ("card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00", ["1111", "3704", "0532"]),
        ("AHV 756.1234.5678.97, 800101-1234, 1 85 05 78 006 084 36", ["5678", "800101", "006 084"]),
        ("id 110101199003071234, 12345678Z, X1234567L, RSSMRA85T10A562S", ["1990030", "12345678", "X1234", "RSS"]),
        ("UDI (01)00884838012345(21)XJ19; Inmate # 88421-054", ["XJ19", "88421"]),
        ("fell on Christmas Eve 2019; marathon on Patriots' Day 2013", ["Christmas", "2019", "Patriots", "2013"]),
        ("surgery 12.3.98. Seen on Mon 3/4 and Tues 3/5", ["12.3.98", "3/4", "3/5"]),
        ("since 1998-W11-4", ["W11"]),
        ("in her 101st year; nonagenarian (93); aged 1128 months", ["101st", "93", "1128"]),
        ("M/96 with CHF; a 97 year-and-3-month-old", ["96", "97"]),
        ("teacher at Quillfeather Elementary, now at Wexcombe High School", ["Quillfeather", "Wexcombe"]),
        ("Note by: Wexcombe-Huber F. (PGY2)\nQuillfeather RD 14:20", ["Wexcombe", "Huber", "Quillfeather"]),
        ("seen at Mercy Hospital and St. Wexcombe's Hospital, apt on Wisteria Ln", ["Mercy", "Wexcombe", "Wisteria"]),
        ("Ph 9555 0148; file wexcombe_ct.dcm; ref CM/2019/00412", ["0148", "wexcombe", "00412"]),
        ("admitted 24/12, born 98 years ago; age=99", ["24/12", "98", "99"]),
        ("On 3/14 leads were drawn, on 12/4 limb saved, 3/12 port placed", ["3/14", "12/4", "3/12"]),
        ("s/p 10/24 leads extraction; seen 3/12: session; IG @wex_50", ["10/24", "3/12", "wex"]),
        ("found at 42.3601 N, 71.0589 W; 42.36012, -71.05891", ["42.36", "71.05"]),
    ],
)  # fmt: skip
def test_identifiers_in_rarer_writings_do_not_stay(text: str, gone: list[str]) -> None:
    assert [part for part in gone if part in cleaned(text)] == []


def test_a_drug_below_a_name_that_ends_in_a_hyphen_stays() -> None:
    assert cleaned("PCP: Wexcombe-\nmetformin 500 mg daily").endswith("-\nmetformin 500 mg daily")


@pytest.mark.parametrize(
    "text",
    [
        "CT abd: 4/5 cm mass; 3/4 quadrants tender.",
        "Whipple 10 years ago, Nissen, Roux-en-Y.",
        "Epstein-Barr virus; West Nile; Noonan; Harrington rod.",
        "Ativan per CIWA, last dose at 0300.",
        "Uses Ensure and Boost. On room air, sat 3/4 of the night.",
        "Plate 3.5 mm, license renewed, last 4 glucose 180.",
        "IgG 1120, pH: 7.35 7.40, McBurney tender.",
        "In his 5th year of residency; M/56; aged 30 months.",
        "A&Ox3, MAE, PERRLA, EOMI.",
        "Transferred from Outside Hospital to Skilled Nursing Home; vision 20/13, ratio 24/12.",
        "le 12 mai; 5 mayo clinic scores; 4 mars rovers",
        "Initial Troponin negative. INITIAL GLUCOSE 400. Initial: Intubated.",
        "Paramedic Aspirin 325, paramedic GCS 15. Answers to Questions.",
        "The E.R. was a busy place, G.I. is the consultant, I.V. was the route.",
        "IG: negative. Serum Ig: pending. NIF 120, DNI 12345.",
        "Given at 0800 1200 1600 2000; UOP 1500 1750 2000 1800; CFU 100000-1000.",
        "CN12 WITH GOOD TONE THAT WAS; ending with 1200 mg; see (1.2.34) and 2.1.10.",
        "psoriasis guttate 30 years; nulliparous woman 34 yo.",
        "Nutrition by: Gtube. MAP/65/120, RR/12/100.",
        "History of Prior Hospital admissions, to Tertiary Medical Center, Course of Her Hospital Stay.",
        "Last seen in the month of Nausea.  Hospital course was uneventful. Summary of Entire Hospital Course.",
        "Bullous RD on exam. Consult RD at bedside.",
    ],
)
def test_clinical_writings_that_look_like_them_stay(text: str) -> None:
    assert cleaned(text) == text


ABROAD = (
    ("{day}. {month} {year}", ("Januar", "Februar", "März", "Mai", "Juni", "Juli", "Oktober", "Dezember")),
    ("{day} {month} {year}", ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août")),
    ("{day} de {month} de {year}", ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto")),
    ("{day} {month} {year}", ("gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto")),
    ("{day} de {month} de {year}", ("janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto")),
    ("{year}年{number}月{day}日", ("",) * 8),
)  # fmt: skip


@given(st.sampled_from(ABROAD), st.integers(0, 7), st.integers(1, 28), st.integers(1950, 2150))
def test_a_date_of_another_language_is_shifted_as_its_figures_are(
    writing: tuple[str, tuple[str, ...]], which: int, day: int, year: int
) -> None:
    form, months = writing
    number = which + 1 if len(set(months)) < 8 or months[3] != "Mai" else (1, 2, 3, 5, 6, 7, 10, 12)[which]
    text = form.format(day=day, month=months[which], year=year, number=number)
    assert (
        cleaned(f"admitted {text} with fever")
        == f"admitted {cleaned(f'{year}-{number:02}-{day:02}')} with fever"
    )


SEASONS = {"winter": 1, "spring": 4, "summer": 7, "autumn": 10, "fall": 10}


@given(
    st.sampled_from(sorted(SEASONS)),
    st.sampled_from([str.lower, str.title, str.upper]),
    st.sampled_from(
        ["{season} of {year}", "{season} {year}", "{season} of '{short}", "{season} {year}/{next}"]
    ),
    st.integers(1980, 2140),
    st.integers(1, 9),
)
def test_a_season_is_moved_as_the_days_in_its_middle_are(
    season: str, case: Callable[[str], str], form: str, year: int, subject: int
) -> None:
    year = year if "short" not in form else 2100 + year % 50
    short, following = f"{year % 100:02}", f"{(year + 1) % 100:02}"
    text = form.format(season=case(season), year=year, short=short, next=following)
    middle = f"{year}-{SEASONS[season]:02}-15"
    notes = [f"worse since {text}.", f"seen {middle}."]
    moved, day = (note.text for note in DEIDENTIFIER.deidentify(subject, notes, [WRITTEN] * 2))
    new = date.fromisoformat(day.removeprefix("seen ").removesuffix("."))
    name = case(("winter", "spring", "summer", "fall")[new.month % 12 // 3])
    short, following = f"{new.year % 100:02}", f"{(new.year + 1) % 100:02}"
    assert moved == f"worse since {form.format(season=name, year=new.year, short=short, next=following)}."


@pytest.mark.parametrize(
    "text",
    [
        "Status post fall 2019 and fall in 2020; he had a fall 2 days ago. Spring water, summer 5 mg.",
        "The Dopplers were negative, the Hemovacs were removed, the Steri-Strips are intact.",
        "The Kegels were demonstrated; the Parkinsons and the Dopplers. The Bovies are here.",
        "Murphy sign negative. She got Ringer's lactate at 75. The MS I today, MS 3, Dr. and Mrs. agree.",
        "Discussed with Pharmacy and Nutrition. Nurse Practitioner saw him. Pacemaker checked; on Mounjaro.",
        "Monitoring 24 hours, then Spring 2. Measuring 1 cm. She has mild MR and nausea.",
        "Lives on Social Security. He lives on Ensure. Stenotrophomonas grew; Comminuted fracture seen.",
    ],
)
def test_words_beside_these_stay(text: str) -> None:
    assert cleaned(text) == text


FAMILIES = ("Abernathy", "Okonkwo", "Delgado", "Huang", "Lindqvist", "Quillfeather", "Wexcombe", "Zbrozhek")
VERBS = ("agree", "understood", "have decided", "were updated", "both wish to visit", "were at the bedside")


@given(st.sampled_from(FAMILIES), st.sampled_from(VERBS), st.sampled_from(["the", "The"]))
def test_a_family_by_its_name_in_the_plural_is_found(name: str, verb: str, article: str) -> None:
    assert name not in cleaned(f"Stable. {article} {name}s {verb} today.")


@given(
    st.sampled_from(["Abernathy", "Delgado", "Okonkwo"]),
    st.sampled_from(["met with", "called", "a call from"]),
)
def test_a_listed_family_is_found_after_what_is_done_with_people(name: str, before: str) -> None:
    assert name not in cleaned(f"We had {before} the {name}s about it.")


@given(
    st.sampled_from(["Dr.", "Mr.", "Mrs.", "Ms.", "Dr"]),
    st.lists(st.sampled_from("BCDEFGHJKLMNOPRTW"), min_size=1, max_size=3),
    st.sampled_from([".", ". "]),
)
def test_initials_after_a_title_are_replaced(title: str, letters: list[str], sign: str) -> None:
    initials = sign.join(letters) + sign.strip()
    assert [kind for kind, _ in found(f"seen by {title} {initials} today")] == ["name"] * len(letters)


@given(
    st.sampled_from(["Ms.", "Dr.", "Mr."]),
    st.sampled_from(["Clair-Ford", "Quillfeather", "John", "Wexcombe"]),
)
def test_a_saints_name_after_a_title_is_found_here_and_where_it_is_repeated(title: str, name: str) -> None:
    assert name not in cleaned(f"{title} St. {name} was seen. St. {name} will follow.")


@given(st.sampled_from(["Graves", "Jones"]))
def test_a_disease_keeps_the_name_that_a_person_has_too(name: str) -> None:
    text = cleaned(f"Dr. {name} explained {name}' disease; {name} agreed.")
    assert text.count(name) == 1
    assert f"{name}' disease" in text


@given(
    st.sampled_from(["lives on", "lived on", "resides on"]),
    st.sampled_from(["Maple", "Old Mill", "Wexcombe"]),
    st.sampled_from(["St", "Ct", "Way", "Place"]),
)
def test_a_street_without_a_house_is_found_where_somebody_lives(lives: str, name: str, kind: str) -> None:
    assert f"{name} {kind}" not in cleaned(f"She {lives} {name} {kind} near the mill.")


@pytest.mark.parametrize(
    "sentence", ["{} is stopped at a potassium above 5.5.", "Continue {}.", "She takes {} daily."]
)
def test_a_drug_is_nobody(sentence: str) -> None:
    """Each word of the tables of drugs stays, but for those that are names, too."""
    words = sorted(word.capitalize() for word in packaged().words if word.isalpha() and len(word) > 4)
    texts = [sentence.format(word) for word in words]
    notes = DEIDENTIFIER.deidentify(1, texts, [WRITTEN] * len(texts))
    replaced = {word for word, text, note in zip(words, texts, notes, strict=True) if note.text != text}
    assert replaced <= {"Allegra", "Bayer", "Johns", "Sonata", "Strong", "Yasmin"}
    assert len(words) > 1000
