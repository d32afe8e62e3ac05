"""A language model's answer in the parts in which it may leave: sentence by sentence, each checked first.

Safety comes first: what the layers say of the question precedes the answer or takes its place. Where documents are
indexed, the answer is quoted from them, and of what the model adds only what they support is said. Pure over its
collaborators: it neither logs nor knows HTTP. What blocks is the engine.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import exp
from typing import Literal

from data_pipeline import safety
from data_pipeline.retrieval import Citation, Index, Passage, support
from data_pipeline.retrieval.grounded_answer import GroundedAnswer, answer_from
from data_pipeline.retrieval.words import spelled
from data_pipeline.safety import PatientContext, SafetyReport, emergency
from data_pipeline.safety.embedding_model import Vector
from data_pipeline.safety.report import RISK_LEVELS
from mediscale.core.errors import BusyError, InputError
from mediscale.inference.chat_template import Message
from mediscale.inference.sampling import Sampling, Token
from serving.language.language_engine import EngineError, Prompt
from serving.language.languages import ServedLanguage
from serving.language_schemas import SafetyAction, SafetySummary, SpokenLayer

FinishReason = Literal["stop", "length", "content_filter", "abstained"]

WITHOUT_SOURCE = (
    "No document was quoted, so no source supports this answer; a clinician must check all of it."
)
FEWEST_WORDS = 3
"""Of a sentence that a model adds to quotes."""
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+|\n+")


@dataclass(frozen=True, slots=True)
class Part:
    """What may leave now."""

    text: str
    citations: tuple[Citation, ...] = ()
    tokens: tuple[Token, ...] = ()
    """The model's, of which the text is made."""
    passage: Passage | None = None
    """In which it stands; None where it is not quoted."""

    @property
    def logged(self) -> str:
        """What the log keeps: of a patient's note nothing but whose it is."""
        patient_of = self.passage.dataset if self.passage else ""
        return f"[from a patient's note of {patient_of}] " if patient_of else self.text


@dataclass(slots=True)
class GrowingAnswer:
    """An answer as it grows; complete when its parts are through."""

    finish_reason: FinishReason = "stop"
    parts: list[Part] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    """Those that the model wrote, whether or not they may leave."""
    prompt_tokens: int = 0
    """That the model read, where they are counted."""
    of_question: SafetyReport | None = None
    of_answer: SafetyReport | None = None
    """Of all that was written so far; None before that, and where an engineer asked without checks."""
    without_source: bool = False
    """Whether the model answers by itself: no documents are indexed, or the route quotes none."""
    retrieved: float | None = None
    """Probability that the indexed documents hold the answer; None where none are indexed."""
    source: Passage | None = None
    """The passage that is quoted, known before the first part leaves; of several that of a patient's note. None where
    none is."""
    seconds: float = 0.0
    """That writing it took, without the time in which it waited for its turn."""

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)

    @property
    def logged(self) -> str:
        """What the log keeps of the text."""
        return "".join(part.logged for part in self.parts)

    @property
    def confidence(self) -> float | None:
        """The confidence of the retrieval, else the geometric mean of the tokens' probabilities."""
        if self.retrieved is not None:
            return self.retrieved
        return None if self.log_probability is None else exp(self.log_probability)

    @property
    def log_probability(self) -> float | None:
        """The mean of the model's tokens; None where it wrote none or the engine does not say."""
        values = [token.log_probability for token in self.tokens if token.log_probability is not None]
        return sum(values) / len(values) if values else None

    @property
    def is_withheld(self) -> bool:
        """Whether the question was refused, or no source supports an answer."""
        return self.finish_reason in ("content_filter", "abstained")

    @property
    def safety_action(self) -> SafetyAction:
        """What the layers did to it."""
        if self.of_question is None:
            return "unchecked"
        if self.of_question.blocks:
            return "refused"
        if self.finish_reason == "content_filter":
            return "withheld"
        return "preceded" if self.of_question.first else "unchanged"

    @property
    def safety(self) -> SafetySummary | None:
        """What the layers found in question and answer."""
        if self.of_question is None:
            return None
        reports = [("question", self.of_question)]
        reports += [("answer", self.of_answer)] if self.of_answer else []
        unsupported = (WITHOUT_SOURCE,) if self.without_source else ()
        return SafetySummary(
            risk_level=max((report.risk_level for _, report in reports), key=RISK_LEVELS.index),
            warnings=(
                *dict.fromkeys(warning for _, report in reports for warning in report.warnings),
                *unsupported,
            ),
            layers=tuple(
                SpokenLayer(of=of, **dict(layer)) for of, report in reports for layer in report.layers
            ),
        )


