"""The manifests, evidence and model folders that a run leaves, without the run: made-up figures, real functions."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline import synthetic
from data_pipeline.cohort import labels
from data_pipeline.features import gold, training_set
from data_pipeline.ingest import bronze, silver, validate
from data_pipeline.notes import encoders, note_tokens
from data_pipeline.notes.deidentification import deidentify
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.inference.model_spec import Calibration, PredictorSpec
from mediscale.simulation import held_out_replay
from mediscale.storage import calls
from mediscale.storage.calls import Manifest, Output
from monitoring import retrain_decision
from monitoring.drift import drift
from training import late_fusion
from training.evaluation import evaluate, evaluation_report, metrics
from training.evaluation.bootstrap import Resamples
from training.evaluation.performance import Performance
from training.notes import note_model
from training.notes.note_mlflow_model import WORDS_FILE, NoteModel
from training.promotion import policy, promotion
from training.tabular import risk_model
from training.training_examples import Examples

FLOWS = {
    "mortality": ("certain", {"died_in_hospital": 160, "left_alive": 3040}),
    "readmission": (
        "followed_up",
        {"readmitted": 380, "planned_return": 40, "died_after_discharge": 4, "not_readmitted": 2400},
    ),
}


class Records:
    """Writes one run's files, stage after stage."""

    def __init__(self, settings: Settings, dataset: str, begun: datetime) -> None:
        self.settings, self.dataset, self.clock = settings, dataset, begun
        decided = {call.params["model"]["version"] for call in calls.of_stage(settings, "promotion")}
        self.version = 1 + max(decided, default=0)

    def table(self, name: str) -> TableRef:
        made = f"{self.clock:%d%H%M}"
        return TableRef(dataset=self.dataset, table=name, table_id=f"{name}-{self.dataset}-{made}", version=0)

    def call(self, stage: str, params: Frozen, result: Frozen, *outputs: tuple[TableRef, int]) -> Manifest:
        started = self.clock
        self.clock += timedelta(minutes=1)
        made = Manifest(
            stage=stage,
            key=digest(f"{stage}{params}{started}")[:32],
            params=params.model_dump(mode="json"),
            code=digest(stage),
            lock=digest("lock"),
            result=result.model_dump(mode="json"),
            outputs=tuple(Output(ref=ref, rows=rows, digest=digest(str(ref))[:32]) for ref, rows in outputs),
            started_at=started,
            seconds=7.5,
        )
        calls.write(self.settings, made)
        return made


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Leaver:
    """Called, it leaves a run in the home; ``made_up`` patients get a rehearsal too."""

    home: Settings

    def __call__(
        self, dataset: str = "synthetic", day: int = 1, made_up: bool = True, stays: int = 1500
    ) -> Settings:
        records = Records(self.home, dataset, datetime(2026, 1, day, 3, tzinfo=UTC))
        shared = _records(records, made_up)
        for task in ("mortality", "readmission"):
            _task(records, task, shared, stays)
        if made_up:
            _afterwards(records)
        return self.home

    def decide_again(self, *tasks: str, day: int, minute: int = 0) -> None:
        """New versions of these tasks, one after the other, from the records of the newest run."""
        silver = calls.of_stage(self.home, "silver")[-1].result
        shared = tuple(TableRef.model_validate(silver[name]) for name in ("events", "subjects"))
        begun = datetime(2026, 1, day, 3, minute, 30, tzinfo=UTC)
        records = Records(self.home, silver["events"]["dataset"], begun)
        for task in tasks:
            _task(records, task, (shared[0], shared[1]), 1500)

    def rewrite(self, call: Manifest, result: dict[str, object]) -> None:
        """As if the call had returned this too."""
        calls.write(self.home, call.model_copy(update={"result": call.result | result}))

    def forget(self, call: Manifest) -> None:
        """As if the call had never ended."""
        (Path(self.home.lake) / "_manifests" / call.stage / f"{call.key}.json").unlink()


