"""Prompt injection: instructions to the model inside of a question, a note or a retrieved document.

Documents and notes are data. A sentence that speaks to the model, in words, in the markup of chat templates, hidden
from the eye, or encoded, is reported wherever it stands (OWASP LLM01).
"""

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from data_pipeline.clinical_text import text as clinical_text
from data_pipeline.clinical_text.languages import ENGLISH
from data_pipeline.clinical_text.phrases import Phrases
from data_pipeline.safety.layer import CheckedText, rules
from data_pipeline.safety.report import Finding, LayerFinding

NAME = "prompt_injection"
REFUSAL = "I can't follow instructions that change how this assistant works. Please ask the medical question by itself."
FEWEST_WORDS = 3
"""Of a text that the linear models over embeddings judge: they were trained on sentences, and a greeting, a heading or
a label is like nothing that they saw; nor is a text in another language. The rules read every text."""
_SPEAKER = (
    r"(?:system|assistant|developer|new instructions?|instructions? to (?:the )?(?:ai|model|assistant)"
    r"|admin(?: override)?|system (?:override|prompt|message|note|update|alert)|override)"
)
# Nothing here tries each beginning of a long run of the same characters: a question of 32 kB of line ends took minutes.
_MARKUP = re.compile(
    r"<\|?\s*(?:im_start|im_end|system|endoftext|start_of_turn|end_of_turn|assistant|user|eot_id|start_header_id|/?s)"
    r"\s*\|?>|\[/?(?:inst|sys|system|system_prompt|system message|admin|override)\]|<<\s*/?sys\s*>>"
    r"|<\s*/?\s*(?:system|instructions?|prompt|admin|override)\s*>"
    rf"|(?m:^|(?<=[.!?\"'>\])]\s))[^\S\n]*+(?:#{{2,}}\s*|\[|\*\*)?{_SPEAKER}(?:\]|\*\*)?\s*:(?!\d)"
    r"|```\s*(?:system|instruction|prompt)|\{\{.{0,80}?\}\}|\"role\"\s*:\s*\"(?:system|assistant)\""
    r"|(?<!-)-{3,}+\s*+(?:(?:begin|end|new|start)\s*+)?(?:of )?"
    r"(?:system|instructions?|prompt|user input|context|document)"
    r"|<!--.{0,300}?(?:ignore|instruct|assistant|system|reveal|model|ai\b).{0,300}?-->"
    r"|!\[[^\]]{0,300}\]\(https?://[^)?&=]{0,300}[?&=][^)]{0,2000}\)|<(?:script|iframe)\b|javascript:",
    re.IGNORECASE | re.DOTALL,
)
_ENCODED = re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{24,}={0,2}(?![\w+/])")
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W\d_][ .\-_*]){5,}[^\W\d_](?![^\W_])")
_LEET = str.maketrans("013457@$!", "oieastasi")
_LEET_WORD = re.compile(r"(?<![^\W_])[^\W_]*[a-z][013457@$!]+[a-z][^\W_]*|[013457@$!][a-z]{3,}")


def check(checked: CheckedText) -> LayerFinding:
    """Instructions to the model, by phrase, markup, spacing and encoding."""
    findings = [
        checked.finding(
            "The text has instructions to the assistant.", match.first, match.last, "high", match.label
        )
        for match in phrases().find(checked.text)
    ]
    findings += [_at(checked, start, end, code) for start, end, code in _hidden(checked)]
    is_judged = checked.language == ENGLISH and len(checked.text.plain.split()) >= FEWEST_WORDS
    if not findings and is_judged and NAME in checked.flags:
        findings = [_at(checked, 0, len(checked.text.plain), "embedding")]
    if not findings:
        return LayerFinding(layer=NAME)
    return LayerFinding(layer=NAME, findings=tuple(findings), message=REFUSAL, blocks=True, first=REFUSAL)


def _at(checked: CheckedText, start: int, end: int, code: str) -> Finding:
    start, end = checked.text.original_span(start, end)
    return Finding(
        message="The text has instructions to the assistant.", start=start, end=end, risk="high", code=code
    )


def _hidden(checked: CheckedText) -> Iterator[tuple[int, int, str]]:
    """Places with markup of chat templates, and with instructions spaced out, spelled with digits or encoded."""
    plain, folded = checked.text.plain, checked.text.folded.text
    yield from ((match.start(), match.end(), "markup") for match in _MARKUP.finditer(plain))
    for match in _SPACED.finditer(plain):
        if any(word in re.sub(r"[^a-z]", "", match.group()) for word in _GIVE_AWAY):
            yield match.start(), match.end(), "spaced"
    if _LEET_WORD.search(plain):
        read = clinical_text.read(_LEET_WORD.sub(lambda word: word.group().translate(_LEET), plain))
        if any(phrases().find(read)) and not any(phrases().find(checked.text)):
            yield 0, len(plain), "digits for letters"
    for match in _ENCODED.finditer(folded):
        if _decoded_instructs(match.group()):
            yield match.start(), match.end(), "encoded"


_GIVE_AWAY = ("ignore", "instruction", "systemprompt", "jailbreak", "disregard", "override", "bypass")


def _decoded_instructs(encoded: str) -> bool:
    for decode in (bytes.fromhex, _from_base64):
        with suppress(ValueError):  # it is not so encoded, or no text
            decoded = decode(encoded).decode("ascii")
            if decoded.isprintable() and len(decoded.split()) > 2:
                return True
    return False


def _from_base64(encoded: str) -> bytes:
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


@cache
def phrases() -> Phrases:
    """The phrases of instructions, by kind."""
    file = rules("injection")
    return Phrases(file["phrases"], file["lists"])
