"""What of a note's CPU goes where, and whether int8 would halve it: the note network beside its weights in int8.

    python benchmarks/note_int8.py

The packaged encoder's lowest layer with a head that was not trained, as `predict_request.py` serves it, and the same
graph after ONNX Runtime's dynamic quantisation. Both read the same texts in turns on one thread. Dynamic quantisation
scales the activations of a batch together: how far the answer for a stay moves with the company that it is read in is
shown for both, in standard deviations of the answers over all stays.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.predict_request import NOTE
from data_pipeline.notes import encoders
from data_pipeline.notes.deidentification.rule_based import RuleBasedDeidentifier
from mediscale.core.settings import Settings
from mediscale.inference import collate
from mediscale.inference.collate import Tokens
from training.notes import note_export, note_network

WINDOW, MOST_WINDOWS, STAYS, ROUNDS = 128, 4, 64, 40


def main() -> None:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    files = encoders.folder(Settings(), encoders.PACKAGED)
    tokenizer = encoders.tokenizer(files)
    special = collate.special(tokenizer)
    shape = note_network.Shape(layers=1, trained_layers=1, seed=0)
    graph = note_export.to_onnx(note_network.build(files, shape).eval(), WINDOW)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        single, int8 = Path(folder) / "single.onnx", Path(folder) / "int8.onnx"
        single.write_bytes(graph)
        quantize_dynamic(single, int8, weight_type=QuantType.QInt8)
        networks = [
            onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for file in (single, int8)
        ]

    def windows(text: str) -> list[Tokens]:
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
        return collate.windows([ids], WINDOW, MOST_WINDOWS)

    def margins(network: Any, stays: Sequence[Sequence[Tokens]]) -> np.ndarray:
        batch = collate.batch(stays, special)
        weighted, weight = network.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})
        first = np.flatnonzero(np.diff(batch.owner, prepend=-1))
        pooled = np.add.reduceat(weighted, first) / np.add.reduceat(weight, first)
        return np.asarray(pooled.sum(axis=1))

    deidentifier = RuleBasedDeidentifier(b"of the benchmark")
    steps: dict[str, Callable[[], object]] = {
        "de-identification": lambda: deidentifier.deidentify(0, [NOTE], [datetime(2026, 1, 1)]),
        "tokens": lambda: windows(NOTE),
        "the network": lambda: margins(networks[0], [windows(NOTE)]),
        "the network in int8": lambda: margins(networks[1], [windows(NOTE)]),
    }
    spent = cpu(steps)
    for name in ("the network", "the network in int8"):
        spent[name] -= spent["tokens"]
    whole = sum(spent.values()) - spent["the network in int8"]
    for name, seconds in spent.items():
        print(f"{name:<24}{seconds * 1e3:7.2f} ms")
        print(f"figure: share of {name} in a note's CPU = {seconds / whole:.2f}")
    ratio = spent["the network in int8"] / spent["the network"]
    print(f"figure: CPU of the network in int8 over single precision = {ratio:.2f}")
    saved = spent["the network"] - spent["the network in int8"]
    print(f"figure: a note's CPU with int8 over without = {1 - saved / whole:.2f}")
    chance, sentences = Random(0), NOTE.split(". ")
    stays = [windows(". ".join(chance.sample(sentences, chance.randint(2, 8)))) for _ in range(STAYS)]
    alone = [np.concatenate([margins(network, [stay]) for stay in stays]) for network in networks]
    spread = float(alone[0].std())
    print(f"figure: largest change by int8 = {np.abs(alone[1] - alone[0]).max() / spread:.3f}")
    for name, network, answers in zip(("single precision", "int8"), networks, alone, strict=True):
        moved = np.abs(margins(network, stays) - answers).max() / spread
        print(f"figure: largest change by the company in {name} = {moved:.6f}")


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
