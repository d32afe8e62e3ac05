"""F1 of each field of the note analysis, on notes that were labelled before its rules were written.

    .venv/bin/python -m benchmarks.note_analysis [--mtsamples FILE]

Prints figures only, with the 95 % interval of a bootstrap over notes. A name counts as right where it, or the words
of the note that it stands for, has all words of the label, or the label all of its; a recommendation where they share
half of the label's words.
Two people labelled them, who had seen neither the rules nor each other's labels: the second table has their agreement,
as the F1 of the second's labels by those of the first, and the F1 of the rules by the second's labels.
The labels are in ``tests/blind/note_fields.yaml`` and ``note_fields_second.yaml``, the texts in mtsamples.csv.gz (CC0).
"""

import argparse
import csv
import gzip
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from data_pipeline.notes.analysis import NoteAnalysis, analyze
from data_pipeline.notes.analysis.fields import ClinicalFinding

LABELS = Path("tests/blind/note_fields.yaml")
SECOND = Path("tests/blind/note_fields_second.yaml")
MTSAMPLES = Path("../shared/data/mtsamples/mtsamples.csv.gz")
RESAMPLES = 2000
Match = Callable[[str, str], bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mtsamples", type=Path, default=MTSAMPLES)
    labels = yaml.safe_load(LABELS.read_text(encoding="utf-8"))
    path = parser.parse_args().mtsamples
    if not path.is_file():
        print(f"There is no file {path}, so nothing is measured; --mtsamples names it.")
        return
    texts = transcriptions(path)
    notes = [text_of(label, texts) for label in labels]
    analyze(notes[0])  # what is read and compiled once
    before = time.process_time()
    analyses = [analyze(note) for note in notes]
    milliseconds = 1000 * (time.process_time() - before) / len(notes)
    by_note = {label["note_id"]: label for label in yaml.safe_load(SECOND.read_text(encoding="utf-8"))}
    second = [by_note[label["note_id"]] for label in labels]
    columns = "labels", "found", "precision", "recall", "F1", "95 % interval of F1"
    table, people = Table("field", *columns), Table("field", "F1 of", *columns)
    for name, (of_label, of_analysis, match) in FIELDS.items():
        first_values, second_values = [of_label(one) for one in labels], [of_label(one) for one in second]
        by_rules = [of_analysis(analysis, note) for analysis, note in zip(analyses, notes, strict=True)]
        counts = counted(first_values, by_rules, match)
        table.add_row(name, *figures(counts))
        agreement = counted(first_values, second_values, match)
        people.add_row(name, "the second labeller, by the first", *figures(agreement))
        people.add_row(
            "", "the rules, by the second labeller", *figures(counted(second_values, by_rules, match))
        )
        print(
            f"figure: F1 of {name} = {f1(counts.sum(axis=0)):.3f}\nfigure: labels of {name} = {counts[:, 1].sum()}\n"
            f"figure: agreement on {name} = {f1(agreement.sum(axis=0)):.3f}"
        )
    right = [label["urgency"] == analysis.urgency for label, analysis in zip(labels, analyses, strict=True)]
    alike = sum(one["urgency"] == other["urgency"] for one, other in zip(labels, second, strict=True))
    Console().print(table)
    Console().print(people)
    urgency = {"urgency right": sum(right), "urgency alike": alike, "notes": len(right)}
    for what, number in urgency.items():
        print(f"figure: {what} = {number}")
    print(f"figure: ms a note = {milliseconds:.1f}")
    print(
        f"urgency: {sum(right)} of {len(right)} right, {alike} alike by two people; {milliseconds:.1f} ms of CPU a note"
    )


def transcriptions(path: Path) -> dict[int, str]:
    """The texts by number."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {int(row["note_id"]): row["transcription"] for row in csv.DictReader(file)}


def text_of(label: dict[str, Any], texts: dict[int, str]) -> str:
    """The text that was labelled; another one under its number is an error."""
    text = texts[label["note_id"]]
    if hashlib.sha256(text.encode()).hexdigest() != label["sha256"]:
        raise SystemExit(f"Note {label['note_id']} is not the text that was labelled.")
    return text


def words(text: str) -> list[str]:
    """Words in lower case, plurals as singulars."""
    return [word.removesuffix("s") for word in re.findall(r"[a-z0-9.%/]+", text.lower())]


def same_name(label: str, found: str) -> bool:
    """Whether one name has all words of the other; ``found`` is the usual name, a bar, and the words of the note."""
    a = set(words(label))
    return any(a <= b or b <= a for b in (set(words(name)) for name in found.split("|")) if b)


def same_value(label: str, found: str) -> bool:
    """Whether two values are the same but for blanks, dots and case."""
    return re.sub(r"[\s.,]", "", label.lower()) == re.sub(r"[\s.,]", "", found.lower())


def same_vital(label: str, found: str) -> bool:
    """Whether kind and number are the same."""
    (kind, *number), (found_kind, *found_number) = (
        (name.partition("=")[0], *re.findall(r"\d[\d./]*", name)[:1]) for name in (label, found)
    )
    return kind == found_kind and bool(number) and [n.rstrip(".") for n in number] == found_number


def same_statement(label: str, found: str) -> bool:
    """Whether a statement has half of the label's words."""
    a = set(words(label))
    return len(a & set(words(found))) >= len(a) / 2


def matches(labels: Sequence[str], found: Sequence[str], match: Match) -> tuple[int, int, int]:
    """Labels that are found, labels, and found ones; each found one stands for one label."""
    rest, hits = list(found), 0
    for label in labels:
        hit = next((name for name in rest if match(label, name)), None)
        if hit is not None:
            rest.remove(hit)
            hits += 1
    return hits, len(labels), len(found)


def counted(labels: Sequence[Sequence[str]], found: Sequence[Sequence[str]], match: Match) -> np.ndarray:
    """Of each note (n, 3): labels that are found, labels, and found ones."""
    return np.array([matches(*of_note, match) for of_note in zip(labels, found, strict=True)])


def f1(sums: np.ndarray) -> float:
    """Harmonic mean of precision and recall, from labels that are found, labels, and found ones."""
    hits, labels, found = sums
    return float(2 * hits / max(labels + found, 1))


def figures(counts: np.ndarray) -> tuple[str, ...]:
    """Numbers, precision, recall, F1 and its interval, as text."""
    hits, labels, found = counts.sum(axis=0)
    draws = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    sums = counts[draws].sum(axis=1)
    low, high = np.quantile(2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1), [0.025, 0.975])
    shares = f"{hits / max(found, 1):.2f}", f"{hits / max(labels, 1):.2f}", f"{f1(counts.sum(axis=0)):.2f}"
    return str(labels), str(found), *shares, f"{low:.2f} to {high:.2f}"


