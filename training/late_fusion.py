"""Stage: table and notes together, as a version that reads both; kept where that surely beats each alone.

Both answers are joined by a logistic regression of two inputs, fitted on the tuning split. It is judged there too, but
never on patients that it was fitted on: one half of them judges what the other half fitted, as with each model alone.
Where that may be luck, or there are no notes, the table model goes on as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mediscale.core import tasks
from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tasks import TaskName
from mediscale.inference import model_files, tabular
from mediscale.inference.model_files import NOTES_FOLDER, PREDICTOR_FILE, SPEC_FILE
from mediscale.inference.model_spec import Combination, PredictorSpec
from mediscale.inference.note_model_spec import NoteSpec
from mediscale.inference.tabular import Predictor
from mediscale.storage import lake
from mediscale.storage.calls import canonical
from training import tracking, training_examples
from training.notes.note_mlflow_model import NoteModel
from training.statistics import calibration, metrics
from training.statistics.bootstrap import Resamples
from training.statistics.metrics import Floats
from training.tracking import Data, Training

if TYPE_CHECKING:
    from training.training_examples import Examples

LEAST_PROBABILITY = 0.9
"""Of the best of three on a thousand stays, luck alone makes a noise look useful; a second model costs its upkeep."""


class Params(Frozen):
    """Two versions of the same task; without a note model there is nothing to do."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    model: RuntimeInput[ModelRef]
    note_model: RuntimeInput[NoteModel | None]


class Result(Frozen):
    """The version that goes on."""

    model: ModelRef
    reads_notes: bool
    reason: str
    tuning_log_loss: dict[str, float]
    """``table``, ``notes`` and ``together`` on the tuning stays that have a note, cross-fitted; empty without notes."""
    probability_better: float | None = None
    """Share of resamples of the tuning patients in which both together have the lowest log loss."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Registers a version that reads both where that is better; a call whose key already registered one returns it.

    Raises:
        StorageError: the files of a version were changed.
        InputError: the note model was trained on other stays.
    """
    nothing = Result(
        model=params.model, reads_notes=False, reason="There are no notes to read.", tuning_log_loss={}
    )
    if params.note_model is None:
        return nothing
    table = tabular.load(settings, params.model, params.task)
    notes = _note_files(settings, params.note_model)
    answers = _answers(settings, params, params.note_model, table, notes)
    if not len(answers):
        return nothing
    judged = _judged(answers)
    losses = _losses(answers, judged)
    probability = _probability_better(answers, judged)
    better = probability >= LEAST_PROBABILITY
    reason = (
        f"Notes and table together {'beat' if better else 'do not surely beat'} each alone on {count(len(answers))} "
        f"tuning stays, in {probability:.0%} of resamples of their patients (log loss {losses['together']:.4f}; table "
        f"{losses['table']:.4f}, notes {losses['notes']:.4f})."
    )
    model = params.model
    if better:
        model = tracking.find(settings, params.dataset, table.spec.name, key) or tracking.log(
            settings, _training(settings, params, key, table.spec, notes, answers)
        )
    return Result(
        model=model,
        reads_notes=better,
        reason=reason,
        tuning_log_loss=losses,
        probability_better=probability,
    )


def fit(params: Params, settings: Settings, key: str) -> Training:
    """Makes the version that reads both, whether it is better or not, and registers nothing.

    Raises:
        MediscaleError: as ``run``.
    """
    assert params.note_model is not None
    table = tabular.load(settings, params.model, params.task)
    notes = _note_files(settings, params.note_model)
    answers = _answers(settings, params, params.note_model, table, notes)
    return _training(settings, params, key, table.spec, notes, answers)


@dataclass(frozen=True)
class Answers:
    """Calibrated log-odds (n) of both models for the tuning stays that have a note."""

    rows: "Examples"
    table: Floats
    notes: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def outcomes(self) -> Floats:
        return self.rows.outcomes

    def where(self, chosen: NDArray[np.bool_]) -> "Answers":
        return Answers(self.rows.where(chosen), self.table[chosen], self.notes[chosen])


def _answers(
    settings: Settings, params: Params, note_model: NoteModel, table: Predictor, notes: Mapping[str, bytes]
) -> Answers:
    platt = NoteSpec.model_validate_json(notes[SPEC_FILE]).calibration
    rows = training_examples.load(settings, params.training_set, "tuning", table.spec.features)
    margins_table = lake.read(settings, note_model.margins)
    moments = np.asarray(margins_table["prediction_time"].to_numpy()).astype("datetime64[us]")
    keys = zip(margins_table["subject_id"].to_pylist(), moments, strict=True)
    margin = np.where(margins_table["tokens"].to_numpy() > 0, margins_table["margin"].to_numpy(), np.nan)
    margin_of = dict(zip(keys, margin, strict=True))
    tuning_stays = list(zip(rows.subjects.tolist(), rows.times, strict=True))
    if not margin_of.keys() >= set(tuning_stays):
        raise InputError(
            f"{note_model.margins} does not answer for all of the {count(len(tuning_stays))} tuning stays of "
            f"{params.training_set}: it is of a note model of other stays; train one on this training set."
        )
    margins = np.array([margin_of[row] for row in tuning_stays])
    answers = Answers(rows, table.log_odds(rows.inputs), platt.log_odds(margins))
    return answers.where(np.isfinite(margins))


