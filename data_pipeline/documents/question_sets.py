"""Public question sets by name, as lists of ``Question``: MedMCQA, MedQuAD and PubMedQA."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_pipeline.documents.questions import Question
from mediscale.core.errors import InputError

MEDMCQA = "openlifescienceai/medmcqa"
MEDMCQA_REVISION = "91c6572c454088bf71b679ad90aa8dffcd0d5868"


def read_medquad(path: Path) -> list[Question]:
    """MedQuAD (Ben Abacha and Demner-Fushman 2019): pairs with answers as JSONL, gzipped or not.

    A family is the condition or drug that a question is about.

    Raises:
        InputError: the file is not of this layout.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8") as file
        ):
            return [_medquad(number, json.loads(line)) for number, line in enumerate(file, start=1)]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not MedQuAD as JSONL with the fields id, source, url, focus, question and answer."
        ) from None


def read_pubmedqa(path: Path) -> list[Question]:
    """PubMedQA's labelled part (Jin et al. 2019): yes, no or maybe, with the abstract that decides as context.

    Raises:
        InputError: the file is not of this layout.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [_pubmedqa(pubmed_id, row) for pubmed_id, row in rows.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path} is not PubMedQA's labelled JSON: PubMed ids with QUESTION, CONTEXTS and final_decision."
        ) from None


def load_medmcqa(revision: str) -> list[Question]:
    """The training part of MedMCQA (Pal et al. 2022) from the Hub, or from its cache when there is no network.

    Raises:
        InputError: the Hub does not give the set at this revision.
    """
    import datasets

    try:
        rows = datasets.load_dataset(MEDMCQA, split="train", revision=revision)
    except (OSError, ValueError) as error:  # of the network, the Hub and its cache alike
        raise InputError(
            f"{MEDMCQA} at revision {revision[:8]} could not be read, neither from the Hub nor from its cache "
            f"({type(error).__name__}); check the network and the revision, or name another question set."
        ) from None
    return medmcqa(rows, revision)


def medmcqa(rows: Iterable[dict[str, Any]], revision: str) -> list[Question]:
    """Questions of MedMCQA's rows. Rows without a public answer, or with two equal options, are left out."""
    return [
        _medmcqa(row, revision)
        for row in rows
        if row["cop"] in range(4) and len(set(_medmcqa_options(row))) == 4
    ]


def _medquad(number: int, row: dict[str, Any]) -> Question:
    return Question(
        id=f"medquad/{number}",
        family=f"medquad/{row['focus'].casefold()}",
        kind="short_answer",
        question=row["question"],
        answer=row["answer"],
        references=(row["url"],),
    )


def _pubmedqa(pubmed_id: str, row: dict[str, Any]) -> Question:
    options = ("yes", "no", "maybe")
    return Question(
        id=f"pubmedqa/{pubmed_id}",
        family=f"pubmedqa/{pubmed_id}",
        kind="multiple_choice",
        question=row["QUESTION"],
        answer=row["final_decision"],
        options=options,
        letter="ABC"[options.index(row["final_decision"])],
        context="\n".join(row["CONTEXTS"]),
        references=(f"PMID {pubmed_id}",),
    )


def _medmcqa_options(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name].strip() for name in ("opa", "opb", "opc", "opd"))


def _medmcqa(row: dict[str, Any], revision: str) -> Question:
    options = _medmcqa_options(row)
    return Question(
        id=f"medmcqa/{row['id']}",
        family=f"medmcqa/{row['id']}",
        kind="multiple_choice",
        question=row["question"].strip(),
        answer=options[row["cop"]],
        options=options,
        letter="ABCD"[row["cop"]],
        specialty=(row["subject_name"] or "").casefold(),
        references=(f"{MEDMCQA}@{revision[:8]}",),
    )
