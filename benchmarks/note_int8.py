"""What of a note's CPU goes where, and what the note network's products in 8 bits save and change.

    .venv/bin/python -m benchmarks.note_int8 [--seeds 3]

The packaged encoder's lowest layer with a head that was not trained, as `predict_request.py` serves it: the graph that
a version has, in 8 bits, and the same in single precision. Both read the same texts in turns on one thread, each alone.
Dynamic quantisation scales the activations of a batch together: how far the answer for a stay moves with the company
that it is read in, which is why none is read in company, is shown for both, in standard deviations of the answers.

What 8 bits cost in reading is judged on the tuning patients of hospitals of `note_pruning.py`, by networks that are
fine-tuned there: expected AUROC, which needs no luck of outcomes, with a 95 % interval over the hospitals.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import note_pruning
from benchmarks.possible_lift import interval
from benchmarks.predict_request import NOTE
from data_pipeline.notes import encoders
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier
from mediscale.core.settings import Settings
from mediscale.inference import collate, notes
from mediscale.inference.collate import Tokens
from training.notes import note_export, note_network

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WINDOW, MOST_WINDOWS, STAYS, ROUNDS = 128, 4, 64, 40


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="hospitals that networks are fine-tuned on (3)")
    options = parser.parse_args()
    print_parts()
    print_accuracy(range(note_pruning.FIRST_SEED, note_pruning.FIRST_SEED + options.seeds))


def print_parts() -> None:
    files = encoders.folder(Settings(), encoders.PACKAGED)
    tokenizer = encoders.tokenizer(files)
    special = collate.special(tokenizer)
    shape = note_network.Shape(layers=1, trained_layers=1, seed=0)
    graph = note_export.single_precision(note_network.build(files, shape).eval(), WINDOW)
    single, eight = notes.session(graph), notes.session(note_export.quantized(graph))

    def windows(text: str) -> list[Tokens]:
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
        return collate.windows([ids], WINDOW, MOST_WINDOWS)

    deidentifier = RuleBasedDeidentifier(b"of the benchmark")
    steps: dict[str, Callable[[], object]] = {
        "de-identification": lambda: deidentifier.deidentify(0, [NOTE], [datetime(2026, 1, 1)]),
        "tokens": lambda: windows(NOTE),
        "the network": lambda: notes.margin(eight, windows(NOTE), special),
        "the network in single precision": lambda: notes.margin(single, windows(NOTE), special),
    }
    spent = cpu(steps)
    for name in ("the network", "the network in single precision"):
        spent[name] -= spent["tokens"]
    before = sum(spent.values()) - spent["the network"]
    whole = sum(spent.values()) - spent["the network in single precision"]
    for name, seconds in spent.items():
        print(f"{name:<32}{seconds * 1e3:7.2f} ms")
    for name in ("de-identification", "tokens", "the network"):
        print(f"figure: share of {name} in a note's CPU = {spent[name] / whole:.2f}")
    ratio = spent["the network"] / spent["the network in single precision"]
    print(f"figure: CPU of the network in 8 bits over single precision = {ratio:.2f}")
    print(f"figure: a note's CPU over that in single precision = {whole / before:.2f}")
    chance, sentences = Random(0), NOTE.split(". ")
    stays = [windows(". ".join(chance.sample(sentences, chance.randint(2, 8)))) for _ in range(STAYS)]
    for name, network in (("single precision", single), ("8 bits", eight)):
        alone = np.array([notes.margin(network, stay, special) for stay in stays])
        moved = np.abs(in_company(network, stays, special) - alone).max() / alone.std()
        print(f"figure: largest change by the company in {name} = {moved:.6f}")


def in_company(
    network: "InferenceSession", stays: Sequence[Sequence[Tokens]], special: collate.Special
) -> np.ndarray:
    """Log-odds (n) of stays that are read as one batch."""
    batch = collate.batch(stays, special)
    parts = network.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})
    first = np.flatnonzero(np.diff(batch.owner, prepend=-1))
    weighted, weight = (np.add.reduceat(part.astype(np.float64), first) for part in parts)
    return np.asarray((weighted / weight).sum(axis=1))


def print_accuracy(seeds: Sequence[int]) -> None:
    gained = []
    for seed in seeds:
        hospital = note_pruning.of_seed(seed)
        network, training = note_pruning.fitted(hospital, neurons=0)
        graph = note_export.single_precision(network, WINDOW)
        single, eight = (
            note_pruning.read(hospital, one, training) for one in (graph, note_export.quantized(graph))
        )
        gained.append(eight.auroc - single.auroc)
        print(f"seed {seed}: single precision {single}, 8 bits {eight}", flush=True)
    print(f"AUROC in 8 bits less that in single precision: {interval(gained, 4)}")
    print(f"figure: difference of auroc by 8 bits = {np.mean(gained):.4f}")


def cpu(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of CPU of each, the median of rounds in which they take turns."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            spent[name].append(time.process_time() - begun)
    return {name: float(np.median(seconds)) for name, seconds in spent.items()}


if __name__ == "__main__":
    main()
