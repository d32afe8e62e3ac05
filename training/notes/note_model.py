"""Stage: a BERT sequence classifier on the notes of a stay, fine-tuned on Ray, calibrated, logged and registered."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_pipeline.notes import encoders
from data_pipeline.notes.encoders import Encoder
from mediscale.core import tasks
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.errors import QualityError, StorageError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import DEEP_LEARNING, Context, Stage
from mediscale.core.tables import NOTE_MARGINS
from mediscale.core.tasks import TaskName
from mediscale.inference import collate, notes
from mediscale.inference.model_spec import Calibration
from mediscale.inference.note_model_spec import KnownText, NoteSpec
from mediscale.storage import lake, registry, table_files
from training import tracking, training_examples
from training.notes import note_mlflow_model, note_network, note_training
from training.notes.allocator import keep_freed_memory
from training.notes.note_mlflow_model import NoteModel, TrainedNotes
from training.notes.note_network import Shape
from training.notes.note_training import FittedNoteModel, Job, Recipe
from training.statistics import calibration, metrics

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

    from training.notes.note_examples import Stays

RECIPES: dict[str, dict[str, int | float]] = {
    encoders.CLINICAL: {
        "layers": 0,
        "trained_layers": 12,
        "most_windows": 16,
        "epochs": 3,
        "learning_rate": 2e-5,
        "batch_tokens": 4096,
        "max_examples_per_epoch": 20_000,
    }
}
"""What an encoder is trained with where that is not ``Params``' default; callers resolve it. Clinical BERT: all of its
layers at a rate and a number of epochs among those that its authors searched (Alsentzer et al. 2019, appendix); that is
work for a GPU."""

KNOWN_TEXTS = (
    "",
    "Independent in all activities, no distress. Full code.",
    "Frail and bedbound, mottled, in extremis. DNR/DNI, comfort is the priority.",
)
"""Made up; what comes out of them is checked when a server loads the model."""


class Params(Recipe):
    """What to train on and how."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    note_tokens: RuntimeInput[TableRef | None]
    """None where the extract has no notes: nothing is trained."""
    encoder: RuntimeInput[Encoder]
    tokenizer: RuntimeInput[Digest]
    """SHA-256 of the tokenizer that made the tokens."""
    layers: int = Field(1, ge=0)
    """Lowest layers of the encoder that are used; 0: all."""
    trained_layers: int = Field(1, ge=1)
    window: int = Field(128, ge=8, le=512)
    most_windows: int = Field(4, ge=1)
    workers: int = Field(1, ge=1)


class Result(Frozen):
    note_model: NoteModel | None
    """None where the extract has no notes."""


def model_name(dataset: str, task: str) -> str:
    return f"{registry.model_name(dataset, task)}-notes"


def run(params: Params, settings: Settings, key: str) -> Result:
    """Trains and registers one version; a call whose key already registered one returns it, one that was killed goes on
    from its last checkpoint.

    Raises:
        UsageError: the encoder's weights can't be had or it has fewer layers, there are more workers than batches, or
            the Ray cluster can't be reached.
        StorageError: the tokens were made by another tokenizer.
        QualityError: a split lacks stays, or the training split an outcome.
    """
    if params.note_tokens is None:
        return Result(note_model=None)
    model = tracking.find(settings, params.dataset, model_name(params.dataset, params.task), key)
    margins = f"{NOTE_MARGINS.name}_{params.task}"
    if model is None:
        training = fit(params, settings, key)
        assert training.margins is not None
        table_files.write(settings, params.dataset, margins, key, training.margins.to_batches())
        model = tracking.log(settings, training)
    shutil.rmtree(_checkpoints(settings, params, key), ignore_errors=True)
    written = lake.find_commit(settings, params.dataset, margins, key)
    assert written is not None  # the model is registered after it
    return Result(note_model=NoteModel(model=model, margins=written))


def fit(params: Params, settings: Settings, key: str) -> tracking.Training:
    """Trains one version, or goes on from the last checkpoint of the home, and registers nothing.

    Raises:
        MediscaleError: as ``run``.
    """
    assert params.note_tokens is not None
    trained = _train(params, settings, key, _checkpoints(settings, params, key))
    tables = [params.training_set, params.note_tokens]
    return note_mlflow_model.training(trained, tables, params.model_dump(mode="json"), key)


def _checkpoints(settings: Settings, params: Params, key: str) -> Path:
    return settings.home / "checkpoints" / params.dataset / key