def _names(note: str, findings: Iterable[ClinicalFinding], status: str) -> list[str]:
    return [f"{f.name}|{note[f.start : f.end]}" for f in findings if f.status == status]


def _of_drugs(label: dict[str, Any], part: str) -> list[str]:
    return [f"{drug['name']}|{drug[part]}" for drug in label["medications"] if drug.get(part)]


def _found_of_drugs(analysis: NoteAnalysis, part: str) -> list[str]:
    return [f"{drug.name}|{getattr(drug, part)}" for drug in analysis.medications if getattr(drug, part)]


def _same_use(label: str, found: str) -> bool:
    name, _, value = label.partition("|")
    found_name, _, found_value = found.partition("|")
    return same_name(name, found_name) and same_value(value, found_value)


Field = tuple[Callable[[dict[str, Any]], list[str]], Callable[[NoteAnalysis, str], list[str]], Match]
FIELDS: dict[str, Field] = {
    "symptoms": (
        lambda label: label["symptoms"],
        lambda a, note: _names(note, a.symptoms, "present"),
        same_name,
    ),
    "conditions": (
        lambda label: label["conditions"],
        lambda a, note: _names(note, a.conditions, "present"),
        same_name,
    ),
    "absent": (
        lambda label: label["absent"],
        lambda a, note: _names(note, (*a.symptoms, *a.conditions), "absent"),
        same_name,
    ),
    "family history": (
        lambda label: label["family_history"],
        lambda a, note: _names(note, (*a.symptoms, *a.conditions), "family"),
        same_name,
    ),
    "medications": (
        lambda label: [drug["name"] for drug in label["medications"]],
        lambda a, _: [drug.name for drug in a.medications],
        same_name,
    ),
    "dose": (lambda label: _of_drugs(label, "dose"), lambda a, _: _found_of_drugs(a, "dose"), _same_use),
    "route": (lambda label: _of_drugs(label, "route"), lambda a, _: _found_of_drugs(a, "route"), _same_use),
    "frequency": (
        lambda label: _of_drugs(label, "frequency"),
        lambda a, _: _found_of_drugs(a, "frequency"),
        _same_use,
    ),
    "vitals": (
        lambda label: [f"{kind}={value}" for kind, values in label["vitals"].items() for value in values],
        lambda a, _: [f"{vital.kind}={vital.value}" for vital in a.vitals],
        same_vital,
    ),
    "recommendations": (
        lambda label: label["recommendations"],
        lambda a, _: [statement.text for statement in a.recommendations],
        same_statement,
    ),
}

if __name__ == "__main__":
    main()
