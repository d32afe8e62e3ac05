"""Which words the report says moved the note model, beside what masking them does: correlation, sign, CPU.

    .venv/bin/python -m benchmarks.note_words [--task mortality]

Reads the newest note model of a finished run (``make run``) in MEDISCALE_HOME. A word is masked everywhere in a stay's
notes, in at most 40 stays, and the change of the stay's log-odds is averaged: against that the scores are held.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load as safetensors

from data_pipeline.notes import encoders
from mediscale.core.settings import Settings
from mediscale.inference import collate, model_files
from mediscale.inference.note_model_spec import WEIGHTS_FILE
from mediscale.storage import calls as manifest
from training.notes import note_attribution, note_model, note_network

WORDS, STAYS = 40, 40
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="mortality")
    settings = Settings()
    network, tuning, tokenizer = trained(settings, parser.parse_args().task)
    special = collate.special(tokenizer)
    usual = note_attribution.STEPS
    told = list(note_attribution.words(network, tuning, tokenizer, special))[:WORDS]
    masked = dict(zip(told, (masking(network, tuning, tokenizer, word) for word in told), strict=True))
    table = Table("words' scores", "correlation with masking", "signs that agree", "CPU s", box=None)
    integrated = note_attribution.integrated_gradients
    for steps in (0, 1, 2, 3, 4, 8):
        note_attribution.STEPS = max(steps, 1)
        note_attribution.integrated_gradients = integrated if steps else at_the_note
        started = time.process_time()
        scores = note_attribution.words(network, tuning, tokenizer, special)
        spent = time.process_time() - started
        pairs = np.array([[scores[word], masked[word]] for word in told])
        name = f"integrated, {steps} steps" if steps else "gradient at the note"
        agree = np.mean(np.sign(pairs[:, 0]) == np.sign(pairs[:, 1]))
        ours = "  (ours)" if steps == usual else ""
        if ours or not steps:
            print(f"figure: correlation with masking, {name} = {np.corrcoef(pairs.T)[0, 1]:.3f}")
        table.add_row(name + ours, f"{np.corrcoef(pairs.T)[0, 1]:.2f}", f"{agree:.0%}", f"{spent:.0f}")
    console = Console()
    console.print(f"the {len(told)} words that move most, on {len(tuning)} tuning stays")
    console.print(table)


def trained(settings: Settings, task: str) -> tuple[Any, Any, Any]:
    """The newest note model of the task, its tuning stays and its tokenizer."""
    calls = [call for call in manifest.of_stage(settings, "note_model") if call.params["task"] == task]
    if not calls or calls[-1].result["note_model"] is None:
        raise SystemExit("There is no note model in this home; `make run` first.")
    made = note_model.Result.model_validate(calls[-1].result).note_model
    params = note_model.Params.model_validate(calls[-1].params)
    assert made is not None
    folder = encoders.folder(settings, params.encoder)
    tokenizer = encoders.tokenizer(folder)
    job = note_model._job(params, settings, folder, tokenizer, Path())
    network = note_network.build(folder, job.shape)
    files = model_files.all_files(settings, made.model)
    network.load_state_dict(safetensors(files[WEIGHTS_FILE]))
    return network.eval(), job.load("tuning"), tokenizer


def masking(network: Any, stays: Any, tokenizer: Any, word: str) -> float:
    """Mean change of the log-odds by the word, in the stays that have it."""
    special, mask = collate.special(tokenizer), tokenizer.token_to_id("[MASK]")
    changes: list[float] = []
    for windows in stays.windows:
        without = [piece.copy() for piece in windows]
        for piece in without:
            for place in places(tokenizer, piece, word):
                piece[place] = mask
        if any((a != b).any() for a, b in zip(without, windows, strict=True)):
            with torch.no_grad():
                read = note_network.margins(network, collate.batch([windows, without], special), CPU)
            changes.append(float(read[0] - read[1]))
        if len(changes) == STAYS:
            break
    return float(np.mean(changes))


def places(tokenizer: Any, piece: Any, word: str) -> Iterator[list[int]]:
    """Where the word stands, each time with all of its pieces."""
    found: dict[int, list[int]] = defaultdict(list)
    whole: dict[int, str] = defaultdict(str)
    start = 0
    for i, token in enumerate(tokenizer.id_to_token(int(token)) or "" for token in piece):
        start = start if token.startswith("##") else i
        found[start].append(i)
        whole[start] += token.removeprefix("##")
    yield from (found[at] for at in found if whole[at] == word)


def at_the_note(network: Any, batch: collate.Batch) -> Any:
    """Gradient times embedding."""
    held: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    hook: Callable[[], None] = network.bert.get_input_embeddings().register_forward_hook(keep).remove
    margin = note_network.margins(network, batch, CPU).sum()
    hook()
    (gradient,) = torch.autograd.grad(margin, held[0])
    return np.where(batch.mask == 1, (gradient * held[0].detach()).sum(-1).numpy(), 0.0)


if __name__ == "__main__":
    main()
