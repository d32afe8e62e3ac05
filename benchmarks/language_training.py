"""Fine-tuning an adapter on CPU: real tokens per CPU second, beside TRL's SFTTrainer as it comes.

The same questions, base, adapter, learning rate and number of epochs on two sides: ours, and SFTConfig's defaults
without bfloat16 and without gradient checkpointing, which only cost on a processor that does not multiply bfloat16.
Both say what the tuning questions' loss was afterwards. The defaults with these two train on one batch alone, for
they take minutes of it.
"""

import argparse
import logging
import os
import shutil
import tempfile
import time
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
ADAPTER = Adapter(rank=16, alpha=32, dropout=0.0, targets=(), fully_trained=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=48, help="to train on")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="mediscale-bench-"))
    settings = Settings(home=Path(os.environ.get("MEDISCALE_HOME", home)))
    splits = questions.split_by_family(corpus.questions())
    LocalJob.kept = {"train": splits["train"][: options.questions], "tuning": splits["tuning"][:24]}
    files = base_models.folder(settings, base_models.resolve(base_models.OFFLINE))
    print(f"{len(LocalJob.kept['train'])} questions, {options.epochs} epochs, {base_models.OFFLINE}")
    ours = 0.0
    try:
        for name, side in SIDES.items():
            speed, loss, tokens = side(files, home / name, options.epochs)
            print(
                f"{name:<40} {tokens:>6} tokens, {speed:.1f} a CPU second, tuning loss {loss:.3f}", flush=True
            )
            ours = ours or speed
            if name != OURS:
                print(f"figure: {FIGURE}, beside {name} = {ours / speed:.2f}", flush=True)
    finally:
        shutil.rmtree(home)


class LocalJob(Job):
    """A job whose questions lie in no lake."""

    kept: ClassVar[dict[Split, list[Question]]]

    def load(self, split: Split) -> list[Question]:
        return self.kept[split]


def local_job(files: Path, folder: Path, epochs: int) -> Job:
    fields = language_model.Params.model_fields
    defaults = {name: fields[name].default for name in Recipe.model_fields}
    recipe = Recipe(**defaults | {"epochs": epochs, "checkpoint_every": 10**6})
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
def _ours(files: Path, folder: Path, epochs: int) -> tuple[float, float, int]:
    trainer = language_training.build(local_job(files, folder, epochs))
    return _measured(trainer, trainer.real_tokens * epochs)


def _defaults(files: Path, folder: Path, epochs: int) -> tuple[float, float, int]:
    """One batch of SFTConfig's defaults; its loss is not that of the same training."""
    whole = LocalJob.kept
    LocalJob.kept = {split: rows[:8] for split, rows in whole.items()}
    try:
        speed, _, tokens = _measured(*_trainer(files, folder, epochs), judged=False)
    finally:
        LocalJob.kept = whole
    return speed, float("nan"), tokens


def _without(files: Path, folder: Path, epochs: int) -> tuple[float, float, int]:
    return _measured(*_trainer(files, folder, epochs, bf16=False, gradient_checkpointing=False))


def _trainer(files: Path, folder: Path, epochs: int, **changed: Any) -> tuple[Any, int]:
    """SFTTrainer as its documentation shows it, with our learning rate; and how many tokens it learns from."""
    import torch
    from trl import SFTConfig, SFTTrainer

    job, tokenizer = local_job(files, folder, epochs), base_models.tokenizer(files)
    network = base_models.network(files, torch.float32)
    trainer = SFTTrainer(
        model=network,
        args=SFTConfig(
            output_dir=str(folder), use_cpu=True, num_train_epochs=epochs, learning_rate=job.recipe.learning_rate,
            save_strategy="no", report_to="none", disable_tqdm=True, seed=0, **changed,
        ),
        train_dataset=language_training.rows(tokenizer, job.load("train"), INSTRUCTION),
        eval_dataset=language_training.rows(tokenizer, job.load("tuning"), INSTRUCTION),
        processing_class=tokenizer,
        peft_config=lora.config(network, ADAPTER),
    )  # fmt: skip
    return trainer, epochs * sum(len(ids) for ids in trainer.train_dataset["input_ids"])


def _measured(trainer: Any, tokens: int, judged: bool = True) -> tuple[float, float, int]:
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    return tokens / seconds, float(trainer.evaluate()["eval_loss"]) if judged else float("nan"), tokens


SIDES = {
    OURS: _ours,
    "SFTConfig, bf16 and checkpointing off": _without,
    "SFTConfig's defaults": _defaults,
}

if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    main()
