"""Report data, collected from call records, evidence files and model folders; nothing is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from data_pipeline.cohort import labels
from data_pipeline.ingest import landing
from data_pipeline.ingest import source as sources
from mediscale.core import privacy, tasks
from mediscale.core.policy import Policy
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FACTS, LANDED_FILES
from mediscale.core.task_names import TASKS, all_names
from mediscale.core.tasks import TaskName
from mediscale.inference.model_files import PREDICTOR_FILE
from mediscale.inference.model_spec import PredictorSpec
from mediscale.report import commands, monitored_version, performance_windows
from mediscale.report import labels as words
from mediscale.report import note_sections as notes
from mediscale.report.monitored_version import MonitoredVersion
from mediscale.storage import lake, lineage, registry
from mediscale.storage.calls import Call
from mediscale.storage.lineage import DECISION, Run
from training.evaluation import evaluation_report as evidences
from training.evaluation.evaluation_report import Evidence, SilentPeriod
from training.promotion import gate, promotion
from training.promotion.decision import Result as DecisionResult
from training.promotion.floor import Floor
from training.promotion.gate import DecisionContext


@dataclass(frozen=True)
class LandedExtract:
    """The extract as it was landed and validated."""

    source: str
    path: str
    digest: str
    synthetic: bool
    tables: tuple[tuple[str, int], ...]
    """Name and rows."""
    absent: tuple[str, ...]
    unlisted_words: tuple[tuple[str, int], ...]
    """Column as ``table.column``, and the rows whose word no list of the source has."""
    renamed: tuple[str, ...]
    judged: int
    quarantined: int
    reasons: tuple[tuple[str, str, int], ...]
    """Rule, what every usable row fulfils, and how many rows broke it; the most frequent first."""
    events: int
    repeated: int
    """Usable facts that tell an event which another one, known at the same time, tells, too."""


@dataclass(frozen=True)
class Split:
    """A split of the patients, with its counts in words that may be released."""

    name: str
    purpose: str
    rows: str
    patients: str
    events: str


@dataclass(frozen=True)
class Flow:
    """Cohort flow: how visits became the cohort of a task."""

    steps: tuple[tuple[str, str, str], ...]
    """What, how many are left, how many were left out at this step, in words, as they may be released."""
    outcomes: tuple[tuple[str, str], ...]
    contradictions: int
    """Stays about whose death two columns of the source disagree."""
    splits: tuple[Split, ...]
    rows_are: str = "stays"
    """What is predicted: ``stays``, or ``predictions`` where a stay has several."""


@dataclass(frozen=True)
class DecidedVersion:
    """The promotion decision about a version, and its evidence."""

    model: ModelRef
    status: str
    """``production``, ``staging`` or ``refused``."""
    reason: str
    actor: str
    at: datetime
    evidence: Evidence
    prior_evaluations: int
    """Of other versions on the same held-out patients."""
    policy: Policy
    spec: PredictorSpec | None
    """None where the model's folder is not in reach."""
    silent: SilentPeriod | None = None
    """What it showed in shadow, where the policy asked for that."""
    true_probabilities: bool = False
    """Whether the evidence has to compare with those that the records were made from."""
    succession: str = ""
    """What took its place in production since; empty while it is there."""

    @property
    def floors(self) -> list[Floor]:
        """What the policy asks, on all that was known when it was decided."""
        compared = self.evidence.comparison
        incumbent = compared.incumbent if compared else None
        context = DecisionContext(incumbent, self.silent, self.true_probabilities)
        return list(gate.floors(self.evidence, self.policy, context))


@dataclass(frozen=True)
class Task:
    """One outcome that is predicted."""

    name: str
    title: str
    outcome: str
    flow: Flow | None
    decided: DecidedVersion | None
    notes: notes.CombinedModel | None
    reached: str
    """The last stage that ended."""
    windows: tuple[performance_windows.Window, ...] = ()
    """How good the version's answers have been since, as far as monitoring has written it down."""


@dataclass(frozen=True)
class Contents:
    """The data of one run's report."""

    run: Run
    landed: LandedExtract
    tasks: tuple[Task, ...]
    refused: tuple[tuple[str, str], ...]
    """Title of each task of every run that this extract can't support, and why."""
    notes: notes.NoteCounts | None
    watched: MonitoredVersion | None
    commands: tuple[str, ...]

    @property
    def decided_at(self) -> datetime:
        return self.run.all(DECISION)[-1].started_at

    @property
    def seconds(self) -> float:
        return sum(call.seconds for call in self.run.calls)

    @property
    def assumptions(self) -> tuple[str, ...]:
        assumptions = (a for task in self.tasks if task.decided for a in task.decided.evidence.assumptions)
        return tuple(dict.fromkeys(assumptions))


def collect(settings: Settings, run: Run) -> Contents:
    """Collects the report data of a run.

    Raises:
        StorageError: an evidence file was changed.
        NotFoundError: one is gone.
    """
    return Contents(
        run=run,
        landed=_landed(run),
        tasks=tuple(_task(settings, run, task) for task in all_names() if task in run.tasks),
        refused=tuple(_refused(run)),
        notes=notes.read(run),
        watched=monitored_version.collect(settings, run),
        commands=commands.of_risk(run),
    )


