"""Sequential test: whether a version is broken, decided after each request and as soon as there is evidence.

Wald's sequential probability ratio test (SPRT) of Bernoulli trials: A. Wald, *Sequential Tests of Statistical
Hypotheses*, Annals of Mathematical Statistics 16 (1945). One test per signal, over the requests that both versions
were asked: the challenger's answer failed, it took much longer, or it said something else. A test that finds the
version healthy begins anew, so that a version which breaks later is noticed as quickly as one that was always broken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

FALSE_ALARM = 1e-4
"""Chance that one test calls a version broken whose share of bad requests is the healthy one. It is so small because
each worker process has tests of its own, and begins one again after some sixty good requests."""
MISS = 1e-2
"""Chance that one test calls a version healthy whose share is the broken one; the next test looks again."""
_BROKEN, _HEALTHY = math.log((1 - MISS) / FALSE_ALARM), math.log(MISS / (1 - FALSE_ALARM))

Signal = Literal["failed", "slow", "shifted"]


@dataclass(frozen=True)
class Hypotheses:
    """The share of bad requests of a healthy version, and of a broken one."""

    healthy: float
    broken: float

    @cached_property
    def steps(self) -> tuple[float, float]:
        """What a good and a bad request add to the logarithm of the likelihood ratio of broken over healthy."""
        good, bad = (1 - self.broken) / (1 - self.healthy), self.broken / self.healthy
        return math.log(good), math.log(bad)


HYPOTHESES: Mapping[Signal, Hypotheses] = {
    "failed": Hypotheses(healthy=0.01, broken=0.1),
    "slow": Hypotheses(healthy=0.1, broken=0.5),
    "shifted": Hypotheses(healthy=0.1, broken=0.5),
}


class SequentialTest:
    """The tests of one version; ``observe`` after each request that both versions were asked."""

    def __init__(self) -> None:
        self._log_ratios: dict[Signal, float] = dict.fromkeys(HYPOTHESES, 0.0)
        self._counts: dict[Signal, tuple[int, int]] = dict.fromkeys(HYPOTHESES, (0, 0))

    def observe(self, signals: Mapping[Signal, bool]) -> Signal | None:
        """The signal by which the version is broken, if this request decides it.

        ``signals`` says of each signal that the request shows whether it was bad: of an answer that failed nobody knows
        whether it would have been slow.
        """
        for signal, bad in signals.items():
            n_bad, n = self._counts[signal]
            self._counts[signal] = n_bad + bad, n + 1
            ratio = self._log_ratios[signal] + HYPOTHESES[signal].steps[bool(bad)]
            if ratio >= _BROKEN:
                return signal
            self._log_ratios[signal] = 0.0 if ratio <= _HEALTHY else ratio
        return None

    def counts(self, signal: Signal) -> tuple[int, int]:
        """How many requests were bad, and of how many."""
        return self._counts[signal]
