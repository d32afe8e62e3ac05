"""Synthetic clinical notes: admission notes, radiology reports and discharge summaries.

MIMIC-IV-Note has discharge summaries and radiology reports; ``note/admission`` is an extension of this extract, with
the same columns. Factors that are in no table (frailty, support, adherence, how unwell the patient looks, goals of
care) are written in words; each is missing in one note of seven and has noise of half a standard deviation. Every
planted identifier is returned with its position, so that de-identification can be measured; the extract has the text
alone.
"""

from dataclasses import dataclass
from functools import cache
from random import Random
from string import Formatter

import numpy as np
import polars as pl

from data_pipeline.synthetic import phrases
from data_pipeline.synthetic.codes import AXES, CHRONIC, SYNDROMES, Axis
from data_pipeline.synthetic.frames import DAY, MINUTE, Floats, moments
from data_pipeline.synthetic.hospital import Encounters
from data_pipeline.synthetic.identities import (
    Identifier,
    IdentifierKind,
    Identity,
    draw_identity,
    person,
    written_date,
)
from data_pipeline.synthetic.patients import Subjects, Visits

MENTIONED = 6 / 7
"""The probability that a note mentions a hidden factor."""
NOISE = 0.5
"""The standard deviation of the noise on a hidden factor."""
_CUTS = (-1.0, -0.35, 0.35, 1.0)
ADMISSION, RADIOLOGY, DISCHARGE = "HP", "RR", "DS"
TABLES = {ADMISSION: "note/admission", RADIOLOGY: "note/radiology", DISCHARGE: "note/discharge"}


@dataclass(frozen=True)
class IdentifierSpan:
    """A planted identifier in a note, at ``text[start:end]``."""

    kind: IdentifierKind
    start: int
    end: int


@dataclass(frozen=True)
class SyntheticNote:
    """One note; times are seconds since 1970. A summary ready before discharge is stored before it is charted."""

    subject_id: int
    hadm_id: int
    kind: str
    charted: int
    stored: int
    text: str
    spans: tuple[IdentifierSpan, ...]


@cache
def _parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    return tuple((text, slot, spec or "") for text, slot, spec, _ in Formatter().parse(template))


class Draft:
    """A note being written, with the positions of its identifiers; a ``VisitFacts`` fills the slots of templates."""

    def __init__(self, facts: "VisitFacts") -> None:
        self._facts = facts
        self._pieces: list[str] = []
        self._length = 0
        self._spans: list[IdentifierSpan] = []

    def line(self, *choices: str) -> None:
        """Adds a line from one of several templates."""
        for text, slot, spec in _parts(self._facts.choose(choices)):
            self._add(text)
            if slot is not None:
                self._fill(self._facts.fill_slot(slot, spec))
        self._add("\n")

    def _fill(self, piece: str | Identifier) -> None:
        if isinstance(piece, Identifier):
            self._spans.append(IdentifierSpan(piece.kind, self._length, self._length + len(piece.text)))
            piece = piece.text
        if "{" in piece:
            for text, slot, spec in _parts(piece):
                self._add(text)
                if slot is not None:
                    self._fill(self._facts.fill_slot(slot, spec))
        else:
            self._add(piece)

    def _add(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)

    def finish(self) -> tuple[str, tuple[IdentifierSpan, ...]]:
        return "".join(self._pieces), tuple(self._spans)


