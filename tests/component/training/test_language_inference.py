"""A language model's log-likelihoods and answers are the same however many questions are read at once."""

from pathlib import Path

import pytest

from mediscale.inference import base_models, language
from mediscale.inference.language import LanguageModel


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
        prompt = language.prompt(model.tokenizer, question)
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
    assert together == [model.generate(question, context, 6) for question, context in asked]
    assert len(set(together)) > 1