def _judged(answers: Answers) -> dict[str, Floats]:
    """Risks (n) by each model alone and by both, each from a fit on the other half of the patients."""
    half = calibration.halves(answers.rows)
    contenders: dict[str, Callable[[Answers, Answers], Floats]] = {
        "table": lambda fit, ask: calibration.risks(ask.table, calibration.platt(fit.table, fit.outcomes)),
        "notes": lambda fit, ask: calibration.risks(ask.notes, calibration.platt(fit.notes, fit.outcomes)),
        "together": lambda fit, ask: metrics.sigmoid(_fitted(fit).log_odds(ask.table, ask.notes)),
    }
    judged = {}
    for name, risks in contenders.items():
        judged[name] = np.empty(len(answers))
        for side in (0, 1):
            judged[name][half == side] = risks(answers.where(half != side), answers.where(half == side))
    return judged


def _fitted(answers: Answers) -> Combination:
    """Logistic regression by penalised likelihood: with few rows it stays near the table model alone."""
    from scipy.optimize import minimize

    reference_mean = (
        float(answers.notes.mean()) if len(answers) else 0.0
    )  # a half of few patients may be empty

    def combination(x: Floats) -> Combination:
        return Combination(
            table=1 + x[0], notes=x[1], reference_mean=reference_mean, intercept=x[2], thresholds={}
        )

    def loss(x: Floats) -> float:
        log_odds = combination(x).log_odds(answers.table, answers.notes)
        likelihood = np.logaddexp(0, log_odds).sum() - (answers.outcomes * log_odds).sum()
        return float(likelihood + (x**2).sum() / 2)

    return combination(minimize(loss, np.zeros(3), method="BFGS").x)


def _probability_better(answers: Answers, judged: Mapping[str, Floats]) -> float:
    resamples, y = Resamples(answers.rows.subjects, 500, 0), answers.outcomes
    losses = {name: resamples.values(partial(metrics.log_loss, y, risk)) for name, risk in judged.items()}
    return float(np.mean(losses["together"] < np.minimum(losses["table"], losses["notes"])))


def _losses(answers: Answers, judged: Mapping[str, Floats]) -> dict[str, float]:
    y = answers.outcomes
    return {name: float(metrics.log_loss(y, risk, metrics.unweighted(y))[0]) for name, risk in judged.items()}


def _thresholds(params: Params, answers: Answers, judged: Mapping[str, Floats]) -> dict[str, float]:
    chosen = calibration.operating_points(judged["together"], answers.outcomes)
    return {"clinical": tasks.load(params.task).policy.clinical_threshold, **chosen}


def _note_files(settings: Settings, note_model: NoteModel) -> dict[str, bytes]:
    files = model_files.read_verified(settings, note_model.model)
    return {name: files[name] for name in model_files.NOTE_FILES}


def _training(
    settings: Settings,
    params: Params,
    key: str,
    table: PredictorSpec,
    notes: Mapping[str, bytes],
    answers: Answers,
) -> Training:
    judged = _judged(answers)
    together = _fitted(answers).model_copy(update={"thresholds": _thresholds(params, answers, judged)})
    spec = table.model_copy(update={"notes": together})
    files = model_files.all_files(settings, params.model)
    files |= {f"{NOTES_FOLDER}/{name}": content for name, content in notes.items()}
    files[PREDICTOR_FILE] = canonical(spec).encode()
    weights = {name: getattr(together, name) for name in ("table", "notes", "intercept")}
    return Training(
        name=spec.name,
        key=key,
        stage="late_fusion",
        task=spec.task,
        kind="together",
        params=params.model_dump(mode="json"),
        curves={},
        metrics={
            **{f"tuning_log_loss_{name}": loss for name, loss in _losses(answers, judged).items()},
            **{f"weight_{name}": weight for name, weight in weights.items()},
        },
        counts={},
        data=[Data(params.training_set, "validation", "tuning")],
        save=partial(_save, files),
        artifacts=lambda _mlflow, _run_id: None,
    )


def _save(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="notes and table together",
    summary=lambda r: str(r.reason),
    resources=SPARK,
    fit=fit,
)
