"""A language model's log-likelihoods and answers are the same however many questions are read at once."""

from pathlib import Path

import numpy as np
import pytest

from mediscale.core.errors import BusyError
from mediscale.inference import base_models, language
from mediscale.inference.language import LanguageModel
from mediscale.inference.sampling import Sampling


def unadapted(folder: Path) -> LanguageModel:
    """A base in single precision, so that what is compared does not depend on the processor."""
    import torch

    return LanguageModel(base_models.network(folder, torch.float32), base_models.tokenizer(folder))


def test_answers_that_share_a_prompt_are_as_likely_as_each_read_by_itself(toy_base: Path) -> None:
    import torch

    model = unadapted(toy_base)
    questions = ("Which organ pumps blood?", "Why?", "What does the kidney do with water and with salt?")
    answers = ("the heart", "a", "no")
    asked = [(question, "", answer) for question in questions for answer in answers]
    for (question, _, answer), likelihood in zip(asked, model.log_likelihoods(asked), strict=True):
        prompt = model.prompt(question)
        before = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model.network(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
        expected = sum(float(logits[i, token]) for i, token in enumerate(after, start=len(before) - 1))
        assert likelihood.total == pytest.approx(expected, abs=1e-4)
        assert likelihood.tokens == len(after)
    assert model.log_likelihoods([]) == []


def test_an_answer_is_the_same_alone_and_among_others(toy_base: Path) -> None:
    model = unadapted(toy_base)
    asked = [(f"{'Which organ is it? ' * (i % 4)}{i}", "") for i in range(10)]
    together = model.answers(asked, 6)
    assert together == [model.answers([each], 6)[0] for each in asked]
    assert len(set(together)) > 1


def test_a_long_prompt_is_read_in_pieces_as_it_is_read_at_once(
    toy_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sampling = unadapted(toy_base), Sampling(4)
    ids = model.encode("Which organ pumps blood through the body, and which one makes urine?")
    at_once = model.scores(ids, sampling), list(model.stream(ids, sampling))
    monkeypatch.setattr(language, "_READ_AT_ONCE", 5)
    in_pieces = model.scores(ids, sampling), list(model.stream(ids, sampling))
    for whole, parts in zip(at_once, in_pieces, strict=True):
        assert [token.text for token in parts] == [token.text for token in whole]
        assert [token.log_probability or 0 for token in parts] == pytest.approx(
            [token.log_probability or 0 for token in whole], abs=1e-4
        )
    assert len(in_pieces[0]) == len(ids) > 10


def test_pieces_of_a_long_prompt_become_shorter(toy_base: Path) -> None:
    """For the last ones take longest, and none may hold the thread long after the deadline."""
    pieces = list(unadapted(toy_base)._pieces(range(8192)))
    assert [each for piece in pieces for each in piece] == list(range(8192))
    starts = np.cumsum([0, *map(len, pieces)])[:-1]
    work = [len(piece) * (1 + start / 1024) for piece, start in zip(pieces, starts, strict=True)]
    assert len(pieces[0]) == 512
    assert max(work) <= 3 * 512, "it is 8.5 times the first one's where all are as long"
    assert len(pieces) < 40


def test_after_its_deadline_no_prompt_is_read_and_no_token_is_chosen(
    toy_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, now = unadapted(toy_base), [0.0]
    monkeypatch.setattr("mediscale.inference.sampling.time.monotonic", lambda: now[0])
    monkeypatch.setattr(language, "_READ_AT_ONCE", 5)
    ids, sampling = model.encode("Which organ pumps blood through the body?"), Sampling(50, deadline=2.5)
    read_on = model._read_on

    def slow(*args: object, **options: object) -> object:
        now[0] += 1
        return read_on(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "_read_on", slow)
    with pytest.raises(BusyError, match="was not read in the time that an answer may take; ask again"):
        list(model.stream(ids, sampling))
    assert now == [3], "nothing is read after the deadline"
    with pytest.raises(BusyError, match="was not read in the time"):
        model.scores(ids, sampling)
    assert now == [3]
    now[0] = 0
    assert len(list(model.stream(ids[:3], sampling))) == 3, "an answer ends at its deadline"
