"""Arms: which patients or questions a version is drawn for, the same ones each time, on every server."""

import hashlib
import json
from collections.abc import Sequence

from mediscale.inference.chat_template import Message
from serving.requests.fhir_bundle import Bundle
from serving.requests.request import Patient, Values

_PREFIX = "Patient/"
"""Of a FHIR reference: the same patient has the same arm by every route."""
_NOTE_CHARACTERS = 1000
"""Of a note that tell it from others; to read a megabyte here would keep everybody waiting."""


def subject_key(request: Values | Patient | Bundle) -> str:
    """The key by which a request is assigned to an arm: its patient or, where plain values name nobody, the values;
    of a note alone, how it begins."""
    if isinstance(request, Values):
        if request.note and not request.given:
            return request.note[:_NOTE_CHARACTERS]
        return json.dumps(request.given, sort_keys=True)
    name = request.source_id if isinstance(request, Patient) else request.patient
    return name.removeprefix(_PREFIX)


def question_key(turns: Sequence[Message]) -> str:
    """The key by which a question is assigned to an arm: the first turn, so that a conversation stays in one arm."""
    return next((turn["content"] for turn in turns if turn["role"] == "user"), "")


def is_drawn(salt: str, key: str, percent: float) -> bool:
    """Whether a key is among the first ``percent`` of all by their salted hash: who is among 5 is among 20, too."""
    position = int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8]) / 2**64
    return position * 100 < percent
