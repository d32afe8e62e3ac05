"""Medication status: whether a note says that a drug is taken, was stopped, is held, or was only considered."""

import re
from typing import Literal

MedicationStatus = Literal["taken", "stopped", "held", "considered"]
"""Whether the patient takes it or is to take it; takes it no more; is not to take it for now; or whether it is only
spoken of, was declined or is avoided."""

_ENDED = (
    r"stop(?:s|ped|ping)?|discontinu(?:e|es|ed|ing)|discontinuation of|dc'?e?d|d/c(?:'?e?d)?|ceas(?:e|es|ed|ing)"
    r"|(?:taken|came|come|went|weaned|is|are|was|been|now|currently) off(?: of)?|completed|finished|quit|withdrew"
    r"|withdrawal of|ran out of|(?:chang|switch|transition|convert)(?:e|ed|ing)? from|used to take"
    r"|(?:formerly|previously) (?:on|took)|(?:not|isn't) (?:on|taking|using)|instead of|in place of"
    r"|no longer (?:on|takes?|taking|us(?:es?|ing)|receiv(?:es?|ing)|needs?|requires?)"
)
_PAUSED = (
    r"hold(?:s|ing)?|held|with(?:hold|holding|held)|paus(?:e|ed|ing)|suspend(?:ed|ing)?|interrupt(?:ed|ing)?"
)
_VERBS: dict[MedicationStatus, str] = {
    "stopped": _ENDED,
    "held": _PAUSED,
    "considered": (
        r"consider(?:s|ed|ing)?|contemplat(?:e|ed|ing)|(?:could|may|might) (?:need|try|use|add|start|benefit from)"
        r"|discuss(?:ed|ing|ion of)?|declin(?:es|ed|ing)|refus(?:es|ed|ing)|avoid(?:s|ed|ing)?|defer(?:s|red|ring)?"
        r"|(?:not|no) (?:a )?candidate for|would benefit from|thinking (?:about|of)"
    ),
    "taken": (
        r"start(?:s|ed|ing)?|beg[iau]n|initiat(?:e|ed|ing)|continu(?:e|es|ed|ing)|resum(?:e|es|ed|ing)"
        r"|restart(?:ed|ing)?|increas(?:e|ed|ing)|decreas(?:e|ed|ing)|tak(?:e|es|ing|en)|receiv(?:e|es|ed|ing)"
        r"|giv(?:e|en|ing)|gave|add(?:ed|ing)?|us(?:es|ing)|prescribed|on|to"
    ),
}
_OBJECT = (
    r"(?:[\s,(:]|\b(?:and|or|of|his|her|the|their|home|all|any|both|oral|iv|po|current|further|a|an|trial|course"
    r"|doses?|use|taking|using|starting|adding|giving|being|long-term|chronic|daily|prophylactic|empiric|therapy|with)\b"
    r"|\d[\d.,]*\s?(?:mg|mcg|g|units?|ml)\b)*"
)
_BEFORE = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(f"(?P<{status}>{verbs})" for status, verbs in _VERBS.items())
    + rf"){_OBJECT}$"
)
"""The verb whose object a drug is: the first from which on nothing but objects stands."""
_USE = (
    r"(?:[\s,:(–-]|\b(?:po|iv|sc|sq|im|bid|tid|qid|daily|qd|qhs|prn|therapy|treatment|gtt|drip|infusion|patch|tablets?"
    r"|which|that|and|also|now|then|both|temporarily|currently)\b"
    r"|\d[\d.,/-]*\s?(?:mg|mcg|g|units?|ml)?(?:/\w+)?\b)*"
)
_IS = (
    r"(?:(?:was|were|is|are|(?:has|have|had) been|being|will be|to be|should be|got)"
    r" (?:then |also |now |temporarily |recently )?)?"
)
_AFTER = re.compile(
    rf"{_USE}{_IS}(?:(?P<stopped>stopped|discontinued|d/c'?e?d|dc'?d|ceased|off|weaned(?: off)?|completed|not taken"
    r"|(?:switched|changed|transitioned|converted) to|replaced (?:by|with))"
    r"|(?P<held>held|on hold|withheld|paused|suspended|interrupted)"
    r"|(?P<considered>declined|refused|considered|discussed|deferred|avoided|not (?:given|started))"
    r"|(?P<taken>started|restarted|resumed|continued|increased|decreased|added|given))(?![\w-])"
    r"(?!,?\s+(?:and|but|then)[ ]+(?:was |then |later )*(?:re-?started|resumed))"
)
"""A verb after a drug that is its subject; of one that came back afterwards, the one that says so."""
_KEPT = re.compile(
    rf"(?<!\w)(?:not|never|without|(?:do|does|did|should)n't) (?:{_ENDED}|{_PAUSED}){_OBJECT}$"
)
"""Words that deny an end: the drug behind them is taken."""
_PAST = re.compile(r"(?<!\w)(?:was|were|had been|been) (?:on|taking)\s+$")
_AGO = re.compile(rf"{_USE}(?:in the past|(?:\w+ )?(?:years?|months?) ago)\b")
REACH = 300
"""Characters before or behind a drug in which its verb stands."""


def find(sentence: str, start: int, end: int, others: list[tuple[int, int]]) -> MedicationStatus | None:
    """What the sentence says of the drug at ``start`` to before ``end``; None where it says nothing.

    ``sentence`` is in lower case, and no longer than ``REACH`` on both sides; ``others`` are the other drugs in it,
    which may share the verb.

    >>> find("aspirin and plavix were stopped", 0, 7, [(12, 18)])
    'stopped'
    """
    alone = _AFTER.match(sentence, end)
    if alone:
        return _status(alone)
    plain = list(sentence)
    for at, to in others:
        plain[at:to] = " " * (to - at)
    before, after = "".join(plain[:start]), "".join(plain[end:])
    if is_kept(before):
        return "taken"
    if _PAST.search(before) and _AGO.match(after):
        return "stopped"
    shared = _BEFORE.search(before) or _AFTER.match(after)
    return _status(shared) if shared else None


def is_kept(before: str) -> bool:
    """Whether the words before a drug say that it is not stopped."""
    return _KEPT.search(before) is not None


def _status(match: re.Match[str]) -> MedicationStatus:
    return next(status for status in _VERBS if match[status])
