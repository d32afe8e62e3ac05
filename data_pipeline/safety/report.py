"""The safety report: what the layers of checks say of one question or one answer."""

from typing import Literal

from mediscale.core.refs import Frozen

RiskLevel = Literal["none", "low", "moderate", "high", "emergency"]
RISK_LEVELS: tuple[RiskLevel, ...] = ("none", "low", "moderate", "high", "emergency")
"""From the least to the most."""

DISCLAIMER = (
    "This is general information and no diagnosis or treatment. A clinician must review it before its use."
)
"""Stands under every answer."""


class PatientContext(Frozen):
    """The patient whom a question is about, as far as known; it refines interactions and doses."""

    age_years: float | None = None
    weight_kg: float | None = None
    medications: tuple[str, ...] = ()
    """Drugs by any name, brand names too."""
    conditions: tuple[str, ...] = ()


class Finding(Frozen):
    """A finding of a layer about one place."""

    message: str
    """One sentence for the person who asked; it quotes nothing of the text."""
    start: int
    """Characters ``start`` to before ``end`` of the text, or of the source; both 0 where the patient context speaks."""
    end: int
    risk: RiskLevel
    code: str
    """The kind of finding, such as the severity of an interaction."""
    source: int | None = None
    """The number of the source document, from 0, where the place is in one and not in the text."""


class LayerFinding(Frozen):
    """The findings of one layer about a text."""

    layer: str
    findings: tuple[Finding, ...] = ()
    message: str = ""
    """What follows for the answer; empty where there is no finding."""
    blocks: bool = False
    """Whether the text must not be answered, or not be shown."""
    first: str = ""
    """What must precede the answer, or replace it where the layer blocks."""


class SafetyReport(Frozen):
    """The findings of all layers together."""

    risk_level: RiskLevel
    warnings: tuple[str, ...]
    """One sentence each, the most urgent first."""
    layers: tuple[LayerFinding, ...]
    """The layers that have findings, in the order in which they were applied."""
    blocks: bool
    """Whether the question must not be answered, or the answer not be shown."""
    first: str
    """What must precede the answer, or replace it where ``blocks``; empty if nothing."""
    needs_clinician_review: Literal[True] = True
    disclaimer: str = DISCLAIMER
