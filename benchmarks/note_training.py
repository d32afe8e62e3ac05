"""Real tokens per CPU second in fine-tuning on notes: ours beside two usual ways, same encoder, layers and notes.

    .venv/bin/python -m benchmarks.note_training [--stays 200]

The notes are those of a made-up hospital. All three train the last of the kept layers and a head for one epoch on the
CPU. "Padded to 512" is one sequence of 512 per stay, eight a batch; "Trainer" is Hugging Face's with its defaults:
eight a batch in random order, padded to the longest of the batch, cut at 512, single precision.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data_pipeline.notes import encoders
from data_pipeline.synthetic import blocks
from data_pipeline.synthetic.clinical_notes import DISCHARGE
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.inference import collate
from mediscale.inference.collate import Tokens
from training.notes import note_network, note_training
from training.notes.note_checkpoint import State
from training.notes.note_examples import Stays
from training.notes.note_network import Shape
from training.notes.note_training import Fit, Job, Recipe
from training.training_examples import Examples

SHAPE = Shape(layers=1, trained_layers=1, seed=0)
WINDOW, MOST, LONGEST = 128, 4, 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stays", type=int, default=200)
    notes = written(parser.parse_args().stays)
    real = sum(min(sum(map(len, stay)), LONGEST - 2) for stay in notes)
    runs = {"ours": ours, "Trainer's defaults": trainer, "padded to 512": padded}
    for run in runs.values():
        run(notes[:8])  # imports, and what a library does once
    speed = {name: real / run(notes) for name, run in runs.items()}
    table = Table("", "real tokens per CPU s", "ours is", box=None)
    for name, tokens in speed.items():
        table.add_row(name, f"{tokens:,.0f}", f"{speed['ours'] / tokens:.1f} times as fast")
    Console().print(f"{len(notes)} stays with {real:,} tokens, {SHAPE.layers} layer of {encoders.OFFLINE}")
    Console().print(table)
    for name, tokens in speed.items():
        print(f"figure: real tokens per CPU second of ours over {name} = {speed['ours'] / tokens:.2f}")


def folder() -> Path:
    return encoders.folder(Settings(), encoders.PACKAGED)


def written(stays: int) -> list[list[Tokens]]:
    """What is written on the first day of each made-up visit, newest first, as tokens."""
    tokenizer = encoders.tokenizer(folder())
    [block, *_] = blocks.generate(stays, seed=1)
    first_day = (note for note in block.notes if note.kind != DISCHARGE)
    by_visit = itertools.groupby(first_day, key=lambda note: note.hadm_id)
    texts = [[note.text for note in notes][::-1] for _, notes in by_visit][:stays]
    return [
        [
            np.array(found.ids, dtype=np.int32)
            for found in tokenizer.encode_batch(told, add_special_tokens=False)
        ]
        for told in texts
    ]


def outcomes(count: int) -> Any:
    return (np.arange(count) % 2).astype(np.float64)


def ours(notes: list[list[Tokens]]) -> float:
    import torch

    pieces = [collate.windows(stay, WINDOW, MOST) for stay in notes]
    n = len(notes)
    times = np.zeros(n, "datetime64[us]")
    rows = Examples(np.arange(n), times, outcomes(n), np.zeros((n, 0), np.float32), {}, times)
    nothing = TableRef(dataset="", table="", table_id="", version=0)
    recipe = Recipe(epochs=1, patience=1, learning_rate=2e-4, batch_tokens=2048, gradient_accumulation_steps=1,
                    max_examples_per_epoch=n,
                    checkpoint_every=10**6, threads=torch.get_num_threads(), seed=0)  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(home="", lake="", task="mortality", training_set=nothing, note_tokens=nothing,
                  tokenizer="", encoder=str(folder()), special=collate.special(encoders.tokenizer(folder())),
                  window=WINDOW, most_windows=MOST, shape=SHAPE, recipe=recipe, checkpoints=scratch)  # fmt: skip
        fit = Fit(note_network.build(folder(), SHAPE), torch.device("cpu"), job)
        chosen, offset = note_training.sample(Stays(rows, pieces), n, 0)
        return cpu(lambda: fit._epoch(State(), Stays(rows, pieces), chosen, offset))


def classifier() -> Any:
    from transformers import AutoConfig, BertForSequenceClassification

    config = AutoConfig.from_pretrained(folder())
    config.num_labels, config.num_hidden_layers = 2, SHAPE.layers
    model = BertForSequenceClassification.from_pretrained(folder(), config=config)
    model.bert.embeddings.requires_grad_(False)
    return model


def sequences(notes: list[list[Tokens]]) -> list[dict[str, Any]]:
    joined = [np.concatenate(stay)[: LONGEST - 2] for stay in notes]
    return [{"input_ids": [101, *ids.tolist(), 102], "labels": i % 2} for i, ids in enumerate(joined)]


def trainer(notes: list[list[Tokens]]) -> float:
    from transformers import BertTokenizerFast, DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = BertTokenizerFast(tokenizer_file=str(folder() / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        fit = Trainer(classifier(), arguments, DataCollatorWithPadding(tokenizer), sequences(notes))
        return cpu(fit.train)


def padded(notes: list[list[Tokens]]) -> float:
    import torch

    model, rows = classifier(), sequences(notes)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)

    def epoch() -> None:
        for start in range(0, len(rows), 8):
            batch = rows[start : start + 8]
            ids = torch.zeros((len(batch), LONGEST), dtype=torch.int64)
            for i, row in enumerate(batch):
                ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            labels = torch.tensor([row["labels"] for row in batch])
            model(input_ids=ids, attention_mask=(ids > 0).long(), labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    model.train()
    return cpu(epoch)


def cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
