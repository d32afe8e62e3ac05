"""Invariants of the corpus that the project wrote itself."""

import re
from collections import Counter

from data_pipeline.documents import corpus
from data_pipeline.documents.near_duplicates import words
from data_pipeline.documents.questions import prepare, remove_duplicates, split_by_family
from data_pipeline.retrieval.words import words as stems
from training.language import language_gate


def test_passages_are_short_sourced_and_unique() -> None:
    passages = corpus.passages()
    assert all(40 <= len(each.text.split()) <= 120 for each in passages)
    assert all(re.search(r"[A-Za-z]{2}", each.source) for each in passages)
    assert all(1970 <= each.evidence_year <= 2026 for each in passages)
    assert len({each.id for each in passages}) == len({each.title for each in passages}) == len(passages)
    assert len({each.text for each in passages}) == len(passages)
    assert {each.specialty for each in passages} == {"neurology", "nephrology"}


def test_every_passage_has_questions_and_every_answer_stands_in_each_passage_that_it_names() -> None:
    passages = {each.id: each for each in corpus.passages()}
    per_passage: Counter[str] = Counter()
    for question in corpus.questions():
        per_passage[question.family] += 1
        assert question.references[0] == question.family, question.id
        assert question.specialty == passages[question.family].specialty, question.id
        for reference in question.references:
            assert set(stems(question.answer)) <= set(stems(passages[reference].text)), question.id
        assert len(words(question.answer)) <= 10, question.id
    assert set(per_passage) == set(passages)
    assert set(per_passage.values()) <= {2, 3, 4, 5}


def test_enough_families_with_multiple_choice_are_held_out_for_the_policy_of_language_models() -> None:
    held_out = prepare(corpus.questions()).splits["held_out"]
    families = {each.family for each in held_out if each.kind == "multiple_choice"}
    assert len(families) >= language_gate.policy().min_questions


def test_multiple_choice_has_four_options_and_no_favourite_letter() -> None:
    choices = [each for each in corpus.questions() if each.kind == "multiple_choice"]
    assert {len({option.casefold() for option in each.options}) for each in choices} == {4}
    assert {each.family for each in choices} == {each.id for each in corpus.passages()}
    for split in split_by_family(choices).values():
        letters = Counter(each.letter for each in split)
        assert max(letters.values()) - min(letters.values()) <= 3


def test_no_question_is_asked_twice_and_each_split_has_both_specialties() -> None:
    questions = corpus.questions()
    assert len({each.id for each in questions}) == len(questions)
    unique = remove_duplicates(questions)
    assert (unique.exact, unique.near) == (0, 0)
    for split in prepare(questions).splits.values():
        assert {each.specialty for each in split} == {"neurology", "nephrology"}
