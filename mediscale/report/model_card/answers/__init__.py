"""Answers of a model card: each a sentence or more from the records of a version's run, empty where they say nothing.

No function here computes a figure or knows which framework asks. The frameworks' files name one as ``module.name``.
"""

from collections.abc import Callable
from typing import Any

from mediscale.report.model_card.answers import (
    data,
    decision,
    fairness,
    language,
    method,
    monitoring,
    performance,
    purpose,
)

MODULES = (purpose, data, method, performance, fairness, monitoring, decision, language)


def answer(name: str) -> Callable[[Any], str]:
    """The function that ``module.name`` means."""
    module, _, function = name.partition(".")
    modules = {each.__name__.rpartition(".")[2]: each for each in MODULES}
    named: Callable[[Any], str] = getattr(modules[module], function)
    return named
