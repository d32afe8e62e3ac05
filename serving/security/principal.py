"""Principals: who asks, in which roles, and for which purposes a patient's data is used."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args


class Role(StrEnum):
    """What somebody may do; nobody has a role because of another one."""

    CLINICIAN = "clinician"
    """Asks for patients' risks."""
    ENGINEER = "engineer"
    """Operates the server: health and numbers. What scrapes metrics has this role, and no other."""
    APPROVER = "approver"
    """Approves of a version, as the second pair of eyes. Never had without a key or token of one's own."""
    AUDITOR = "auditor"
    """Looks at what is served and who decided it."""


Purpose = Literal["treatment", "operations", "research", "quality"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are."""

    actor: str
    """The person, system or account, as the history names it."""
    credential: str
    """What proved it, without telling it: ``key 1a2b3c4d``, ``token`` or ``account``."""
    roles: frozenset[Role]
    default_purpose: Purpose = "treatment"
    name: str = field(init=False)
    """Both, as the prediction log names whoever asked."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.actor} ({self.credential})")


class RefusedError(Exception):
    """A request that is refused before anything was done for it."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
