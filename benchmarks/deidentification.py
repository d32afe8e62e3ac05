"""How many identifiers de-identification finds, per class with 95 % intervals (Wilson), and other words it takes.

``deidentification_blind_sentences.yaml`` was written before its author had read any rule, and committed before the
last rules, which the same author made; of what is missed in it, only counts by kind of writing were looked at. It has
``identifiers`` in many writings, which are also tried with the characters of a word processor (dashes that are no
hyphen, blanks that do not break, soft hyphens inside of names), and ``medical`` words, which should all stay.
Other sentences are in ``deidentification_sentences.yaml``. ``fitted`` ones were read while rules were made, with
names of ``FITTED``. The ``held_out`` ones were written, by the rules' own author, before the second round of
rules; what is missed in them, or of the names of ``HELD_OUT``, has only been counted since, by class and by
what the lexicon says of a word. "Unlisted" names come from languages whose lists are taken out of the lexicon
for the measurement, and of them only those that no other list has; "listed" ones are American. The rest comes
from Faker's generators.

    python benchmarks/deidentification.py [--prose FILE.csv.gz COLUMN] [--templates FILE.txt]

``--prose``: real notes. Half of them were read while rules were made; the other half is measured, with unlisted names
put where a note says ``Dr. X`` or ``Mr. ABC``; "other words" are those taken as names. ``--templates``: sentences of
others with slots in double braces, such as ``raw_data/templates.txt`` of presidio-evaluator (MIT), which nobody here
has read; they are not clinical.
"""

import argparse
import csv
import gzip
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

import yaml
from faker import Faker

from data_pipeline.clinical_text import name_lexicon, name_sources
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier

FITTED = ("es_AR", "es_CL", "en_PK", "fr_DZ", "hu_HU", "lt_LT", "no_NO", "sl_SI", "sv_SE", "tw_GH")
HELD_OUT = ("cs_CZ", "et_EE", "fi_FI", "hr_HR", "id_ID", "lv_LV", "pl_PL", "ro_RO", "tr_TR", "yo_NG", "zu_ZA")
SENTENCES, BLIND = (
    yaml.safe_load(Path(__file__).with_name(f"deidentification_{name}.yaml").read_text(encoding="utf-8"))
    for name in ("sentences", "blind_sentences")
)
NOTES = 400
PER_NOTE = 8
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
WRITINGS = (
    *DATES,
    "%d%b%Y",
    "%Y.%m.%d",
    "%Y/%m/%d",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%d/%m/%y",
    "%m-%d-%y",
    "%Y%m%d",
    "%m/%Y",
    "%b. %d, %Y",
    "%d of %B %Y",
    "%B %Y",
    "%b '%y",
    "%d %b %y",
)
PARTICLES = ("van der", "van", "von", "de la", "de", "del", "da", "di", "el", "al", "bin", "ter")
TYPESET = {
    "-": "\u2010\u2011\u2012\u2013\u2212",
    " ": "\u00a0\u202f\u2009",
    "'": "\u2019\u02bc",
    ".": ".",
    "@": "@",
}
"""What a word processor writes in place of an ASCII character, in identifiers."""
RECORDS = ("{:07d}", "{:08d}", "MR{:06d}", "{:03d}-{:02d}-{:02d}")
CLASSES = dict.fromkeys(
    (
        *(
            "name",
            "first",
            "last",
            "comma",
            "initial",
            "middle",
            "upper",
            "packed",
            "abbreviated",
            "initials",
        ),
        *(
            "surname_initials",
            "hyphenated",
            "double_last",
            "apostrophe",
            "apostrophe_last",
            "mac",
            "particle",
        ),
        *("particle_last", "upper_last", "lower", "lower_first", "lower_last", "two_surnames"),
    ),
    "name",
) | {
    "ssn": "record",
    "short": "date",
    "writing": "date",
    "year_date": "date",
    "street": "address",
    "town": "address",
}
OTHERS = {
    **dict.fromkeys(("person", "name_female", "name_male"), "name"),
    **{
        f"{part}_name{of}": part
        for part in ("first", "last")
        for of in ("", "_male", "_female", "_nonbinary")
    },
    "phone_number": "phone",
    "date_of_birth": "date",
}
"""Slots of other people's templates that are called otherwise here."""
PLACEHOLDER = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Miss)\b\.? (?P<name>X|Y|Z|A|B|ABC|XYZ|Xyz|Abc|XXX)\b(?!\.[A-Z])")


