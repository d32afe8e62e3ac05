"""Fine-tuning an adapter with TRL's SFTTrainer under Ray Train's TorchTrainer: the same function is every worker.

On a processor, batches hold questions of like length, as many as fit a budget of tokens; a GPU gets packed ones.
A killed fit goes on from its last whole checkpoint.
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from data_pipeline.documents import question_set
from data_pipeline.documents.questions import Question
from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.inference import base_models, collate, devices, fused_adapter
from mediscale.inference.base_models import Quantization
from mediscale.inference.chat_template import ChatTemplate, conversation
from mediscale.storage import private_files
from training import ray_session
from training.language import lora
from training.language.lora import Adapter, Trainable
from training.notes.allocator import keep_freed_memory
from training.step_log import StepLog

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

log = logging.getLogger(__name__)

COMPLETE = "complete"
"""File in a checkpoint that was written to its end."""
_FINISHED = "adapter"
"""Folder of the trained adapter, beside the checkpoints."""
IGNORED = -100
"""The label of what is not learnt: a prompt's tokens and padding."""


class Recipe(Frozen):
    """How an adapter is trained. The defaults are for the packaged base and two cores."""

    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    batch_tokens: int = Field(384, ge=64)
    """Padded tokens in a batch on a processor; tokens of a row of packed questions on a GPU."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches in a step of the optimizer."""
    max_length: int = Field(512, ge=16)
    """Tokens of a question with its answer; what is longer loses its end."""
    checkpoint_every: int = Field(20, ge=1)
    """Steps of the optimizer between checkpoints."""
    threads: int = Field(2, ge=1)
    seed: int = Field(0, ge=0, lt=2**31)


class Job(Frozen):
    """What each worker is told."""

    home: str
    lake: str
    questions: TableRef
    base: str
    """Folder of the base's files."""
    instruction: str
    adapter: Adapter
    quantization: Quantization
    recipe: Recipe
    checkpoints: str
    """Folder that outlives the worker and that all workers reach."""

    def load(self, split: Split) -> list[Question]:
        return question_set.load(Settings(home=Path(self.home), lake=self.lake), self.questions, split)


@dataclass(frozen=True)
class FittedAdapter:
    """What a fit leaves."""

    adapter: Path
    """Folder of its weights and configuration."""
    trainable: Trainable
    losses: list[float]
    """Of each step, per token of the answers."""
    tuning_losses: tuple[float, float]
    """On the tuning questions, before and after; NaN where it was not measured before."""
    tokens: int
    """Real tokens that the optimizer has learnt from."""
    padded: int
    """The same with padding."""
    cpu_seconds: float
    resumed_at: int
    """The step that the last worker went on from; 0 where it began."""


def on_ray(settings: Settings, job: Job, workers: int, key: str) -> FittedAdapter:
    """Trains under Ray Train; one worker without a cluster runs in this process.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    config = job.model_dump(mode="json")
    answer = ray_session.fit_torch(settings, workers, key, train_loop_per_worker, config)
    trainable = Trainable.model_validate(answer.pop("trainable"))
    return FittedAdapter(adapter=Path(job.checkpoints) / _FINISHED, trainable=trainable, **answer)


def train_loop_per_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One worker of Ray Train; the first one's adapter is the one that is kept, and all of them are the same."""
    from ray import train as ray_train

    return train(Job.model_validate(config), ray_train.get_context().get_world_size())


