"""A language model's answer in the parts in which it may leave: sentence by sentence, each checked first.

Pure over its collaborators: it neither logs nor knows HTTP. What blocks is the engine.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import exp
from typing import Literal

from mediscale.inference.language import Sampling, Token
from serving.language_engine import Prompt
from serving.language_schemas import Citation
from serving.languages import ServedLanguage

FinishReason = Literal["stop", "length", "content_filter", "abstained"]

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+|\n+")


@dataclass(frozen=True, slots=True)
class Part:
    """What may leave now."""

    text: str
    citations: tuple[Citation, ...] = ()
    tokens: tuple[Token, ...] = ()
    """The model's, of which the text is made."""


@dataclass(slots=True)
class Written:
    """An answer as it grows; complete when its parts are through."""

    finish_reason: FinishReason = "stop"
    risk_level: str = "off"
    """What the safety layers found so far."""
    parts: list[Part] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    """Those that the model wrote, whether or not they may leave."""

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the tokens' probabilities."""
        values = [token.log_probability for token in self.tokens if token.log_probability is not None]
        return exp(sum(values) / len(values)) if values else None


@dataclass(frozen=True, slots=True)
class Question:
    """What a version is asked, and how it answers."""

    version: ServedLanguage
    prompt: Prompt
    sampling: Sampling
    special: bool = False
    """Whether the prompt gets the special tokens with which the model's texts begin."""
    stops: tuple[str, ...] = ()
    """Texts at which the answer ends."""
    use_safety: bool = True


def write(question: Question, into: Written) -> Iterator[Part]:
    """The answer's parts, each as soon as it may leave; ``into`` grows with them."""
    tokens = question.version.engine.stream(question.prompt, question.sampling, question.special)
    texts = _until(_texts(tokens, question.sampling.max_tokens, into), question.stops)
    characters = taken = covered = 0
    for sentence in sentences(texts):
        characters += len(sentence)
        its = _within(into.tokens[taken:], characters - covered)
        taken, covered = taken + len(its), covered + sum(len(token.text) for token in its)
        part = Part(sentence, tokens=its)
        into.parts.append(part)
        yield part


def _within(tokens: Sequence[Token], characters: int) -> tuple[Token, ...]:
    """The first tokens, those that end within so many characters: one that reaches into the next sentence is its."""
    ends = accumulate(len(token.text) for token in tokens)
    return tuple(token for token, end in zip(tokens, ends, strict=True) if end <= characters)


def _texts(tokens: Iterable[Token], most: int, into: Written) -> Iterator[str]:
    for token in tokens:
        into.tokens.append(token)
        yield token.text
    if len(into.tokens) >= most:
        into.finish_reason = "length"


def _until(texts: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """A text up to the first of its ends.

    >>> "".join(_until(["One.", " Qu", "estion: two"], ["Question:"]))
    'One. '
    """
    waiting, most = "", max((len(stop) for stop in stops), default=1) - 1
    for text in texts:
        waiting += text
        if ends := [waiting.index(stop) for stop in stops if stop in waiting]:
            yield waiting[: min(ends)]
            return
        ready = max(len(waiting) - most, 0)  # what is kept may be the beginning of an end
        yield waiting[:ready]
        waiting = waiting[ready:]
    yield waiting


def sentences(texts: Iterable[str]) -> Iterator[str]:
    """A text that comes in pieces, by its sentences, each with the space behind it.

    >>> list(sentences(["It beats", ". Give", " 2", ".5 mg.", " Or", " not"]))
    ['It beats. ', 'Give 2.5 mg. ', 'Or not']
    """
    waiting = ""
    for text in texts:
        waiting += text
        while (end := _SENTENCE_END.search(waiting)) and end.end() < len(waiting):
            yield waiting[: end.end()]
            waiting = waiting[end.end() :]
    if waiting:
        yield waiting
