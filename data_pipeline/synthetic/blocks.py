"""Blocks of synthetic patients: the rows of every table, drawn from the causal model of ``patients``.

The same arguments give the same rows, and a block is drawn without those before it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial

import polars as pl

from data_pipeline.synthetic import clinical_notes, hospital, laboratory, treatments, vital_signs
from data_pipeline.synthetic.clinical_notes import SyntheticNote
from data_pipeline.synthetic.frames import stream
from data_pipeline.synthetic.patients import DAYS, Subjects, Visits, draw_subjects, simulate, truth

Draw = Callable[[], pl.DataFrame]

BLOCK = 3_000
"""Patients that are generated at a time, so that the large size needs no more memory than the small one."""


@dataclass(frozen=True)
class Block:
    """A block of patients: their rows of every table, true risks, and notes."""

    draws: Mapping[str, Draw]
    """What draws the rows of each table, by its path without extension: no two need be in memory at once."""
    draw_notes: Callable[[], list[SyntheticNote]]
    truth: pl.DataFrame
    subjects: int
    visits: int

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The rows of every table."""
        return {name: draw() for name, draw in self.draws.items()}

    @property
    def notes(self) -> list[SyntheticNote]:
        """All notes, in order of patient, visit and time."""
        return self.draw_notes()


def generate(subjects: int, seed: int, days: int | None = None) -> Iterator[Block]:
    """All tables of a synthetic hospital in blocks of patients, as a pure function of the arguments.

    ``subjects`` is their number, and ``days`` the days in which they come for the first time (None: ``patients.DAYS``).
    """
    days = days or DAYS
    for block, first in enumerate(range(0, subjects, BLOCK)):
        size = min(BLOCK, subjects - first)
        drawn = draw_subjects(stream(seed, block, "subjects"), size, 10_000_000 + 3 * first, days)
        yield _block(seed, block, drawn, simulate(stream(seed, block, "visits"), drawn, days))


def _block(seed: int, block: int, subjects: Subjects, visits: Visits) -> Block:
    random = partial(stream, seed, block)
    encounters = hospital.draw_encounters(random("encounters"), subjects, visits, block)
    clinics = laboratory.draw_clinics(random("clinics"), visits, encounters)
    hospitalised = (subjects, visits, encounters)
    written = cache(partial(clinical_notes.generate_notes, seed, block, *hospitalised))
    draws: dict[str, Draw] = {
        "hosp/patients": lambda: hospital.patients(subjects, visits),
        "hosp/admissions": lambda: hospital.admissions(random("admissions"), *hospitalised),
        "hosp/transfers": lambda: hospital.transfers(random("transfers"), *hospitalised),
        "hosp/services": lambda: hospital.services(*hospitalised),
        "hosp/diagnoses_icd": lambda: hospital.diagnoses_icd(random("diagnoses_icd"), *hospitalised),
        "hosp/procedures_icd": lambda: hospital.procedures_icd(random("procedures_icd"), *hospitalised),
        "hosp/prescriptions": lambda: treatments.prescriptions(random("prescriptions"), *hospitalised),
        "hosp/labevents": lambda: laboratory.labevents(
            random("labevents"), *hospitalised, clinics, block * 2_000_000 + 1
        ),
        "hosp/microbiologyevents": lambda: laboratory.microbiologyevents(
            random("microbiologyevents"), *hospitalised, block * 100_000 + 1
        ),
        "hosp/omr": lambda: laboratory.omr(random("omr"), subjects, visits, clinics),
        "icu/icustays": lambda: hospital.icustays(*hospitalised),
        "icu/chartevents": lambda: vital_signs.chartevents(random("chartevents"), *hospitalised),
        "icu/inputevents": lambda: treatments.inputevents(random("inputevents"), *hospitalised),
        "icu/outputevents": lambda: treatments.outputevents(random("outputevents"), *hospitalised),
        "icu/procedureevents": lambda: treatments.procedureevents(random("procedureevents"), *hospitalised),
        **{table: partial(_note_frame, written, kind) for kind, table in clinical_notes.TABLES.items()},
    }
    if block == 0:
        draws |= {"hosp/d_labitems": laboratory.d_labitems, "icu/d_items": vital_signs.d_items}
    true_risks = truth(subjects, visits, encounters.hadm_id)
    return Block(draws, written, true_risks, len(subjects.subject_id), len(visits))


def _note_frame(written: Callable[[], list[SyntheticNote]], kind: str) -> pl.DataFrame:
    return clinical_notes.note_frame(written(), kind)
