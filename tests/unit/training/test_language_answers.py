"""Error patterns, confidence and its calibration, ROUGE-L, and unsupported statements of written answers."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from data_pipeline.documents.questions import Question
from training.language import answer_errors, answer_metrics, confidence, statements


@pytest.mark.parametrize(
    ("answer", "reference", "names"),
    [
        ("50 mg", "25 mg", {"wrong number or unit"}),
        ("25 g a day", "25 mg a day", {"wrong number or unit"}),
        ("at most 25 mg, twice a day", "25 mg", set()),
        ("the liver", "the kidney", {"another entity"}),
        ("the left kidney", "kidney", set()),
        ("I'm sorry, I can't say; consult a doctor.", "kidney", {"refusal where none was due"}),
        ("", "kidney", {"refusal where none was due"}),
        ("the kidney " + "which is an organ of the body " * 3, "kidney", {"verbosity"}),
    ],
)
def test_an_answer_shows_the_patterns_that_a_reader_would_name(
    answer: str, reference: str, names: set[str]
) -> None:
    seen = {each.name for each in answer_errors.patterns([answer], [reference], ["a"], 50, 0) if each.count}
    assert seen == names


def test_a_pattern_is_counted_among_the_answers_that_it_concerns_with_an_interval() -> None:
    answers, references = (
        ["20 mg", "30 mg", "the liver", "the liver"],
        ["20 mg", "20 mg", "the liver", "the heart"],
    )
    found = answer_errors.patterns(answers, references, list("abcd"), 200, 0)
    numbers = next(each for each in found if each.name == "wrong number or unit")
    assert (numbers.n, numbers.count, numbers.share.value) == (2, 1, 0.5)
    assert numbers.share.low is not None
    assert "quote" in numbers.remedy


def test_rouge_l_counts_words_in_order_and_not_only_words() -> None:
    assert answer_metrics.rouge_l("sodium lowers potassium", "sodium lowers potassium") == 1
    assert answer_metrics.rouge_l("potassium lowers sodium", "sodium lowers potassium") == pytest.approx(
        1 / 3
    )
    assert answer_metrics.rouge_l("", "sodium") == 0


def test_confidence_in_a_choice_is_its_probability_among_the_options() -> None:
    assert confidence.of_options([math.log(0.8), math.log(0.1), math.log(0.1)]) == pytest.approx(0.8)
    assert confidence.of_text(math.log(0.25)) == pytest.approx(0.25)


def test_a_model_that_is_surer_than_right_is_overconfident_and_its_low_answers_are_flagged() -> None:
    rng = np.random.default_rng(0)
    sure = np.where(np.arange(400) % 4 == 0, 0.3, 0.9)
    right = (rng.random(400) < np.where(sure < 0.5, 0.2, 0.6)).astype(float)
    found = confidence.calibration(sure, right, [str(i) for i in range(400)], 400, 0)
    assert found.flagged == 100
    assert found.overconfidence.low is not None
    assert found.overconfidence.low > 0
    assert found.accuracy_of_flagged.value == pytest.approx(0.2, abs=0.1)
    assert found.accuracy_of_others.value == pytest.approx(0.6, abs=0.1)
    calibrated = confidence.calibration(
        np.full(400, 0.5), (np.arange(400) % 2).astype(float), ["a"] * 400, 50, 0
    )
    assert calibrated.overconfidence.value == 0


class _Model:
    """Answers with what stands before the question, if anything does."""

    def answers(self, asked: Sequence[tuple[str, str]], max_tokens: int) -> list[str]:  # noqa: ARG002
        return [context or "Nobody knows." for _, context in asked]


class _Sources:
    def best_passages(self, question: Question) -> Sequence[str]:
        return (
            ["It is the heart."]
            if question.specialty == "neurology"
            else ["It is the moon. It is the heart."]
        )

    def gold(self, question: Question) -> Sequence[str]:  # noqa: ARG002
        return ["It is the heart."]

    def supported(self, answer: str, passages: Sequence[str]) -> Sequence[bool]:
        return [f"{sentence.strip()}." in passages[0] for sentence in answer.split(".") if sentence.strip()]


def test_statements_are_counted_by_specialty_with_and_without_retrieval() -> None:
    questions = [
        Question(id=f"{i}", family=f"{i}", kind="short_answer", question="?", answer="!", specialty=specialty)
        for i, specialty in enumerate(["neurology", "nephrology"] * 3)
    ]
    answers = dict.fromkeys(range(6), "It is the moon.")
    found = statements.grounding(_Model(), questions, answers, _Sources(), 8, 50, 0)  # type: ignore[arg-type]
    assert found is not None
    assert (found.n, found.without.value, found.with_retrieval.value, found.gain.value) == (6, 0, 0.75, 0.75)
    cells = {(cell.specialty, cell.retrieval): cell for cell in found.cells}
    assert {place: (cell.n, cell.families, cell.unsupported.value) for place, cell in cells.items()} == {
        ("neurology", False): (3, 3, 1),
        ("nephrology", False): (3, 3, 1),
        ("neurology", True): (3, 3, 0),
        ("nephrology", True): (6, 3, 0.5),
    }
    assert all(cell.unsupported.low is not None for cell in cells.values())