class Writer:
    """Texts with planted identifiers, whose places it remembers."""

    def __init__(self, seed: int, locales: Sequence[str], listed: bool, typeset: bool = False) -> None:
        self.random, self._faker, self._typeset = Random(seed), Faker("en_US"), typeset
        self._faker.seed_instance(seed)
        lexicon = name_sources.collect(frozenset({*FITTED, *HELD_OUT}))

        def fits(name: str) -> bool:
            token = name_lexicon.plain(name)
            known = token in lexicon.given or token in lexicon.family
            return name.isalpha() and name.istitle() and len(name) > 2 and name.isascii() and known == listed

        self._first, self._last = (
            [name for locale in locales for name in name_sources.listed(locale, part) if fits(name)]
            for part in ("first", "last")
        )
        self._pieces = self._slots() | self._writings()

    def fill(self, template: str) -> tuple[str, list[tuple[str, int, int]]]:
        text, spans = "", []
        for before, slot in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
            text += before
            if slot:
                piece = self._pieces[slot]()
                if self._typeset:
                    piece = self._as_typeset(piece, CLASSES.get(slot, slot) == "name")
                spans.append((CLASSES.get(slot, slot), len(text), len(text) + len(piece)))
                text += piece
        return text, spans

    def last(self) -> str:
        return self.random.choice(self._last)

    def first(self) -> str:
        return self.random.choice(self._first)

    def _as_typeset(self, piece: str, is_name: bool) -> str:
        text = "".join(self.random.choice(TYPESET.get(letter, letter)) for letter in piece)
        if is_name and self.random.random() < 0.5:
            at = self.random.randrange(1, len(text))
            text = text[:at] + self.random.choice("\u00ad\u200b\u2060") + text[at:]
        return text

    def _writings(self) -> dict[str, Callable[[], str]]:
        """Names as forms, headings and hurried people write them."""
        chosen, first, last = self.random, self.first, self.last

        def letter() -> str:
            return chosen.choice("ABCDEFGHJKLMNPRSTW")

        def packed() -> str:
            name = f"{last()},{first()}"
            return name.upper() if chosen.random() < 0.7 else name

        def initials() -> str:
            return f"{letter()}.{chosen.choice(('', ' '))}{letter()}. {last()}"

        return {
            "packed": packed,
            "abbreviated": lambda: f"{last()}, {letter()}.",
            "initials": initials,
            "surname_initials": lambda: f"{last()} {letter()}{letter()}",
            "hyphenated": lambda: f"{first()} {last()}-{last()}",
            "double_last": lambda: f"{last()}-{last()}",
            "apostrophe": lambda: f"{first()} {chosen.choice('OD')}'{last()}",
            "apostrophe_last": lambda: f"{chosen.choice('OD')}'{last()}",
            "mac": lambda: f"{chosen.choice(('Mc', 'Mac'))}{last()}",
            "particle": lambda: f"{first()} {chosen.choice(PARTICLES)} {last()}",
            "particle_last": lambda: f"{chosen.choice(PARTICLES)} {last()}",
            "upper_last": lambda: last().upper(),
            "lower": lambda: f"{first()} {last()}".lower(),
            "lower_first": lambda: first().lower(),
            "lower_last": lambda: last().lower(),
            "two_surnames": lambda: f"{first()} {last()} {last()}",
            "writing": lambda: self.day(*WRITINGS),
            "year_date": lambda: self.day("%B %Y"),
        }

    def day(self, *forms: str) -> str:
        return (date(2019, 1, 1) + timedelta(self.random.randrange(2000))).strftime(self.random.choice(forms))

    def _slots(self) -> dict[str, Callable[[], str]]:
        made, chosen, first, day = self._faker, self.random, self.first, self.day

        def comma() -> str:
            name = f"{self.last()}, {first()}"
            return name.upper() if chosen.random() < 0.5 else name

        return {
            "name": lambda: f"{first()} {self.last()}",
            "first": first,
            "last": self.last,
            "comma": comma,
            "initial": lambda: f"{first()[0]}. {self.last()}",
            "middle": lambda: f"{first()} {chosen.choice('ABCDEFGHJKLMNPRSTW')}. {self.last()}",
            "upper": lambda: f"{first()} {self.last()}".upper(),
            "age": lambda: str(chosen.randint(90, 103)),
            "date": lambda: day(*DATES),
            "short": lambda: day("%m/%d"),
            "address": lambda: made.address().replace("\n", ", "),
            "street": made.street_address,
            "town": lambda: f"{made.city()}, {made.state_abbr()}",
            "phone": made.phone_number,
            "record": lambda: chosen.choice(RECORDS).format(*(chosen.randrange(10, 99) for _ in range(3))),
            "email": made.email,
            "url": made.url,
            "ssn": made.ssn,
        }


Planted = tuple[str, list[tuple[str, int, int]]]


def notes(writer: Writer, templates: Sequence[str]) -> Iterator[Planted]:
    for _ in range(NOTES):
        text, spans = "", []
        for template in writer.random.sample(list(templates), min(PER_NOTE, len(templates))):
            line, planted = writer.fill(template)
            spans += [(kind, len(text) + start, len(text) + end) for kind, start, end in planted]
            text += line + "\n"
        yield text, spans


