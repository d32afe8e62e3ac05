"""Language of a text, by its function words: all rules here are for English, and find nothing in a text of another."""

import re
import unicodedata
from collections import Counter

ENGLISH = "English"
_FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        ENGLISH: (
            "the of and with for was is are were be been to in on at from by has had have he she his her this that "
            "these which what how when where who why should can does do not or if i my me you your it there after "
            "before without during than more less most given treated patient history denies"
        ),
        "Spanish": (
            "el la los las del de en y que con por para una un es se su sus no al como desde hasta sin sobre fue ha "
            "cual cuál qué cómo cuándo dónde está puede debe dolor paciente años refiere tiene niega presenta "
            "tengo duele mucho siento"
        ),
        "German": (
            "der die das den dem des und mit von zu im bei ist sind war wird wurde eine einer einem ein nicht kein "
            "keine auf für aus mein meine mir seit nach über wie was wann "
            "welche welcher ich er sie es hat habe kann soll patient patientin"
        ),
        "French": (
            "le la les des du de et en un une pour avec dans par sur est sont été pas ne au aux que qui quel quelle "
            "comment depuis sans il elle je son sa ses ce cette a douleur patiente ans présente"
        ),
        "Dutch": (
            "de het een van en wat hoe welke voor met niet geen ik heb heeft mijn op te bij naar wordt zijn aan pijn "
            "patiënt dosering"
        ),
        "Polish": (
            "jest i w na z do nie jak jaka jaki jakie co czy dla po od mam się przez "
            "oraz ból boli pacjent pacjentka dawka"
        ),
        "Turkish": "ve bir bu ile için nedir nasıl ne var yok ben çok kadar hasta ağrım ağrısı olan hangi",
        "Italian": (
            "il lo la le gli della delle dei del di e un una per con nel nella è sono stato non che da come qual quale "
            "quando dal alla al ho mio mia si senza ha anni dolore paziente riferisce"
        ),
        "Portuguese": (
            "o os as da do dos das de em e um uma para com por não é foi que se ao na no nos sem há como qual quando "
            "dor doente paciente anos refere apresenta"
        ),
    }.items()
}
_ALSO_ENGLISH = frozenset({
    "ben", "bin", "come", "com", "con", "del", "den", "des", "die", "dos", "due", "ein", "est", "hat", "las", "les",
    "los", "mir", "mit", "non", "nos", "par", "pas", "patient", "per", "sie", "sin", "son", "sur", "var", "war", "was",
})  # fmt: skip
"""Longer words that English notes write, too: ``NOS``, ``del(17p)``, a stent of the kind ``DES``."""
_FEWEST, _TIMES = 2.5, 2
"""Words of a language that a text has at least, and how many more of them than of English."""
_FEWEST_WITHOUT_ENGLISH = 1.5
"""The same where it has none of English, as a short question."""

_LAST_LATIN = "\u024f"
"""The last letter of the Latin script, with all of its accents."""
_WORD = re.compile(r"[^\W\d_]+")


def language(text: str) -> str:
    """The language that a text is in; English where it says too little.

    >>> language("¿Cuál es la dosis de amoxicilina en la neumonía leve?")
    'Spanish'
    >>> language("Какова доза альтеплазы?")
    'Cyrillic script'
    >>> language("Cough, no chest pain. Lisinopril 10 mg p.o. daily.")
    'English'
    """
    if script := _script(text):
        return f"{script} script"
    different = frozenset(_WORD.findall(text.lower()))
    counts = {name: _count(different & of) for name, of in _FUNCTION_WORDS.items() if name != ENGLISH}
    likeliest = max(counts, key=lambda name: counts[name])
    english = len(different & (_FUNCTION_WORDS[ENGLISH] - _FUNCTION_WORDS[likeliest]))
    fewest = _FEWEST if english else _FEWEST_WITHOUT_ENGLISH
    is_other = counts[likeliest] >= fewest and counts[likeliest] > _TIMES * english
    return likeliest if is_other else ENGLISH


def _script(text: str) -> str:
    """The script that most letters of a text are of; empty where it is the Latin one, and for single letters of it, as
    in "β-blocker"."""
    others = Counter(
        unicodedata.name(letter, "").partition(" ")[0]
        for letter in text
        if letter.isalpha() and letter > _LAST_LATIN
    )
    if 2 * others.total() <= sum(letter.isalpha() for letter in text):
        return ""
    return others.most_common(1)[0][0].replace("CJK", "Chinese").capitalize()


def _count(words: frozenset[str]) -> float:
    """How many words tell of a language.

    One that means something else in an English note, as ``no``, ``Na``, ``OS``, ``MI`` and ``LA`` do, counts half, and
    tells nothing where no other does.
    """
    own = {word for word in words if len(word) > 2 and word not in _ALSO_ENGLISH}
    return len(own) + len(words - own) / 2 if own else 0
