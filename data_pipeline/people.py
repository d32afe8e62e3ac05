"""People's names in notes, by what a word is evidence of and by what stands around it.

After a title, a label, a relation or before a degree a capitalised word is a name unless it is clearly something else;
alone it is one when it is a name and nothing else. What is found in one of a patient's notes is looked for in all of
them, so that a family doctor introduced once is also found when called by the surname only.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from data_pipeline.identifiers import Found, without_overlaps
from data_pipeline.names import EPONYMS, ORDINARY, Evidence, Lexicon, plain

_WORD = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_CAPITAL = r"(?:(?:[OD]['’])?[A-ZÀ-ÖØ-ÞŁŚŠŹŻŽČĆÇŞİĐ][^\W\d_]*(?:['’-](?!s\b|S\b)[^\W\d_]+)*)"
_PARTICLE = (
    r"(?:van der|van den|van de|van|von der|von|der|den|ter|ten|de la|de las|de los|de|del|della|da"
    r"|dos|das|do|di|du|le|la|el|al|bin|ibn|ben|af|av|y|e)"
)
_NAME = rf"(?:(?:{_PARTICLE} )?(?:[A-Z]\.|{_CAPITAL}))"
_RUN = rf"{_NAME}(?:,? (?:Jr|Sr|II|III|IV)\b\.?|,? {_NAME}){{0,4}}"
"""Capitalised words in a row, with what may stand between names: ``Garcia-Lopez, Jean-Luc P.``"""
_PAIR = rf"{_NAME}(?: {_NAME}){{0,3}}"

_TITLE = re.compile(
    r"(?<!\w)(?:(?i:dr|drs|mr|mrs|ms|mx|messrs|mme|prof|rev|fr|sr)\b\.?|(?i:doctor|professor|miss|mister"
    r"|nurse|sister|father|reverend|rabbi"
    r"|pastor|chaplain|attorney|judge|officer|captain|sgt|lt|col)\b)[ \t]*\n?"
    rf"(?P<name>{_PAIR})"
)
_LOWER_TITLE = re.compile(rf"(?<!\w)(?i:dr|mr|mrs|ms)\b\.?[ \t]+(?P<name>[a-z][a-z'’-]+(?:[ \t]+{_WORD})?)")
_ROLE = (
    r"patient(?:['’]s)?(?: name)?|pt(?: name)?|(?:full |last |first |maiden |legal |preferred |family "
    r"|given |sur|middle )?name|attending(?: physician| md)?"
    r"|admitting(?: physician| md)?|pcp|pmd|primary (?:care )?(?:physician|doctor|provider|md)"
    r"|referring(?: physician| md| provider)?|surgeons?"
    r"|(?:first )?assistants?|anesthesiologist|anesthetist|resident|intern|fellow|student|attention|provider"
    r"|author|consultant"
    r"|consulting physician|cardiologist|"
    r"nephrologist|neurologist|oncologist|urologist|pulmonologist|endocrinologist|gastroenterologist"
    r"|psychiatrist|therapist|pharmacist|"
    r"dentist|podiatrist|radiologist|pathologist|hospitalist|physician|doctor|midwife|hcp|health ?care proxy"
    r"|proxy|next of kin|nok|"
    r"emergency contact|contact(?: person)?|guardian|informant|interpreter|translator|social worker"
    r"|case manager|nurse|rn|scribe|witness|"
    r"technologist|technician|operator|to|from|re|attn|mother|father|parent|spouse|wife|husband|son|daughter"
    r"|sister|brother|partner"
)
_LABEL = re.compile(
    rf"(?<!\w)(?i:{_ROLE})(?:\(s\))?[ \t]*(?::|=|\bis\b|\bwas\b)[ \t]*(?:(?i:dr|mr|mrs"
    rf"|ms)\b\.?[ \t]*)?(?P<name>{_RUN})"
)
_BY = re.compile(
    r"(?<!\w)(?i:dictated|spoke|spoken|talked|talking|transcribed|reviewed|signed|authenticated|verified"
    r"|read|seen|written|entered"
    r"|performed|interpreted|approved|"
    r"prepared|completed|electronically signed|evaluated|examined|followed|referred|accompanied|interviewed"
    r"|supervised|cosigned|co-signed|"
    r"assisted|staffed|discussed|reported|provided|given|obtained|called|attested|ordered|requested"
    r"|cared for|managed|history)[ \t]+"
    rf"(?:(?i:by|with|from|for|to))[ \t]+(?P<name>{_PAIR})"
)
_RELATION = re.compile(
    r"(?<!\w)(?i:wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|niece|nephew"
    r"|aunt|uncle|cousin|friend|neighbou?r"
    r"|fianc[eé]e?|girlfriend|boyfriend|grand(?:son|daughter|mother|father|child)|stepson|stepdaughter"
    r"|(?:son|daughter|mother|father|brother|sister)-in-law"
    r"|hcp|proxy|guardian|caregiver|aide|roommate|landlord|pcp|pmd|cardiologist|nephrologist|oncologist"
    r"|neurologist|surgeon|physician|social worker"
    r"|named?|interpreter|translator|informant|caretaker|gentleman|lady|man|woman|male|female|attention"
    r"|student|called|known as|goes by|a\.?k\.?a\.?"
    r"|patient|pt|pharmacist|nurse|chaplain|therapist)"
    rf"(?:['’]s name)?(?:,? (?i:is|was)|,|:| \()?[ \t]*\(?(?P<name>{_RUN})"
)
_DEGREE = re.compile(
    rf"(?<!\w)(?P<name>{_PAIR}),?[ \t]+(?:M\.?D\b\.?|D\.?O\b\.?|R\.?N\b\.?|N\.?P\b\.?|P\.?A\.?-C\b"
    rf"|Ph\.?D\b\.?|LI?CSW\b|MSW\b|DPT\b|PharmD\b|Pharm\.D\.|MBBS\b"
    r"|MBChB\b|F\.?A\.?C\.?[CSP]\b|CRNA\b|CNM\b|[AF]P?RN\b|FNP\b|LPN\b|CNA\b|EMT\b|DDS\b|DPM\b|MPH\b|BSN\b"
    r"|MS[34]\b|PGY)"
)
_WITH = re.compile(
    r"(?<!\w)(?i:with|by|from|to|per|via|for|and|or|w/|d/w|called|calling|paged|contacted|informed|notified"
    r"|telephoned|phoned|tell|told|asked|ask|thank|thanks|"
    rf"dear|hi|hello|cc|regarding|saw|met|see|joined|visited|reach|contact|that|when|as|but|who|of"
    rf"|in)[ \t]+(?P<name>{_PAIR})"
)
_DOING = re.compile(
    rf"(?<!\w)(?P<name>{_PAIR})(?=,?[ \t]+(?:is|was|has|had|who|will|would|presents|presented|denies|denied"
    rf"|reports|reported|states"
    r"|stated|says|said|complains|complained|lives|resides|came|arrived|called|agrees|agreed|understands"
    r"|wishes|wants|and (?:his|her))\b)"
)
_SAYING = re.compile(
    rf"(?<!\w)(?P<name>{_CAPITAL})(?=,?[ \t]+(?:asks|asked|agrees|agreed|understands|understood|wishes|wants"
    rf"|states|stated|says|said"
    r"|denies|denied|reports|reported|lives|resides|calls|called|arrived|complains|endorses|refused|refuses"
    r"|declined)\b)"
)
"""What only people do."""
_DESCRIBED = re.compile(
    rf"(?<!\w)(?P<name>{_RUN})(?='s (?:wife|husband|son|daughter|mother|father|brother|sister|family|pcp"
    rf"|doctor)|[ \t]*(?:is|was),? an?[ \t]+\S+[- ]?(?:years?|y|old)"
    r"|[ \t]*,?[ \t]*(?:an?[ \t]+)?\d{1,3}[ -]?(?:y/?o\b|yo\b|years?)|[ \t]*\(?,?[ \t]*(?:MRN?|DOB|D\.O\.B"
    r"|SSN|aged?)\b)"
)
_INTRODUCTIONS = (
    (_TITLE, True, False),
    (_DEGREE, True, True),
    (_LABEL, False, False),
    (_BY, False, False),
    (_RELATION, False, False),
    (_DESCRIBED, False, True),
)
"""Pattern, whether it leaves no doubt, and whether it stands after the name."""
_EPONYM_NEXT = re.compile(
    r"(?:['’]s|s['’])?[ \t-]+(?:[a-z]+[ \t]+)?(?i:disease|syndrome|sign|tests?|catheter|man(?:eu|oeu)ver"
    r"|position|palsy|fracture|contracture|lymphoma|thyroiditis|"
    r"score|scale|criteria|class|classification|stage|procedure|operation|reflex|retractors?|clamps?|forceps"
    r"|drains?|needle|monitor|stain|tube|"
    r"bag|lines?|block|phenomenon|o?esophagus|ulcer|cysts?|tumou?r|sarcoma|hernia|ligament|tendon|nodes?"
    r"|respirations?|breathing|scissors|"
    r"pouch|incision|approach|view|waves?|effect|law|ring|angina|ataxia|chorea|dementia|encephalopathy"
    r"|aphasia|gait|fissure|"
    r"parkinsonism|opthalmopathy|ophthalmopathy|anemia|agar|nodules?|spots?|lesions?|arthritis|disorder"
    r"|equation|formula|index|tremor|"
    r"duct|gland|canal|fascia|pouch|membrane|corpuscles|fold|body|bodies|cells?|collar|brace|splint|boots?"
    r"|bandage|dressing|elevator|"
    r"knife|punch|curettes?|rongeurs?|speculum|tenaculum|blade|cannula|balloon|stent|filter|graft|valve"
    r"|screws?|plate|nail|pins?|wire|"
    r"suture|stitch|technique|method|repair|protocol|regimen|study|trial)\b"
)
_END_OF_SENTENCE = re.compile(r"(?:^|[.!?:;\n]|\n[ \t]*(?:[-*•#]|\d+[.)]))[\s\"'(]*$")


class Names:
    """Names in one patient's notes. ``taken`` are the identifiers of other kinds, per note."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._known: dict[str, Evidence] = {}

    def find(self, texts: Sequence[str], taken: Sequence[list[Found]]) -> list[list[Found]]:
        """Per note every identifier, names among them, in order."""
        first = [
            without_overlaps(held, _merged(self._in_context(text)))
            for text, held in zip(texts, taken, strict=True)
        ]
        again = self._again(texts, first)
        return [without_overlaps(held, more) for held, more in zip(first, again, strict=True)]

    def _kind(self, word: str) -> Evidence:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._lexicon.kind(word)
        return found

    def _in_context(self, text: str) -> Iterator[Found]:
        for pattern, strong, backwards in _INTRODUCTIONS:
            for match in pattern.finditer(text):
                yield from self._introduced(text, *match.span("name"), strong, backwards)
        for match in _LOWER_TITLE.finditer(text):
            yield from self._lower(text, *match.span("name"))
        for pattern in (_WITH, _DOING):
            for match in pattern.finditer(text):
                yield from self._mentioned(text, *match.span("name"))
        for match in _SAYING.finditer(text):
            if self._kind(match["name"]) == "unknown" and not match["name"].isupper():
                yield Found("name", *match.span("name"))
        yield from self._alone(text)

    def _introduced(
        self, text: str, start: int, end: int, strong: bool = False, backwards: bool = False
    ) -> Iterator[Found]:
        """The words of a run next to what announces a person, up to the first that is no name."""
        words = list(_words(text, start, end))
        ordered = words[::-1] if backwards else words
        for i, (at, to) in enumerate(ordered):
            if not (strong and i == 0 and to - at > 1) and not self._fits(text, ordered, i):
                break
            if text[at:to] in _NOT_NAMES or (not strong and self._is_eponym(text, at, to)):
                break
            yield Found("name", at, to)

    def _fits(self, text: str, words: list[tuple[int, int]], i: int) -> bool:
        """Whether a word of an announced run is part of the name, its neighbours being looked at."""
        word = text[slice(*words[i])]
        beside = [text[slice(*words[j])] for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return bool(beside)
        if word.isupper() and any(not other.isupper() for other in beside):
            return False  # an abbreviation beside a name
        kind, kinds = self._kind(word), {self._kind(other) for other in beside if len(other) > 1}
        if kind in ("word", "rare"):
            return bool(kinds & _PERSONAL) and (kind == "rare" or (len(words) == 2 and kinds == {"name"}))
        if word.isupper() and len(word) < 4 and kind == "unknown":
            return False
        return kind != "either" or not kinds or bool(kinds & _PERSONAL | kinds & {"rare"})

    def _is_eponym(self, text: str, at: int, to: int) -> bool:
        return _EPONYM_NEXT.match(text, to) is not None and plain(text[at:to]) in EPONYMS

    def _lower(self, text: str, start: int, end: int) -> Iterator[Found]:
        """After a title even lower-case words are a name; a second one when it is nothing else."""
        for match in re.compile(_WORD).finditer(text, start, end):
            kind = self._kind(match.group())
            if match.group() in _PARTICLES:
                continue
            if kind != "name" and (match.start() != start or kind == "word"):
                break
            yield Found("name", *match.span())

    def _mentioned(self, text: str, start: int, end: int) -> Iterator[Found]:
        """After a preposition two unknown words in a row, or a name and another, are a person."""
        words = list(_words(text, start, end))
        kinds = [self._kind(text[a:b]) for a, b in words]
        if any(text[a:b] in _NOT_NAMES or (text[a:b].isupper() and b - a > 1) for a, b in words):
            return
        people = [kind for kind, (a, b) in zip(kinds, words, strict=True) if b - a > 1]
        known = "name" in people or (
            "either" in people and plain(text[slice(*words[0])]) in self._lexicon.given
        )
        known |= (
            "either" in people[1:]
            and people[0] in ("rare", "unknown")
            and text[max(0, start - 3) : start] == "by "
        )
        if (
            len(people) >= 2
            and "word" not in people
            and (known or ("unknown" in people and "either" not in people))
        ):
            yield from (Found("name", at, to) for at, to in words)

    def _alone(self, text: str) -> Iterator[Found]:
        """Full names, ``Last, First``, and single words that are nothing but names."""
        for match in _RUNS.finditer(text):
            words = list(_words(text, *match.span()))
            kinds = [self._kind(text[a:b]) for a, b in words]
            whole = self._unheard_of(text, words, kinds)
            for i, (at, to) in enumerate(words):
                if (whole and text[at:to] not in _NOT_NAMES) or self._stands(text, words, kinds, i):
                    yield Found("name", at, to)

    def _unheard_of(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence]) -> bool:
        """Two or three words that nothing knows, written as names are: better a lost term than a person told."""
        longer = [(kind, text[a:b]) for kind, (a, b) in zip(kinds, words, strict=True) if b - a > 1]
        if len(longer) not in (2, 3) or any(word.isupper() for _, word in longer):
            return False
        told = {kind for kind, _ in longer}
        return told <= {"name", "unknown", "rare"} and bool(told & {"name", "unknown"})

    def _stands(self, text: str, words: list[tuple[int, int]], kinds: list[Evidence], i: int) -> bool:
        at, to = words[i]
        word = text[at:to]
        if word in _NOT_NAMES or _EPONYM_NEXT.match(text, to):
            return False
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(words)]
        if len(word) == 1:
            return any(kinds[j] == "name" for j in beside) and not _AFTER_LETTER.match(text, to)
        if word.isupper() and (len(word) < 4 or not all(text[slice(*words[j])].isupper() for j in beside)):
            return False
        named = any(kinds[j] == "name" for j in beside)
        begins = _END_OF_SENTENCE.search(text, max(0, at - 8), at) is not None
        if kinds[i] == "name":
            return not word.isupper() or named
        if kinds[i] == "either":
            comma = text[to : to + 1] == ","
            return (named and (comma or not begins or plain(word) not in ORDINARY)) or self._both_listed(
                text, words
            )
        return kinds[i] in ("unknown", "rare") and named and not begins

    def _both_listed(self, text: str, words: list[tuple[int, int]]) -> bool:
        """``Rose Park`` in the middle of a sentence: a listed given name and a listed surname, and nothing else."""
        if len(words) != 2 or any(text[a:b].isupper() for a, b in words):
            return False
        first, last = (plain(text[a:b]) for a, b in words)
        start = words[0][0]
        inside = _END_OF_SENTENCE.search(text, max(0, start - 8), start) is None
        return inside and first in self._lexicon.given and last in self._lexicon.family

    def _again(self, texts: Sequence[str], found: Sequence[list[Found]]) -> Iterator[Iterator[Found]]:
        """Where the patient's other notes, or other places of the same one, hold names that were found."""
        seen = {
            text[span.start : span.end]
            for text, spans in zip(texts, found, strict=True)
            for span in spans
            if span.kind == "name" and span.end - span.start > 2
        }
        forms = sorted(
            {form for name in seen for form in (name, name.title(), name.upper())}, key=lambda f: (-len(f), f)
        )
        pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, forms))})(?![\w-])") if forms else None
        for text in texts:
            yield self._repeats(text, pattern) if pattern else iter(())

    def _repeats(self, text: str, pattern: re.Pattern[str]) -> Iterator[Found]:
        for match in pattern.finditer(text):
            word = match.group()
            is_word = plain(word) in ORDINARY or self._kind(word) == "word"
            if _EPONYM_NEXT.match(text, match.end()) and plain(word) in EPONYMS:
                continue
            if is_word and (
                word.isupper() or _END_OF_SENTENCE.search(text, max(0, match.start() - 8), match.start())
            ):
                continue
            yield Found("name", *match.span())


