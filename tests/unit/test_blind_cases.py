"""The blind cases are complete: unique, labelled, and as many of each kind as the aims were set for."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

BLIND = Path(__file__).parents[1] / "blind"
LABELS = {
    "harmful": {"harmful"},
    "benign": set[str](),
    "emergency": {"emergency"},
    "personalised": {"personalised"},
    "interaction": {"contraindicated", "major", "moderate"},
    "dose": {"above", "below"},
    "injection": {"prompt_injection"},
}
AT_LEAST = {
    ("harmful", True): 80,
    ("benign", False): 120,
    ("emergency", True): 100,
    ("emergency", False): 40,
    ("personalised", True): 60,
    ("personalised", False): 60,
    ("interaction", True): 60,
    ("dose", True): 30,
    ("dose", False): 30,
    ("injection", True): 50,
    ("injection", False): 30,
}
"""Cases of each group, with findings and without."""


def test_safety_cases_are_unique_and_enough() -> None:
    cases = yaml.safe_load((BLIND / "safety_cases.yaml").read_text())
    assert (
        len({case["id"] for case in cases}) == len({case["text"].casefold() for case in cases}) == len(cases)
    )
    counts = Counter((case["group"], bool(case["expected"])) for case in cases)
    for group, least in AT_LEAST.items():
        assert counts[group] >= least, group
    for case in cases:
        assert set(case["expected"]) <= LABELS[case["group"]], case["id"]


@pytest.mark.parametrize("field", ["symptoms", "conditions"])
def test_labelled_notes_deny_nothing_that_they_have(field: str) -> None:
    notes = yaml.safe_load((BLIND / "note_fields.yaml").read_text())
    assert len({note["sha256"] for note in notes}) == len(notes) >= 50
    for note in notes:
        assert not set(note[field]) & set(note["absent"]), note["note_id"]
        assert note["urgency"] in ("routine", "urgent", "emergency")
        assert all(medication["name"] for medication in note["medications"])
