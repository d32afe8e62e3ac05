"""Grounded answers: sentences quoted from a passage for each fact that is asked for, or an abstention. Nothing is said
that no source says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.sentences import Span
from data_pipeline.clinical_text.stated_dates import stated_dates
from data_pipeline.drugs.mentions import packaged
from data_pipeline.retrieval.aspects import aspect
from data_pipeline.retrieval.candidates import Candidates, Compared, candidates, evidence, first_row
from data_pipeline.retrieval.embedder import Vectors
from data_pipeline.retrieval.index import EVERYBODY, Citation, Index, Passage
from data_pipeline.retrieval.question_parts import defined, names_a_topic, parts
from data_pipeline.retrieval.question_words import in_other_words, in_words_of, with_spelled_drugs
from data_pipeline.retrieval.subjects import Subject, subject
from data_pipeline.retrieval.words import spelled

QUOTED = 2
"""Sentences for one fact at most. Two hold the whole answer of 97 of 100 training questions of the project's corpus."""
MOST_ROWS = 6
"""Rows of a table that are quoted where several are of the drug that is asked about, as by kidney function."""
COSINE_WEIGHT = 0.5
"""Of a sentence's cosine with the question, beside the share of its words: it decides where the words do not."""
ALIKE_TITLE, ALIKE_COVERAGE, ALIKE_COSINE = 0.5, 0.1, 0.05
"""The share of their titles' words that passages of two documents on one matter have in common, and how much less of
the question's words the newer one may have, and how much less near it may be: it is quoted, and the older one named."""
READ = 20
"""Best passages in which a word of the question that the index does not have is looked for in another form."""
FEWEST_WORDS = 2
"""Of a sentence that is quoted: a row of a table may be a drug and its unit."""
MOST_NAMES = 12
"""Words of a letterhead at most."""
_FIGURE = re.compile(r"@|\d[^\w\n]*\w")
"""A mail address, a telephone number, or a value: more than the one digit of a ward at a line's end."""


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
    """Which part of a compound question is not answered, which older document answers it, or why none was searched."""

    @property
    def text(self) -> str:
        """The answer in words."""
        said = [sentence.text for sentence in self.sentences] or [ABSTAINS]
        return " ".join(filter(None, [*said, self.remark]))

    @property
    def quoted(self) -> tuple[Passage, ...]:
        """The passages that it quotes."""
        return tuple(dict.fromkeys(sentence.passage for sentence in self.sentences))


ABSTAINS = "The indexed documents do not answer this question."
NO_TOPIC = "It names nothing to look for; each question is answered by itself, so please ask it whole."
_READ_AS = "It was read as “"
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
    answer = _answer(index, question, roles, hidden, vector)
    spelled_out = with_spelled_drugs(index, question)
    if answer.abstained and (other := in_other_words(index, spelled_out)) != spelled_out:
        subject_of_it = subject(spelled_out)
        reading = _answer(index, other, roles, hidden, asked=subject_of_it)
        if not reading.abstained and subject_of_it.is_titled(reading.passages[0].title):
            return _read_as(other, reading)
    return answer


def _read_as(reading: str, answer: GroundedAnswer) -> GroundedAnswer:
    """An answer that says how its question was read, unless it does already."""
    if answer.remark.startswith(_READ_AS):
        return answer
    return replace(answer, remark=" ".join(filter(None, (f"{_READ_AS}{reading}”.", answer.remark))))


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
    asked: Subject | None = None,
) -> GroundedAnswer:
    """The answer to a question for one fact. ``asked`` is its subject, where the question is another one's reading."""
    vector = index.embedder.question(question) if vector is None else vector
    if not names_a_topic(question):
        return GroundedAnswer((), abstained=True, confidence=0.0, remark=NO_TOPIC)
    found = candidates(index, question, vector, roles, hidden)
    if not found.compared:
        return GroundedAnswer((), abstained=True, confidence=0.0)
    nearest = [index.passage(int(row)) for row in found.ranked.rows[:READ]]
    if (reading := in_words_of(index, question, nearest)) != question:
        named = subject(
            question
        )  # where a drug was read as its class, what is said of the others is no answer
        answer = _answer(index, reading, roles, hidden, asked=named if named.drugs else None)
        return _read_as(reading, answer)
    asked = asked or subject(question)
    fitting = found.about(asked).defining(defined(question)).on(aspect(question))
    confidence = index.abstention.confidence(evidence(index, vector, fitting)) if fitting.compared else 0.0
    if confidence < index.abstention.threshold:
        best = tuple(each.passage for each in found.compared)
        return GroundedAnswer((), abstained=True, confidence=confidence, passages=best)
    newest, remark = _newest(index, vector, fitting)
    quoted = tuple(_quote(newest.passage, span) for span in _answering(index, vector, found, newest, asked))
    passages = tuple(dict.fromkeys([newest.passage, *(each.passage for each in found.compared)]))
    return GroundedAnswer(quoted, abstained=False, confidence=confidence, passages=passages, remark=remark)


