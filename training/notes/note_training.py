"""Fine-tuning the note network under Ray Train's TorchTrainer: the same function is every worker.

Work is counted in tokens: batches hold stays of like length, their steps are accumulated, products run in bfloat16
where the device multiplies it natively, and a killed fit goes on from its last checkpoint as if nothing had happened:
what a batch draws depends on the batch alone, on whichever worker.
"""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mediscale.core.errors import UsageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import Split
from mediscale.core.tasks import TaskName
from mediscale.inference import collate
from mediscale.inference.collate import Special
from mediscale.storage import private_files
from training import ray_session
from training.notes import note_examples, note_network
from training.notes.allocator import keep_freed_memory
from training.notes.note_checkpoint import Checkpoints, State
from training.notes.note_network import Shape
from training.statistics import metrics
from training.statistics.metrics import Floats
from training.step_log import StepLog

if TYPE_CHECKING:
    import torch

    from training.notes.note_examples import Stays

log = logging.getLogger(__name__)

HEAD_LR_MULTIPLIER = 20
"""The head, which begins from nothing, learns that much faster than the encoder."""
_WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


class Recipe(Frozen):
    """How the network is trained. The defaults are for the packaged encoder and two cores."""

    epochs: int = Field(1, ge=1)
    patience: int = Field(1, ge=1)
    """Epochs without a better log loss on the tuning split before stopping."""
    learning_rate: float = Field(2e-4, gt=0)
    batch_tokens: int = Field(2048, ge=64)
    """Padded tokens in a batch."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches in a step of the optimizer."""
    max_examples_per_epoch: int = Field(1200, ge=2)
    """Training stays per epoch, of which up to half have the outcome."""
    checkpoint_every: int = Field(20, ge=1)
    """Steps of the optimizer between checkpoints."""
    threads: int = Field(2, ge=1)
    seed: int = Field(0, ge=0, lt=2**31)


class Job(Frozen):
    """What each worker is told."""

    home: str
    lake: str
    task: TaskName
    training_set: TableRef
    note_tokens: TableRef
    tokenizer: str
    """SHA-256 of the one whose numbers the network reads."""
    encoder: str
    """Folder of the encoder's files."""
    special: Special
    window: int
    most_windows: int
    shape: Shape
    recipe: Recipe
    checkpoints: str
    """Folder that outlives the worker and that all workers reach."""

    def load(self, split: Split) -> "Stays":
        tables = note_examples.Tables(self.training_set, self.note_tokens)
        settings = Settings(home=Path(self.home), lake=self.lake)
        return note_examples.load(settings, tables, split, self.tokenizer, self.window, self.most_windows)


@dataclass(frozen=True)
class FittedNoteModel:
    """What a fit leaves: the trained tensors of the best epoch, and per epoch the margins of the tuning stays."""

    weights: "dict[str, torch.Tensor]"
    logits_by_epoch: Floats
    """(epochs, n)"""
    state: State
    cpu_seconds: float


def on_ray(settings: Settings, job: Job, workers: int, key: str) -> FittedNoteModel:
    """Trains under Ray Train; one worker without a cluster runs in this process.

    Raises:
        UsageError: the Ray cluster of the settings can't be reached.
    """
    import torch

    config = job.model_dump(mode="json")
    answer = ray_session.fit_torch(settings, workers, key, train_loop_per_worker, config)
    weights = {name: torch.tensor(array) for name, array in answer.pop("weights").items()}
    return FittedNoteModel(weights=weights, **answer)


@keep_freed_memory()
def train_loop_per_worker(config: dict[str, Any]) -> dict[str, Any]:
    """One worker of Ray Train; every worker's answer is the same, and arrays: Ray hands no tensors back."""
    private_files.only_owner()  # a worker of a cluster is started by the cluster
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from ray import train
    from ray.train.torch import get_device, prepare_model

    job = Job.model_validate(config)
    torch.set_num_threads(job.recipe.threads)
    context = train.get_context()
    learned, tuning = job.load("train"), job.load("tuning")
    prior = float(metrics.logit(np.array([learned.rows.outcomes.mean()]))[0])
    network = prepare_model(note_network.build(Path(job.encoder), job.shape, prior))
    fit = Fit(network, get_device(), job, context.get_world_rank(), context.get_world_size())
    fitted = fit.run(learned, tuning, train.report)
    return {
        "weights": {name: tensor.numpy() for name, tensor in fitted.weights.items()},
        "logits_by_epoch": fitted.logits_by_epoch,
        "state": fitted.state,
        "cpu_seconds": fitted.cpu_seconds,
    }