@dataclass(frozen=True)
class VisitFacts:
    """What the notes of one visit may mention. It draws from ``random`` only, in the order of writing."""

    random: Random
    identity: Identity
    female: bool
    age: int
    times: dict[str, int]
    latent: dict[str, float]
    goals: bool
    died: bool
    syndrome: str
    chronic: tuple[str, ...]
    axes: Floats

    def choose(self, choices: tuple[str, ...]) -> str:
        """A random one of the choices."""
        return choices[int(self.random.random() * len(choices))]

    def level(self, factor: str, levels: phrases.Levels) -> str:
        """A phrase for a hidden factor with noise, or a statement that it was not documented."""
        noisy = self.latent[factor] + NOISE * self.random.gauss(0, 1)
        rank = sum(noisy > cut for cut in _CUTS)
        phrase = self.choose(levels[rank])
        return phrase if self.random.random() < MENTIONED else "Not documented."

    def axis(self, name: Axis) -> float:
        """The organ axis at admission."""
        return float(self.axes[AXES.index(name)])

    def fill_slot(self, slot: str, spec: str) -> str | Identifier:
        """The text or identifier for a template's ``{slot:spec}``."""
        if slot == "name":
            return Identifier("name", self._name(spec))
        if slot == "date":
            return written_date(self.random, self.times[spec])
        if slot == "phone":
            return Identifier("phone", self.identity.phones[("home", "kin", "doctor").index(spec)])
        if slot == "age":
            return Identifier("age", str(self.age)) if self.age > 89 else str(self.age)
        if slot in ("record", "address", "email", "url"):
            return Identifier(slot, getattr(self.identity, slot))  # type: ignore[arg-type]
        return self._word(slot)

    def _name(self, whose: str) -> str:
        me = self.identity
        if whose == "staff":
            return person(self.random, self.random.random() < 0.5)
        return {"full": f"{me.first} {me.last}", "last": me.last, "file": f"{me.last}, {me.first}",
                "kin": me.kin, "doctor": me.doctor}[whose]  # fmt: skip

    def _word(self, slot: str) -> str:
        sex = {"title": ("Mr.", "Ms."), "he": ("he", "she"), "He": ("He", "She"), "his": ("his", "her"),
               "man": ("man", "woman"), "sex": ("M", "F")}  # fmt: skip
        if slot in sex:
            return sex[slot][self.female]
        if slot in phrases.LEVELS:
            return self.level(*phrases.LEVELS[slot])
        if slot in phrases.OF_SYNDROME:
            return self.choose(phrases.OF_SYNDROME[slot][self.syndrome])
        return str(getattr(self, f"_{slot}")())

    def _service(self) -> str:
        return next(s.service for s in SYNDROMES if s.name == self.syndrome)

    def _history(self) -> str:
        return ", ".join(name.replace("_", " ") for name in self.chronic) or "no significant history"

    def _code(self) -> str:
        limited = self.goals if self.random.random() < 0.92 else False
        return self.choose(phrases.LIMITED_CODE if limited else phrases.FULL_CODE)

    def _vitals(self) -> str:
        gauss = self.random.gauss
        fever = 98.2 + 0.6 * self.axis("inflammation") + gauss(0, 0.5)
        pulse = 75 + 7 * (self.axis("inflammation") + self.axis("circulatory")) + gauss(0, 8)
        upper = 136 - 12 * self.axis("circulatory") - 6 * self.axis("inflammation") + gauss(0, 10)
        breath = 16 + 3 * self.axis("respiratory") + gauss(0, 2)
        oxygen = min(100.0, 97 - 1.5 * self.axis("respiratory") + gauss(0, 1))
        return (
            f"T {fever:.1f} HR {pulse:.0f} BP {upper:.0f}/{0.56 * upper:.0f} RR {breath:.0f} O2 {oxygen:.0f}%"
        )

    def _labs(self) -> str:
        gauss = self.random.gauss
        white = 8.2 * float(np.exp(0.27 * self.axis("inflammation") + gauss(0, 0.15)))
        creatinine = 0.85 * float(np.exp(0.4 * self.axis("renal") + gauss(0, 0.15)))
        red = 12.6 - 1.4 * self.axis("bleeding") + gauss(0, 0.6)
        return f"WBC {white:.1f}, Hgb {max(red, 4.5):.1f}, Cr {creatinine:.1f}"


