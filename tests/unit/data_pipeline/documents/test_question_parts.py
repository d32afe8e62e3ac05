"""A question for two or three facts is taken apart; one for a single fact, or for many, is left whole."""

import time

import pytest

from data_pipeline.retrieval.question_parts import parts


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What causes gout, and how is it treated?", ("What causes gout?", "how is gout treated?")),
        (
            "What is the dose of alteplase and within how many hours is it given?",
            ("What is the dose of alteplase?", "within how many hours is alteplase given?"),
        ),
        (
            "What is a stroke? What is its most frequent cause?",
            ("What is a stroke?", "What is stroke most frequent cause?"),
        ),
        (
            "What causes hyperkalaemia in kidney disease and how is it treated?",
            ("What causes hyperkalaemia in kidney disease?", "how is hyperkalaemia kidney disease treated?"),
        ),
        (
            "Which test confirms myasthenia gravis? How is it treated?",
            ("Which test confirms myasthenia gravis?", "How is myasthenia gravis treated?"),
        ),
        ("What happens, and when is it seen?", ("What happens?", "when is happens seen?")),
    ],
)
def test_each_fact_has_a_question_of_its_own(question: str, expected: tuple[str, ...]) -> None:
    assert parts(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "What are the doses of alteplase and tenecteplase?",
        "Which drug is used and is safe in pregnancy?",
        "In which patients is metformin stopped, and at what eGFR?",  # the rest asks nothing by itself
        "She has atrial fibrillation and takes warfarin. What is her target INR?",
        "What is a and what is b and what is c and what is d?",
        "and what",
        "? ?",
        "",
        "and what " * 3000,
    ],
)
def test_another_question_stays_whole(question: str) -> None:
    assert parts(question) == (question,)


def test_a_question_of_blanks_takes_no_time_by_their_square() -> None:
    question = "What is gout" + "\n" * 30_000 + "or else?"
    begun = time.process_time()
    assert parts(question) == (question,)
    assert time.process_time() - begun < 0.5