def _newest(index: Index, vector: Vectors, found: Candidates) -> tuple[Compared, str]:
    """The newest passage among the best one and those of other documents that answer as well, and a remark on the older
    one. Notes of patients, and what has no date, stand for themselves."""
    best = found.compared[0]
    newest, older = best, None
    for rival in found.compared[1:]:
        if _is_newer(rival, newest) and _is_alike(index, vector, found, best, rival):
            newest, older = rival, older or best
        elif older is None and _is_newer(newest, rival) and _is_alike(index, vector, found, best, rival):
            older = rival
    if older is None:
        return newest, ""
    return (
        newest,
        f"An older document, {older.passage.source} of {older.passage.date}, answers this, too; this is the newer.",
    )


def _is_newer(one: Compared, other: Compared) -> bool:
    """Whether a document is dated later than another one, as far as both say."""
    a, b = one.passage, other.passage
    said = min(len(a.date), len(b.date))
    return a.source != b.source and a.patient is b.patient is None and a.date[:said] > b.date[:said]


def _is_alike(index: Index, vector: Vectors, found: Candidates, best: Compared, rival: Compared) -> bool:
    """Whether a passage is on the same matter as the best one, and answers as well.

    Of two titles on one matter one has all words of the other, numbers aside: a first and a second treatment are two.
    """
    if len(best.title & rival.title) < ALIKE_TITLE * len(best.title | rival.title) or not best.title:
        return False
    one, other = ({word for word in each.title if not word[0].isdigit()} for each in (best, rival))
    if not (one <= other or other <= one):
        return False
    nearest, its = (
        float(index.sentences.cosines(vector, each.row).max(initial=-1.0)) for each in (best, rival)
    )
    return found.coverage(rival) >= found.coverage(best) - ALIKE_COVERAGE and its >= nearest - ALIKE_COSINE


def _answering(
    index: Index, vector: Vectors, found: Candidates, best: Compared, asked: Subject
) -> list[Span]:
    """A passage's sentences that have most of the question's words by rarity and are near to it, in the order of the
    text; all of them, where none has a word of the question that its title lacks.

    Words of the title do not count, for all sentences are about it: they would favour the one that defines it. No
    heading alone, no line of a date or number alone, such as "Reviewed 2026-05-02", and no dose of another drug is
    quoted. Before a row of a table stands its first one, which says what the columns are.
    """
    texts = [best.passage.text[start:end] for start, end in best.spans]
    places = _quotable(texts, best.passage.title, asked)
    cosines = index.sentences.cosines(vector, best.row)
    scores = {
        place: found.share(best.sentences[place] - best.title) + COSINE_WEIGHT * cosines[place]
        for place in places
    }
    first, *others = sorted(scores, key=lambda place: -scores[place])
    if asked.drugs and not asked.has_drug_in(best.passage.title):
        has = (
            best.title | best.sentences[first]
        )  # what only goes on about one is quoted for a word that these lack
        others = [
            place
            for place in others
            if asked.has_drug_in(texts[place]) or found.share(best.sentences[place] - has) > 0
        ]
    if all((best.sentences[place] - best.title).isdisjoint(found.rarity) for place in places):
        chosen = places
    else:
        rows = [i for i in places if "|" in texts[i] and asked.has_drug_in(texts[i])]
        chosen = rows[:MOST_ROWS] if first in rows else [first, *others][:QUOTED]
    return [best.spans[i] for i in sorted({*chosen, *(first_row(texts, i) for i in chosen)})]


def _quotable(texts: Sequence[str], title: str, asked: Subject) -> list[int]:
    """The places of a passage's sentences that may answer: of a passage on children and on adults those that name whom
    is asked about, and where its title names none of the drugs that are asked about, those that are about one."""
    of_drug = asked.about_drug(texts, title)
    saying = [
        place
        for place, text in enumerate(texts)
        if _says_something(text, title)
        and not (place == 0 and _is_letterhead(text))
        and (of_drug[place] or not asked.is_dose_of_another(text))
    ] or list(range(len(texts)))
    if any(asked.is_apart_from(text) for text in texts):
        saying = [place for place in saying if asked.has_patients_in(texts[place])] or saying
    if not asked.has_drug_in(title):
        saying = [place for place in saying if of_drug[place]] or saying
    return saying


def _says_something(sentence: str, title: str) -> bool:
    stated = next(stated_dates(sentence), None)
    rest = sentence[: stated.start] + sentence[stated.end :] if stated else sentence
    return sentence.lstrip("# ") not in title and len(spelled(rest)) >= FEWEST_WORDS


def _is_letterhead(text: str) -> bool:
    """Whether the first line of a passage only names a ward, a hospital or a subject: few words, most of them with a
    capital, no end of a sentence, and no drug, value, telephone number or mail address, which somebody may ask for."""
    names = [word for word in text.split() if word[0].isalpha()]
    capitals = sum(word[0].isupper() for word in names)
    return (
        text[0].isalpha()
        and text[-1].isalnum()
        and len(names) <= MOST_NAMES
        and 3 * capitals >= 2 * len(names)
        and not _FIGURE.search(text)
        and not packaged().find(clinical_text.read(text))
    )


def _quote(passage: Passage, span: Span) -> Sentence:
    citation = passage.cite(span.start, span.end)
    return Sentence(" ".join(citation.text.split()), (citation,), passage)