@pytest.fixture
def leave_run(tmp_path: Path) -> Leaver:
    return Leaver(Settings(home=tmp_path / "home"))


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with one run in it, for tests that only read."""
    return Leaver(Settings(home=tmp_path_factory.mktemp("one") / "home"))()


def _records(records: Records, made_up: bool) -> tuple[TableRef, TableRef]:
    source, dataset = "mimic-iv", records.dataset
    path, extract = f"extracts/{dataset}", digest(f"extract of {dataset} {records.clock}")
    if made_up:
        records.call(
            "synthetic",
            synthetic.Params(size="small", dataset=dataset),
            synthetic.Result(
                source=source,
                dataset=dataset,
                path=path,
                extract_digest=extract,
                oracle=f"{path}.truth.csv.gz",
                visits=4000,
                patients=3000,
            ),
        )
    landed = {name: records.table(f"bronze_{name}") for name in ("patients", "admissions", "labevents")}
    records.call(
        "bronze",
        bronze.Params(source=source, dataset=dataset, path=path, extract_digest=extract),
        bronze.Result(source=source, dataset=dataset, bronze=landed, absent=("omr",), rows=30_000),
        *((ref, 10_000) for ref in landed.values()),
    )
    facts, quarantine = records.table("facts"), records.table("quarantine")
    records.call(
        "quality",
        validate.Params(source=source, dataset=dataset, bronze=landed),
        validate.Result(
            facts=facts,
            quarantine=quarantine,
            docs="quality/docs",
            judged=40_000,
            quarantined=123,
            reasons={"value_plausible": 100, "not_repeated": 23},
        ),
        (facts, 40_000),
    )
    events, subjects = records.table("events"), records.table("subjects")
    records.call(
        "silver",
        silver.Params(source=source, dataset=dataset, facts=facts, bronze=landed),
        silver.Result(events=events, subjects=subjects, shards=8, event_count=39_877, notes_in_bronze=False),
        (events, 39_877),
    )
    _notes(records, landed)
    return events, subjects


def _notes(records: Records, landed: dict[str, TableRef]) -> None:
    notes, tokens = records.table("notes"), records.table("note_tokens")
    records.call(
        "deidentify",
        deidentify.Params(
            source="mimic-iv", dataset=records.dataset, bronze=landed, surrogate_key="published"
        ),
        deidentify.Result(
            notes=notes,
            note_quarantine=records.table("quarantine_notes"),
            note_count=5000,
            notes_quarantined=17,
            reasons={"not_blank": 17},
            replaced=60_000,
        ),
        (notes, 5000),
    )
    records.call(
        "note_tokens",
        note_tokens.Params(dataset=records.dataset, notes=notes),
        note_tokens.Result(
            note_tokens=tokens, encoder=encoders.PACKAGED, tokenizer=digest("words"), token_count=900_000
        ),
        (tokens, 5000),
    )


def _task(records: Records, task: str, shared: tuple[TableRef, TableRef], stays: int) -> None:
    dataset, (events, _) = records.dataset, shared
    marked = records.table(f"labels_{task}")
    last, outcomes = FLOWS[task]
    steps = ["visits", "inpatient", "stays", "adults", "ended", "at_risk", last]
    flow = dict(zip(steps, (4000, 3900, 3800, 3500, 3500, 3204, 3200), strict=True)) | outcomes
    positives = next(iter(outcomes.values()))
    records.call(
        "labels",
        labels.Params(dataset=dataset, source="mimic-iv", events=events, shards=8, task=task),
        labels.Result(labels=marked, flow=flow, at_risk=3200, positives=positives),
        (marked, 3200),
    )
    computed, frozen = records.table(f"features_{task}"), records.table(f"training_set_{task}")
    records.call(
        "gold",
        gold.Params(dataset=dataset, events=events, labels=marked, task=task, shards=8),
        gold.Result(features=computed, audited=64, leaks=0),
        (computed, 3200),
    )
    records.call(
        "training_set",
        training_set.Params(dataset=dataset, events=events, labels=marked, features=computed, task=task),
        training_set.Result(
            training_set=frozen,
            counts={
                split: {"n": n, "events": n // 10, "subjects": n - 50}
                for split, n in (("train", 2000), ("tuning", 80), ("held_out", stays))
            },
        ),
        (frozen, 3200),
    )
    _model(records, task, frozen, stays)


def _model(records: Records, task: str, frozen: TableRef, stays: int) -> None:
    dataset, model = records.dataset, ModelRef(name=f"{records.dataset}-{task}", version=records.version)
    named = {
        "model": model,
        "model_uri": f"artifacts/{model.name}/{model.version}",
        "model_digest": digest(str(model)),
    }
    folder = records.settings.home / named["model_uri"]
    folder.mkdir(parents=True)
    (folder / "predictor.json").write_text(_spec(dataset, task, model).model_dump_json())
    made = risk_model.Result(source="mimic-iv", run_id="", **named)
    records.call(
        "risk_model",
        risk_model.Params(dataset=dataset, source="mimic-iv", task=task, training_set=frozen),
        made,
    )
    _combined(records, task, frozen, made)
    judged = _evidence(dataset, task, model, frozen, stays)
    path, sha = evaluation_report.write(records.settings, judged)
    records.call(
        "evaluate",
        evaluate.Params(dataset=dataset, task=task, training_set=frozen, **named),
        evaluate.Result(evidence=path, evidence_digest=sha, metrics={"auroc": judged.metrics["auroc"].value}),
    )
    records.call(
        "promotion",
        promotion.Params(
            dataset=dataset,
            task=task,
            evidence=path,
            evidence_digest=sha,
            sequence=1,
            actor="nobody",
            moved_at=records.clock.replace(tzinfo=None),
            **named,
        ),
        promotion.Result(
            staged=True,
            promoted=task == "mortality",
            reason="Promoted: every floor passed."
            if task == "mortality"
            else "Staged: the evidence is complete.",
            model=model,
            evidence=path,
            evidence_digest=sha,
        ),
    )


def _combined(records: Records, task: str, frozen: TableRef, made: risk_model.Result) -> None:
    """The notes were not better: the table's version goes on."""
    tokens = calls.of_stage(records.settings, "note_tokens")[-1].result
    run_id = digest(f"{task}{records.clock}")[:32]
    notes = NoteModel(
        model=ModelRef(name=f"{made.model.name}-notes", version=made.model.version),
        run_id=run_id,
        model_uri="artifacts/notes",
        model_digest=digest(run_id),
        margins=records.table(f"note_margins_{task}"),
    )
    records.call(
        "note_model",
        note_model.Params(
            dataset=records.dataset,
            task=task,
            training_set=frozen,
            labels=records.table("labels"),
            **{name: tokens[name] for name in ("note_tokens", "encoder", "tokenizer")},
        ),
        note_model.Result(note_model=notes),
    )
    words = Path(records.settings.artifact_root) / records.dataset / run_id / "artifacts" / WORDS_FILE
    words.parent.mkdir(parents=True)
    words.write_text(json.dumps({"comfort": 0.02, "independent": -0.01}))
    records.call(
        "combination",
        late_fusion.Params(
            dataset=records.dataset, task=task, training_set=frozen, note_model=notes, **made.model_dump()
        ),
        late_fusion.Result(
            **made.model_dump(), reads_notes=False, reason="Not better together.", tuning_log_loss={}
        ),
    )


