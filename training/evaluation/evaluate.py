"""Stage: one version on the held-out patients, as the evidence file that a promotion rests on.

What is judged is computed by the code that serves, and nothing is fitted, tuned or chosen on the held-out split. The
best of many versions looks good by luck: how many were judged on these patients before is counted from the recorded
calls (``promotion.prior_evaluations``), and the report says it.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from data_pipeline.features import plain_inputs
from data_pipeline.ingest import source
from data_pipeline.ingest.source import SourceName
from data_pipeline.notes.deidentification import deidentify
from mediscale.core import privacy, tasks
from mediscale.core.annotations import ComparedWith, Digest, RuntimeInput
from mediscale.core.errors import InputError, QualityError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Stage
from mediscale.core.tasks import TaskName
from mediscale.inference import tabular
from mediscale.inference.model_spec import PredictorSpec
from mediscale.inference.notes import NoteReader
from mediscale.inference.points import PointsScore
from mediscale.inference.tabular import Predictor
from mediscale.storage import registry
from mediscale.storage.calls import canonical
from training import evidence_files, training_examples
from training.evaluation import alert_burden, baselines, data_quality, files, oracle, robustness, subgroups
from training.evaluation.evaluation_report import (
    Baseline,
    Comparison,
    Counts,
    Evidence,
    PlainInputs,
    Together,
)
from training.evaluation.performance import Performance
from training.leakage.certificate import LeakCertificate
from training.notes import note_examples
from training.promotion_context import incumbents
from training.statistics import metrics
from training.statistics.bootstrap import Resamples
from training.statistics.estimate import Estimate
from training.statistics.metrics import Floats

if TYPE_CHECKING:
    from mediscale.inference.collate import Tokens
    from training.training_examples import Examples

    Windows = Sequence[Sequence[Tokens]]

_reader_of = partial(NoteReader, threads=2)
_PLAIN: tuple[tuple[str, ...], ...] = (
    ("age", "systolic_blood_pressure"),
    (
        "age", "sex", "heart_rate", "systolic_blood_pressure", "respiratory_rate", "oxygen_saturation", "temperature"
    ),
)  # fmt: skip
"""Requests that are tried out: the shortest of the documentation, and what is known at the bedside."""


class Params(Frozen):
    """The version to judge, and what it is compared with."""

    dataset: RuntimeInput[str]
    task: RuntimeInput[TaskName]
    source: RuntimeInput[SourceName | None] = None
    """Whose assumed delays are named in the evidence."""
    model: RuntimeInput[ModelRef]
    training_set: RuntimeInput[TableRef]
    note_tokens: RuntimeInput[TableRef | None] = None
    """None where the extract has no notes."""
    incumbent: RuntimeInput[ComparedWith[ModelRef | None]] = None
    """Today's production version, resolved by the caller."""
    subjects: RuntimeInput[TableRef | None] = None
    """The map of patient identifiers, to find the oracle's rows by."""
    quarantine: RuntimeInput[TableRef | None] = None
    """Leads to what validation said of the extract; without it the evidence can't carry a version to production."""
    certificate: RuntimeInput[str | None] = None
    """Path of the training set's leak certificate; without it the evidence can't carry a version to production."""
    certificate_digest: RuntimeInput[Digest | None] = None
    oracle: RuntimeInput[str | None] = None
    """File of true probabilities, on synthetic data."""
    bootstrap: int = Field(500, ge=50)
    seed: int = Field(0, ge=0, lt=2**31)


class Result(Frozen):
    """The evidence, and its main figures."""

    evidence: str
    """Path of the evidence file, relative to the home."""
    evidence_digest: Digest
    counts: Counts
    """Of the held-out rows."""
    metrics: dict[str, float | None]
    """``auroc, auroc_low, auroc_high`` and so on; null where not estimable."""


def run(params: Params, settings: Settings, key: str) -> Result:
    """Judges a version on the held-out patients.

    Raises:
        QualityError: there are no held-out rows.
        StorageError: the model's files are not those that were registered, or the leak certificate was changed.
        InputError: the oracle's file names none of the held-out rows, or the version reads notes and there are none for
            it.
    """
    judged = _judge(params, settings, key)
    path, digest = evidence_files.write(settings, judged)
    figures = flat(judged)
    _publish(settings, params, judged, digest, figures)
    return Result(evidence=path, evidence_digest=digest, counts=judged.counts, metrics=figures)