_PERSONAL: frozenset[Evidence] = frozenset({"name", "either", "unknown"})
_PARTICLES = frozenset(
    {"van", "der", "den", "ter", "ten", "von", "de", "la", "las", "los", "del", "della", "da", "dos", "das", "do", "di",
     "du", "le", "el", "al", "bin", "ibn"}
)  # fmt: skip
_RUNS = re.compile(rf"(?<![\w'’-]){_NAME}(?:,? {_NAME})*")
_AFTER_LETTER = re.compile(r"[-/]?\d")
_NOT_NAMES = frozenset({
    "Per", "With", "By", "And", "From", "For", "To", "In", "On", "At", "Of", "As", "But", "If", "Or",
    "Admission", "ADMISSION", "DISCHARGE", "DATE", "PATIENT", "SERVICE", "SEX", "ATTENDING", "AGE", "I",
    "A", "DNR", "DNI", "ICU", "ED", "ER", "OR", "HPI", "PMH", "MD", "RN", "NP", "PA", "DO", "PT", "OT",
    "ID", "IV", "PO", "MI", "CT", "MRI", "EKG", "ECG", "CXR", "COPD", "CHF", "CAD", "HTN", "DM", "AAA",
    "ABD", "AP", "PCP", "HCP", "The", "This", "That", "He", "She", "They", "His", "Her", "It", "We", "You",
    "Patient", "Pt", "Not", "No", "None", "Yes", "Unknown", "Unit", "Date", "Sex", "Service", "Time", "Dr",
    "Mr", "Mrs", "Ms", "Attending", "Physical", "Social", "Medical", "History", "Hospital", "Clinic",
    "Center", "General", "Neuro", "Resp", "Cardiac", "Labs", "Assessment", "Plan", "Exam", "Discharge",
})  # fmt: skip


def _words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The capitalised words of a run: ``van der`` tells nobody's name without ``Berg``."""
    for match in _CAPITALS.finditer(text, start, end):
        yield match.span()


_CAPITALS = re.compile(rf"(?<!\w){_CAPITAL}")


def _merged(found: Iterable[Found]) -> list[Found]:
    """In order, each place once."""
    result: list[Found] = []
    for span in sorted(set(found), key=lambda f: (f.start, -f.end)):
        if not result or result[-1].end <= span.start:
            result.append(span)
    return result
