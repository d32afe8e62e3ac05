"""One line about what a stage did, made from its result alone: counts and references, nothing of a patient."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from mediscale.core.privacy import count


def of(stage: str, result: BaseModel) -> str:
    """The line that progress shows for a finished stage."""
    return HEADLINES[stage](result)


def of_extract(extract: Any) -> str:
    """The line about what a run begins with: the synthetic stage's result, or a hospital's own files."""
    if hasattr(extract, "visits"):
        return HEADLINES["synthetic"](extract)
    return f"{extract.source} files read once for their digest {extract.extract_digest[:12]}"


def _bronze(result: Any) -> str:
    absent = f"; not in the extract: {', '.join(result.absent)}" if result.absent else ""
    return f"{result.rows:,} rows of {len(result.bronze)} tables landed as they came{absent}"


def _quality(result: Any) -> str:
    worst = sorted(result.reasons.items(), key=lambda item: -item[1])[:3]
    reasons = ", ".join(f"{count(n)} {name}" for name, n in worst)
    return f"{result.judged:,} facts judged, {count(result.quarantined)} in quarantine ({reasons or 'none'})"


def _labels(result: Any) -> str:
    return f"{count(result.at_risk)} stays at risk, {count(result.positives)} with the outcome"


def _training_set(result: Any) -> str:
    splits = (f"{split} {count(of['n'])}/{count(of['events'])}" for split, of in result.counts.items())
    return f"stays/outcomes: {', '.join(splits)}"


def _evaluate(result: Any) -> str:
    auroc = result.metrics.get("auroc")
    return "held-out AUROC " + (f"{auroc:.3f}" if auroc is not None else "not estimable")


HEADLINES: Mapping[str, Callable[[Any], str]] = {
    "synthetic": lambda r: f"{r.visits:,} visits of {r.patients:,} made-up patients",
    "bronze": _bronze,
    "quality": _quality,
    "silver": lambda r: f"{r.event_count:,} events in {r.shards} shards of patients",
    "deidentify": lambda r: (
        f"{count(r.note_count)} notes, {r.replaced:,} identifiers replaced; {count(r.notes_quarantined)} set aside"
        if r.notes
        else "no notes in the extract"
    ),
    "note_tokens": lambda r: (
        f"{r.token_count:,} tokens for {r.encoder.name}" if r.note_tokens else "no notes"
    ),
    "labels": _labels,
    "gold": lambda r: (
        f"features as known then; {r.audited:,} rows recomputed without the future, {r.leaks} differ"
    ),
    "training_set": _training_set,
    "risk_model": lambda r: f"{r.model} registered",
    "note_model": lambda r: f"{r.note_model.model} registered" if r.note_model else "no notes to train on",
    "combination": lambda r: r.reason,
    "evaluate": _evaluate,
    "promotion": lambda r: r.reason,
    "rehearsal": lambda r: f"{r.answered:,} predictions answered and logged in {len(r.windows)} windows",
    "rounds": lambda r: f"{count(r.asked)} patients asked about",
    "drift": lambda r: r.summary,
    "retrain": lambda r: r.reason,
}