def _judge(params: Params, settings: Settings, key: str) -> Evidence:
    judged = tabular.load(settings, params.model, params.task, _reader_of)
    spec = judged.spec
    rows = training_examples.load(settings, params.training_set, "held_out", spec.features)
    if not len(rows):
        raise QualityError(
            f"No held-out patients for {params.task} in {params.dataset}: there is nothing to judge on."
        )
    resamples = Resamples(rows.subjects, params.bootstrap, params.seed)
    stays, margins = _notes(params, settings, judged)
    held_out = Performance(rows, judged.risks(rows.inputs, margins), resamples)
    truth = oracle.probabilities(params.oracle, params.subjects, params.task, settings, rows)
    floors = tasks.load(params.task).policy
    train = training_examples.load(settings, params.training_set, "train", spec.features)
    groups, family = subgroups.judge(held_out, floors)
    course = alert_burden.load(settings, params.training_set)
    return Evidence(
        dataset=params.dataset,
        task=params.task,
        model=params.model,
        training_set=params.training_set,
        rows_digest=rows.digest(),
        key=key,
        bootstrap=params.bootstrap,
        seed=params.seed,
        assumptions=tuple(_assumptions(params.source, margins is not None)),
        counts=held_out.counts,
        metrics=held_out.all_metrics(),
        calibration_curve=held_out.calibration_curve(),
        curves=held_out.all_curves(),
        alarms=tuple(held_out.alarms(floors.thresholds)),
        net_benefit=tuple(held_out.net_benefit(t) for t in floors.thresholds),
        subgroups=groups,
        subgroup_family=family,
        baselines=tuple(_baselines(params.task, train, held_out, spec)),
        plain_inputs=tuple(_plain_inputs(judged, held_out)),
        oracle=None if truth is None else held_out.against_oracle(truth),
        oracle_silent=truth is None and None not in (params.oracle, params.subjects),
        comparison=_comparison(params, settings, held_out),
        notes=_together(judged, held_out, margins, truth),
        alert_burden=alert_burden.measure(held_out, course, floors.clinical_threshold),
        robustness=robustness.measure(
            held_out, params.task, floors.stresses, train.inputs, lambda inputs: judged.risks(inputs, margins)
        ),
        data_quality=data_quality.read(settings, params.quarantine),
        files=files.measure(settings, judged, rows.inputs, stays),
        leakage=_certificate(params, settings),
    )


def _certificate(params: Params, settings: Settings) -> LeakCertificate | None:
    if params.certificate is None or params.certificate_digest is None:
        return None
    return evidence_files.read_evidence(
        LeakCertificate, settings, params.certificate, params.certificate_digest
    )


def _together(
    judged: Predictor, held_out: Performance, margins: Floats | None, truth: Floats | None
) -> Together | None:
    """What the notes add; None where the version reads none."""
    if judged.reader is None or margins is None:
        return None
    notes = judged.reader.spec.calibration.log_odds(margins)
    return held_out.together(judged.risks(held_out.rows.inputs), notes, truth)


def _notes(params: Params, settings: Settings, version: Predictor) -> "tuple[Windows | None, Floats | None]":
    """What can be read (n) of the notes of the held-out stays, and the margins (n) by that, NaN where nothing was
    written; None for a version that reads no notes."""
    if version.reader is None:
        return None, None
    spec, tables = version.reader.spec, _readable(params, settings, version)
    if tables is None:
        raise InputError(
            f"A version that reads notes can't be judged without them; give note_tokens of {params.dataset} made by "
            f"the tokenizer of its encoder {spec.encoder}."
        )
    stays = note_examples.load(settings, tables, "held_out", spec.tokenizer, spec.window, spec.most_windows)
    return stays.windows, version.reader.margins_where_written(stays.windows)


def _readable(params: Params, settings: Settings, reading: Predictor) -> note_examples.Tables | None:
    """Where the notes are that a version can read; None where there are none in its tokenizer's numbers."""
    if reading.reader is None or params.note_tokens is None:
        return None
    if reading.reader.spec.tokenizer not in note_examples.tokenizers(settings, params.note_tokens):
        return None
    return note_examples.Tables(params.training_set, params.note_tokens)


def _assumptions(name: str | None, notes: bool) -> Iterator[str]:
    if name is not None:
        yield from source.load(name).assumption_sentences
    if notes:
        yield deidentify.TOGETHER


def _baselines(
    task: TaskName, train: "Examples", held_out: Performance, spec: PredictorSpec
) -> Iterator[Baseline]:
    rule = baselines.rule_of(task)
    points = baselines.bedside(held_out.rows.inputs, task)
    yield held_out.baseline("bedside rule", rule.name, rule.source, points)
    if spec.points is not None:
        yield points_baseline(held_out, spec.points.risks(held_out.rows.inputs, spec.features), spec.points)
    fitted = baselines.logistic(train, held_out.rows.inputs)
    yield held_out.baseline(
        "logistic regression", "logistic regression", "same inputs, same patients", fitted
    )


