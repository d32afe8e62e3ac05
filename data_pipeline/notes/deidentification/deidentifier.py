"""The deidentifier: what replaces identifiers in one patient's notes, and how a hospital puts another in its place."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from data_pipeline.notes.deidentification.deidentified_note import DeidentifiedNote
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings

RULES = "rules"
"""The setting that selects our own deidentifier, ``rule_based``."""


class Deidentifier(Protocol):
    """Replaces the identifiers in notes; it is made of the secret that surrogates are derived from."""

    def deidentify(
        self, subject_id: int, texts: Sequence[str], written: Sequence[datetime]
    ) -> list[DeidentifiedNote]:
        """All notes of one patient, in order, with surrogates; ``written`` gives the time of each note.

        The same patient, notes and secret give the same result in every process.
        """
        ...


def configured(settings: Settings) -> str:
    """The deidentifier that the settings name, with a digest of its module: other code replaces the notes anew.

    Raises:
        UsageError: there is no such module.
    """
    name = settings.deidentifier
    return name if name == RULES else f"{name}@{_module_digest(name)}"


def load(deidentifier: str, secret: bytes) -> Deidentifier:
    """The deidentifier that ``configured`` named.

    Raises:
        UsageError: it is not installed here, or it is not the code that was named.
    """
    if deidentifier == RULES:
        from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier

        return RuleBasedDeidentifier(secret)
    name, _, digest = deidentifier.partition("@")
    if digest != _module_digest(name):
        raise UsageError(
            f"The deidentifier {name} has other code here than where the run began; install the same version on every "
            "machine of the run."
        )
    module, _, factory = name.partition(":")
    make = getattr(import_module(module), factory, None)
    if not callable(make):
        raise UsageError(
            f"The module {module} of MEDISCALE_DEIDENTIFIER has no {factory!r} that can be called."
        )
    return cast("Deidentifier", make(secret))


def _module_digest(name: str) -> str:
    module, _, factory = name.partition(":")
    try:
        spec = find_spec(module) if module and factory else None
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(
            f"MEDISCALE_DEIDENTIFIER is {name!r}; it must be {RULES!r}, or the module and the factory of a "
            "deidentifier that is installed here, such as hospital.deidentification:make."
        )
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:12]
