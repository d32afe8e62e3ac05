"""Compound questions: those that ask for two or three facts, by the question of each fact."""

import re

from data_pipeline.retrieval.definitions import Definition, definition
from data_pipeline.retrieval.words import words

MOST = 3
"""Facts that are answered one by one; what asks for more is answered as a whole."""
_FEWEST_WORDS = 2
"""Words of content of a later part: "at what age" alone asks nothing."""
_BEFORE = r"(?:(?:above|after|at|below|by|during|for|from|in|of|on|to|under|until|within|with)\s+)?"
_ASKS = rf"{_BEFORE}(?:wh(?:at|en|ere|ich|om?|ose|y)|how)\b"
_BETWEEN = re.compile(rf"\?\s+(?=\S)|(?:,|(?<=\S))\s+and\s+(?={_ASKS})", re.IGNORECASE)
_QUESTION_WORD = re.compile(_ASKS, re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:its|their|it|they|them)\b", re.IGNORECASE)
_ASKED_OF = frozenset({
    "age", "antidote", "appear", "arise", "begin", "between", "bring", "cause", "chance", "change", "common",
    "complication", "confirm", "course", "danger", "defined", "definition", "depend", "develop", "diagnosed",
    "diagnosis", "difference", "dose", "drug", "effect", "examination", "factor", "feature", "finding", "first",
    "found", "frequency", "frequent", "given", "happen", "help", "important", "indicated", "kind", "lead",
    "level", "limit", "look", "main", "major", "maximum", "mean", "mechanism", "medicine", "most", "much", "name",
    "need", "number", "occur", "often", "outcome", "patient", "prevent", "prevented", "prevention", "prognosis",
    "raise", "range", "rate", "reason", "recommended", "risk", "role", "rule", "seen", "show", "side", "sign", "stage",
    "start", "started", "stop", "stopped", "suggest", "symptom", "target", "test", "therapy", "threshold",
    "treat", "treated", "treatment", "trigger", "type", "typical", "use", "used", "usual", "value", "worsen",
})  # fmt: skip
"""What is asked of a topic, as ``words`` gives it; it is not the topic."""

_ASKED_ABOUT = frozenset({
    "adult", "child", "children", "elderly", "infant", "man", "men", "pregnancy", "pregnant", "woman", "women",
})  # fmt: skip
"""Patients whom a question may go on to after another one ("And in children?"), as ``words`` gives them."""


def parts(question: str) -> tuple[str, ...]:
    """The questions that a question consists of, in their order; itself where it asks for one fact, or for many.

    A pronoun of a later part stands for what the part before it is about.

    >>> parts("What are the symptoms of myasthenia gravis and how is it treated?")
    ('What are the symptoms of myasthenia gravis?', 'how is myasthenia gravis treated?')
    >>> parts("Which drugs and doses are used?")
    ('Which drugs and doses are used?',)
    """
    clauses = [clause.strip(" ?") for clause in _BETWEEN.split(question)]
    if not 1 < len(clauses) <= MOST or not all(_QUESTION_WORD.search(clause) for clause in clauses):
        return (question,)
    for place in range(1, len(clauses)):
        topic = _topic(clauses[place - 1])
        clauses[place] = _PRONOUN.sub(lambda _, topic=topic: topic, clauses[place], 1)
    if not words(clauses[0]) or any(len(words(clause)) < _FEWEST_WORDS for clause in clauses[1:]):
        return (question,)
    return tuple(f"{clause}?" for clause in clauses)


def defined(question: str) -> Definition | None:
    """What a question asks the definition of; None where it asks something of a topic.

    >>> defined("What is pregnancy?"), defined("What is the dose?"), defined("What are pregnant women given?")
    (Definition(term='pregnancy', is_of_normal=False), None, None)
    """
    return definition(question, _ASKED_OF)


def names_a_topic(question: str) -> bool:
    """Whether a question has words beside those that ask, and those for the patients whom it is about, or asks what
    those are.

    >>> names_a_topic("What is the dose?"), names_a_topic("And in children?"), names_a_topic("What is epilepsy?")
    (False, False, True)
    """
    return bool(defined(question)) or not (_ASKED_OF | _ASKED_ABOUT).issuperset(words(question))


def _topic(clause: str) -> str:
    """What a question is about: its words of content without what is asked of them; all of them where it names nothing
    else."""
    content = [word for word in clause.split() if words(word)]
    return " ".join([word for word in content if not _ASKED_OF.issuperset(words(word))] or content)
