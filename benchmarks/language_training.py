"""Fine-tuning an adapter on CPU: real tokens per CPU second, beside TRL's SFTTrainer as it comes.

The same questions, base, adapter, learning rate and number of epochs on two sides: ours, and SFTConfig's defaults
without bfloat16 and without gradient checkpointing, which only cost on a processor that does not multiply bfloat16.
Both say what the tuning questions' loss was afterwards, for each of some seeds of the order and of the adapter's first
weights, and how it differs, with the 95 % interval of the pairs' mean. The defaults with these two train on one batch
alone, for they take minutes of it.
"""

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from data_pipeline.documents import corpus, questions
from data_pipeline.documents.questions import Question
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.inference import base_models
from mediscale.inference.language_spec import INSTRUCTION
from training.language import language_model, language_training, lora
from training.language.language_training import Job, Recipe
from training.language.lora import Adapter
from training.notes.allocator import keep_freed_memory

FIGURE = "real tokens per CPU second, fine-tuning a language model"
OURS = "ours"
PLAIN = "SFTConfig, bf16 and checkpointing off"
DEFAULTS = "SFTConfig's defaults"
ADAPTER = Adapter(rank=16, alpha=32, dropout=0.0, targets=(), fully_trained=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=48, help="to train on")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of fits (5)")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="mediscale-bench-"))
    settings = Settings(home=Path(os.environ.get("MEDISCALE_HOME", home)))
    splits = questions.split_by_family(corpus.questions())
    LocalJob.kept = {"train": splits["train"][: options.questions], "tuning": splits["tuning"][:24]}
    files = base_models.folder(settings, base_models.resolve(base_models.OFFLINE))
    print(f"{len(LocalJob.kept['train'])} questions, {options.epochs} epochs, {base_models.OFFLINE}")
    fits: dict[str, list[Fit]] = {OURS: [], PLAIN: [], DEFAULTS: []}
    try:
        for seed in range(options.seeds):
            for name in (OURS, PLAIN, DEFAULTS)[: 2 if seed else 3]:
                fit = SIDES[name](files, home / name, options.epochs, seed)
                fits[name].append(fit)
                print(
                    f"{name:<40} seed {seed}: {fit.tokens:>6} tokens, {fit.tokens / fit.seconds:.1f} a CPU second, "
                    f"tuning loss {fit.loss:.3f}",
                    flush=True,
                )
    finally:
        shutil.rmtree(home)
    for name in (PLAIN, DEFAULTS):
        print(f"figure: {FIGURE}, beside {name} = {_speed(fits[OURS]) / _speed(fits[name]):.2f}")
    _print_difference([a.loss - b.loss for a, b in zip(fits[OURS], fits[PLAIN], strict=True)])


@dataclass(frozen=True)
class Fit:
    """What a fit took, and the loss on the tuning questions after it."""

    tokens: int
    seconds: float
    loss: float


def _speed(fits: Sequence[Fit]) -> float:
    return sum(fit.tokens for fit in fits) / sum(fit.seconds for fit in fits)


def _print_difference(pairs: Sequence[float]) -> None:
    """Mean of paired differences with Student's interval."""
    from scipy.stats import t

    mean, n = statistics.mean(pairs), len(pairs)
    half = t.ppf(0.975, n - 1) * statistics.stdev(pairs) / n**0.5 if n > 1 else float("nan")
    print(f"tuning loss, ours less TRL's: {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}], {n} pairs")
    print(f"figure: tuning loss, ours less TRL's = {mean:.3f}")


class LocalJob(Job):
    """A job whose questions lie in no lake."""

    kept: ClassVar[dict[Split, list[Question]]]

    def load(self, split: Split) -> list[Question]:
        return self.kept[split]


def local_job(files: Path, folder: Path, epochs: int, seed: int = 0) -> Job:
    fields = language_model.Params.model_fields
    defaults = {name: fields[name].default for name in Recipe.model_fields}
    recipe = Recipe(**defaults | {"epochs": epochs, "checkpoint_every": 10**6, "seed": seed})
    return LocalJob(
        home=str(folder),
        lake="",
        questions=TableRef(dataset="", table="", table_id="", version=0),
        base=str(files),
        instruction=INSTRUCTION,
        adapter=ADAPTER,
        quantization="none",
        recipe=recipe,
        checkpoints=str(folder),
    )


@keep_freed_memory()
def _ours(files: Path, folder: Path, epochs: int, seed: int) -> Fit:
    trainer = language_training.build(local_job(files, folder, epochs, seed))
    return _measured(trainer, trainer.real_tokens * epochs)


def _defaults(files: Path, folder: Path, epochs: int, seed: int) -> Fit:
    """One batch of SFTConfig's defaults; its loss is not that of the same training."""
    whole = LocalJob.kept
    LocalJob.kept = {split: rows[:8] for split, rows in whole.items()}
    try:
        return _measured(*_trainer(files, folder, epochs, seed), judged=False)
    finally:
        LocalJob.kept = whole


def _plain(files: Path, folder: Path, epochs: int, seed: int) -> Fit:
    return _measured(*_trainer(files, folder, epochs, seed, bf16=False, gradient_checkpointing=False))


def _trainer(files: Path, folder: Path, epochs: int, seed: int, **changed: Any) -> tuple[Any, int]:
    """SFTTrainer as its documentation shows it, with our learning rate; and how many tokens it learns from."""
    import torch
    from trl import SFTConfig, SFTTrainer

    job, tokenizer = local_job(files, folder, epochs, seed), base_models.tokenizer(files)
    network = base_models.network(files, torch.float32)
    trainer = SFTTrainer(
        model=network,
        args=SFTConfig(
            output_dir=str(folder), use_cpu=True, num_train_epochs=epochs, learning_rate=job.recipe.learning_rate,
            save_strategy="no", report_to="none", disable_tqdm=True, seed=seed, **changed,
        ),
        train_dataset=language_training.rows(tokenizer, job.load("train"), INSTRUCTION),
        eval_dataset=language_training.rows(tokenizer, job.load("tuning"), INSTRUCTION),
        processing_class=tokenizer,
        peft_config=lora.config(network, ADAPTER),
    )  # fmt: skip
    return trainer, epochs * sum(len(ids) for ids in trainer.train_dataset["input_ids"])


def _measured(trainer: Any, tokens: int, judged: bool = True) -> Fit:
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    return Fit(tokens, seconds, float(trainer.evaluate()["eval_loss"]) if judged else float("nan"))


SIDES = {OURS: _ours, PLAIN: _plain, DEFAULTS: _defaults}

if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    main()