_ADMISSION_HEAD = (
    "Name: {name:file}    Unit No: {record}\n"
    "Admission Date: {date:admit}    Date of Birth: {date:birth}    Sex: {sex}\n"
    "Service: {service}\nAttending: Dr. {name:staff}",
    "HISTORY AND PHYSICAL\nPatient: {name:full} (MRN {record}), DOB {date:birth}\nSeen {date:admit} by {name:staff}",
    "ADMIT NOTE {date:admit}\nPt: {name:full}  MRN: {record}  PCP: {name:doctor}",
)
_DISCHARGE_HEAD = (
    "Name: {name:full}   Unit No: {record}\nAdmission Date: {date:admit}   Discharge Date: {date:discharge}\n"
    "Date of Birth: {date:birth}   Sex: {sex}\nService: {service}\nAttending: {name:staff}.",
    "DISCHARGE SUMMARY for {name:file}, MRN {record}\n{date:admit} to {date:discharge}, {service}",
)
_HPI = (
    "HPI: {title} {name:last} is a {age} year old {man} with {history} who presents with {complaint}.",
    "HPI: {age} y/o {sex} w/ PMH of {history} p/w {complaint}. History from {name:kin}, pt is a poor historian.",
    "CC: {complaint}\nHPI: {name:full} is a {age}-year-old {man}, PMHx {history}. Symptoms began on {date:onset}.",
)
_SOCIAL = (
    "Social: {support} {adherence} Home address {address}.",
    "SH: {support} HCP is {name:kin}, {phone:kin}. {adherence}",
    "Social History: {support} {adherence} Best reached at {phone:home} or {email}.",
)
_FOLLOW_UP = (
    "Follow-up: Dr. {name:doctor} on {date:follow}, office {phone:doctor}.",
    "Appointments: PCP {name:doctor} {date:follow}; please call {phone:doctor} to confirm.",
    "Follow up with {name:doctor} within 2 weeks. Results at {url}.",
)


def admission_note(draft: Draft) -> None:
    """Writes a history and physical."""
    draft.line(*_ADMISSION_HEAD)
    draft.line(*_HPI)
    draft.line("Functional status: {frailty}", "Baseline: {frailty}")
    draft.line(*_SOCIAL)
    draft.line("Physical exam: {vitals}", "VS: {vitals}", "On arrival {vitals}.")
    draft.line("Gen: {appearance}", "General: {appearance}", "GENERAL APPEARANCE: {appearance}")
    draft.line(*phrases.EXAM)
    draft.line("Labs notable for {labs}.", "Pertinent results: {labs}")
    draft.line(
        "A/P: {age} {sex} with {complaint}. " + phrases.PLAN[0],
        *(f"A/P: {plan}" for plan in phrases.PLAN[1:]),
    )
    draft.line("Code status: {code}", "CODE: {code}")
    draft.line(
        "{name:staff}, MD, dictated {date:admit}", "Electronically signed by {name:staff} on {date:admit}"
    )


_REGIONS: tuple[tuple[str, Axis], ...] = (
    ("lungs", "respiratory"),
    ("head", "neurologic"),
    ("abdomen", "hepatic"),
)


def radiology_report(draft: Draft, facts: VisitFacts) -> None:
    """Writes a report of the region whose organ is mostly the worst."""
    region, worst = max(_REGIONS, key=lambda choice: facts.axis(choice[1]) + 0.5 * facts.random.gauss(0, 1))
    title, normal, abnormal = phrases.RADIOLOGY[region]
    draft.line(f"EXAMINATION: {title}")
    draft.line("INDICATION: {age} year old {man} with {complaint}.", "HISTORY: {complaint}")
    draft.line("COMPARISON: {date:onset}.", "COMPARISON: None.")
    draft.line("FINDINGS AND IMPRESSION:")
    draft.line(*(abnormal if facts.axis(worst) + facts.random.gauss(0, 0.4) > 1.6 else normal))
    draft.line("Discussed with Dr. {name:staff} by telephone on {date:admit} at 3:40 PM.", "No comparison changes.",
               "Read by {name:staff}, MD.")  # fmt: skip


def discharge_summary(draft: Draft, facts: VisitFacts) -> None:
    """Writes a discharge summary, or the summary of a patient who died."""
    draft.line(*_DISCHARGE_HEAD)
    draft.line(*_HPI)
    draft.line("Past Medical History: {history}", "PMH: {history}")
    draft.line(
        "Brief Hospital Course: {course}",
        "Hospital course: {title} {name:last} was admitted with {complaint}. {course}",
    )
    if facts.died:
        draft.line("The patient expired on {date:discharge} with {name:kin} at the bedside.",
                   "Pronounced dead on {date:discharge}; family notified at {phone:kin}.")  # fmt: skip
        return
    draft.line("Condition on discharge: {frailty} Mental status clear.", "Activity: {frailty}")
    draft.line(*_SOCIAL)
    draft.line("Code status: {code}", "Goals of care: {code}")
    draft.line(*phrases.INSTRUCTIONS)
    draft.line(*_FOLLOW_UP)


