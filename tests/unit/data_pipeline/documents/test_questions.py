"""Reading, duplicates, decontamination, splits and augmentation of questions."""

import json
import random
from pathlib import Path

import pytest

from data_pipeline.documents import question_sets
from data_pipeline.documents.near_duplicates import NearDuplicateIndex, jaccard, shingles
from data_pipeline.documents.questions import (
    Question,
    augment,
    decontaminate,
    prepare,
    read,
    remove_duplicates,
    split_by_family,
    write,
)
from mediscale.core.errors import InputError
from mediscale.core.splits import assign_split


def short(number: int, question: str, answer: str = "heparin", family: str = "") -> Question:
    return Question(
        id=f"q{number}", family=family or f"f{number}", kind="short_answer", question=question, answer=answer
    )


CHOICE = Question(
    id="c1",
    family="f",
    kind="multiple_choice",
    question="Which drug reverses heparin?",
    answer="protamine",
    options=("vitamin K", "protamine", "calcium", "glucagon"),
    letter="B",
    references=("neurology/ich-reversal",),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    questions = [CHOICE, short(2, "What reverses dabigatran?", "idarucizumab")]
    write(tmp_path / "own.jsonl", questions)
    assert read(tmp_path / "own.jsonl") == questions


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_csv_needs_only_questions_and_answers(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "own.csv"
    written = (
        "question,answer,option_a,option_b,letter,references\n"
        "What reverses heparin?,protamine,,,,PMID 1; PMID 2\n"
        "What reverses warfarin?,vitamin K,calcium,vitamin K,B,\n"
    )
    file.write_text(written.replace(",", delimiter))
    first, second = read(file)
    assert (first.id, first.family, first.kind) == ("own-2", "own-2", "short_answer")
    assert first.references == ("PMID 1", "PMID 2")
    assert (second.kind, second.options, second.letter) == ("multiple_choice", ("calcium", "vitamin K"), "B")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("nonsense", "it is not a JSON object"),
        ('{"question": "secret?"}', "`answer`: Field required"),
        ('{"question": "secret?", "answer": ""}', "`answer`: String should have at least 1 character"),
        ('{"question": "secret?", "answer": "a", "options": ["a", "a"]}', "multiple choice needs 2 to 8 different"),
        ('{"question": "secret?", "answer": "a", "options": ["a", "b"], "letter": "B"}', "`answer` is none of"),
        ('{"question": "secret?", "answer": "a", "colour": 1}', "`colour`: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_bad_rows_are_counted_and_the_first_is_named_without_its_text(
    tmp_path: Path, row: str, reason: str
) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(f'{{"question": "q?", "answer": "a"}}\n\n{row}\n{row}\n')
    with pytest.raises(InputError) as error:
        read(file)
    assert f"own.jsonl has 2 of 3 rows that are not questions; the first is on line 3: {reason}" in str(
        error.value
    )
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("own.txt", b"q", "neither .jsonl nor .csv"),
        ("own.jsonl", b"\xff\xfe\x00", "not text in UTF-8"),
        ("own.jsonl", b"\n", "has no questions"),
        ("own.csv", b"", "has no questions"),
        (
            "own.csv",
            b'question,answer\n"What is it?,gout\n',
            "own.csv is no CSV: a quotation mark is not closed",
        ),
    ],
)
def test_a_file_that_is_no_question_file_is_refused(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / name)


def test_the_letter_is_that_of_the_option_that_is_the_answer(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"question": "q?", "answer": "b", "options": ["a", "b"]}\n')
    assert [each.letter for each in read(tmp_path / "own.jsonl")] == ["B"]


