"""The largest contributions to a risk, in words that a clinician reads."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mediscale.core.concepts import CONCEPTS, TREATMENTS
from mediscale.core.task_features import STATISTICS, WINDOWS
from mediscale.inference.model_spec import PredictorSpec
from serving.schemas import Factor, display_name, with_unit

TOP = 5
NOTE = "clinical_note"

Floats = NDArray[np.float64]

_MEASURED = re.compile(
    rf"({'|'.join(c.name for c in CONCEPTS)})_({'|'.join(STATISTICS)})_({'|'.join(WINDOWS)})"
)
_COMORBID = re.compile(r"(charlson|elixhauser)_(?!score)(\w+)")
_TREATED = re.compile(rf"treatment_({'|'.join(TREATMENTS)})_({'|'.join(WINDOWS)})")
_IN_UNITS = frozenset({"last", "min", "max", "mean"})
"""Statistics that are in the unit of what is measured."""
_FLAGS = frozenset({"emergency_admission", "in_icu"})
_PLAIN = {
    "age_years": "age", "sex_female": "sex", "prior_visits_365d": "hospital visits in the year before",
    "icu_stays_this_visit": "stays in intensive care this visit", "in_icu": "in intensive care now",
    NOTE: "what was written",
}  # fmt: skip


@cache
def describe_feature(feature: str) -> str:
    """A feature's name in words.

    >>> describe_feature("heart_rate_max_24h")
    'highest heart rate in the last 24 h'
    """
    if match := _MEASURED.fullmatch(feature):
        concept, statistic, window = match.groups()
        return f"{STATISTICS[statistic]} {display_name(concept)} {WINDOWS[window]}"
    if match := _TREATED.fullmatch(feature):
        return f"{display_name(match[1])} {WINDOWS[match[2]]}"
    if match := _COMORBID.fullmatch(feature):
        return f"{display_name(match[2])} among earlier diagnoses ({match[1].capitalize()})"
    return _PLAIN.get(feature, display_name(feature))


class Explainer:
    """Explains the risks of one model version. One value of a request fills several features, whose contributions are
    given as one."""

    def __init__(self, spec: PredictorSpec) -> None:
        self._features, self._plain = spec.features, spec.plain_inputs
        self.most_missing = len(spec.plain_inputs) // 2  # with more the risk is uncertain
        inputs = [_input_of(feature, spec.plain_inputs) for feature in spec.features]
        self._inputs = tuple(dict.fromkeys(inputs))
        place = {name: i for i, name in enumerate(self._inputs)}
        self._input_of = np.array([place[name] for name in inputs], dtype=np.intp)
        # A count of 0 is a value, and says that there is none.
        holds_value = np.array(["_count_" not in feature for feature in spec.features])
        self._fills = (np.array(inputs)[:, None] == np.array(self._plain)) & holds_value[:, None]

    def of_values(self, contributions: Floats, inputs: frozenset[str], notes: float) -> tuple[Factor, ...]:
        """Factors by the request's plain names, and the note. SHAP values add up, so a sum over features is exact
        too."""
        summed: Floats = np.bincount(self._input_of, weights=contributions).astype(np.float64)
        return tuple(
            _factor(name, describe_feature(name) if name == NOTE else self._value_text(name, inputs), value)
            for name, value in _largest((*self._inputs, NOTE), np.append(summed, notes))
        )

    @staticmethod
    def _value_text(name: str, inputs: frozenset[str]) -> str:
        return display_name(name) if name in inputs else f"{describe_feature(name)} (not given)"

    def inputs_without_value(self, row: Floats) -> tuple[str, ...]:
        """Plain inputs of which a patient's record has nothing."""
        recorded = self._fills[~np.isnan(row)].any(axis=0)
        return tuple(compress(self._plain, ~recorded))

    def without_value(self, columns: Sequence[NDArray[np.floating]]) -> NDArray[np.bool_]:
        """(n, inputs): the same of n records, given as a column (n) of each feature."""
        without = np.ones((len(self._plain), len(columns[0])), dtype=np.bool_)
        for absent, fills in zip(without, self._fills.T, strict=True):
            for place in np.flatnonzero(fills).tolist():
                absent &= np.isnan(columns[place])
        return without.T

    def of_patient(self, contributions: Floats, row: Floats, notes: float) -> tuple[Factor, ...]:
        """Factors by feature, and the notes, for a patient whose record filled them."""
        recorded = {**dict(zip(self._features, row.tolist(), strict=True)), NOTE: 0.0}
        return tuple(
            _factor(name, f"{describe_feature(name)}{_state(name, recorded[name])}", value)
            for name, value in _largest((*self._features, NOTE), np.append(contributions, notes))
        )


def _state(feature: str, value: float) -> str:
    if np.isnan(value):
        return " (not recorded)"
    if feature == "age_years":
        return f" ({with_unit('age', value)})"
    if (measured := _MEASURED.fullmatch(feature)) and measured[2] in _IN_UNITS:
        return f" ({with_unit(measured[1], value)})"
    if feature in _FLAGS or _TREATED.fullmatch(feature) or _COMORBID.fullmatch(feature):
        return " (yes)" if value else " (no)"
    return ""


def _input_of(feature: str, plain_inputs: tuple[str, ...]) -> str:
    if feature in ("age_years", "sex_female"):
        return {"age_years": "age", "sex_female": "sex"}[feature]
    match = _MEASURED.fullmatch(feature)
    return match[1] if match and match[1] in plain_inputs else feature


def _largest(names: tuple[str, ...], values: Floats) -> list[tuple[str, float]]:
    top = np.argsort(-np.abs(values), kind="stable")[:TOP].tolist()
    return [(names[i], float(values[i])) for i in top if values[i] != 0]


def _factor(name: str, text: str, value: float) -> Factor:
    direction: Literal["raises", "lowers"] = "raises" if value > 0 else "lowers"
    return Factor(name, text, direction, round(value, 4))