def generate_notes(
    seed: int, block: int, subjects: Subjects, visits: Visits, encounters: Encounters
) -> list[SyntheticNote]:
    """All notes of a block of patients, in order of patient, visit and time."""
    random = Random(f"{seed}-{block}-notes")
    identities = [draw_identity(random, bool(female)) for female in subjects.female]
    notes: list[SyntheticNote] = []
    for row in range(len(visits)):
        facts = _facts(random, identities[visits.subject[row]], subjects, visits, row)
        notes += _visit_notes(facts, int(subjects.subject_id[visits.subject[row]]), encounters, row)
    return notes


def _facts(random: Random, identity: Identity, subjects: Subjects, visits: Visits, row: int) -> VisitFacts:
    who, admit, discharge = (int(values[row]) for values in (visits.subject, visits.admit, visits.discharge))
    return VisitFacts(
        random=random,
        identity=identity,
        female=bool(subjects.female[who]),
        age=int(visits.age[row]),
        times={"admit": admit, "discharge": discharge, "birth": int(subjects.birth[who]),
               "onset": admit - int(1 + 6 * random.random()) * DAY,
               "follow": discharge + int(4 + 17 * random.random()) * DAY},
        latent={"unwell": float(visits.unwell[row]), "frailty": float(subjects.frailty[who]),
                "isolation": -float(subjects.support[who]), "neglect": -float(subjects.adherence[who])},
        goals=bool(visits.goals[row]),
        died=bool(visits.died[row]),
        syndrome=SYNDROMES[visits.syndrome[row]].name,
        chronic=tuple(c.name for c, present in zip(CHRONIC, subjects.chronic[who], strict=True) if present)[:6],
        axes=visits.axes_at(np.array([row]), np.array([admit]))[0],
    )  # fmt: skip


def _visit_notes(facts: VisitFacts, subject_id: int, encounters: Encounters, row: int) -> list[SyntheticNote]:
    """The notes of a visit: 94 % of visits have an admission note, 60 % a radiology report and 96 % a summary."""
    random, admit, discharge = facts.random, facts.times["admit"], facts.times["discharge"]
    first = int(encounters.hadm_id[row])
    last = int(encounters.second_hadm_id[row]) or first
    notes = list[SyntheticNote]()

    def add(draft: Draft, hadm_id: int, kind: str, charted: int, stored: int) -> None:
        notes.append(SyntheticNote(subject_id, hadm_id, kind, charted, stored, *draft.finish()))

    if random.random() < 0.94:
        admission_note(draft := Draft(facts))
        charted = min(admit + int((0.5 + 5 * random.random()) * 60) * MINUTE, discharge)
        add(draft, first, ADMISSION, charted, charted + _delay(random, 60))
    if random.random() < 0.6:
        radiology_report(draft := Draft(facts), facts)
        charted = min(admit + int(8 * random.random() * 60) * MINUTE, discharge)
        add(draft, first, RADIOLOGY, charted, charted + _delay(random, 110))
    if random.random() < 0.96:
        discharge_summary(draft := Draft(facts), facts)
        ready = random.random() < 0.7
        stored = discharge - int(random.random() * 50) * MINUTE if ready else discharge + _delay(random, 600)
        add(draft, last, DISCHARGE, discharge, stored)
    return notes


def _delay(random: Random, median_minutes: float) -> int:
    return min(int(median_minutes * random.lognormvariate(0, 0.8)) + 1, 10 * 24 * 60) * MINUTE


def note_frame(notes: list[SyntheticNote], kind: str) -> pl.DataFrame:
    """The notes of one kind in the columns of MIMIC-IV-Note."""
    of_kind = [note for note in notes if note.kind == kind]
    frame = pl.DataFrame({
        "subject_id": pl.Series([n.subject_id for n in of_kind], dtype=pl.Int64),
        "hadm_id": pl.Series([n.hadm_id for n in of_kind], dtype=pl.Int64),
        "note_type": pl.Series([kind] * len(of_kind), dtype=pl.String),
        "charttime": moments(np.array([n.charted for n in of_kind], dtype=np.int64)),
        "storetime": moments(np.array([n.stored for n in of_kind], dtype=np.int64)),
        "text": pl.Series([n.text for n in of_kind], dtype=pl.String),
    })  # fmt: skip
    return frame.with_columns(pl.int_range(1, pl.len() + 1).over("subject_id").alias("note_seq")).select(
        pl.format("{}-{}-{}", "subject_id", "note_type", "note_seq").alias("note_id"),
        "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text",
    )  # fmt: skip
