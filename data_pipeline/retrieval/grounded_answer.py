"""Grounded answers: sentences quoted from a passage for each fact that is asked for, or an abstention. Nothing is said
that no source says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.clinical_text.sentences import Span, sentences
from data_pipeline.retrieval.embedder import Vectors
from data_pipeline.retrieval.index import EVERYBODY, Index, Passage, Ranked
from data_pipeline.retrieval.question_parts import parts
from data_pipeline.retrieval.words import spelled, stems

QUOTED = 2
"""Sentences for one fact at most. Two hold the whole answer of 97 of 100 training questions of the project's corpus."""
COMPARED = 5
"""Best passages that the question's words are looked for in."""
FEWEST_WORDS = 2
"""Of a sentence that is quoted: a row of a table may be a drug and its unit."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation: the quote is ``[start:end]`` of the text of ``place`` in ``source``."""

    quote: str
    source: str
    title: str
    place: str
    date: str
    digest: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an answer and what supports it."""

    text: str
    citations: tuple[Citation, ...]
    passage: Passage
    """In which it stands."""


@dataclass(frozen=True, slots=True)
class GroundedAnswer:
    """Quoted sentences, or none where the index abstains."""

    sentences: tuple[Sentence, ...]
    abstained: bool
    confidence: float
    """Probability that the index holds the answer, from 0 to 1."""
    passages: tuple[Passage, ...] = ()
    """The best passages, whether or not they answer: for who wants to look himself."""
    remark: str = ""
    """Which part of a compound question is not answered."""

    @property
    def text(self) -> str:
        """The answer in words."""
        said = [*(sentence.text for sentence in self.sentences), self.remark]
        return " ".join(filter(None, said)) or ABSTAINS

    @property
    def quoted(self) -> tuple[Passage, ...]:
        """The passages that it quotes."""
        return tuple(dict.fromkeys(sentence.passage for sentence in self.sentences))


ABSTAINS = "The indexed documents do not answer this question."
_ORDINALS = ("first", "second", "third")


def answer_from(
    index: Index,
    question: str,
    roles: frozenset[str] = EVERYBODY,
    hidden: Sequence[int] = (),
    vector: Vectors | None = None,
) -> GroundedAnswer:
    """Sentences quoted from what the roles may see, the rows ``hidden`` left out, or an abstention below the threshold.

    A question for two or three facts is answered fact by fact, and as a whole where none of them is. ``vector`` is
    ``index.embedder.question(question)``, where it is known already.
    """
    asked = parts(question)
    if len(asked) > 1:
        together = _together([_answer(index, part, roles, hidden) for part in asked])
        if not together.abstained:
            return together
    return _answer(index, question, roles, hidden, vector)


def _together(answers: Sequence[GroundedAnswer]) -> GroundedAnswer:
    """The answers to the parts of a question as one. It is sure of as much as of its least sure part, and quotes the
    notes of one patient at most, whom the log then names."""
    patient = next((each.patient for answer in answers for each in answer.quoted if each.patient), None)
    told = [all(each.patient in (None, patient) for each in answer.quoted) for answer in answers]
    spoken = [
        sentence for answer, may in zip(answers, told, strict=True) if may for sentence in answer.sentences
    ]
    missing = [
        ordinal
        for ordinal, answer, may in zip(_ORDINALS, answers, told, strict=False)
        if answer.abstained or not may
    ]
    which = " and ".join(missing)
    return GroundedAnswer(
        tuple({sentence.citations: sentence for sentence in spoken}.values()),
        abstained=not spoken,
        confidence=min(answer.confidence for answer in answers),
        passages=tuple(dict.fromkeys(passage for answer in answers for passage in answer.passages)),
        remark=f"Not answered here: the {which} part of the question; ask that by itself." if missing else "",
    )


def _answer(
    index: Index,
    question: str,
    roles: frozenset[str],
    hidden: Sequence[int],
    vector: Vectors | None = None,
) -> GroundedAnswer:
    """The answer to a question for one fact."""
    vector = index.embedder.question(question) if vector is None else vector
    ranked = index.rank(question, vector, roles, hidden)
    if not len(ranked.rows):
        return GroundedAnswer((), abstained=True, confidence=0.0)
    confidence = index.abstention.confidence(evidence(index, question, vector, ranked))
    best = [
        index.passage(int(row), float(score))
        for row, score in zip(ranked.rows[:COMPARED], ranked.fused, strict=False)
    ]
    if confidence < index.abstention.threshold:
        return GroundedAnswer((), abstained=True, confidence=confidence, passages=tuple(best))
    quoted = tuple(_quote(best[0], span) for span in _answering(index, question, best[0]))
    return GroundedAnswer(quoted, abstained=False, confidence=confidence, passages=tuple(best))


def evidence(index: Index, question: str, vector: Vectors, ranked: Ranked) -> dict[str, float]:
    """Evidence for an answer in the index, by the names of ``abstention.FEATURES``.

    The cosine of the nearest passage, by how much it is above the next, and above those that follow, and that of the
    nearest sentence of the best passages; the share of the question's words, weighted by rarity, that one sentence of
    the best passage has with its title; the rarity of the rarest word that the passage with most of them lacks, as a
    share of the largest, and the share of words that no passage has; BM25 of the best passage for each unit of the
    question's rarity, and by how much it is above the next. None of them grows with the index.
    """
    cosines = np.sort(ranked.cosine[~np.isnan(ranked.cosine)])[::-1]
    lexical = np.sort(ranked.bm25)[::-1]
    rarity = {word: index.rarity(word) for word in set(stems(question))}
    total = sum(rarity.values()) or 1.0
    covered = [_covered(index, int(row), rarity) for row in ranked.rows[:COMPARED]]
    _, missing = max(covered, default=(0.0, 0.0))
    return {
        "cosine": _at(cosines, 0),
        "cosine_margin": _at(cosines, 0) - _at(cosines, 1),
        "cosine_contrast": _at(cosines, 0) - float(np.mean(cosines[2:7])) if len(cosines) > 2 else 0.0,
        "sentence_cosine": max(
            index.sentences.best_cosine(vector, int(row)) for row in ranked.rows[:COMPARED]
        ),
        "coverage": _in_one_sentence(index.passage(int(ranked.rows[0])), rarity) / total,
        "largest_rarity_missing": -missing / index.largest_rarity,
        "unknown": -sum(value for word, value in rarity.items() if not index.knows(word)) / total,
        "bm25": _at(lexical, 0) / total,
        "bm25_margin": (_at(lexical, 0) - _at(lexical, 1)) / total,
    }


def _at(values: Sequence[float] | np.ndarray, place: int) -> float:
    return float(values[place]) if place < len(values) else 0.0


def _covered(index: Index, row: int, rarity: Mapping[str, float]) -> tuple[float, float]:
    """Summed rarity of the words that a passage has, and the largest of those that it lacks."""
    passage = index.passage(row)
    has = set(stems(f"{passage.title} {passage.text}"))
    missing = max((value for word, value in rarity.items() if word not in has), default=0.0)
    return sum(value for word, value in rarity.items() if word in has), missing


def _in_one_sentence(passage: Passage, rarity: Mapping[str, float]) -> float:
    """Summed rarity of the words that the passage's title has with that sentence which adds most."""
    title = set(stems(passage.title))
    words_by_sentence = [
        title | set(stems(passage.text[start:end])) for start, end in sentences(passage.text)
    ]
    return max(
        (sum(value for word, value in rarity.items() if word in has) for has in words_by_sentence),
        default=0.0,
    )


