"""Stage: table and notes together, as a version that reads both; kept where that surely beats each alone.

Both answers are joined by a logistic regression of two inputs, fitted on the tuning split. It is judged there too, but
never on patients that it was fitted on: one half of them judges what the other half fitted, as with each model alone.
Whether that is luck, a permutation test says: it gives each patient what another's notes say beyond the table. Where
it may be, or there are no notes, the table model goes on as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from mediscale.storage import lake
from mediscale.storage.calls import canonical
from training import tracking, training_examples
from training.notes.note_mlflow_model import NoteModel
from training.statistics import calibration, metrics
from training.statistics.metrics import Floats
from training.tracking import Data, Training

if TYPE_CHECKING:
    from training.training_examples import Examples

SIGNIFICANCE = 0.05
"""Of notes that add nothing, at most this share joins; a second model costs its upkeep."""
_PERMUTATIONS = 199


class Params(Frozen):
    """Two versions of the same task; without a note model there is nothing to do."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    training_set: RuntimeInput[TableRef]
    model: RuntimeInput[ModelRef]
    note_model: RuntimeInput[NoteModel | None]


class Result(Frozen):
    """The version that is evaluated: table and notes together, or the table model alone."""

    model: ModelRef
    reads_notes: bool
    reason: str
    tuning_log_loss: dict[str, float]
    """``table``, ``notes`` and ``together`` on the tuning stays that have a note, cross-fitted; empty without notes."""
    p_value: float | None = None
    """Of the gain of both together over the table alone, if the notes told nothing beyond the table."""


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
    table, notes, answers = _models(settings, params, params.note_model)
    if not len(answers):
        return nothing
    judged = _judged(answers)
    losses = _losses(answers, judged)
    p_value = permutation_p_value(answers, losses["together"])
    better = p_value <= SIGNIFICANCE and losses["together"] < losses["notes"]
    reason = (
        f"Notes and table together {'beat' if better else 'do not clearly beat'} each alone on {count(len(answers))} "
        f"tuning stays (log loss {losses['together']:.4f}; table {losses['table']:.4f}, notes {losses['notes']:.4f}; "
        f"p = {p_value:.3f} by permutation of their patients)."
    )
    model = params.model
    if better:
        model = tracking.find(settings, params.dataset, table.name, key) or tracking.log(
            settings, _training(settings, params, key, table, notes, answers)
        )
    return Result(model=model, reads_notes=better, reason=reason, tuning_log_loss=losses, p_value=p_value)


def fit(params: Params, settings: Settings, key: str) -> Training:
    """Makes the version that reads both, whether it is better or not, and registers nothing.

    Raises:
        MediscaleError: as ``run``.
    """
    assert params.note_model is not None
    return _training(settings, params, key, *_models(settings, params, params.note_model))


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


Contender = Callable[[Answers, Answers], Floats]
"""Risks (n) of the second answers by a fit on the first."""


def _models(
    settings: Settings, params: Params, note_model: NoteModel
) -> tuple[PredictorSpec, dict[str, bytes], Answers]:
    """The table model's specification, the note model's files, and the answers of both."""
    table = tabular.load(settings, params.model, params.task)
    files = model_files.read_verified(settings, note_model.model)
    notes = {name: files[name] for name in model_files.NOTE_FILES}
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
    return table.spec, notes, answers.where(np.isfinite(margins))


def _judged(answers: Answers) -> dict[str, Floats]:
    """Risks (n) by each model alone and by both, each from a fit on the other half of the patients."""
    contenders: dict[str, Contender] = {
        "table": lambda fit, ask: calibration.risks(ask.table, calibration.platt(fit.table, fit.outcomes)),
        "notes": lambda fit, ask: calibration.risks(ask.notes, calibration.platt(fit.notes, fit.outcomes)),
        "together": _together,
    }
    return {name: _crossed(answers, contender) for name, contender in contenders.items()}


def _crossed(answers: Answers, contender: Contender) -> Floats:
    half, risks = calibration.halves(answers.rows), np.empty(len(answers))
    for side in (0, 1):
        risks[half == side] = contender(answers.where(half != side), answers.where(half == side))
    return risks


def _together(fit: Answers, ask: Answers) -> Floats:
    return metrics.sigmoid(_fitted(fit).log_odds(ask.table, ask.notes))


def _fitted(answers: Answers) -> Combination:
    """Logistic regression by penalised likelihood: with few rows it stays near the table model alone."""
    from scipy.optimize import minimize

    # a half of few patients may be empty
    reference_mean = float(answers.notes.mean()) if len(answers) else 0.0

    def combination(x: Floats) -> Combination:
        return Combination(
            table=1 + x[0], notes=x[1], reference_mean=reference_mean, intercept=x[2], thresholds={}
        )

    inputs = np.column_stack([answers.table, answers.notes - reference_mean, np.ones(len(answers))])

    def loss_and_gradient(x: Floats) -> tuple[float, Floats]:
        log_odds = combination(x).log_odds(answers.table, answers.notes)
        likelihood = np.logaddexp(0, log_odds).sum() - (answers.outcomes * log_odds).sum()
        gradient = (metrics.sigmoid(log_odds) - answers.outcomes) @ inputs
        return float(likelihood + (x**2).sum() / 2), gradient + x

    return combination(minimize(loss_and_gradient, np.zeros(3), method="BFGS", jac=True).x)


def permutation_p_value(answers: Answers, loss: float) -> float:
    """Share of permutations in which both together have as low a ``loss`` as with each patient's own notes.

    What the notes say beyond a straight line through the table's log-odds goes to another patient, and what they repeat
    of the table stays: the null is that they add nothing (Freedman and Lane 1983, doi:10.1080/07350015.1983.10509354).
    """
    line = np.polynomial.Polynomial.fit(answers.table, answers.notes, 1)(answers.table)
    beyond, generator = answers.notes - line, np.random.default_rng(0)
    as_good = 1  # as they are
    for _ in range(_PERMUTATIONS):
        permuted = replace(answers, notes=line + beyond[_of_other_patients(answers.rows.subjects, generator)])
        as_good += _loss(answers, _crossed(permuted, _together)) <= loss
    return as_good / (1 + _PERMUTATIONS)


def _of_other_patients(subjects: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.intp]:
    """Row numbers (n): those of another patient in the place of each one's, as a whole, for rows of one are alike."""
    _, patient, rows = np.unique(subjects, return_inverse=True, return_counts=True)
    by_patient, first = np.argsort(patient, kind="stable"), np.cumsum(rows) - rows
    other = np.repeat(generator.permutation(len(rows)), rows)
    place = np.arange(len(subjects)) - np.repeat(first, rows)
    drawn = np.empty(len(subjects), dtype=np.intp)
    drawn[by_patient] = by_patient[first[other] + place * rows[other] // np.repeat(rows, rows)]
    return drawn


def _losses(answers: Answers, judged: Mapping[str, Floats]) -> dict[str, float]:
    return {name: _loss(answers, risks) for name, risks in judged.items()}


def _loss(answers: Answers, risks: Floats) -> float:
    return metrics.point_estimate(metrics.log_loss, answers.outcomes, risks)


def _thresholds(params: Params, answers: Answers, judged: Mapping[str, Floats]) -> dict[str, float]:
    chosen = calibration.operating_points(judged["together"], answers.outcomes)
    return {"clinical": tasks.load(params.task).policy.clinical_threshold, **chosen}


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
    )


def _save(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="combine notes and table",
    summary=lambda r: f"{r.model}: {r.reason}",
    resources=SPARK,
    fit=fit,
)
