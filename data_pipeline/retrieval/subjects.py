"""Subjects of a question: the drugs that it names and the patients whom it is about, of which a passage must speak.

What is said of another drug, or of other patients, may be near to a question by its meaning and by its words, and is a
wrong answer to it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.drugs import tables
from data_pipeline.drugs.mentions import DrugMention, doses, packaged

_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_PATIENTS = {
    "children": re.compile(
        r"\b(?:child(?:ren)?|infants?|neonat\w+|newborns?|pa?ediatrics?|bab(?:y|ies)|toddlers?|adolescen\w+|teenagers?|"
        rf"(?:\d|1[0-7]|{_NUMBERS})[\s-]years?[\s-]olds?|(?:\d+|{_NUMBERS})[\s-](?:month|week|day)s?[\s-]olds?)\b"
    ),
    "adults": re.compile(r"\badults?\b"),
    "pregnancy": re.compile(r"\b(?:pregnan\w+|gestation\w*|trimesters?|antenatal\w*|(?:pre-?)?eclampsia)\b"),
    "breastfeeding": re.compile(r"\b(?:breast[\s-]?fe\w+|lactation|lactating|nursing mothers?)\b"),
    "kidney disease": re.compile(
        r"\b(?:renal\w*|kidneys?|nephr\w+|glomerul\w+|\w*dialy\w+|e?gfr|creatinine|ckd|aki|ura?em\w+)\b"
    ),
    "dialysis": re.compile(
        r"\b(?:\w*dialy\w+|ha?emofiltration|esrd|eskd|end-stage (?:renal|kidney)|(?:renal|kidney) replacement)\b"
    ),
    "liver disease": re.compile(r"\b(?:hepat\w+|liver|cirrho\w+|child-pugh)\b"),
}
"""Patients whom a drug is given to differently, by the words for them in lower case."""
_OTHERS = {"children": "adults", "adults": "children"}
_PRONOUN = re.compile(r"(?:it|its|they|their)\b", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(?:first|second|third)\b")
"""A first and a second treatment are near to each other in all but that."""


@dataclass(frozen=True)
class Subject:
    """What a question is about, as far as another drug or other patients would be a wrong answer."""

    drugs: tuple[re.Pattern[str], ...]
    """For each drug, the names that it, its brands and its classes have."""
    patients: frozenset[str]
    ordinals: frozenset[str] = frozenset()
    """First, second or third, as in a first treatment."""

    def is_met_by(self, title: str, text: str) -> bool:
        """Whether a passage names all of the drugs, speaks of all of the patients, and has no other ordinal's title."""
        title, text = title.lower(), text.lower()
        titled = set(_ORDINAL.findall(title))
        if self.ordinals and titled and self.ordinals.isdisjoint(titled):
            return False
        return all(drug.search(f"{title}\n{text}") for drug in self.drugs) and all(
            _speaks_of(each, title, text) for each in self.patients
        )

    def has_patients_in(self, sentence: str) -> bool:
        """Whether a sentence names the children, or the adults, who are asked about."""
        return not _patients(sentence.lower()).isdisjoint(self.patients & set(_OTHERS))

    def has_drug_in(self, sentence: str) -> bool:
        """Whether a sentence, or a title, names one of the drugs that are asked about."""
        return any(drug.search(sentence.lower()) for drug in self.drugs)

    def about_drug(self, sentences: Sequence[str], title: str = "") -> list[bool]:
        """Which sentences name one of the drugs that are asked about, or go on about it behind one that does, or below
        a title that does: they name none, and are no row of a table, or begin with "It"."""
        about, goes_on = [], self.has_drug_in(title)
        for sentence in sentences:
            names_none = "|" not in sentence and not packaged().find(clinical_text.read(sentence))
            about.append(
                self.has_drug_in(sentence) or (goes_on and (names_none or bool(_PRONOUN.match(sentence))))
            )
            goes_on = self.has_drug_in(sentence) or (goes_on and names_none)
        return about

    def is_apart_from(self, sentence: str) -> bool:
        """Whether a sentence is about adults where children are asked about, or the other way round."""
        about = _patients(sentence.lower())
        return any(_OTHERS.get(each) in about and each not in about for each in self.patients)

    def is_titled(self, title: str) -> bool:
        """Whether a title names the drugs that are asked about, or their class; of none, whether or not."""
        return not self.drugs or self.has_drug_in(title)

    def is_dose_of_another(self, sentence: str) -> bool:
        """Whether a sentence gives a dose, and names drugs of which none is asked about."""
        if not self.drugs or self.has_drug_in(sentence):
            return False
        text = clinical_text.read(sentence)
        return bool(doses(text, packaged().find(text)))


def subject(question: str) -> Subject:
    """The drugs and patients that a question names."""
    mentions = packaged().find(clinical_text.read(question))
    return Subject(
        tuple(_pattern(mention.drugs, mention.drug_class) for mention in mentions),
        _patients(question.lower()),
        frozenset(_ORDINAL.findall(question.lower())),
    )


def _patients(text: str) -> frozenset[str]:
    return frozenset(name for name, words in _PATIENTS.items() if words.search(text))


def _speaks_of(patients: str, title: str, text: str) -> bool:
    """A title counts where nothing names others: one of adults and children does not say whom a section is about."""
    if _PATIENTS[patients].search(text):
        return True
    if patients == "adults":  # who is no child
        return not _PATIENTS["children"].search(f"{title}\n{text}")
    names_others = patients in _OTHERS and _PATIENTS[_OTHERS[patients]].search(f"{title}\n{text}")
    return bool(_PATIENTS[patients].search(title)) and not names_others


def names(mention: DrugMention) -> tuple[str, ...]:
    """What a drug may be called otherwise: its nonproprietary name, then the names of its classes."""
    is_one = len(mention.drugs) == 1 and not mention.drug_class
    return (*(mention.drugs if is_one else ()), *_names_of_classes(mention.drugs, mention.drug_class))


@cache
def _names_of_classes(drugs: tuple[str, ...], drug_class: str) -> tuple[str, ...]:
    """The names of a class, or of the classes of which all drugs are members."""
    of_drugs = [name for name, members in tables.drug_classes().items() if members.issuperset(drugs)]
    classes = [drug_class] if drug_class else of_drugs
    return tuple(classes + [name for name, of_class in tables.class_names().items() if of_class in classes])


@cache
def _pattern(drugs: tuple[str, ...], drug_class: str) -> re.Pattern[str]:
    """The names of one drug or combination and of its classes; of a class, its names and its members."""
    of_drugs = {
        name
        for name, resolved in packaged().resolve.items()
        if resolved == drugs or (drug_class and set(resolved) <= set(drugs))
    }
    every = sorted(of_drugs.union(_names_of_classes(drugs, drug_class)), key=len, reverse=True)
    words = (re.escape(name.lower()).replace(r"\ ", r"[\s-]+") for name in every)
    return re.compile(rf"\b(?:{'|'.join(words)})(?:s|es)?\b")