@keep_freed_memory()
def train(job: Job, workers: int = 1) -> dict[str, Any]:
    """Trains in this process, which is one of ``workers``; returns the fields of ``FittedAdapter`` but its path."""
    private_files.only_owner()  # a worker of a cluster is started by the cluster
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    warnings.simplefilter("ignore", FutureWarning)  # between the libraries themselves
    import torch

    torch.set_num_threads(job.recipe.threads)
    trainer = build(job, workers)
    trainable = lora.trainable(trainer.model)
    log.info("%s", trainable)
    started = time.process_time()
    checkpoint = newest(Path(job.checkpoints))
    # bitsandbytes lays four bits out for reading, without gradients, when they are first read outside of training
    first_read = checkpoint is None and job.quantization == "none"
    before = _tuning_loss(trainer) if first_read else float("nan")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(Path(job.checkpoints) / _FINISHED))
    history = trainer.state.log_history
    return {
        "trainable": trainable.model_dump(),
        "losses": [float(each["loss"]) for each in history if "loss" in each],
        "tuning_losses": (before, _tuning_loss(trainer)),
        "tokens": trainer.real_tokens * job.recipe.epochs,
        "padded": trainer.padded_tokens * job.recipe.epochs,
        "cpu_seconds": time.process_time() - started,
        "resumed_at": int(checkpoint.name.partition("-")[2]) if checkpoint else 0,
    }


def check(job: Job, workers: int) -> None:
    """Refuses what no worker could train, before any of them is started.

    Raises:
        UsageError: a target matches no layer of the base, or there are fewer batches than workers.
        InputError: the base is no language model, or its files can't be read.
    """
    files, recipe = Path(job.base), job.recipe
    lora.config(base_models.without_weights(files), job.adapter)
    tokenizer = base_models.tokenizer(files)
    template = ChatTemplate.of(tokenizer)
    lengths = [_length(tokenizer, template, question, job) for question in job.load("train")]
    TokenBudgetBatches(
        lengths, recipe.batch_tokens, recipe.seed, workers * recipe.gradient_accumulation_steps
    )


def _length(tokenizer: Any, template: ChatTemplate, question: Question, job: Job) -> int:
    before = template.render(conversation(question.question, question.context, job.instruction))
    return min(len(tokenizer(f"{before}{question.answer}")["input_ids"]), job.recipe.max_length)


def _tuning_loss(trainer: Any) -> float:
    return float(trainer.evaluate()["eval_loss"])


def newest(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [path.parent for path in checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
    return max(whole, key=lambda path: int(path.name.partition("-")[2]), default=None)


def rows(tokenizer: Any, questions: Sequence[Question], instruction: str) -> "Dataset":
    """Questions in TRL's columns ``prompt`` and ``completion``, of which it learns the completion alone."""
    from datasets import Dataset

    template, rows = ChatTemplate.of(tokenizer), list[dict[str, Any]]()
    for question in questions:
        turns = conversation(question.question, question.context, instruction)
        if tokenizer.chat_template is None:
            rows.append({"prompt": template.render(turns), "completion": f" {question.answer}"})
        else:
            answer = [{"role": "assistant", "content": question.answer}]
            rows.append({"prompt": template.accepted(turns), "completion": answer})
    return Dataset.from_list(rows)


class TokenBudgetBatches:
    """A batch sampler: questions of like length, as many as fit a budget of padded tokens; another order each epoch."""

    def __init__(self, lengths: Sequence[int], budget: int, seed: int, multiple: int) -> None:
        """``multiple``: the number of batches is one of it, or some worker would wait for the others."""
        sizes = np.array([[1, length] for length in lengths], dtype=np.int64)
        self._batches = [batch.tolist() for batch in collate.bucket_by_length(sizes, budget, seed)]
        if len(self._batches) < multiple:
            raise UsageError(
                f"{len(lengths)} training questions make {len(self._batches)} batches where {multiple} are needed for "
                "one step of all workers; train with fewer workers or accumulation steps, or with smaller batch_tokens."
            )
        self._kept = len(self._batches) // multiple * multiple
        self._seed, self._epoch = seed, 0
        self.padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in self._batches)
        self.sampler = self  # where accelerate looks for set_epoch when it shares batches out

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._kept

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._batches))
        return iter([self._batches[i] for i in order[: self._kept]])