def _train(params: Params, settings: Settings, key: str, checkpoints: Path) -> TrainedNotes:
    from training.notes import note_attribution, note_export

    files = encoders.folder(settings, params.encoder)
    tokenizer = encoders.tokenizer(files)
    if encoders.digest(tokenizer) != params.tokenizer:
        raise StorageError(
            f"{params.note_tokens} was made by another tokenizer than that of {params.encoder.name}; "
            "run note_tokens again."
        )
    job = _job(params, settings, files, tokenizer, checkpoints)
    train, tuning = job.load("train"), job.load("tuning")
    _check(train, tuning, params.task)
    note_training.check(train, job.recipe, params.workers)
    note_network.config(files, job.shape)  # refused here, and not by a worker after all the rest
    fitted = note_training.on_ray(settings, job, params.workers, key)
    network = note_training.weighted(note_network.build(files, job.shape), fitted.weights)
    graph = note_export.to_onnx(network, params.window)
    _, crossed = calibration.cross_chosen(fitted.logits_by_epoch, tuning.rows)
    platt = calibration.platt(crossed, tuning.rows.outcomes)
    risk = calibration.risks(crossed, platt)
    spec = _spec(params, platt, calibration.operating_points(risk, tuning.rows.outcomes), graph, tokenizer)
    with keep_freed_memory():
        words = note_attribution.words(network, tuning, tokenizer, collate.special(tokenizer))
    return TrainedNotes(
        spec=spec,
        weights=network.state_dict(),
        config=network.config.to_json_string(),
        tokenizer=tokenizer.to_str(),
        graph=graph,
        curves={"log_loss_train": fitted.state.train_losses, "log_loss_tuning": fitted.state.tuning_losses},
        metrics=_measured(tuning, risk, fitted),
        counts=training_examples.counts(train.rows, tuning.rows),
        words=dict(list(words.items())[:50]),
        margins=_margins(tuning, crossed),
    )


def _spec(
    params: Params,
    platt: Calibration,
    operating_points: Mapping[str, float],
    graph: bytes,
    tokenizer: "Tokenizer",
) -> NoteSpec:
    clinical = tasks.load(params.task).policy.clinical_threshold
    return NoteSpec(
        name=model_name(params.dataset, params.task),
        dataset=params.dataset,
        task=params.task,
        encoder=params.encoder.name,
        revision=params.encoder.revision,
        tokenizer=params.tokenizer,
        window=params.window,
        most_windows=params.most_windows,
        calibration=platt,
        thresholds={"clinical": clinical, **operating_points},
        known_texts=_known_texts(graph, tokenizer, params),
    )


def _job(params: Params, settings: Settings, files: Path, tokenizer: "Tokenizer", checkpoints: Path) -> Job:
    assert params.note_tokens is not None
    return Job(
        home=str(settings.home),
        lake=settings.lake,
        encoder=str(files),
        note_tokens=params.note_tokens,
        special=collate.special(tokenizer),
        shape=Shape(layers=params.layers, trained_layers=params.trained_layers, seed=params.seed),
        recipe=Recipe(**{name: getattr(params, name) for name in Recipe.model_fields}),
        checkpoints=str(checkpoints),
        **{
            name: getattr(params, name)
            for name in Job.model_fields.keys() & Params.model_fields.keys() - {"encoder", "note_tokens"}
        },
    )


def _check(train: "Stays", tuning: "Stays", task: TaskName) -> None:
    if not len(tuning) or train.rows.events in (0, len(train)):
        raise QualityError(
            f"Too few patients to train on the notes for {task}: {count(len(train))} stays with "
            f"{count(train.rows.events)} events to train on and {count(len(tuning))} to tune on."
        )


def _margins(tuning: "Stays", margin: metrics.Floats) -> "pa.Table":
    import pyarrow as pa

    rows = {
        "subject_id": tuning.rows.subjects,
        "prediction_time": tuning.rows.times,
        "tokens": tuning.read(),
        "margin": margin,
    }
    return pa.table(rows, schema=NOTE_MARGINS.arrow_schema())


def _known_texts(graph: bytes, tokenizer: "Tokenizer", params: Params) -> tuple[KnownText, ...]:
    import numpy as np

    session, special = notes.session(graph), collate.special(tokenizer)
    read = [tokenizer.encode(text, add_special_tokens=False).ids for text in KNOWN_TEXTS]
    stays = [collate.windows([np.array(ids, dtype=np.int32)], params.window, 1) for ids in read]
    return tuple(
        KnownText(text=text, margin=notes.margin(session, pieces, special))
        for text, pieces in zip(KNOWN_TEXTS, stays, strict=True)
    )


def _measured(tuning: "Stays", risk: metrics.Floats, fitted: FittedNoteModel) -> dict[str, float]:
    """What is known before anyone looks at the held-out patients."""
    auroc = metrics.point_estimate(metrics.auroc, tuning.rows.outcomes, risk)
    return {
        "best_epoch": fitted.state.best_epoch,
        "tokens_learnt_from": fitted.state.tokens,
        "share_padding": 1 - fitted.state.tokens / max(fitted.state.padded, 1),
        "tokens_per_cpu_second": fitted.state.tokens / max(fitted.cpu_seconds, 1e-9),
        "tuning_log_loss": metrics.point_estimate(metrics.log_loss, tuning.rows.outcomes, risk),
        **({"tuning_auroc": auroc} if auroc == auroc else {}),
    }


def runtime_inputs(params: Mapping[str, Any], _settings: Settings) -> Iterator[Context]:
    """The encoder's own recipe, where it has one."""
    if "encoder" in params:
        yield Context(dict(RECIPES.get(params["encoder"]["name"], {})))


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="train the note model",
    summary=lambda r: f"{r.note_model.model} registered" if r.note_model else "no notes to train on",
    resources=DEEP_LEARNING,
    runtime_inputs=runtime_inputs,
    fit=fit,
)