@dataclass(frozen=True)
class Question:
    """What a version is asked, and how it answers."""

    version: ServedLanguage
    sampling: Sampling
    raw: Prompt | None = None
    """A text, or its tokens, to write on after as it is; else ``turns`` are asked."""
    turns: tuple[Message, ...] = ()
    special: bool = False
    """Whether the prompt gets the special tokens with which the model's texts begin."""
    stops: tuple[str, ...] = ()
    """Texts at which the answer ends."""
    counts_tokens: bool = False
    """Whether the prompt's tokens are counted, which an engine elsewhere is asked for by itself."""
    use_safety: bool = True
    patient: PatientContext | None = None
    embed: Callable[[str], Vector] | None = None
    """Embedding of a question, with which the safety layers find more; None where no embedder is installed."""
    index: Index | None = None
    """The documents that the answer is quoted from."""
    roles: frozenset[str] = frozenset()
    """Of whoever asks: what they may not see is not searched."""

    @cached_property
    def text(self) -> str:
        """What is asked: all that the conversation's other side said, or the text that is written on."""
        if self.raw is not None:
            return self.version.question_in(self.version.engine.text(self.raw))
        return "\n".join(turn["content"] for turn in self.turns if turn["role"] != "assistant")

    def prompt(self, context: str = "") -> Prompt:
        """What the engine reads; ``context`` stands before the last turn."""
        if self.raw is not None:
            return self.raw
        *before, last = self.turns
        if before[:1] == [] or before[0]["role"] != "system":
            before.insert(0, {"role": "system", "content": self.version.spec.instruction})
        content = f"{context}\n\n{last['content']}" if context else last["content"]
        return self.version.template.render([*before, {**last, "content": content}])


def write(question: Question, into: GrowingAnswer) -> Iterator[Part]:
    """The answer's parts, each as soon as it may leave; ``into`` grows with them."""
    began = time.perf_counter()
    for part in _parts(question, into):
        into.parts.append(part)
        yield part
    into.seconds = time.perf_counter() - began


def _parts(question: Question, into: GrowingAnswer) -> Iterator[Part]:
    embedding = None
    if question.use_safety:
        embedding = question.embed(question.text) if question.embed else None
        into.of_question = safety.check_request(question.text, question.patient, embedding)
        if into.of_question.blocks:
            into.finish_reason = "content_filter"
            yield Part(f"{into.of_question.first} ")
            return
    grounded = _grounded(question, question.index, into, embedding) if question.index else None
    if into.of_question and into.of_question.first:
        yield Part(f"{into.of_question.first} ")
    if grounded is not None:
        yield from _quoted(question, into, grounded)
    elif not _is_emergency(
        into
    ):  # what a model says by itself must not stand beside the emergency's sentence
        into.without_source = True
        yield from _checked(question, into, _generate_sentences(question, into, question.prompt()), ())


def _is_emergency(answer: GrowingAnswer) -> bool:
    layers = answer.of_question.layers if answer.of_question else ()
    return any(layer.layer == emergency.NAME for layer in layers)


