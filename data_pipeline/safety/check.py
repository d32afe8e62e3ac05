"""All layers over one question or one answer. A layer that fails makes the report block: the whole fails closed."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.spelling import Speller
from data_pipeline.clinical_text.text import ClinicalText
from data_pipeline.drugs import mentions as drugs
from data_pipeline.safety import (
    doses,
    emergency,
    harmful,
    identifiers,
    injection,
    interactions,
    personalised,
    terminology,
    unsupported_language,
    wording,
)
from data_pipeline.safety.embedding_model import Vector
from data_pipeline.safety.layer import CheckedText, Layer
from data_pipeline.safety.report import RISK_LEVELS, Finding, LayerFinding, PatientContext, SafetyReport

log = logging.getLogger("mediscale.safety")

REQUEST_LAYERS: dict[str, Layer] = {
    emergency.NAME: emergency.check,
    unsupported_language.NAME: unsupported_language.check,
    harmful.NAME: harmful.check,
    injection.NAME: injection.check,
    personalised.NAME: personalised.check,
    interactions.NAME: interactions.check,
    doses.NAME: doses.check,
    identifiers.NAME: identifiers.check,
    identifiers.NAMES: identifiers.check_names,
}
"""The layers of a question, the most urgent first."""
FAILED = "The safety check {layer} could not be made, so nothing is answered; please try again, or ask a clinician."
WITHHELD = "The answer was withheld by the safety check {layer}; please ask a clinician."


def read(text: str) -> ClinicalText:
    """The text as all layers read it, with misspelt words of the rules corrected."""
    return clinical_text.read(text, _speller().correct)


def check_request(
    text: str, patient: PatientContext | None = None, embedding: Vector | None = None
) -> SafetyReport:
    """The safety layers' report on a question; never raises.

    ``embedding`` is ``Embedder.question(text)`` of the packaged embedder, which retrieval computes anyway. With it the
    layers find more of what is worded in unusual ways; another embedder's makes the report block.

    An emergency does not block: its sentence (``first``) precedes whatever is answered.
    """
    return _report(lambda: CheckedText(read(text), patient or PatientContext(), embedding), REQUEST_LAYERS)


def check_answer(
    question: str, answer: str, sources: Sequence[str] = (), patient: PatientContext | None = None
) -> SafetyReport:
    """The safety layers' report on an answer, and on the sources that it was made of; never raises."""
    layers: dict[str, Layer] = {
        injection.NAME: lambda checked: _injection(checked, sources),
        wording.NAME: wording.check,
        interactions.NAME: interactions.check_answer,
        doses.NAME: lambda checked: _answered_doses(checked, sources),
        identifiers.NAME: lambda checked: _new(identifiers.check(checked), answer, (question, *sources)),
        identifiers.NAMES: lambda checked: _new(
            identifiers.check_names(checked), answer, (question, *sources)
        ),
        terminology.NAME: lambda checked: terminology.checker(_words(question, *sources))(checked),
    }
    return _report(lambda: CheckedText(clinical_text.read(answer), patient or PatientContext()), layers)


def _report(make: Callable[[], CheckedText], layers: dict[str, Layer]) -> SafetyReport:
    try:
        checked = make()
    except Exception as error:
        return _combined([_failed("reading", error)])
    return _combined([_applied(name, layer, checked) for name, layer in layers.items()])


def _applied(name: str, layer: Layer, checked: CheckedText) -> LayerFinding:
    try:
        return layer(checked)
    except Exception as error:
        return _failed(name, error)


def _failed(name: str, error: Exception) -> LayerFinding:
    """A layer that raised blocks; the log says where, and nothing of the text."""
    log.error("The safety layer %s raised %s.", name, type(error).__name__)
    message = FAILED.format(layer=name)
    finding = Finding(message=message, start=0, end=0, risk="high", code="failed")
    return LayerFinding(layer=name, findings=(finding,), message=message, blocks=True, first=message)


