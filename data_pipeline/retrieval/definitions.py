"""Definition questions: what something is, or what is normal of it. A passage that only speaks of it is no answer.

"What is a stroke?" is near to all that is said of strokes, and a passage on lacunar strokes has all of its words.
"""

import re
from dataclasses import dataclass

from data_pipeline.retrieval.words import words

_ASKS = re.compile(
    r"\W*(?:(?:what(?:['’]?s|\s+is)\s+the\s+)?definition\s+of|what(?:['’]?s|\s+(?:is|are))(?:\s+meant\s+by)?|define|"
    r"(?P<means>what\s+do(?:es)?))\s+(?P<article>an?\s+|the\s+)?(?P<term>\S[^?.!,;]*?)"
    r"(?(means)\s+(?:mean|stand\s+for))\W*",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\W*(?:what(?:['’]?s|\s+(?:is|are))\s+(?:an?\s+|the\s+)?)?(?:normal|reference)\s+"
    r"(?:(?:ranges?|levels?|values?)\s+(?:of|for)\s+)?(?P<term>\w[^?.!,;]*?)\s*(?:ranges?|levels?|values?)?\W*",
    re.IGNORECASE,
)
RELATIONS = re.compile(
    r"\b(?:about|after|against|as|at|before|between|by|during|for|from|given|if|in|of|on|or|over|per|than|that|to|used|"
    r"versus|vs|when|which|with|within|without)\b",
    re.IGNORECASE,
)
"""With one of these words it is not asked what something is, but for something of it."""
_MOST_WORDS = 4
LONGEST = 100
"""Characters; a longer question asks for more than a definition."""
_OTHER_THAN_THINGS = frozenset(
    {"contraindicated", "first", "good", "best", "worst", "worse", "better", "new", "normal"}
)
_PARTICIPLE = re.compile(r"(?:ed|heard|seen|found|given)$")
"""As in "What is category G5 called?"."""
_IS = (
    r"(?:is|are)\s+(?:\w+ly\s+)?(?:(?:an?|the|any|one|when|those|defined|characteri[sz]ed|called|caused|due)\b|"
    r"(?!(?:more|less|not|no|often|seldom|rare|common|high|low|better|worse|then|also|at|by|for|from|in|on|to|with|"
    r"seen|made|kept|done|held|begun|put)\b|\w+(?:ed|en|ing|[ai]ble|[ae]nt|al|ic|ous|ive|ar)\b)\w)|"
    r"(?:means?|refers?\s+to|describes?|consists?\s+of|comprises?|stands?\s+for|begins?|lasts?)\b"
)
"""What follows on a term that is defined: a noun, and no word that only says something of it."""


@dataclass(frozen=True)
class Definition:
    """What a question asks the definition of, or the normal values of."""

    term: str
    is_of_normal: bool

    def is_met_by(self, title: str, text: str) -> bool:
        """Whether a passage says what the term is, or is titled by it and nothing else; or what is normal of it."""
        term = _pattern(self.term)
        if self.is_of_normal:
            return bool(re.search(_values(term), f"{title}. {text}", re.IGNORECASE))
        section = title.rpartition(": ")[2]
        if re.fullmatch(rf"(?:[\w\s]*definitions?\s+of\s+)?(?:[\d.]+\s+)?{term}", section, re.IGNORECASE):
            return True
        says = rf"(?:^|[.|]\s+|\n)(?:an?\s+|the\s+)?{term}(?:\s*\([^)]*\))?,?\s+(?:{_IS})|\(\s*{term}\s*\)"
        return bool(re.search(says, text, re.IGNORECASE)) or f"({self.term.lower()})" in title.lower()


def definition(question: str, not_things: frozenset[str] = frozenset()) -> Definition | None:
    """What a question asks the definition of; None where it asks for something else, such as a dose.

    ``not_things`` are words of what is asked of a thing.

    >>> definition("What is a stroke?"), definition("What is normal potassium?")
    (Definition(term='stroke', is_of_normal=False), Definition(term='potassium', is_of_normal=True))
    >>> definition("What is the dose of alteplase?", frozenset({"dose"})), definition("What causes gout?")
    (None, None)
    """
    if len(question) > LONGEST:
        return None
    if (normal := _NORMAL.fullmatch(question)) and not RELATIONS.search(normal["term"]):
        return Definition(" ".join(normal["term"].split()), is_of_normal=True)
    asks = _ASKS.fullmatch(question)
    if not asks or RELATIONS.search(asks["term"]):
        return None
    term = words(asks["term"])
    is_the_value_of_it = (asks["article"] or "").lower().strip() == "the" and len(term) > 1
    if not 0 < len(term) <= _MOST_WORDS or is_the_value_of_it or _PARTICIPLE.search(asks["term"]):
        return None
    if not asks["means"] and not (not_things | _OTHER_THAN_THINGS).isdisjoint(term):
        return None
    return Definition(" ".join(asks["term"].split()), is_of_normal=False)


def _pattern(term: str) -> str:
    """A term's words, singular or plural, with blanks or hyphens between them."""
    each = (re.escape(word) for word in re.findall(r"[\w'’]+", term.lower()))
    return r"[\s-]+".join(rf"{re.sub(r'(?<=[^su])s$', '', word)}(?:e?s)?" for word in each)


def _values(term: str) -> str:
    """A pattern of normal values: "normal potassium is 3.5", "potassium (normal 3.5 to 5.0)"."""
    return (
        rf"\b(?:normal|reference)(?:\s+\w+){{0,3}}\s+{term}(?:\s+\w+){{0,3}}?\s*(?:\||:|\b(?:is|are|lies?|of|between|from)\b)"
        rf"[^.\n]{{0,40}}\d|\b{term}\b[^.\n]{{0,60}}\bnormal(?:ly)?\b[^.\w\n]{{0,3}}(?:\w+\s+){{0,3}}\d"
    )
