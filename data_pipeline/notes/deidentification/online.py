"""Online identifiers: e-mail addresses, URLs, addresses of networks and devices, accounts, and folders named by a user.

People break e-mail addresses up, so that no program reads them: ``tessa [at] clinic dot example``. A blank around
the sign counts only before a domain that exists, because ``2 L @ 4.5`` is none.
"""

import re
from collections.abc import Iterator

from data_pipeline.notes.deidentification.dates import Span
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern, IndexedText
from data_pipeline.notes.deidentification.regex import caseless

_TOP = (
    r"(?:com|org|net|edu|gov|mil|info|io|biz|health|example|invalid|eu|uk|us|ca|au|nz|ie|de|at|ch|fr|be|nl|lu|es|pt|it"
    r"|dk|se|no|fi|pl|cz|sk|hu|ro|bg|gr|tr|il|in|cn|jp|kr|tw|sg|za|ng|ke|br|mx|ar|cl|co)"
)
_AT = r"(?:[ \t]?@[ \t]?|[ \t]?[\[({<][ \t]?(?i:at|@)[ \t]?[\])}>][ \t]?)"
_POINT = r"(?:[ \t]?\.[ \t]?|[ \t]?[\[({<][ \t]?(?i:dot|\.)[ \t]?[\])}>][ \t]?|[ \t](?i:dot)[ \t])"
_PART = r"[\w+'-]{1,64}+"
_WHOLE = re.compile(r"(?<![\w.+'-])[\w.+'-]++@[\w-]++(?:\.[\w-]++)++")
_WITH_A_SIGN = re.compile(
    rf"(?<![\w.+'-]){_PART}(?:(?:\.|[ \t](?i:dot)[ \t]){_PART}){{0,3}}{_AT}"
    rf"[\w-]{{1,64}}(?:{_POINT}[\w-]{{1,64}}){{0,3}}?{_POINT}{_TOP}(?![\w-])"
)
_IN_WORDS = re.compile(
    rf"(?<![\w.+'-]){_PART}(?:(?:\.|[ \t](?i:dot)[ \t]){_PART}){{0,3}}[ \t](?i:at)[ \t]"
    rf"[\w-]{{1,64}}(?:[ \t](?i:dot)[ \t][\w-]{{1,64}}){{0,3}}?[ \t](?i:dot)[ \t](?i:{_TOP})(?![\w-])"
)
_SIGN = re.compile(r"[@\[({<](?:(?<=@)|[ \t]?(?i:at)[ \t]?[\])}>])")


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses, whole or broken up; a text without a sign or ``dot`` has none."""
    patterns = [_WHOLE] * ("@" in text) + [_WITH_A_SIGN] * bool(_SIGN.search(text))
    patterns += [_IN_WORDS] * ("dot" in text.lower())
    for pattern in patterns:
        yield from (match.span() for match in pattern.finditer(text))


_URL = re.compile(
    r"(?i:\b(?:https?|s?ftp|file)://[^\s<>\"]+|\bwww\.[^\s<>\"]+"
    r"|(?<![@\w.-])(?:[a-z0-9-]++\.)+(?:com|org|net|edu|gov|info|io|health|example"
    r"|co\.uk)(?![a-z0-9-])(?:/[^\s<>\"]*)?)"
    r"|(?<![\d.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])"
)
_SIGN_OF_A_URL = re.compile(
    r"[:wW.](?:(?<=:)//|(?<=[wW])(?i:ww\.)|(?<=\.)(?i:com|org|net|edu|gov|info|io|health|example|co\.uk)"
    r"|(?<=\d\.)\d{1,3}\.\d{1,3}\.\d)"
)
_TWO, _FOUR = "[0-9A-Fa-f]{2}", "[0-9A-Fa-f]{1,4}"
_NETWORK = re.compile(
    rf"(?<![\w:-]){_TWO}(?P<between>[:-])(?:{_TWO}(?P=between)){{4}}{_TWO}(?![\w:-])"
    rf"|(?<![\w:.])(?:(?:{_FOUR}:){{7}}{_FOUR}|(?:{_FOUR}:){{1,6}}(?::{_FOUR}){{1,6}})(?![\w:])"
)
"""The address of a network card, as pumps and monitors print it, and addresses of IPv6."""
_SIGN_OF_A_NETWORK = re.compile(rf"[:-](?:{_FOUR}[:-]{_FOUR}[:-]|(?<=:):)")
_FOLDER = re.compile(
    r"(?:\\\\[\w.$-]+\\|\b[A-Za-z]:\\|(?<![\w/])/(?:home|Users|mnt|media|var|tmp)/)[^\s<>\"]+"
)
_KINDS_OF_FILE = r"\.(?:dcm|docx?|pdf|jpe?g|png|tiff?|xlsx?|rtf|zip|csv)(?!\w)"
_FILE = re.compile(rf"(?<![\w./\\-])[A-Za-z][\w-]*+(?:\.[\w-]++)*?{_KINDS_OF_FILE}")
_SIGN_OF_A_FILE = re.compile(_KINDS_OF_FILE)
"""A file, which people name after whom it is about."""
_ACCOUNT = IndexedPattern(
    r"\b"
    + caseless(
        r"instagram|insta|facebook|twitter|tiktok|snapchat|skype|whatsapp|linkedin|telegram|venmo|handle|user ?name"
        r"|log ?in|screen name"
    )
    + r"(?:[ \t]*(?i:handle|name|id|is|as|live))?[ \t]*[:=]?[ \t]*@?(?<=[@:=])[ \t]*"
    r"(?P<account>(?=[\w.-]*[A-Za-z_])[\w.-]*\w)"
)
_BY_INITIALS = IndexedPattern(r"\bIG[ \t]*[:=][ \t]*@?(?P<account>[A-Za-z][^\W_]*+[._][\w.]*\w)")
"""``IG: wex.k50`` is an account of Instagram, ``IG: negative`` an immunoglobulin."""
_HANDLE = re.compile(r"(?<![\w@.])@(?P<account>[A-Za-z]++\d*[_.]?(?<=[\d_.])\w++)(?![\w@])")
"""The name of an account in letters alone is looked for after the name of a service: ``@bedside`` is none."""


def find(note: IndexedText) -> Iterator[Span]:
    """URLs, addresses in a network, folders and accounts; what no sign of a text speaks for is not searched in it."""
    text = note.text
    for sign, pattern in _BY_SIGN:
        if sign.search(text):
            yield from (match.span() for match in pattern.finditer(text))
    for account in (_ACCOUNT, _BY_INITIALS):
        yield from (match.span("account") for match in note.matches(account))
    if "@" in text:
        yield from (match.span("account") for match in _HANDLE.finditer(text))


_BY_SIGN = (
    (_SIGN_OF_A_URL, _URL),
    (_SIGN_OF_A_NETWORK, _NETWORK),
    (_SIGN_OF_A_FILE, _FILE),
    (re.compile(r"[\\/](?:(?<=\\)|(?:home|Users|mnt|media|var|tmp)/)"), _FOLDER),
)
