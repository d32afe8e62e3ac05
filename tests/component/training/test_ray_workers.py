"""Two real workers of one real Ray: they learn what one worker learns, and a fit outlives a worker that is killed. A
search of language models tries its settings there, too."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline.documents.questions import Question
from data_pipeline.features import kernel
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import NOTE_TOKENS, QUESTIONS, TRAINING_SET
from mediscale.inference import base_models
from mediscale.inference.collate import Special
from mediscale.storage import lake, registry
from training import training_examples
from training.language import language_model, language_training, language_tuning
from training.language.lora import Adapter
from training.notes import note_training
from training.notes.note_checkpoint import Checkpoints
from training.notes.note_network import Shape
from training.notes.note_training import FittedNoteModel
from training.statistics import metrics
from training.tabular import tree_training
from training.tabular.recipe import Recipe

pytestmark = pytest.mark.timeout(900)

WORDS, SIGN = 60, 7


def test_a_local_ray_listens_to_this_machine_alone(local_ray: frozenset[psutil.Process]) -> None:
    own = frozenset(psutil.Process().children(recursive=True)) - local_ray
    assert own
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in (psutil.Process(), *own)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.usefixtures("local_ray")
def test_workers_of_a_local_ray_get_their_share_of_a_busy_machine() -> None:
    """Ray gives way to everything else by default: a fit beside other work stood still for a quarter of an hour."""
    import ray

    assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


@pytest.mark.usefixtures("local_ray")
def test_trees_of_two_workers_are_as_good_as_those_of_one_and_grown_from_all_rows(
    settings: Settings, hospital: Callable[..., Any], freeze: Callable[..., TableRef]
) -> None:
    """Each worker draws its own sample of its own patients' rows, so that the trees are not the same ones."""
    frozen = freeze(settings, "mortality", hospital("mortality", 1500, prevalence=0.2).rows)
    recipe = Recipe(rounds=60, patience=60, depth=3, learning_rate=0.1, threads=1, seed=0)
    job = tree_training.Job(
        home=str(settings.home), lake=settings.lake, training_set=frozen, task="mortality", recipe=recipe
    )
    held_out = training_examples.load(settings, frozen, "held_out", kernel.names("mortality"))
    one, two = (tree_training.on_ray(settings, job, workers, f"{workers}") for workers in (1, 2))
    risks = [booster.inplace_predict(held_out.inputs).astype(np.float64) for booster, _ in (one, two)]
    assert np.corrcoef(metrics.logit(risks[0]), metrics.logit(risks[1]))[0, 1] > 0.95
    assert np.abs(risks[0] - risks[1]).mean() < 0.03
    auroc = [metrics.point_estimate(metrics.auroc, held_out.outcomes, risk) for risk in risks]
    assert auroc[1] == pytest.approx(auroc[0], abs=0.02)
    losses = [curves["log_loss_tuning"] for _, curves in (one, two)]
    assert losses[1][-1] == pytest.approx(losses[0][-1], abs=0.01)
    first_root = [float(booster.trees_to_dataframe()["Cover"][0]) for booster, _ in (one, two)]
    assert first_root[1] == pytest.approx(first_root[0], rel=0.05)


@pytest.mark.usefixtures("local_ray", "zombie")
def test_a_note_model_of_two_workers_is_that_of_one_also_when_a_worker_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    """Two workers that learn from a batch each take the steps of one that accumulates two, but for rounding."""
    job = note_job(settings, encoder(tmp_path / "encoder"))
    one = fit(settings, job, 1)
    killing = threading.Thread(target=kill_a_worker, args=(settings.home / "2",), daemon=True)
    killing.start()
    two = fit(settings, job, 2)
    killing.join(60)
    assert two.state.tokens == one.state.tokens + MARK, "the fit began anew instead of going on"
    assert two.state.step == one.state.step
    assert two.logits_by_epoch == pytest.approx(one.logits_by_epoch, abs=2e-3)
    assert two.state.tuning_losses == pytest.approx(one.state.tuning_losses, abs=1e-3)
    assert one.state.tuning_losses[-1] < 0.9 * one.state.tuning_losses[0], "nothing was learnt"