def _landed(run: Run) -> LandedExtract:
    bronze, quality, silver = (run.only(stage) for stage in ("bronze", "validate", "silver"))
    rows = {
        output.ref.table.removeprefix("bronze_"): output.rows
        for output in bronze.outputs
        if output.ref.table != LANDED_FILES.name
    }
    meanings = {rule.name: rule.meaning for rule in FACTS.all_rules}
    events, usable = silver.result["event_count"], quality.result["judged"] - quality.result["quarantined"]
    reasons = sorted(quality.result["reasons"].items(), key=lambda item: (-item[1], item[0]))
    return LandedExtract(
        source=bronze.params["source"],
        path=bronze.params["path"],
        digest=bronze.params["extract_digest"],
        synthetic=landing.is_synthetic(bronze),
        tables=tuple(sorted(rows.items(), key=lambda item: (-item[1], item[0]))),
        absent=tuple(bronze.result["absent"]),
        unlisted_words=tuple(sorted(bronze.result["unlisted_words"].items())),
        renamed=tuple(bronze.result["renamed"]),
        judged=quality.result["judged"],
        quarantined=quality.result["quarantined"],
        reasons=tuple((name, meanings.get(name, words.plain(name)), n) for name, n in reasons),
        events=events,
        # Where an extract was appended, the events are those of all nights.
        repeated=0 if silver.result.get("appended") else max(usable - events, 0),
    )


def _refused(run: Run) -> Iterator[tuple[str, str]]:
    """The tasks that were given up before any stage of theirs ended, so that no record is of them."""
    bronze = run.only("bronze")
    for name in (name for name in TASKS if name not in run.tasks):
        source, task = sources.load(bronze.params["source"]), tasks.load(name)
        if why := labels.unsupported(source, task) or labels.lacking(source, task, bronze.result["absent"]):
            yield task.title, words.capitalized(why)


def _task(settings: Settings, run: Run, task: TaskName) -> Task:
    decision, declared = run.newest(DECISION, task), tasks.load(task)
    decided = _decided(settings, decision) if decision else None
    return Task(
        name=task,
        title=declared.title,
        outcome=declared.outcome.sentence,
        flow=_flow(run, task),
        decided=decided,
        notes=notes.combined(settings, run, task),
        reached=[call for call in run.calls if call.params.get("task") == task][-1].stage,
        windows=performance_windows.collect(settings, run.dataset, task, decided.model) if decided else (),
    )


def _flow(run: Run, task: str) -> Flow | None:
    labelled, frozen = run.newest("labels", task), run.newest("training_set", task)
    if labelled is None:
        return None
    flow, declared = labelled.result["flow"], tasks.load(task)
    by_outcome = labelled.result.get("outcomes", flow)  # older records have them at the flow's end
    declared_steps = (*declared.steps, *declared.prediction_steps)
    left = privacy.merged_steps([(step.words, flow[step.name]) for step in declared_steps])
    before = [left[0][1], *(n for _, n in left[:-1])]
    steps = [
        (step, privacy.count(n), privacy.count_of(max(was - n, 0), was))
        for (step, n), was in zip(left, before, strict=True)
    ]
    outcomes = privacy.outcomes_in_words([(c.words, by_outcome[c.name]) for c in declared.outcome.categories])
    splits = tuple(_splits(frozen.result["counts"])) if frozen else ()
    rows_are = "predictions" if declared.prediction_time.repeated else "stays"
    return Flow(tuple(steps), tuple(outcomes), labelled.result["contradictions"], splits, rows_are)


def _splits(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Split]:
    columns = ("n", "subjects", "events")
    in_words = [privacy.splits_in_words([of[column] for of in counts.values()]) for column in columns]
    for name, *row in zip(counts, *in_words, strict=True):
        yield Split(*words.SPLITS[name], *row)


def _decided(settings: Settings, decision: Call) -> DecidedVersion:
    params, result = decision.params, decision.result
    model = ModelRef.model_validate(params["model"])
    return DecidedVersion(
        model=model,
        status=lineage.status_of(decision),
        reason=result["reason"],
        actor=params["actor"],
        at=datetime.fromisoformat(params["moved_at"]),
        evidence=evidences.read(settings, params["evidence"], params["evidence_digest"]),
        prior_evaluations=promotion.prior_evaluations(settings, params["dataset"], params["task"], model),
        policy=tasks.load(params["task"]).policy,
        spec=_spec(settings, model),
        silent=DecisionResult.model_validate(result).silent_period,
        true_probabilities=params.get("oracle") is not None,
        succession=registry.succession(settings, params["dataset"], model),
    )


def _spec(settings: Settings, model: ModelRef) -> PredictorSpec | None:
    try:
        content = lake.read_whole(f"{registry.locate(settings, model.uri)}/{PREDICTOR_FILE}")
        return PredictorSpec.model_validate_json(content)
    except (OSError, ValueError):
        return None
