"""Clinical concepts, the same for every hospital: LOINC code, UCUM unit, plausible range, plain names.

A source's YAML maps its own items and units to these concepts; the feature kernel, the quality rules and the
prediction request all speak of them. Ranges are wide limits of what a living adult's record can hold, after the
outlier limits of the MIMIC-Extract project (Wang et al. 2020, doi:10.1145/3368555.3384469); a value outside is
a charting or unit error and goes to quarantine, never clipped. Normal ranges are usual reference ranges of
adults of both sexes; they only decide which bounds, such as "<10", are telling.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

Provides = Literal[
    "laboratory", "vital_signs", "diagnoses", "procedures", "medications", "microbiology", "notes"
]
"""What a source's table may hold, and a task may need."""
FeatureGroup = Literal["laboratory", "vital_signs", "medications", "diagnoses"]
"""What may be out of reach as a whole, when a hospital's system is down: features are of one of these, or of none."""


@dataclass(frozen=True)
class Concept:
    """One measured quantity. ``low`` and ``high`` are inclusive, in ``unit`` (UCUM), as is the ``normal`` range."""

    name: str
    loinc: str
    unit: str
    low: float
    high: float
    aliases: tuple[str, ...] = ()
    normal: tuple[float, float] | None = None
    """The usual range of a healthy adult: a result that is only a bound says something beyond it."""

    @property
    def group(self) -> FeatureGroup:
        """Who measures it: the laboratory, or the ward."""
        return "vital_signs" if self.name in _BEDSIDE else "laboratory"

    @property
    def code(self) -> str:
        """The code of this concept's events in silver, for example ``LOINC//8867-4``."""
        return f"LOINC//{self.loinc}"


SCORE = "{score}"
"""The unit of scores, which are whole numbers."""

_BEDSIDE = frozenset(
    {
        "heart_rate", "systolic_blood_pressure", "diastolic_blood_pressure", "mean_blood_pressure", "respiratory_rate",
        "oxygen_saturation", "temperature", "fio2", "gcs_eye", "gcs_verbal", "gcs_motor", "weight", "height",
        "urine_output",
    }
)  # fmt: skip

CONCEPTS: tuple[Concept, ...] = (
    Concept("heart_rate", "8867-4", "/min", 10, 350, ("pulse", "hr")),
    Concept("systolic_blood_pressure", "8480-6", "mm[Hg]", 20, 375, ("blood_pressure", "sbp")),
    Concept("diastolic_blood_pressure", "8462-4", "mm[Hg]", 5, 250, ("dbp",)),
    Concept("mean_blood_pressure", "8478-0", "mm[Hg]", 10, 330, ("map",)),
    Concept("respiratory_rate", "9279-1", "/min", 1, 120, ("rr",)),
    Concept("oxygen_saturation", "59408-5", "%", 20, 100, ("spo2",), normal=(95, 100)),
    Concept("temperature", "8310-5", "Cel", 26, 45, ("temp",)),
    Concept("fio2", "3150-6", "%", 21, 100, ("inspired_oxygen",)),
    Concept("gcs_eye", "9267-6", SCORE, 1, 4),
    Concept("gcs_verbal", "9270-0", SCORE, 1, 5),
    Concept("gcs_motor", "9268-4", SCORE, 1, 6),
    Concept("weight", "29463-7", "kg", 20, 400),
    Concept("height", "8302-2", "cm", 90, 240),
    Concept("urine_output", "9187-6", "mL", 0, 5000),
    Concept("creatinine", "2160-0", "mg/dL", 0.1, 60, normal=(0.5, 1.2)),
    Concept("urea_nitrogen", "3094-0", "mg/dL", 1, 275, ("bun",), normal=(6, 20)),
    Concept("sodium", "2951-2", "mmol/L", 50, 225, normal=(133, 145)),
    Concept("potassium", "2823-3", "mmol/L", 0.5, 15, normal=(3.3, 5.1)),
    Concept("chloride", "2075-0", "mmol/L", 50, 175, normal=(96, 108)),
    Concept("bicarbonate", "1963-8", "mmol/L", 2, 66, ("hco3",), normal=(22, 32)),
    Concept("anion_gap", "33037-3", "mmol/L", -10, 60, normal=(8, 20)),
    Concept("glucose", "2345-7", "mg/dL", 20, 2200, normal=(70, 105)),
    Concept("hemoglobin", "718-7", "g/dL", 1, 30, normal=(12, 18)),
    Concept("hematocrit", "4544-3", "%", 5, 75, normal=(36, 52)),
    Concept("white_blood_cells", "6690-2", "10*3/uL", 0, 1000, ("wbc",), normal=(4, 11)),
    Concept("platelets", "777-3", "10*3/uL", 0, 2200, normal=(150, 440)),
    Concept("inr", "6301-6", "{INR}", 0.5, 25, normal=(0.9, 1.1)),
    Concept("ptt", "14979-9", "s", 10, 300, normal=(22, 35)),
    Concept("bilirubin", "1975-2", "mg/dL", 0, 66, normal=(0, 1.5)),
    Concept("ast", "1920-8", "U/L", 1, 36000, normal=(0, 40)),
    Concept("alt", "1742-6", "U/L", 1, 30000, normal=(0, 40)),
    Concept("albumin", "1751-7", "g/dL", 0.5, 8, normal=(3.5, 5.2)),
    Concept("lactate", "32693-4", "mmol/L", 0.1, 33, normal=(0.5, 2)),
    Concept("ph", "11558-4", "[pH]", 6.3, 8.4, normal=(7.35, 7.45)),
    Concept("pco2", "11557-6", "mm[Hg]", 5, 250, normal=(35, 45)),
    Concept("po2", "11556-8", "mm[Hg]", 10, 770, normal=(80, 105)),
    Concept("troponin_t", "6598-7", "ng/mL", 0, 100, normal=(0, 0.03)),
    Concept("crp", "1988-5", "mg/L", 0, 1000, normal=(0, 10)),
    Concept("magnesium", "19123-9", "mg/dL", 0.3, 20, normal=(1.6, 2.6)),
    Concept("phosphate", "2777-1", "mg/dL", 0.3, 25, normal=(2.7, 4.5)),
    Concept("calcium", "17861-6", "mg/dL", 3, 25, normal=(8.4, 10.3)),
)

TREATMENTS: tuple[str, ...] = (
    "vasopressor",
    "mechanical_ventilation",
    "antibiotic",
    "insulin",
    "diuretic",
    "opioid",
    "anticoagulant",
    "corticosteroid",
    "renal_replacement",
)
"""Treatment groups; a source maps its drugs and procedures to the code ``TREATMENT//<group>``."""


@cache
def by_name() -> dict[str, Concept]:
    """Every concept under its own name and each of its aliases."""
    named = {concept.name: concept for concept in CONCEPTS}
    return named | {alias: concept for concept in CONCEPTS for alias in concept.aliases}
