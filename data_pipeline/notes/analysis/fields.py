"""The typed fields of a note, each with the span that supports it."""

from typing import Literal

from data_pipeline.notes.analysis.medication_status import MedicationStatus
from mediscale.core.refs import Frozen

Status = Literal["present", "absent", "family"]
"""Whether the patient has it, has it not, or a relative has it."""
Urgency = Literal["routine", "urgent", "emergency"]
VitalKind = Literal[
    "blood pressure", "heart rate", "respiratory rate", "temperature", "oxygen saturation", "weight"
]


class Evidence(Frozen):
    """Characters ``start`` to before ``end`` of the note support a field."""

    start: int
    end: int


class ClinicalFinding(Evidence):
    """A symptom or a condition, by the name that is usual for it."""

    name: str
    status: Status
    is_history: bool = False
    """Whether the note puts it into the past."""


class Medication(Evidence):
    """A drug with what the note says of its use; empty where it says nothing."""

    name: str
    """The name as it is written."""
    drugs: tuple[str, ...] = ()
    """Nonproprietary names, where a table has them."""
    dose: str = ""
    route: str = ""
    frequency: str = ""
    status: MedicationStatus = "taken"
    """Whether the patient takes it, or what else the last word on it says."""


class Vital(Evidence):
    """A vital sign as it is written."""

    kind: VitalKind
    value: str
    """``<`` or ``>`` stands before what is only a bound."""
    unit: str = ""
    """Of a temperature or weight, where the note says it: ``°C``, ``°F``, ``kg``, ``lb`` or ``g``."""


class Statement(Evidence):
    """A sentence of the note."""

    text: str


class RiskFactor(Evidence):
    """A factor that raises the urgency or the risk stratum."""

    name: str


class RiskStratum(Frozen):
    """A coarse stratum by counted factors; it is no predicted probability."""

    level: Literal["low", "moderate", "high"]
    factors: tuple[RiskFactor, ...]


class NoteAnalysis(Frozen):
    """The fields of one note."""

    summary: tuple[Statement, ...]
    symptoms: tuple[ClinicalFinding, ...]
    conditions: tuple[ClinicalFinding, ...]
    medications: tuple[Medication, ...]
    vitals: tuple[Vital, ...]
    recommendations: tuple[Statement, ...]
    urgency: Urgency
    urgency_factors: tuple[RiskFactor, ...]
    risk: RiskStratum