def test_an_id_stands_once_in_a_file(tmp_path: Path) -> None:
    write(tmp_path / "own.jsonl", [CHOICE, CHOICE])
    with pytest.raises(InputError, match="says 1 ids twice"):
        read(tmp_path / "own.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "none.jsonl")


def test_exact_and_near_duplicates_are_told_apart_and_the_first_stays() -> None:
    one = short(1, "Which anticoagulant is safe in severe kidney failure on dialysis?")
    case = short(2, "which anticoagulant is safe in severe kidney failure, on dialysis")
    near = short(3, "Which anticoagulant is safe in severe kidney failure while on dialysis?")
    other = short(4, "Which anticoagulant is safe in severe liver failure with ascites?")
    answer = short(5, one.question, "none of the direct oral ones at all")
    result = remove_duplicates([one, case, near, other, answer])
    assert result.questions == [one, other, answer]
    assert (result.exact, result.near) == (1, 1)


def test_training_loses_near_duplicates_of_the_test_whatever_their_form() -> None:
    leak = short(1, "Which drug reverses heparin", "Protamine")
    fine = short(2, "Which drug prolongs the effect of heparin?", "antithrombin")
    assert decontaminate([leak, fine], [CHOICE]) == ([fine], 1)


def test_the_index_misses_nothing_that_comparing_all_pairs_finds() -> None:
    draw = random.Random(5)
    texts = [" ".join(draw.choices("abcdef", k=draw.randint(1, 9))) for _ in range(400)]
    for threshold in (0.4, 0.7, 1.0):
        index, added, hits = NearDuplicateIndex(texts, threshold), list[str](), 0
        for text in texts:
            expected = any(jaccard(shingles(text), shingles(each)) >= threshold for each in added)
            assert index.has_near_duplicate(text) == expected
            hits += expected
            index.add(text)
            added.append(text)
        assert 0 < hits < len(texts)


def test_a_family_is_in_one_split_and_nothing_is_lost() -> None:
    questions = [
        short(number, f"Question {number} of its kind?", family=f"f{number // 3}") for number in range(300)
    ]
    splits = split_by_family(questions)
    assert all(splits.values())
    assert sorted(each.id for part in splits.values() for each in part) == sorted(
        each.id for each in questions
    )
    for split, part in splits.items():
        assert {assign_split(each.family) for each in part} == {split}


def test_only_the_training_part_grows_and_answers_stay() -> None:
    questions = [
        short(number, f"What is the antidote of poison {number} in line {number * 7}?", f"antidote {number}")
        for number in range(60)
    ]
    plain, grown = prepare(questions), prepare(questions, augmentation_factor=3)
    assert grown.augmented == 2 * len(plain.splits["train"]) == len(grown.splits["train"]) * 2 // 3
    assert [grown.splits[split] for split in ("tuning", "held_out")] == [
        plain.splits["tuning"],
        plain.splits["held_out"],
    ]
    answers = {each.family: each.answer for each in questions}
    assert all(each.answer == answers[each.family] for each in grown.splits["train"])
    texts = [each.question for each in grown.splits["train"]]
    assert len(set(texts)) == len(texts)


def test_the_held_out_question_stays_when_a_training_question_is_like_it() -> None:
    held_out = next(f"f{n}" for n in range(99) if assign_split(f"f{n}") == "held_out")
    train = next(f"f{n}" for n in range(99) if assign_split(f"f{n}") == "train")
    question = "Which drug reverses the effect of heparin?"
    result = prepare([short(1, question, "protamine", train), short(2, question, "protamine", held_out)])
    assert (result.contaminated, result.splits["train"]) == (1, [])
    assert [each.id for each in result.splits["held_out"]] == ["q2"]


def test_augmented_options_move_and_the_letter_follows() -> None:
    forms = augment([CHOICE], 4)
    assert [form.letter for form in forms] == ["B", "A", "D", "C"]
    for form in forms:
        assert form.options["ABCD".index(form.letter or "")] == form.answer == "protamine"
        assert (form.family, form.references) == (CHOICE.family, CHOICE.references)
        assert Question.model_validate(form.model_dump()) == form
    assert len({form.id for form in forms}) == 4
    assert forms[1].question == "Please say which drug reverses heparin."


@pytest.mark.parametrize("factor", [0, 8])
def test_a_factor_that_rules_cannot_give_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="it must be 1 to 7"):
        augment([CHOICE], factor)


def test_medquad_and_pubmedqa_are_read(tmp_path: Path) -> None:
    pair = {
        "id": "1-1",
        "source": "9_CDC_QA",
        "url": "https://www.cdc.gov/x",
        "focus": "Anthrax",
        "question": "What is Anthrax?",
        "answer": "An infection.",
    }
    medquad = tmp_path / "medquad.jsonl"
    medquad.write_text(json.dumps(pair) + "\n" + json.dumps(pair | {"focus": "anthrax"}) + "\n")
    first, second = question_sets.read_medquad(medquad)
    assert first.family == second.family == "medquad/anthrax"
    assert first.id != second.id
    assert first.references == ("https://www.cdc.gov/x",)
    row = {"QUESTION": "Does it work?", "CONTEXTS": ["We tried.", "It did."], "final_decision": "maybe"}
    pubmedqa = tmp_path / "pqal.json"
    pubmedqa.write_text(json.dumps({"42": row}))
    (third,) = question_sets.read_pubmedqa(pubmedqa)
    assert (third.answer, third.letter, third.context) == ("maybe", "C", "We tried.\nIt did.")
    assert third.references == ("PMID 42",)
    with pytest.raises(InputError, match="not MedQuAD"):
        question_sets.read_medquad(pubmedqa)
    with pytest.raises(InputError, match="not PubMedQA"):
        question_sets.read_pubmedqa(medquad)


def test_medmcqa_leaves_out_rows_without_an_answer() -> None:
    row = {
        "id": "a",
        "question": "Which?",
        "opa": "1",
        "opb": "2",
        "opc": "3 ",
        "opd": "4",
        "cop": 2,
        "subject_name": "Pharmacology",
    }
    (question,) = question_sets.medmcqa([row, row | {"cop": -1}, row | {"opb": "1"}], "0123456789")
    assert (question.answer, question.letter, question.specialty) == ("3", "C", "pharmacology")
    assert question.references == ("openlifescienceai/medmcqa@01234567",)