def _spec(dataset: str, task: str, model: ModelRef) -> PredictorSpec:
    names = ("age_years", "lactate_max_24h", "heart_rate_mean_6h", "emergency_admission")
    return PredictorSpec(
        name=model.name,
        dataset=dataset,
        task=task,
        outcome="made up",
        features=names,
        plain_inputs=("age",),
        calibration=Calibration(slope=1, intercept=0),
        thresholds={},
        bias=-2.0,
        baseline_risk=0.1,
        importance=dict(zip(names, (0.5, 0.4, 0.2, 0.1), strict=True)),
        known_answers=(),
        best_iteration=10,
        key="0" * 32,
    )


@cache
def _figures(task: str, stays: int) -> dict[str, Any]:
    """What is measured, of the same made-up patients for every model."""
    rng = np.random.default_rng(7)
    log_odds = rng.normal(-2.8, 1.2, stays)
    risk = metrics.sigmoid(log_odds)
    rows = Examples(
        subjects=(np.arange(stays) // 2).astype(np.int64) + 9_007_199_254_000,
        times=np.full(stays, np.datetime64("2150-01-01", "us")),
        outcomes=(rng.random(stays) < risk).astype(np.float64),
        inputs=np.zeros((stays, 1), dtype=np.float32),
        attributes={
            "sex": np.where(np.arange(stays) % 4 < 2, "female", "male"),
            "age_band": np.array(["18-44", "45-64", "65-79", "80+"])[np.arange(stays) // 2 % 4],
            "ethnicity": np.where(np.arange(stays) < 8, "rare", "common"),
        },
    )
    held_out = Performance(rows, risk, Resamples(rows.subjects, 40, 0))
    floors = policy.of(task)
    worse = metrics.sigmoid(log_odds + rng.normal(0, 1.5, stays))
    return {
        "rows_digest": rows.digest(),
        "counts": held_out.counts,
        "metrics": held_out.all_metrics(),
        "calibration_curve": held_out.calibration_curve(),
        "curves": held_out.all_curves(),
        "alarms": tuple(held_out.alarms(floors.thresholds)),
        "net_benefit": tuple(held_out.net_benefit(t) for t in floors.thresholds),
        "subgroups": tuple(held_out.subgroups(floors)),
        "baselines": (held_out.baseline("bedside rule", "NEWS2", "made up", np.round(5 * worse)),),
        "oracle": held_out.against_oracle(risk),
        "notes": held_out.together(worse, log_odds, risk),
    }


def _evidence(
    dataset: str, task: str, model: ModelRef, frozen: TableRef, stays: int
) -> evaluation_report.Evidence:
    return evaluation_report.Evidence(
        dataset=dataset,
        task=task,
        model=model,
        model_digest=digest(str(model)),
        training_set=frozen,
        key=digest(f"evidence of {model} {frozen}")[:32],
        looks=model.version - 1,
        bootstrap=40,
        seed=0,
        assumptions=("laboratory_delay of 1 h: <as made up>",),
        plain_inputs=(),
        comparison=None,
        **_figures(task, stays),
    )


def _afterwards(records: Records) -> None:
    decided = next(
        call
        for call in calls.of_stage(records.settings, "promotion")[::-1]
        if call.params["task"] == "mortality"
    )
    made = evaluate.Params.model_validate(
        calls.of_stage(records.settings, "evaluate")[-2].params
    )  # the newest of mortality
    model, day = ModelRef.model_validate(decided.params["model"]), timedelta(days=1)
    now = records.clock.replace(tzinfo=None)
    spans = [(now + (i + 1) * day, now + (i + 2) * day) for i in range(3)]
    days = tuple(
        held_out_replay.Window(name=name, start=start, end=end, planted=name != "quiet 1")
        for name, (start, end) in zip(("quiet 1", "planted 2", "planted 3"), spans, strict=True)
    )
    log = records.table("predictions")
    records.call(
        "rehearsal",
        held_out_replay.Params(
            dataset=records.dataset,
            task="mortality",
            training_set=made.training_set,
            model=model,
            moved_at=records.clock.replace(tzinfo=None),
        ),
        held_out_replay.Result(windows=days, predictions=log, answered=300),
        (log, 300),
    )
    seen: list[drift.Result] = []
    for window in days:
        params = drift.Params(
            dataset=records.dataset,
            task="mortality",
            model=model,
            model_uri=made.model_uri,
            model_digest=made.model_digest,
            training_set=made.training_set,
            predictions=log,
            start=window.start,
            end=window.end,
        )
        seen.append(_window(records, model, window))
        records.call("drift", params, seen[-1])
        _leave_numbers(records, params, seen[-1])
        records.call(
            "retrain",
            retrain_decision.Params(dataset=records.dataset, task="mortality", windows=tuple(seen)),
            retrain_decision.Result(
                retrain=len(seen) == 3, reason=f"{len(seen) - 1} of {len(seen)} windows drifted."
            ),
        )


def _window(records: Records, model: ModelRef, window: held_out_replay.Window) -> drift.Result:
    return drift.Result(
        dataset=records.dataset,
        task="mortality",
        model=model,
        start=window.start,
        end=window.end,
        n=100,
        judged=100,
        by_values=100,
        drifted=window.planted,
        summary=f"{'drifted' if window.planted else 'quiet'}: made up",
        watched=2,
        report=f"reports/drift/{model.name}/{window.start:%Y%m%d}.html",
    )


def _leave_numbers(records: Records, params: drift.Params, result: drift.Result) -> None:
    columns = tuple(
        drift.ColumnDrift(
            column=name, values=90, statistic=x * (1 + result.drifted), threshold=0.2, drifted=result.drifted
        )
        for name, x in (("lactate_max_24h", 0.15), ("age_years", 0.1), ("answered risk", 0.12))
    )
    missing = drift.MissingDrift(
        column="lactate_max_24h", share=0.5, reference_share=0.4, threshold=0.2, drifted=False
    )
    numbers = drift.Numbers(params=params, result=result, columns=columns, missing=(missing,))
    path = (records.settings.home / str(result.report)).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers.model_dump(mode="json")))
