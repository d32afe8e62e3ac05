"""Leak certificate: what was checked about one frozen training set, and whether all of it passed."""

from collections.abc import Sequence

from mediscale.core.annotations import PatientCount
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.tasks import TaskName
from training.evidence_files import Keyed

CERTIFICATE_FILE = "leak_certificate.json"


class Check(Frozen):
    """One thing that has to hold. No patient's value or identifier is in it, and no small count."""

    name: str
    asks: str
    """What has to hold, as a sentence without its full stop."""
    passed: bool
    shown: str
    """What was seen, in a few words."""
    judged: bool = True
    """False where there was too little to see anything: nothing speaks against the training set, and nothing for it."""

    @property
    def title(self) -> str:
        """The name of the check as words."""
        return self.name.replace("_", " ")

    @property
    def verdict(self) -> str:
        """The outcome of the check in a word."""
        return "FAILED" if not self.passed else "passed" if self.judged else "not judged"


class SinglePredictor(Frozen):
    """A feature, or a token of the notes, that tells the outcome implausibly well by itself: a person looks at it."""

    name: str
    auroc: float
    low: float
    """Lower end of the 95 % interval."""


class LeakCertificate(Keyed):
    """What ``training/leakage/leakage.py`` found out about one training set."""

    dataset: str
    task: TaskName
    training_set: TableRef
    """The one version of the one table that it is about."""
    sampled: PatientCount
    """Stays, each of another patient, whose whole record was computed again."""
    checks: tuple[Check, ...]
    findings: tuple[SinglePredictor, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def unjudged(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.judged)

    @property
    def passed(self) -> bool:
        """Whether there are checks, and all of them passed."""
        return bool(self.checks) and not self.failed


def check(name: str, asks: str, problems: Sequence[str], otherwise: str) -> Check:
    """The check that passes where there is no problem; ``otherwise`` is what it shows then."""
    sentence = "; ".join(problems)
    return Check(name=name, asks=asks, passed=not sentence, shown=sentence or otherwise)