def build(job: Job, workers: int = 1) -> Any:
    """The trainer of a job, its adapter added to the base.

    Raises:
        UsageError: a target matches no layer of the base, or there are fewer batches than workers.
    """
    import datasets
    import transformers
    import trl

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    on = devices.device()
    packed = on.type == "cuda"
    files = Path(job.base)
    tokenizer = base_models.tokenizer(files)
    network = base_models.network(files, devices.precision(on), job.quantization)
    adapter = lora.config(network, job.adapter)
    trainer = (trl.SFTTrainer if packed else _token_budget_trainer())(
        model=network,
        args=_arguments(job, on, packed),
        train_dataset=rows(tokenizer, job.load("train"), job.instruction),
        eval_dataset=rows(tokenizer, job.load("tuning"), job.instruction),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[_progress(job)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if not packed:
        fused_adapter.fuse(trainer.model)
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trainer.real_tokens = trainer.padded_tokens = sum(lengths)
    if not packed:
        multiple = workers * job.recipe.gradient_accumulation_steps
        trainer.batches = TokenBudgetBatches(lengths, job.recipe.batch_tokens, job.recipe.seed, multiple)
        trainer.padded_tokens = trainer.batches.padded
    return trainer


def _token_budget_trainer() -> Any:
    """A class: SFTTrainer with batches of a token budget, whose loss is that of the answers' tokens."""
    from torch.utils.data import DataLoader
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            data = self._remove_unused_columns(self.train_dataset, description="training")
            loader = DataLoader(data, batch_sampler=self.batches, collate_fn=self.data_collator)
            self.accelerator.even_batches = False  # or it would fill each worker's batches up to one size
            try:
                return self.accelerator.prepare(loader)
            finally:
                self.accelerator.even_batches = True  # else workers would judge different numbers of batches

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss = answer_loss(model, inputs, num_items_in_batch)
            if num_items_in_batch is not None:  # of all workers, whose gradients are averaged
                loss = loss * self.accelerator.num_processes
            return (loss, {}) if return_outputs else loss

    return Trainer


def answer_loss(
    model: Any, inputs: Mapping[str, Any], n: "torch.Tensor | int | None" = None
) -> "torch.Tensor":
    """Cross-entropy of a batch's answers per token of them, or over ``n`` tokens.

    Logits of the vocabulary are computed only at places where some row has an answer. On a processor TRL computes them,
    and their entropy, at every place, which with a small model is more work than all of its layers. Tokens that all
    rows begin with, those of the instruction, are computed once for the batch; the gradients are the same.
    """
    import torch

    ids, mask, labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"][:, 1:]
    answers = labels != IGNORED
    places = answers.any(0).nonzero()[:, 0]
    shared = _shared_beginning(ids, mask, int(places[0])) if len(ids) > 1 else 0
    cache = None
    if shared:
        cache = model(input_ids=ids[:1, :shared], use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(ids))
    logits = model(
        input_ids=ids[:, shared:],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=False,
        logits_to_keep=places - shared,
    ).logits
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels[:, places].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (answers.sum() if n is None else n)


def _shared_beginning(ids: "torch.Tensor", mask: "torch.Tensor", most: int) -> int:
    """How many tokens all rows of a batch begin with, ``most`` at most."""
    same = ((ids == ids[:1]) & (mask == 1)).all(0)[:most]
    return int(same.int().cumprod(0).sum())


def _arguments(job: Job, on: "torch.device", packed: bool) -> Any:
    import torch
    from trl import SFTConfig

    recipe, dtype = job.recipe, devices.precision(on)
    return SFTConfig(
        output_dir=job.checkpoints,
        use_cpu=on.type == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16 and on.type == "cuda",
        gradient_checkpointing=packed,
        packing=packed,
        eval_packing=False,
        max_length=recipe.batch_tokens if packed else recipe.max_length,
        per_device_train_batch_size=1 if packed else 8,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_strategy="steps",
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on.type == "cuda",
    )


def _progress(job: Job) -> Any:
    """What a person sees of a fit, and which checkpoints are whole."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        steps: StepLog

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            self.steps = StepLog(log, "step", state.max_steps, state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if "loss" in (logs or {}):
                self.steps.step(state.global_step, float(logs["loss"]))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if state.is_world_process_zero:
                (Path(job.checkpoints) / f"checkpoint-{state.global_step}" / COMPLETE).touch()

    return Progress()