def points_baseline(held_out: Performance, risk: Floats, score: PointsScore) -> Baseline:
    """The points score of a version, by its risks (n) of the held-out rows."""
    source = f"whole points for {len(score.items)} values, fitted on the same patients as the model"
    named = held_out.baseline("points score", "points score", source, risk)
    return named.model_copy(
        update={
            "calibration_slope": held_out.of(metrics.calibration_slope, risk),
            "calibration_intercept": held_out.of(metrics.calibration_intercept, risk),
        }
    )


def _plain_inputs(judged: Predictor, held_out: Performance) -> Iterator[PlainInputs]:
    plain = plain_inputs.names(judged.spec.task)
    for inputs in dict.fromkeys(tuple(name for name in tried if name in plain) for tried in _PLAIN):
        reduced_rows = plain_inputs.as_request(held_out.rows.inputs, judged.spec.task, inputs)
        risk = judged.risks(np.asarray(reduced_rows, dtype=np.float32))
        yield PlainInputs(
            inputs=inputs,
            auroc=held_out.of(metrics.auroc, risk),
            log_loss=held_out.of(metrics.log_loss, risk),
        )


def _comparison(params: Params, settings: Settings, held_out: Performance) -> Comparison | None:
    if params.incumbent is None:
        return None
    served = tabular.load(settings, params.incumbent, params.task, _reader_of)
    missing = set(served.spec.features) - training_examples.columns(settings, params.training_set)
    unread = served.reader is not None and _readable(params, settings, served) is None
    if missing or unread:
        return Comparison(incumbent=params.incumbent, missing_inputs=len(missing), missing_notes=unread)
    rows = training_examples.load(settings, params.training_set, "held_out", served.spec.features)
    _, margins = _notes(params, settings, served)
    return held_out.comparison(params.incumbent, served.risks(rows.inputs, margins))


def flat(judged: Evidence) -> dict[str, float | None]:
    """The evidence's main figures by plain names."""
    named: dict[str, Estimate] = dict(judged.metrics)
    named |= {f"{baseline.kind.replace(' ', '_')}_auroc": baseline.auroc for baseline in judged.baselines}
    named |= {f"plain_{len(plain.inputs)}_inputs_auroc": plain.auroc for plain in judged.plain_inputs}
    named |= {f"net_benefit_at_{benefit.threshold:g}": benefit.model for benefit in judged.net_benefit}
    if burden := judged.alert_burden:
        named |= {
            "alerts_per_100_patient_days": burden.alerts_per_100_patient_days,
            "sensitivity": burden.sensitivity,
            "ppv": burden.ppv,
            "number_needed_to_evaluate": burden.number_needed_to_evaluate,
        }
        named |= {"lead_time_hours": burden.lead_time.median} if burden.lead_time else {}
    if judged.oracle is not None:
        named |= {"oracle_auroc": judged.oracle.auroc, "oracle_gap": judged.oracle.gap}
    if judged.notes is not None:
        named |= {
            "table_alone_auroc": judged.notes.table_auroc,
            "notes_alone_auroc": judged.notes.notes_auroc,
        }
        named |= {"auroc_gain_by_notes": judged.notes.auroc_gain}
    figures: dict[str, float | None] = {}
    for name, estimate in named.items():
        figures |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return figures


def _publish(
    settings: Settings, params: Params, judged: Evidence, digest: str, figures: dict[str, float | None]
) -> None:
    """Puts the figures and the evidence where MLflow's users look: on the run that trained the version."""
    from mlflow.entities import Metric

    mlflow = registry.client(settings)
    name, version = params.model.name, str(params.model.version)
    run = mlflow.get_run(mlflow.get_model_version(name, version).run_id)
    counts = privacy.suppress_small_counts(judged.counts)
    estimable = {name: value for name, value in (counts | figures).items() if value is not None}
    values = [
        Metric(f"held_out_{figure}", value, run.info.start_time, 0) for figure, value in estimable.items()
    ]
    mlflow.log_batch(run.info.run_id, metrics=values)
    text = canonical(subgroups.released(judged))
    mlflow.log_text(run.info.run_id, text, f"evidence/{evidence_files.EVIDENCE_FILE}")
    mlflow.set_model_version_tag(name, version, "mediscale.evidence_digest", digest)


def _summary(result: Result) -> str:
    auroc = result.metrics.get("auroc")
    return "held-out AUROC " + (f"{auroc:.3f}" if auroc is not None else "not estimable")


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="evaluate on held-out patients",
    summary=_summary,
    resources=SPARK,
    runtime_inputs=incumbents,
)