def sample(stays: "Stays", most: int, seed: int) -> tuple[NDArray[np.int64], float]:
    """Indices of at most ``most`` stays to learn from, up to half of them with the outcome; and how much larger the
    log-odds of the outcome are among them than among all."""
    generator = np.random.default_rng(seed)
    cases, others = (np.flatnonzero(stays.rows.outcomes == outcome) for outcome in (1, 0))
    some = min(len(cases), most // 2)
    parts = [
        np.sort(generator.permutation(kind)[:kept])
        for kind, kept in ((cases, some), (others, min(len(others), most - some)))
    ]
    offset = np.log(len(parts[0]) / len(parts[1])) - np.log(len(cases) / len(others))
    return np.concatenate(parts), float(offset)


def batches(
    stays: "Stays", chosen: NDArray[np.int64], recipe: Recipe, epoch: int, workers: int
) -> list[NDArray[np.int64]]:
    """An epoch's batches as places in ``chosen``, as many for each worker: else one waits for the others' gradients.

    Raises:
        UsageError: there are fewer batches than workers.
    """
    batches = list(
        collate.bucket_by_length(stays.lengths()[chosen], recipe.batch_tokens, recipe.seed + epoch)
    )
    if len(batches) < workers:
        raise UsageError(
            f"{count(len(chosen))} training stays make {len(batches)} batches for {workers} workers, so that some "
            f"would learn nothing; train with at most {len(batches)} workers, or with batch_tokens below "
            f"{recipe.batch_tokens}."
        )
    return batches[: len(batches) // workers * workers]


def check(train: "Stays", recipe: Recipe, workers: int) -> None:
    """Refuses what some epoch could not share out, before any worker is started.

    Raises:
        UsageError: there are fewer batches than workers.
    """
    chosen, _ = sample(train, recipe.max_examples_per_epoch, recipe.seed)
    for epoch in range(recipe.epochs):
        batches(train, chosen, recipe, epoch, workers)


class Fit:
    """One worker's part of a fit."""

    def __init__(self, network: Any, device: Any, job: Job, rank: int = 0, workers: int = 1) -> None:
        import torch

        self.network, self._device, self.job = network, device, job
        self._part = (rank, workers)
        self._special = job.special
        self._trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
        encoder = [p for name, p in self._trained.items() if "bert." in name]
        head = [p for name, p in self._trained.items() if "bert." not in name]
        rate = job.recipe.learning_rate
        groups = [
            {"params": part, "lr": lr, "top": lr}
            for part, lr in ((encoder, rate), (head, HEAD_LR_MULTIPLIER * rate))
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        self._checkpoints = Checkpoints(Path(job.checkpoints))
        self._best: dict[str, torch.Tensor] = {}
        self._logits_by_epoch: list[Floats] = []

    def run(self, train: "Stays", tuning: "Stays", report: Any) -> FittedNoteModel:
        """All epochs, from the last checkpoint if there is one. ``report`` hears each epoch's losses."""
        started = time.process_time()
        state = self._resume()
        recipe = self.job.recipe
        chosen, offset = sample(train, recipe.max_examples_per_epoch, recipe.seed)
        while state.epoch < recipe.epochs and state.epoch - 1 - state.best_epoch < recipe.patience:
            state = self._epoch(state, train, chosen, offset)
            state = self._judge(state, tuning)
            self._save(state)
            log.info(
                "epoch %d of %d: log loss %.4f in training, %.4f on the tuning patients",
                *(state.epoch, recipe.epochs, state.train_losses[-1], state.tuning_losses[-1]),
            )
            report(
                {
                    "epoch": state.epoch,
                    "log_loss_train": state.train_losses[-1],
                    "log_loss_tuning": state.tuning_losses[-1],
                }
            )
        return FittedNoteModel(
            self._best, np.array(self._logits_by_epoch), state, time.process_time() - started
        )

    def _epoch(self, state: State, train: "Stays", chosen: NDArray[np.int64], offset: float) -> State:
        recipe, lengths = self.job.recipe, train.lengths()[chosen]
        groups = batches(train, chosen, recipe, state.epoch, self._part[1])
        self.network.train()
        total = self._steps(len(groups)) * recipe.epochs
        progress = StepLog(log, "step", total, state.step)
        for i, members in enumerate(groups[state.batch :], state.batch):
            if i % self._part[1] == self._part[0]:
                self._seed(state.epoch, i)
                pieces = [train.windows[k] for k in chosen[members]]
                loss = self._learn(pieces, train.rows.outcomes[chosen[members]], offset)
                learnt = {"loss": state.loss + loss, "stays": state.stays + len(members)}
                state = state.model_copy(update=learnt)
            real = sum(len(p) + 2 for k in chosen[members] for p in train.windows[k])
            padded = int(lengths[members, 0].sum() * lengths[members, 1].max())
            state = state.model_copy(
                update={"batch": i + 1, "tokens": state.tokens + real, "padded": state.padded + padded}
            )
            if (i + 1) % (recipe.gradient_accumulation_steps * self._part[1]) == 0 or i + 1 == len(groups):
                state = self._step(state, total)
                progress.step(state.step, state.loss / state.stays)
        mean = state.loss / state.stays
        return state.model_copy(update={"train_losses": (*state.train_losses, mean), "loss": 0.0, "stays": 0})

    def _seed(self, epoch: int, batch: int) -> None:
        """The seed of the masks that a batch draws, on every device: there is no state to keep, and none to restore."""
        import torch

        drawn = np.random.SeedSequence((self.job.recipe.seed, epoch, batch)).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))

    def _steps(self, batches: int) -> int:
        return -(-batches // (self.job.recipe.gradient_accumulation_steps * self._part[1]))

    def _learn(self, pieces: Sequence[Any], outcomes: Floats, offset: float) -> float:
        """Adds a batch's gradient; returns its loss, summed.

        The offset is the correction of a case-control sample (Prentice and Pyke 1979, doi:10.1093/biomet/66.3.403): the
        network learns the log-odds among all stays. Weights would do the same, and a few heavy stays would rule each
        step.
        """
        import torch

        batch = collate.batch(pieces, self._special)
        with note_network.precision(self._device):
            margin = note_network.margins(self.network, batch, self._device)
        truth = torch.as_tensor(outcomes, dtype=torch.float32, device=self._device)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(margin + offset, truth, reduction="sum")
        (losses / (len(outcomes) * self.job.recipe.gradient_accumulation_steps)).backward()
        return float(losses.detach())

    def _step(self, state: State, total: int) -> State:
        import torch

        rising = max(1, int(_WARM_UP * total))
        share = min((state.step + 1) / rising, (total - state.step) / max(1, total - rising))
        for group in self._optimizer.param_groups:
            group["lr"] = group["top"] * max(share, 0.0)
        torch.nn.utils.clip_grad_norm_(self._trained.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        state = state.model_copy(update={"step": state.step + 1})
        if state.step % self.job.recipe.checkpoint_every == 0:
            self._save(state)
        return state

    def _judge(self, state: State, tuning: "Stays") -> State:
        """The epoch's end: its margins on the tuning stays, and its weights if they are the best so far."""
        margin = self.margins(tuning)
        self._logits_by_epoch.append(margin)
        loss = metrics.point_estimate(metrics.log_loss, tuning.rows.outcomes, metrics.sigmoid(margin))
        if not state.tuning_losses or loss < min(state.tuning_losses):
            state = state.model_copy(update={"best_epoch": state.epoch})
            self._best = {name: p.detach().cpu().clone() for name, p in self._trained.items()}
        done = {"epoch": state.epoch + 1, "batch": 0, "tuning_losses": (*state.tuning_losses, loss)}
        return state.model_copy(update=done)

    def margins(self, stays: "Stays") -> Floats:
        """Log-odds (n) by the network as it is now."""
        import torch

        self.network.eval()
        margins = np.zeros(len(stays))
        with torch.inference_mode(), note_network.precision(self._device):
            for members in collate.bucket_by_length(stays.lengths(), 2 * self.job.recipe.batch_tokens, 0):
                batch = collate.batch([stays.windows[k] for k in members], self._special)
                margins[members] = note_network.margins(self.network, batch, self._device).cpu().numpy()
        return margins

    def _save(self, state: State) -> None:
        import torch

        if self._part[0]:
            return
        tensors = {f"weight/{name}": p.detach().cpu().contiguous() for name, p in self._trained.items()}
        tensors |= {f"best/{name}": tensor.contiguous() for name, tensor in self._best.items()}
        for name, p in self._trained.items():
            for part, value in self._optimizer.state.get(p, {}).items():
                tensors[f"optimizer/{part}/{name}"] = value.detach().cpu().contiguous()
        tensors["logits_by_epoch"] = torch.as_tensor(np.array(self._logits_by_epoch))
        self._checkpoints.save(state, tensors)

    def _resume(self) -> State:
        import torch

        checkpoint = self._checkpoints.newest()
        if checkpoint is None:
            return State()
        state, tensors = checkpoint
        with torch.no_grad():
            for name, p in self._trained.items():
                p.copy_(tensors[f"weight/{name}"])
        for name, p in self._trained.items():
            parts = {
                key.split("/")[1]: key
                for key in tensors
                if key.startswith("optimizer/") and key.endswith(f"/{name}")
            }
            if parts:
                self._optimizer.state[p] = {
                    part: tensors[key] if part == "step" else tensors[key].to(self._device)
                    for part, key in parts.items()
                }
        self._best = {
            key.removeprefix("best/"): value for key, value in tensors.items() if key.startswith("best/")
        }
        self._logits_by_epoch = list(tensors["logits_by_epoch"].numpy())
        return state


def weighted(network: Any, weights: "dict[str, torch.Tensor]") -> Any:
    """The network with the trained tensors put in."""
    missing = network.load_state_dict(
        {name.removeprefix("module."): value for name, value in weights.items()}, strict=False
    )
    if missing.unexpected_keys:
        raise RuntimeError(
            f"the fit trained {len(missing.unexpected_keys)} tensors that the network does not have"
        )
    return network.eval()