def of_others(writer: Writer, path: str) -> Iterator[Planted]:
    """Each template that only asks for identifiers known here, twenty times, as a note of its own."""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        slots = {slot: OTHERS.get(slot, slot) for slot in re.findall(r"\{\{(\w+)\}\}", line)}
        template = re.sub(r"\{\{(\w+)\}\}", lambda m, named=slots: f"{{{named[m[1]]}}}", line)  # type: ignore[misc]
        if (
            slots
            and set(slots.values()) <= set(writer._pieces)
            and template.count("{") == len(re.findall(r"\{\w+\}", template))
        ):
            yield from (writer.fill(template.replace("\\n", "\n")) for _ in range(20))


def real(writer: Writer, path: str, column: str) -> Iterator[Planted]:
    """The half of the notes that nobody read, each placeholder with a name of its own throughout a note."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        every = list(dict.fromkeys(row[column] for row in csv.DictReader(file)))
    for note in (text for i, text in enumerate(every) if i % 4 in (2, 3)):
        people: dict[str, str] = {}
        text, spans, end = "", [], 0
        for match in PLACEHOLDER.finditer(note):
            text += note[end : match.start("name")]
            name = people.setdefault(match["name"], writer.last())
            spans.append(("name", len(text), len(text) + len(name)))
            text, end = text + name, match.end()
        yield text + note[end:], spans


def measure(
    texts: Iterator[Planted], deidentifier: RuleBasedDeidentifier, dated: bool
) -> Iterator[tuple[str, int, int]]:
    """(class, found, planted), and under ``words`` other words taken; ``dated``: as names, real notes having dates."""
    planted: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for text, spans in texts:
        taken, inside = bytearray(len(text)), bytearray(len(text))
        [found] = deidentifier.find([text])
        for span in found:
            taken[span.start : span.end] = (b"\2" if span.kind == "name" else b"\1") * (span.end - span.start)
        for kind, start, end in spans:
            inside[start:end] = b"\1" * (end - start)
            planted[kind] += 1
            hits[kind] += all(
                all(taken[start + w.start() : start + w.end()]) for w in re.finditer(r"\w+", text[start:end])
            )
        others = [w for w in re.finditer(r"\w+", text) if not any(inside[w.start() : w.end()])]
        planted["words"] += len(others)
        hits["words"] += sum(max(taken[w.start() : w.end()]) > dated for w in others)
    yield from ((kind, hits[kind], planted[kind]) for kind in sorted(planted))


def wilson(hits: int, n: int) -> str:
    p, z = hits / n, 1.96
    centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{100 * p:6.2f} %  [{100 * low:.2f}, {100 * high:.2f}]  n = {n:,}"


def tell(
    title: str, texts: Iterator[Planted], deidentifier: RuleBasedDeidentifier, dated: bool = False
) -> None:
    print(f"\n{title}")
    for kind, hits, n in measure(texts, deidentifier, dated):
        told = "other words taken" if kind == "words" else f"{kind} found"
        print(f"  {told:20}{wilson(hits, n)}")
        print(f"figure: % of {told}, {title} = {100 * hits / n:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prose", nargs=2, metavar=("FILE", "COLUMN"))
    parser.add_argument("--templates", metavar="FILE")
    asked = parser.parse_args()
    deidentifier = RuleBasedDeidentifier(b"measured", name_sources.collect(frozenset({*FITTED, *HELD_OUT})))
    deidentifier.find(["lists are read on first use"])
    for sentences, locales in (("fitted", FITTED), ("held_out", HELD_OUT)):
        for label, chosen in (("unlisted", locales), ("listed", ("en_US",))):
            writer = Writer(1, chosen, label == "listed")
            tell(f"{sentences} sentences, names {label}", notes(writer, SENTENCES[sentences]), deidentifier)
    for typeset, how in ((False, "as typed"), (True, "as typeset")):
        for label, chosen in (("unlisted", HELD_OUT), ("listed", ("en_US",))):
            writer = Writer(3, chosen, label == "listed", typeset)
            tell(f"blind sentences {how}, names {label}", notes(writer, BLIND["identifiers"]), deidentifier)
    medical: list[Planted] = [(sentence, []) for sentence in BLIND["medical"]]
    tell("blind sentences of medical words", iter(medical), deidentifier)
    kept = sum(not deidentifier.find([text])[0] for text, _ in medical)
    print(f"  {'sentences kept':20}{wilson(kept, len(medical))}")
    print(f"figure: % of medical sentences kept whole = {100 * kept / len(medical):.2f}")
    unlisted = Writer(2, HELD_OUT, listed=False)
    if asked.templates:
        tell("templates of others, names unlisted", of_others(unlisted, asked.templates), deidentifier)
    if asked.prose:
        started = time.process_time()
        tell("real notes, names unlisted", real(unlisted, *asked.prose), deidentifier, dated=True)
        print(f"  {time.process_time() - started:.1f} s on one core for all of them")


if __name__ == "__main__":
    main()