def _combined(layers: Iterable[LayerFinding]) -> SafetyReport:
    speaking = tuple(layer for layer in layers if layer.findings)
    findings = [finding for layer in speaking for finding in layer.findings]
    ordered = sorted(findings, key=lambda finding: -RISK_LEVELS.index(finding.risk))
    blocks = any(layer.blocks for layer in speaking)
    return SafetyReport(
        risk_level=ordered[0].risk if ordered else "none",
        warnings=tuple(dict.fromkeys(finding.message for finding in ordered)),
        layers=speaking,
        blocks=blocks,
        first=_first(speaking, blocks),
    )


def _first(layers: Sequence[LayerFinding], blocks: bool) -> str:
    """The emergency's sentence, then those of the layers that block, or else those of the others."""
    urgent = [layer.first for layer in layers if layer.layer == emergency.NAME]
    stops = [layer.first or WITHHELD.format(layer=layer.layer) for layer in layers if layer.blocks]
    others = [layer.first for layer in layers if layer.first and layer.layer != emergency.NAME]
    return " ".join(dict.fromkeys(urgent + (stops[:1] if blocks else others)))


def _injection(checked: CheckedText, sources: Sequence[str]) -> LayerFinding:
    """Instructions to the model in the answer, or in a source that it was made of."""
    findings = list(injection.check(checked).findings)
    for number, source in enumerate(sources):
        of_source = injection.check(CheckedText(clinical_text.read(source))).findings
        findings += [finding.model_copy(update={"source": number}) for finding in of_source]
    if not findings:
        return LayerFinding(layer=injection.NAME)
    message = "A source has instructions to the assistant; nothing is answered from it."
    return LayerFinding(
        layer=injection.NAME, findings=tuple(findings), message=message, blocks=True, first=message
    )


def _answered_doses(checked: CheckedText, sources: Sequence[str]) -> LayerFinding:
    """Doses outside of the usual range; one above blocks, but where a source says it or the sentence warns of it."""
    layer = doses.check(checked)
    text = " ".join(clinical_text.read(source).joined for source in sources)
    blocks = any(
        finding.code == "above" and not _is_said_or_warned_of(checked, finding, text)
        for finding in layer.findings
    )
    return layer.model_copy(update={"blocks": blocks})


_WARNING_WORDS = frozenset(
    [
        "toxic",
        "toxicity",
        "overdose",
        "exceed",
        "exceeding",
        "exceeds",
        "above",
        "maximum",
        "never",
        "avoid",
        "dangerous",
        "lethal",
        "fatal",
        "limit",
        "not",
        "than",
        "over",
    ]
)


def _is_said_or_warned_of(checked: CheckedText, finding: Finding, answer: str) -> bool:
    words = [
        i
        for i in range(len(checked.text.words))
        if checked.text.words[i] != "." and _within(checked, i, finding)
    ]
    start, end = checked.text.sentence(words[0] if words else 0)
    sentence = checked.text.words[start:end]
    return not _WARNING_WORDS.isdisjoint(sentence) or f" {' '.join(sentence)} " in answer


def _within(checked: CheckedText, word: int, finding: Finding) -> bool:
    start, end = checked.text.span(word, word + 1)
    return finding.start <= start and end <= finding.end


_LEAKS = frozenset({"record", "phone", "email", "address"})
"""Identifiers that block; a name may be that of a disease, a date that of a study."""


def _new(layer: LayerFinding, answer: str, sources: Sequence[str]) -> LayerFinding:
    """Identifiers of an answer; one that neither the question nor a source has blocks: where may it be from?"""
    new = [
        finding
        for finding in layer.findings
        if not any(answer[finding.start : finding.end] in text for text in sources)
    ]
    return layer.model_copy(
        update={
            "findings": tuple(new),
            "message": layer.message if new else "",
            "blocks": any(finding.code in _LEAKS for finding in new),
        }
    )


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in clinical_text.read(text).words)


@cache
def _speller() -> Speller:
    rules = (emergency.phrases(), harmful.phrases(), injection.phrases(), personalised.phrases())
    return Speller(drugs.packaged().words.union(*(phrases.words for phrases in rules)))
