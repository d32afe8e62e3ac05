"""Safety in layers: what must be said before an answer, or instead of it.

Each layer is a pure function over a text that returns findings with their places; ``check_request`` and
``check_answer`` apply all of them. A layer that fails blocks.
"""

from data_pipeline.safety.check import check_answer, check_request
from data_pipeline.safety.report import (
    DISCLAIMER,
    Finding,
    LayerFinding,
    PatientContext,
    RiskLevel,
    SafetyReport,
)

__all__ = [
    "DISCLAIMER",
    "Finding",
    "LayerFinding",
    "PatientContext",
    "RiskLevel",
    "SafetyReport",
    "check_answer",
    "check_request",
]
