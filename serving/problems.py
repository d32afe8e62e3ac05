"""Problems of a server's background work: /health names each until a later round of the work succeeds."""

import logging
from collections.abc import Callable

from prometheus_client import Counter

from mediscale.core.errors import MediscaleError, failure_location

WHAT_FAILED = {
    "files": "The files of the served versions can't be read; they are served from memory.",
    "log": "The prediction log can't be written, so no prediction can be answered.",
    "history": "The promotion history can't be read; what was served before is served.",
    "flush": "The lake does not take the prediction log; it is kept on this machine and tried again.",
    "certificate": "The server's certificate can't be checked.",
    "keys": "The file of API keys can't be read; no API key is accepted.",
    "clock": "The clock of the identity provider can't be compared.",
    "language": "The files or the engine of the language version can't be checked.",
    "language history": "The promotion history of the language model can't be read; what was served is served.",
    "refusals": "Which versions other servers refuse can't be exchanged through the lake.",
    "language refusals": "Whether other servers refuse the language version can't be exchanged through the lake.",
    "patients": "Whom the lake knows can't be read from it; answers to FHIR bundles go out under no patient.",
    "documents": "The index of documents can't be opened; what was open answers.",
    "performance": "How good the answers were can't be read from the lake; the numbers in /metrics stay as they are.",
    "nights": "How the nights ended can't be read from the lake; the numbers in /metrics stay as they are.",
    "metrics": "The numbers in /metrics can't be set; they stay as they are.",
    "left behind": "The lake does not take what earlier servers logged; it is kept on this machine.",
}
"""By kind of work, what a person reads where the failure has no sentence of its own."""

log = logging.getLogger("mediscale.serving")


class Problems:
    """The work that failed last time, by its kind."""

    def __init__(self, failures: Counter) -> None:
        """``failures`` counts them by kind of work."""
        self._failures = failures
        self._sentences: dict[str, str] = {}

    def attempt(self, work: str, do: Callable[[], object]) -> None:
        """Does a round of background work; a failure is kept until a later round succeeds."""
        try:
            do()
        except Exception as error:
            self.note(work, error)
        else:
            self.end(work)

    def note(self, work: str, error: Exception) -> None:
        """Keeps a failure; one that is new is logged."""
        self._failures.labels(work).inc()
        text = (
            str(error)
            if isinstance(error, MediscaleError)
            else f"{WHAT_FAILED[work]} ({failure_location(error)})"
        )
        if self._sentences.get(work) != text:
            log.warning("%s", text)
        self._sentences[work] = text

    def end(self, work: str) -> None:
        """The work succeeded."""
        self._sentences.pop(work, None)

    def __contains__(self, work: str) -> bool:
        return work in self._sentences

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._sentences.values())
