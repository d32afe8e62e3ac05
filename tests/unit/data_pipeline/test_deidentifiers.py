"""Which deidentifier is used: our rules, or what a hospital puts in their place; and the lists that the rules read."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from data_pipeline.clinical_text import name_lexicon, name_sources
from data_pipeline.notes.deidentification import deidentifier
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings

ANOTHER = """
from data_pipeline.notes.deidentification.deidentified_note import DeidentifiedNote


class Blank:
    def __init__(self, secret):
        self.secret = secret

    def deidentify(self, subject_id, texts, written):
        return [DeidentifiedNote("____", {"name": 1}) for _ in texts]
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of another deidentifier, where Python finds it."""
    module = tmp_path / "hospital_deidentify.py"
    module.write_text(ANOTHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module.stem, raising=False)
    return module


def configured(name: str) -> str:
    return deidentifier.configured(Settings(deidentifier=name))


def notes(chosen: deidentifier.Deidentifier, texts: Sequence[str]) -> list[str]:
    return [note.text for note in chosen.deidentify(1, texts, [datetime(2150, 3, 20)] * len(texts))]


def test_our_rules_are_used_where_no_other_deidentifier_is_named() -> None:
    chosen = deidentifier.load(configured(Settings().deidentifier), b"a secret")
    assert isinstance(chosen, RuleBasedDeidentifier)
    assert "Wexcombe" not in notes(chosen, ["Seen by Dr. Wexcombe."])[0]


@pytest.mark.usefixtures("installed")
def test_a_hospital_puts_another_in_their_place() -> None:
    chosen = deidentifier.load(configured("hospital_deidentify:Blank"), b"a secret")
    assert notes(chosen, ["Seen by Dr. Wexcombe."]) == ["____"]


def test_other_code_of_a_deidentifier_is_another_one(installed: Path) -> None:
    """So that a stage's key changes with it, and no machine of a run replaces by other rules."""
    before = configured("hospital_deidentify:Blank")
    installed.write_text(ANOTHER + "# changed\n")
    assert configured("hospital_deidentify:Blank") != before
    with pytest.raises(UsageError, match="has other code here than where the run began"):
        deidentifier.load(before, b"a secret")


@pytest.mark.parametrize("name", ["", "rule", "nowhere:make", "nowhere.at.all:make", "os:", ":make"])
def test_a_deidentifier_that_is_not_installed_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="it must be 'rules', or the module and the factory"):
        configured(name)


@pytest.mark.usefixtures("installed")
def test_a_module_without_the_factory_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="has no 'Black' that can be called"):
        deidentifier.load(configured("hospital_deidentify:Black"), b"a secret")


def test_the_packaged_names_are_those_of_their_sources() -> None:
    assert name_lexicon.NAMES_FILE.read_text(encoding="utf-8") == name_sources.names_file()


def test_the_packaged_lexicon_says_the_same_of_a_word_as_its_sources() -> None:
    lexicon = name_lexicon.load()
    collected = name_sources.collect()
    words = ["quillfeather", "Oyelaran", "Rose", "the", "abbess", "Parkinson", "metoprolol", "Anneke"]
    assert [lexicon.kind(word) for word in words] == [collected.kind(word) for word in words]
    assert (lexicon.given, lexicon.family) == (collected.given, collected.family)
