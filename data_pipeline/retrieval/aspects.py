"""Aspect questions: those for the causes, prevention, diagnosis, treatment or prognosis of something and nothing else.

A passage that is titled by another aspect, or speaks of another topic, is near to such a question, and no answer.
"""

import re
from dataclasses import dataclass

from data_pipeline.clinical_text.sentences import sentences
from data_pipeline.retrieval.definitions import LONGEST, RELATIONS
from data_pipeline.retrieval.words import stems

_ASPECTS = {
    aspect: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for aspect, words in {
        "causes": r"caus\w+|a?etiolog\w+|triggers?|risk factors?|due to|(?:patho)?physiolog\w+|mechanisms?",
        "prevention": r"prevent\w*|prophyla\w+|vaccinat\w+|avoid\w*",
        "diagnosis": r"diagnos\w+|criteria|scores?|scales?|electrocardiogram|imaging|screen\w*|recogni\w+|defin\w+|"
        r"stages?|categor\w+|classif\w+",
        "treatment": r"treat\w*|therap\w+|manag\w+|given|started",
        "prognosis": r"prognos\w+|outcomes?|survival|mortality",
    }.items()
}
_NOUN = (
    r"(?P<aspect>causes?|a?etiology|prevention|diagnosis|treatments?|therapy|management|prognosis|outcome)"
)
_TOPIC = r"(?P<topic>(?!(?:what|which|who|how|why|when|where|can|do|does|is|are)\b)\w[^?.!,;]*?)"
_FORMS = tuple(
    re.compile(rf"\W*{form}\W*", re.IGNORECASE)
    for form in (
        rf"(?:what(?:['’]?s|\s+(?:is|are))\s+)?(?:the\s+)?(?:\w+\s+)?{_NOUN}\s+(?:of|for|in)\s+{_TOPIC}",
        rf"{_TOPIC}\s+{_NOUN}",
        rf"how\s+(?:is|are)\s+{_TOPIC}\s+(?P<aspect>treated|managed|diagnosed|prevented|caused)",
        rf"how\s+(?:to|do\s+(?:you|we|i))\s+(?P<aspect>treat|manage|diagnose|prevent)\s+{_TOPIC}",
        rf"what\s+(?P<aspect>causes)\s+{_TOPIC}",
    )
)
_MORE = re.compile(rf"{RELATIONS.pattern}|\b(?:and|or)\b", re.IGNORECASE)
"""With one of these words more than a topic is named."""
_MOST_WORDS = 4
_LONG = 8
"""Letters of a word that may end otherwise."""


@dataclass(frozen=True)
class Aspect:
    """One aspect of a topic."""

    name: str
    topic: str

    def is_met_by(self, title: str, text: str) -> bool:
        """Whether a passage is titled by the topic and by no other aspect of it, or says in one sentence of the topic
        what belongs to the aspect."""
        named = _named(title) - _named(self.topic)
        if named and self.name not in named:
            return False
        return self._is_topic_of(title) or any(
            self.name in _named(text[start:end]) and self._is_topic_of(text[start:end])
            for start, end in sentences(text)
        )

    def _is_topic_of(self, text: str) -> bool:
        """Whether a text has most words of the topic, hypercalcaemic for hypercalcaemia."""
        has, topic = stems(text), stems(self.topic)
        alike = [
            any(each.startswith(word[:-1] if len(word) >= _LONG else word) for each in has) for word in topic
        ]
        return sum(alike) > len(topic) / 2


def aspect(question: str) -> Aspect | None:
    """What a question asks of a topic, where it asks for nothing else.

    >>> aspect("What is the treatment of stroke?"), aspect("How is acute kidney injury prevented?")
    (Aspect(name='treatment', topic='stroke'), Aspect(name='prevention', topic='acute kidney injury'))
    >>> aspect("When is treatment of stroke begun?"), aspect("Which drugs prevent migraine?")
    (None, None)
    """
    if len(question) > LONGEST:
        return None
    for form in _FORMS:
        asked = form.fullmatch(question)
        if asked and len(asked["topic"].split()) <= _MOST_WORDS and not _MORE.search(asked["topic"]):
            return Aspect(_named(asked["aspect"]).pop(), asked["topic"])
    return None


def _named(text: str) -> set[str]:
    return {name for name, words in _ASPECTS.items() if words.search(text)}
