"""What of a note's CPU goes where, and what the note network's products in 8 bits save and change.

    .venv/bin/python -m benchmarks.note_int8 [--seeds 3] [--commit 794c311]

The packaged encoder's lowest layer with a head that was not trained, as `predict_request.py` serves it: the graph that
a version has, in 8 bits, and the same in single precision. Both read the same texts in turns on one thread, each alone.
Dynamic quantisation scales the activations of a batch together: how far the answer for a stay moves with the company
that it is read in, which is why none is read in company, is shown for both, in standard deviations of the answers.

Beside them, what a note cost before either was quick: the network in single precision, and de-identification as of a
commit, which takes turns with ours in processes of their own.

What 8 bits cost in reading is judged on the tuning patients of hospitals of `note_pruning.py`, by networks that are
fine-tuned there: expected AUROC, which needs no luck of outcomes, with a 95 % interval over the hospitals.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import note_pruning
from benchmarks.possible_lift import interval
from benchmarks.predict_request import NOTE
from benchmarks.rollback import ROOT, extract
from data_pipeline.notes import encoders
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier
from mediscale.core.settings import Settings
from mediscale.inference import collate, notes
from mediscale.inference.collate import Tokens
from training.notes import note_export, note_network

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WINDOW, MOST_WINDOWS, STAYS, ROUNDS, TURNS = 128, 4, 64, 40, 5
DEIDENTIFY = """
import statistics, sys, time
from datetime import datetime
import numpy as np, onnxruntime
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier
note, graph, tokens = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
network, inputs = onnxruntime.InferenceSession(graph, options), dict(np.load(tokens))
deidentifier, spent = RuleBasedDeidentifier(b"of the benchmark"), []
for _ in range(100):
    network.run(None, inputs)
    begun = time.process_time()
    deidentifier.deidentify(0, [note], [datetime(2026, 1, 1)])
    spent.append(time.process_time() - begun)
print(statistics.median(spent))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="hospitals that networks are fine-tuned on (3)")
    parser.add_argument("--commit", default="794c311", help="of the earlier de-identification (794c311)")
    options = parser.parse_args()
    print_parts(options.commit)
    print_accuracy(range(note_pruning.FIRST_SEED, note_pruning.FIRST_SEED + options.seeds))


def print_parts(commit: str) -> None:
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
    whole = sum(spent.values()) - spent["the network in single precision"]
    for name, seconds in spent.items():
        print(f"{name:<32}{seconds * 1e3:7.2f} ms")
    for name in ("de-identification", "tokens", "the network"):
        print(f"figure: share of {name} in a note's CPU = {spent[name] / whole:.2f}")
    ratio = spent["the network"] / spent["the network in single precision"]
    print(f"figure: CPU of the network in 8 bits over single precision = {ratio:.2f}")
    ours, earlier = deidentification(commit, graph, collate.batch([windows(NOTE)], special))
    before = spent["the network in single precision"] + spent["tokens"] + earlier
    print(
        f"de-identification in a process of its own: {ours * 1e3:.2f} ms, at {commit} {earlier * 1e3:.2f} ms"
    )
    print(f"figure: CPU of de-identification over that of {commit} = {ours / earlier:.2f}")
    print(f"figure: a note's CPU over that of {commit} in single precision = {whole / before:.2f}")
    chance, sentences = Random(0), NOTE.split(". ")
    stays = [windows(". ".join(chance.sample(sentences, chance.randint(2, 8)))) for _ in range(STAYS)]
    for name, network in (("single precision", single), ("8 bits", eight)):
        alone = np.array([notes.margin(network, stay, special) for stay in stays])
        moved = np.abs(in_company(network, stays, special) - alone).max() / alone.std()
        print(f"figure: largest change by the company in {name} = {moved:.6f}")


def deidentification(commit: str, graph: bytes, batch: collate.Batch) -> tuple[float, float]:
    """Seconds of CPU of replacing the note's identifiers here and at a commit: medians of processes in turns.

    The network runs before each, as in a server: by itself, de-identification finds the processor's caches its own.
    """
    spent: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        extract(commit, Path(folder))
        network, tokens = Path(folder) / "network.onnx", Path(folder) / "tokens.npz"
        network.write_bytes(graph)
        np.savez(tokens, input_ids=batch.ids, attention_mask=batch.mask)
        for _ in range(TURNS):
            for root, seconds in zip((ROOT, Path(folder)), spent, strict=True):
                command = [sys.executable, "-c", DEIDENTIFY, NOTE, str(network), str(tokens)]
                run = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=True,
                                     capture_output=True, text=True)  # fmt: skip
                seconds.append(float(run.stdout))
    ours, earlier = map(np.median, spent)
    return float(ours), float(earlier)


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
