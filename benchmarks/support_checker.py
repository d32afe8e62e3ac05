"""The support checker on held-out passages: F1 on each kind of changed fact, of training without that kind.

Sentences of held-out passages, verbatim and in words that training did not have, against the same with one fact
changed. ``--write`` fits the checker that the package ships, on the training and tuning passages and all kinds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.documents import support_fit
from data_pipeline.documents.perturbations import KINDS, UNKNOWN
from data_pipeline.documents.support_fit import UNRELATED, Example
from data_pipeline.retrieval import support
from data_pipeline.retrieval.support import Checker

SHIPPED = Path(support.__code__.co_filename).parent / "support_checker.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="fit the checker of the package and nothing else"
    )
    if parser.parse_args().write:
        SHIPPED.write_text(fitted().model_dump_json(indent=1) + "\n")
        return
    held_out = support_fit.examples("held_out")
    positives = [each for each in held_out if each.kind == "paraphrase"]
    print("kind        n  detected  paraphrases kept  F1 [95 % interval]")
    for kind in (*KINDS, UNKNOWN, UNRELATED):
        checker = fitted(without="" if kind == UNRELATED else kind)
        negatives = [each for each in held_out if each.kind == kind]
        detected, kept = _below(checker, negatives), ~_below(checker, positives)
        value, low, high = _f1(detected, kept)
        remark = {UNKNOWN: " (its features do not know it either)", UNRELATED: " (trained with)"}.get(
            kind, ""
        )
        print(
            f"{kind:<10}{len(negatives):>4}{detected.mean():>10.2f}{kept.mean():>18.2f}  {value:.2f} "
            f"[{low:.2f}, {high:.2f}]{remark}"
        )
        print(
            f"figure: F1 on {kind}, {'seen' if kind == UNRELATED else 'never seen'} in training = {value:.3f}"
        )


def fitted(without: str = "") -> Checker:
    """The checker of training and tuning passages, without one kind of changed fact."""
    parts = [
        [each for each in support_fit.examples(split) if each.kind not in (UNKNOWN, without)]
        for split in ("train", "tuning")
    ]
    return support_fit.fit(*parts)


def _below(checker: Checker, examples: Sequence[Example]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([support_fit.score(checker, each) < checker.threshold for each in examples])


def _f1(
    detected: "np.ndarray[tuple[int], np.dtype[np.bool_]]", kept: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> tuple[float, float, float]:
    """F1 of finding changed sentences among as many paraphrases, with a percentile bootstrap's interval."""
    rng = np.random.default_rng(0)

    def f1(found: float, kept_share: float) -> float:
        return 2 * found / (2 * found + (1 - kept_share) + (1 - found)) if found else 0.0

    draws = [
        f1(rng.choice(detected, len(detected)).mean(), rng.choice(kept, len(kept)).mean())
        for _ in range(2000)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f1(float(detected.mean()), float(kept.mean())), float(low), float(high)


if __name__ == "__main__":
    main()