def _grounded(
    question: Question, index: Index, into: GrowingAnswer, embedding: Vector | None
) -> GroundedAnswer:
    """What the documents say; ``embedding`` of the question, if the layers needed it."""
    is_its_own = question.embed == index.embedder.question
    grounded = answer_from(index, question.text, question.roles, vector=embedding if is_its_own else None)
    into.retrieved = grounded.confidence
    into.source = max(grounded.quoted, key=lambda each: each.patient is not None, default=None)
    return grounded


def _quoted(question: Question, into: GrowingAnswer, grounded: GroundedAnswer) -> Iterator[Part]:
    """Quotes, then what the model adds and they support."""
    if grounded.abstained:
        into.finish_reason = "abstained"
        yield Part(grounded.text)
        return
    passages = grounded.quoted
    quotes = [
        Part(f"{sentence.text} ", sentence.citations, passage=sentence.passage)
        for sentence in grounded.sentences
    ]
    yield from _checked(question, into, quotes, [passage.text for passage in passages])
    if into.finish_reason == "content_filter":
        return
    if grounded.remark:
        yield Part(f"{grounded.remark} ")
    if _is_emergency(into):
        return
    context = "".join(quote.text for quote in quotes)
    try:
        prose = _supported(_generate_sentences(question, into, question.prompt(context)), context, passages)
        yield from _checked(question, into, prose, [passage.text for passage in passages], context)
    except (InputError, BusyError, EngineError):  # too long, too late or no engine: the quotes are the answer
        into.finish_reason = "stop"


def _supported(parts: Iterable[Part], quoted: str, passages: Sequence[Passage]) -> Iterator[Part]:
    """What passages support and was not quoted already, with where it stands; a part of a sentence, such as "within
    24 hours" or "10.", says more or less than it seems to, and is not said."""
    for part in parts:
        sentence = part.text.strip()
        if not sentence.endswith((".", "!", "?")) or len(spelled(sentence)) < FEWEST_WORDS:
            continue
        checked = support(sentence, [passage.text for passage in passages])
        if checked.supported and sentence not in quoted:
            yield Part(
                part.text,
                (passages[checked.source].cite(checked.start, checked.end),),
                part.tokens,
                passages[checked.source],
            )


def _checked(
    question: Question, into: GrowingAnswer, parts: Iterable[Part], sources: Sequence[str], before: str = ""
) -> Iterator[Part]:
    """The parts up to the one that the layers withhold, whose sentence stands in its place, after ``before``."""
    for part in parts:
        if question.use_safety:
            report = safety.check_answer(question.text, before + part.text, sources, question.patient)
            into.of_answer = report
            if report.blocks:
                into.finish_reason = "content_filter"
                yield Part(report.first)
                return
        before += part.text
        yield part


def _generate_sentences(question: Question, into: GrowingAnswer, prompt: Prompt) -> Iterator[Part]:
    """What the model writes, by its sentences."""
    engine = question.version.engine
    if question.counts_tokens:
        into.prompt_tokens = engine.length(prompt, question.special)
    tokens = engine.stream(prompt, question.sampling, question.special)
    texts = _until(_texts(tokens, question.sampling, into), question.stops)
    characters = n_tokens = covered = 0
    for sentence in sentences(texts):
        characters += len(sentence)
        its = _within(into.tokens[n_tokens:], characters - covered)
        n_tokens, covered = n_tokens + len(its), covered + sum(len(token.text) for token in its)
        yield Part(sentence, tokens=its)


def _within(tokens: Sequence[Token], characters: int) -> tuple[Token, ...]:
    """The first tokens, those that end within so many characters: one that reaches into the next sentence is its."""
    ends = accumulate(len(token.text) for token in tokens)
    return tuple(token for token, end in zip(tokens, ends, strict=True) if end <= characters)


def _texts(tokens: Iterable[Token], sampling: Sampling, into: GrowingAnswer) -> Iterator[str]:
    for token in tokens:
        into.tokens.append(token)
        yield token.text
    if len(into.tokens) >= sampling.max_tokens or sampling.is_late:
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
