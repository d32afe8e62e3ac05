"""Sections of the report on clinical notes: de-identification, tokenization and what the note model added."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mediscale.core.settings import Settings
from mediscale.core.tables import NOTES
from mediscale.storage import lake, registry
from mediscale.storage.lineage import Run
from training.notes.note_mlflow_model import WORDS_FILE


@dataclass(frozen=True)
class NoteCounts:
    """Counts of the notes of the extract: de-identified, quarantined, tokenized."""

    notes: int
    identifiers: int
    """Replaced by surrogates, in all notes."""
    quarantined: int
    reasons: tuple[tuple[str, str, int], ...]
    """Rule, what every usable note fulfils, and how many notes broke it."""
    tokens: int
    encoder: str


@dataclass(frozen=True)
class CombinedModel:
    """A task's note model beside its table model."""

    reads: bool
    """The decided version reads notes."""
    reason: str
    model: str
    network: str
    """What part of which encoder it is."""
    words: Mapping[str, float]
    """What words added to the log-odds on average; empty where the artifacts are not in reach."""


def read(run: Run) -> NoteCounts | None:
    """The counts of the extract's notes, or None where it had none."""
    scrubbed, tokens = run.newest("deidentify"), run.newest("note_tokens")
    if scrubbed is None or tokens is None or scrubbed.result["notes"] is None:
        return None
    meanings = {rule.name: rule.meaning for rule in NOTES.all_rules}
    broken = sorted(scrubbed.result["reasons"].items(), key=lambda item: (-item[1], item[0]))
    return NoteCounts(
        notes=scrubbed.result["note_count"],
        identifiers=scrubbed.result["replaced"],
        quarantined=scrubbed.result["notes_quarantined"],
        reasons=tuple((name, meanings.get(name, name), n) for name, n in broken),
        tokens=tokens.result["token_count"],
        encoder=tokens.result["encoder"]["name"],
    )


def combined(settings: Settings, run: Run, task: str) -> CombinedModel | None:
    """The note model of a task, or None where there was none."""
    trained, together = run.newest("note_model", task), run.newest("late_fusion", task)
    if trained is None or together is None or trained.result["note_model"] is None:
        return None
    notes = trained.result["note_model"]
    return CombinedModel(
        reads=together.result["reads_notes"],
        reason=together.result["reason"],
        model=f"{notes['model']['name']} v{notes['model']['version']}",
        network=_network(trained.params),
        words=_words(settings, notes["model"]["uri"]),
    )


def _network(params: Mapping[str, Any]) -> str:
    """A note network in words, from the parameters of its fit.

    >>> _network({"encoder": {"name": "a BERT"}, "layers": 2})
    'the lowest 2 layers of a BERT'
    """
    some = {0: "all layers", 1: "the lowest layer"}
    layers = some.get(params["layers"], f"the lowest {params['layers']} layers")
    return f"{layers} of {params['encoder']['name']}"


def _words(settings: Settings, uri: str) -> dict[str, float]:
    try:
        scores = json.loads(lake.read_whole(f"{registry.locate(settings, uri)}/{WORDS_FILE}"))
        return {str(word): float(score) for word, score in scores.items()}
    except (OSError, ValueError):
        return {}
