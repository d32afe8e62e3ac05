"""How many identifiers de-identification finds, per class with 95 % intervals (Wilson), and other words it takes.

The sentences below were written after the rules. After their first run the rules for ages and for ordinary words were
corrected on them, those for names were not: read ages and other words as fitted, names as unseen. Names come
from languages whose lists are taken out of the lexicon for the measurement ("name, unlisted": only names that no other
list has) and from the American lists that it holds ("name, listed"); the rest comes from Faker's generators.

    python benchmarks/deidentification.py [--prose FILE.csv.gz COLUMN]

``--prose``: real notes, without identifiers of their own, of which the share of words taken as names is told as well.
"""

import argparse
import csv
import gzip
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

from faker import Faker

from data_pipeline import names
from data_pipeline.scrubber import Scrubber

UNLISTED = frozenset(
    {"sl_SI", "es_AR", "en_PK", "lt_LT", "sv_SE", "hu_HU", "tw_GH", "fr_DZ", "es_CL", "no_NO"}
)
NOTES = 400
TEMPLATES = (
    "ED COURSE: {name}, {age}, slipped on ice on {date}; CT of the head without bleeding.",
    "His brother {name} flew in and can be reached on his cell, {phone}.",
    "Anesthesia by {name}, CRNA. Estimated blood loss 150 mL. Cefazolin 2 g given.",
    "Lives at {address} with two dogs.",
    "Dear Dr. {last}, thank you for referring {name}, whom I met on {date}.",
    "Patient ID {record}; visit #{record}; SS# {ssn}",
    "Per {name}, RN, the patient refused the evening dose of insulin glargine 12 units.",
    "MRI dated {date}: no acute infarct. Graves disease treated with methimazole 10 mg.",
    "{name} tolerated the procedure well and left the theatre extubated.",
    "Reviewed with Mr. {last} and his wife, {name}, who agree to rehabilitation.",
    "Contact: {name}, {phone}, {email}",
    "Power of attorney: {name}. Code status: full code. Strength 5/5, pain 2/10, pulses 2/2.",
    "Education materials at {url} were shown to Ms. {last}.",
    "She will see {name} ({phone}) at the pulmonary clinic on {date} at 10 am.",
    "PATIENT NAME: {comma}    ADMISSION DATE: {date}    MED REC NO: {record}",
    "Note by {name}, medical student, reviewed {date}.",
    "Hemodialysis on Tuesday, Thursday and Saturday; Foley out; Trendelenburg position tolerated.",
    "{last} family updated. Mrs. {last} cried and asked for the chaplain.",
)
DATES = (
    "%m/%d/%Y",
    "%m/%d/%y",
    "%Y-%m-%d",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%B %d",
    "%d.%m.%Y",
)


class Writer:
    """Notes with planted identifiers, whose places it remembers."""

    def __init__(self, seed: int, locales: tuple[str, ...], listed: bool) -> None:
        self._random, self._faker = Random(seed), Faker("en_US")
        self._faker.seed_instance(seed)
        lexicon = names.load(UNLISTED)

        def fits(name: str) -> bool:
            token = names.plain(name)
            return (
                name.isalpha()
                and len(name) > 2
                and name.isascii()
                and ((token in lexicon.given or token in lexicon.family) == listed)
            )

        self._first, self._last = (
            [name for locale in locales for name in names.listed(locale, part) if fits(name)]
            for part in ("first", "last")
        )

    def note(self) -> tuple[str, list[tuple[str, int, int]]]:
        text, spans = "", []
        for template in self._random.sample(TEMPLATES, 8):
            for before, slot in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
                text += before
                if slot:
                    piece = self._piece(slot)
                    kind = (
                        "name"
                        if slot in ("name", "first", "last", "comma")
                        else "record"
                        if slot == "ssn"
                        else slot
                    )
                    spans.append((kind, len(text), len(text) + len(piece)))
                    text += piece
            text += "\n"
        return text, spans

    def _piece(self, slot: str) -> str:
        first, last = self._random.choice(self._first), self._random.choice(self._last)
        made = self._faker
        return {
            "name": lambda: f"{first} {last}",
            "first": lambda: first,
            "last": lambda: last,
            "comma": lambda: (
                f"{last.upper()}, {first.upper()}" if self._random.random() < 0.5 else f"{last}, {first}"
            ),
            "age": lambda: str(self._random.randint(90, 103)),
            "date": lambda: (date(2019, 1, 1) + timedelta(self._random.randrange(2000))).strftime(
                self._random.choice(DATES)
            ),
            "address": lambda: made.address().replace("\n", ", "),
            "phone": made.phone_number,
            "record": lambda: self._random.choice(
                ("{:07d}", "{:08d}", "MR{:06d}", "{:03d}-{:02d}-{:02d}")
            ).format(*(self._random.randrange(10, 99) for _ in range(3))),
            "email": made.email,
            "url": made.url,
            "ssn": made.ssn,
        }[slot]()


def wilson(hits: int, n: int) -> str:
    p, z = hits / n, 1.96
    centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{100 * p:6.2f} %  [{100 * low:.2f}, {100 * high:.2f}]  n = {n:,}"


def measure(writer: Writer, scrubber: Scrubber, label: str) -> Iterator[tuple[str, int, int]]:
    """(class, found, planted), and under ``words`` the other words that were taken."""
    planted: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for _ in range(NOTES):
        text, spans = writer.note()
        taken = bytearray(len(text))
        [found] = scrubber.find([text])
        for span in found:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
        inside = bytearray(len(text))
        for kind, start, end in spans:
            inside[start:end] = b"\1" * (end - start)
            name = f"name, {label}" if kind == "name" else kind
            planted[name] += 1
            hits[name] += all(
                all(taken[start + w.start() : start + w.end()]) for w in re.finditer(r"\w+", text[start:end])
            )
        others = [w for w in re.finditer(r"\w+", text) if not any(inside[w.start() : w.end()])]
        planted["words"] += len(others)
        hits["words"] += sum(any(taken[w.start() : w.end()]) for w in others)
    yield from ((kind, hits[kind], planted[kind]) for kind in planted)


def prose(path: str, column: str, scrubber: Scrubber) -> None:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        notes = list(dict.fromkeys(row[column] for row in csv.DictReader(file)))[::4]
    started = time.process_time()
    found = [scrubber.find([note])[0] for note in notes]
    seconds = time.process_time() - started
    words = sum(len(re.findall(r"\w+", note)) for note in notes)
    taken = sum(span.kind == "name" for spans in found for span in spans)
    print(f"real prose: {wilson(taken, words)} words taken as names; {len(notes) / seconds:.0f} notes/s, "
          f"{words / seconds:,.0f} words/s on one core")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prose", nargs=2, metavar=("FILE", "COLUMN"))
    asked = parser.parse_args()
    scrubber = Scrubber(b"measured", UNLISTED)
    scrubber.find(["lists are read on first use"])
    for label, locales in (("unlisted", tuple(sorted(UNLISTED))), ("listed", ("en_US",))):
        started = time.process_time()
        for kind, hits, n in measure(Writer(1, locales, label == "listed"), scrubber, label):
            told = "other words taken" if kind == "words" else f"{kind} found"
            print(f"{told:24}{wilson(hits, n)}")
        print(f"{NOTES / (time.process_time() - started):.0f} notes/s on one core, making them included\n")
    if asked.prose:
        prose(*asked.prose, scrubber)


if __name__ == "__main__":
    main()