def fit(settings: Settings, job: note_training.Job, workers: int) -> FittedNoteModel:
    recipe = job.recipe.model_copy(update={"gradient_accumulation_steps": 2 // workers})
    changed = {"recipe": recipe, "checkpoints": str(settings.home / f"{workers}")}
    return note_training.on_ray(settings, job.model_copy(update=changed), workers, f"notes-{workers}")


MARK = 10**9
"""Tokens that no fit reads: a checkpoint that says so was gone on from."""


def kill_a_worker(checkpoints: Path) -> None:
    """Ends a worker with -9 as soon as there are steps to go on from, and marks their checkpoint.

    The other worker waits for the dead one's gradients until Ray ends it, so that nobody writes one meanwhile; new
    workers need seconds to start.
    """
    kept = Checkpoints(checkpoints)
    first, other = two_workers()
    while (newest := kept.newest()) is None or newest[0].step < 4:
        time.sleep(0.005)
    first.kill()
    psutil.wait_procs([first, other], timeout=60)
    newest = kept.newest()
    assert newest is not None
    state, tensors = newest
    for file in checkpoints.glob("*.safetensors"):
        file.unlink()
    kept.save(state.model_copy(update={"tokens": state.tokens + MARK}), tensors)


@pytest.mark.soak
@pytest.mark.usefixtures("local_ray", "zombie")
def test_an_adapter_of_two_workers_is_that_of_one_also_when_a_worker_is_killed(
    settings: Settings, toy_base: Path, toy_questions: list[Question], soak: bool
) -> None:
    """Two workers that learn from a batch each take the steps of one that accumulates two.

    One of them is killed in ``make soak``: two others import for half a minute what these did. That Ray starts others
    is seen of the note model, and that a fit goes on from a checkpoint in ``test_language_model.py``.
    """
    settings.home.mkdir()
    job = language_job(settings, toy_base, toy_questions[:80])
    one = fit_adapter(settings, job, 1)
    if soak:
        kill = threading.Thread(
            target=kill_a_language_worker, args=(settings.home / "language-2",), daemon=True
        )
        kill.start()
    two = fit_adapter(settings, job, 2)
    assert one.resumed_at == 0
    if soak:
        kill.join(60)
        assert two.resumed_at >= 2, "the fit began anew instead of going on"
    assert len(two.losses) == len(one.losses)
    assert two.tuning_losses[1] == pytest.approx(one.tuning_losses[1], abs=2e-2)
    assert one.losses[-1] < one.losses[0], "nothing was learnt"


@pytest.mark.usefixtures("local_ray")
def test_a_search_tries_settings_by_the_tuning_questions_and_leaves_every_trial_in_mlflow(
    settings: Settings, toy_base: Path, toy_questions: list[Question]
) -> None:
    asked = language_job(settings, toy_base, toy_questions[:40]).questions
    base = str(toy_base)
    params = language_model.Params(
        dataset="h", questions=asked, base=base, base_model=base_models.resolve(base), epochs=1, threads=1,
        max_length=96,
    )  # fmt: skip
    tried = language_tuning.search(settings, params, "search", trials=2, minutes=10)
    losses = [trial.loss for trial in tried if trial.finished and trial.loss is not None]
    assert len(losses) == 2, "a trial failed"
    assert losses == sorted(losses)
    assert len({tuple(trial.settings.values()) for trial in tried}) == 2
    mlflow = registry.client(settings)
    experiment = registry.experiment(settings, mlflow, "h")
    runs = mlflow.search_runs([experiment])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.metrics["tuning_loss"] for run in children) == losses
    assert not list((settings.home / "checkpoints").glob("*/*")), "a trial's checkpoints are left"


def fit_adapter(
    settings: Settings, job: language_training.Job, workers: int
) -> language_training.FittedAdapter:
    recipe = job.recipe.model_copy(update={"gradient_accumulation_steps": 2 // workers})
    changed = {"recipe": recipe, "checkpoints": str(settings.home / f"language-{workers}")}
    return language_training.on_ray(settings, job.model_copy(update=changed), workers, f"language-{workers}")


def kill_a_language_worker(checkpoints: Path) -> None:
    """Ends a worker with -9 as soon as there is a checkpoint to go on from."""
    first, _ = two_workers()
    while language_training.newest(checkpoints) is None:
        time.sleep(0.005)
    first.kill()


def language_job(settings: Settings, base: Path, asked: list[Question]) -> language_training.Job:
    rows = [q.model_dump() | {"split": "tuning" if i % 4 == 3 else "train"} for i, q in enumerate(asked)]
    return language_training.Job(
        home=str(settings.home),
        lake=settings.lake,
        questions=land(settings, "questions", rows, QUESTIONS.arrow_schema()),
        base=str(base),
        instruction="Answer.",
        adapter=Adapter(rank=4, alpha=8, dropout=0.0, targets=(), fully_trained=()),
        quantization="none",
        recipe=language_training.Recipe(
            epochs=3, learning_rate=5e-3, batch_tokens=256, gradient_accumulation_steps=1, max_length=96,
            checkpoint_every=2, threads=1, seed=0,
        ),
        checkpoints="",
    )  # fmt: skip


def two_workers() -> list[psutil.Process]:
    """The processes of Ray that train, as soon as there are two: a fit may end while somebody looks for them later."""
    training: list[psutil.Process] = []
    while len(training) < 2:
        time.sleep(0.05)
        training = [one for one in psutil.Process().children(recursive=True) if trains(one)]
    return training


def trains(process: psutil.Process) -> bool:
    """False also of a zombie, whose command line can't be read: an earlier test of the run may leave one."""
    with suppress(psutil.NoSuchProcess):
        return "RayTrainWorker" in process.name() + "".join(process.cmdline())
    return False


@pytest.fixture
def zombie() -> Iterator[None]:
    """A child that has ended and that nobody has waited for."""
    ended = subprocess.Popen(["true"])
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    yield
    ended.wait()


def encoder(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(**shape, intermediate_size=64, max_position_embeddings=32)).save_pretrained(folder)
    return folder


def note_job(settings: Settings, files: Path) -> note_training.Job:
    """Stays of which those with the sign in their notes mostly have the outcome; an even number of batches."""
    chance = np.random.default_rng(1)
    stays, notes = [], []
    for subject in range(400):
        outcome = bool(chance.random() < 0.3)
        tokens = chance.integers(SIGN + 1, WORDS, size=16).astype(np.int32)
        if chance.random() < (0.95 if outcome else 0.05):
            tokens[chance.integers(len(tokens))] = SIGN
        who = {"subject_id": subject, "stay_id": subject, "prediction_time": datetime(2150, 1, 2)}
        split = "tuning" if subject >= 320 else "train"
        told = {"sex": "female", "age_band": "80+", "ethnicity": "unknown", "split": split}
        stays.append({**who, **told, "admission_time": datetime(2150, 1, 1), "boolean_value": outcome})
        moment = {"time": datetime(2150, 1, 1, 8), "available_time": datetime(2150, 1, 1, 9)}
        notes.append({"note_id": subject, "subject_id": subject, "visit_id": subject, **moment,
                      "note_type": "t", "tokenizer": "x", "tokens": tokens.tolist()})  # fmt: skip
    return note_training.Job(
        home=str(settings.home),
        lake=settings.lake,
        task="mortality",
        training_set=land(settings, "training_set_mortality", stays, TRAINING_SET.arrow_schema()),
        note_tokens=land(settings, "note_tokens", notes, NOTE_TOKENS.arrow_schema()),
        tokenizer="x",
        encoder=str(files),
        special=Special(start=1, end=2, padding=0),
        window=18,
        most_windows=1,
        shape=Shape(layers=2, trained_layers=2, seed=0),
        recipe=note_training.Recipe(
            epochs=3, patience=3, learning_rate=3e-3, batch_tokens=18 * 8, gradient_accumulation_steps=1,
            max_examples_per_epoch=1000, checkpoint_every=1, threads=1, seed=0,
        ),
        checkpoints="",
    )  # fmt: skip


def land(settings: Settings, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> TableRef:
    write_deltalake(settings.table_uri("h", table), pa.Table.from_pylist(rows, schema=schema))
    return lake.latest(settings, "h", table)
