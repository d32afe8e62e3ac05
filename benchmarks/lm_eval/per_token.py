"""Multiple-choice accuracy as MediScale judges it, computed by lm-evaluation-harness: the likeliest option per token.

The harness runs it in an environment of its own, without MediScale.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def process_results(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """1 where the right option is the likeliest per token.

    The harness counts a prompt's last white space to each option. A question's choice after its options is that white
    space alone, whose log-likelihood is taken from theirs.
    """
    totals, n_options = [log_likelihood for log_likelihood, _ in results], len(doc["tokens"])
    white_space = sum(totals[n_options:])
    per_token = [
        (total - white_space) / n for total, n in zip(totals[:n_options], doc["tokens"], strict=True)
    ]
    return {"acc": float(max(range(n_options), key=per_token.__getitem__) == doc["target"])}
