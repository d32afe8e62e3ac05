"""The gate for language models fails closed: what the evidence lacks or can't estimate refuses a version."""

import re
from typing import Any

import pytest

from mediscale.core.refs import ModelRef, TableRef
from mediscale.inference.base_models import Base
from training.language import language_gate
from training.language.export.receipts import ParentComparison, Receipt
from training.language.language_evidence import LanguageEvidence, LanguageMeasures, PairedFigure
from training.language.statements import Grounding
from training.statistics.estimate import Estimate

POLICY = language_gate.policy()
MODEL = ModelRef(name="d-language", version=2, uri="u", digest="d")
INCUMBENT = MODEL.model_copy(update={"version": 1})


def compared(low: float | None, families: int = 60, value: float | None = 0.2) -> PairedFigure:
    gain = Estimate(value=value, low=low, high=None if low is None else 0.9)
    return PairedFigure(n=families, families=families, tuned=gain, base=gain, gain=gain)


def grounding(low: float | None, families: int = 60) -> Grounding:
    gain = Estimate(value=0.2, low=low, high=None if low is None else 0.9)
    return Grounding(n=60, families=families, without=gain, with_retrieval=gain, gain=gain, cells=())


def receipt(*problems: str) -> Receipt:
    compared = ParentComparison(
        n_likelihoods=9, largest_difference=0.0, n_answers=8, same_answers=8, newly_unsafe=0
    )
    return Receipt(
        model=MODEL, format="merged", runtime="r", files={}, size=1, compared=compared, problems=problems, needs=""
    )  # fmt: skip


def evidence(**changed: Any) -> LanguageEvidence:
    """That of a version which passes, but for what is changed."""
    figures = {
        name: changed.pop(name, compared(0.1))
        for name in (
            "answer_log_likelihood",
            "multiple_choice_accuracy",
            "safe_answers",
            "token_f1",
            "exact_match",
        )
    }
    general = changed.pop("general_accuracy", compared(-0.05))
    measures = LanguageMeasures(
        figures={name: figure for name, figure in figures.items() if figure},
        by_specialty={},
        general=general,
        grounding=changed.pop("grounding", grounding(0.1)),
    )
    told = {
        "key": "k",
        "dataset": "d",
        "model": MODEL,
        "base": Base(name="toy", revision="r"),
        "questions": TableRef(dataset="d", table="questions", table_id="t", version=0),
        "n_questions": 60,
        "measures": measures,
        "receipts": (receipt(),),
        "incumbent": None,
        "over_incumbent": {},
    }
    return LanguageEvidence.model_validate(told | changed)


def test_a_version_that_shows_all_is_carried() -> None:
    assert list(language_gate.lacking(evidence(), POLICY)) == []
    assert list(language_gate.objections(evidence(), POLICY)) == []
    assert "+0.200 (+0.100 to +0.900)" in language_gate.evidence_summary(evidence(), POLICY)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"answer_log_likelihood": compared(-0.01)}, "gain in answer log likelihood .* may lie below 0"),
        ({"answer_log_likelihood": compared(0.0)}, "may lie below 0"),
        ({"answer_log_likelihood": compared(None)}, "gain in answer log likelihood is not estimable"),
        ({"answer_log_likelihood": compared(0.1, 29)}, "29 families of questions where the policy needs 30"),
        ({"multiple_choice_accuracy": compared(-0.11)}, "multiple choice accuracy .* may lie below -0.1"),
        (
            {"multiple_choice_accuracy": compared(0.1, value=None)},
            "multiple choice accuracy is not estimable",
        ),
        ({"general_accuracy": compared(-0.2)}, "general accuracy .* may lie below -0.1"),
        ({"safe_answers": compared(-0.2)}, "safe answers .* may lie below -0.1"),
        ({"token_f1": compared(-0.2)}, "token f1 .* may lie below -0.1"),
        ({"grounding": grounding(-0.1)}, "gain in supported sentences by retrieval .* may lie below 0"),
        ({"grounding": grounding(0.1, 9)}, "measured on 9 families of questions where the policy needs 30"),
        ({"general_accuracy": compared(0.0, 49)}, "general accuracy was measured on 49"),
        ({"receipts": (receipt("it differs"),)}, "its form merged is blocked: it differs"),
        ({"incumbent": INCUMBENT}, "over v1 in production is not estimable"),
        (
            {"incumbent": INCUMBENT, "over_incumbent": {"answer_log_likelihood": compared(-0.5).gain}},
            "over v1 in production .* may lie below -0.02",
        ),
    ],
)
def test_what_is_missing_or_may_be_a_loss_refuses_a_version(changed: dict[str, Any], says: str) -> None:
    (objection,) = language_gate.objections(evidence(**changed), POLICY)
    assert re.search(says, objection)


def test_a_version_that_was_never_checked_against_passages_stays_in_staging() -> None:
    assert list(language_gate.lacking(evidence(grounding=None), POLICY)) == []
    assert [
        each.partition(" was")[0] for each in language_gate.objections(evidence(grounding=None), POLICY)
    ] == [
        "the support of its answers by passages",
        "gain in supported sentences by retrieval is not estimable",
    ]


def test_a_question_set_without_options_can_be_staged_and_not_promoted() -> None:
    without = evidence(multiple_choice_accuracy=None)
    assert list(language_gate.lacking(without, POLICY)) == []
    assert list(language_gate.objections(without, POLICY)) == [
        "multiple choice accuracy was measured on 0 families of questions where the policy needs 30",
        "gain in multiple choice accuracy is not estimable",
    ]


def test_the_decision_says_how_many_answers_in_its_own_words_were_right() -> None:
    none = compared(0.0).model_copy(
        update={
            name: Estimate(value=value, low=None, high=None)
            for name, value in (("tuned", 0.0), ("base", 0.05))
        }
    )
    assert language_gate.evidence_summary(evidence(exact_match=none), POLICY).endswith(
        "; written in its own words, 0 of 60 answers were the reference's, and 3 of its base's"
    )
    assert "own words" not in language_gate.evidence_summary(evidence(exact_match=None), POLICY)


@pytest.mark.parametrize("name", ["answer_log_likelihood", "safe_answers", "general_accuracy"])
def test_a_figure_that_was_not_measured_keeps_a_version_out_of_staging(name: str) -> None:
    lacks = list(language_gate.lacking(evidence(**{name: None}), POLICY))
    assert lacks == [f"{name.replace('_', ' ')} was not measured"]


def test_a_form_without_a_receipt_keeps_a_version_out_of_staging() -> None:
    assert list(language_gate.lacking(evidence(receipts=()), POLICY)) == [
        "its form merged was not compared with it"
    ]