def _answering(index: Index, question: str, passage: Passage) -> list[Span]:
    """The sentences that have most of the question's words by rarity, in the order of the text; no heading alone and
    no line of a date or number alone, such as "Reviewed 2026-05-02"."""
    rarities = {word: index.rarity(word) for word in set(stems(question))}
    every = sentences(passage.text)
    spans = [span for span in every if _says_something(passage.text[slice(*span)], passage.title)] or every
    words_by_sentence = [set(stems(passage.text[start:end])) for start, end in spans]
    scores = [sum(value for word, value in rarities.items() if word in has) for has in words_by_sentence]
    best = sorted(range(len(spans)), key=lambda place: (-scores[place], place))[:QUOTED]
    return [spans[place] for place in sorted(best)]


def _says_something(sentence: str, title: str) -> bool:
    return sentence.lstrip("# ") not in title and len(spelled(sentence)) >= FEWEST_WORDS


def _quote(passage: Passage, span: Span) -> Sentence:
    quote = passage.text[span.start : span.end]
    citation = Citation(
        quote=quote,
        source=passage.source,
        title=passage.title,
        place=passage.place,
        date=passage.date,
        digest=passage.digest,
        start=passage.start + span.start,
        end=passage.start + span.end,
    )
    return Sentence(" ".join(quote.split()), (citation,), passage)
