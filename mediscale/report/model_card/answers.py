"""Answers of a model card: each a sentence or more from the records of a version's run, empty where they say nothing.

``frameworks.yaml`` names these functions; none of them computes a figure or knows which framework asks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mediscale.core import tasks, tree_libraries
from mediscale.core.outcomes import Readmission
from mediscale.core.privacy import SUPPRESSED, WHY_SUPPRESSED, count
from mediscale.inference.model_spec import NOTICE
from mediscale.report import labels
from mediscale.report.charts import estimate_text, resting_on, share
from mediscale.report.data import Contents, DecidedVersion, Flow, LandedExtract
from training.evaluation.evaluation_report import Baseline, Evidence, Subgroup
from training.evaluation.subgroups import outcomes_in_words
from training.promotion.subgroup_floors import subgroup_floors


@dataclass(frozen=True)
class Subject:
    """What a card is about: a decided version, and the report data of the run that made it."""

    contents: Contents
    decided: DecidedVersion
    flow: Flow | None

    @property
    def task(self) -> tasks.Task:
        return tasks.load(self.decided.evidence.task)

    @property
    def evidence(self) -> Evidence:
        return self.decided.evidence

    @property
    def landed(self) -> LandedExtract:
        return self.contents.landed


Answer = Callable[[Subject], str]


# --- what it is for ----------------------------------------------------------------------------------------------


def title(of: Subject) -> str:
    return f"{of.decided.model}: {of.task.outcome.sentence}, in the dataset {of.evidence.dataset}."


def abstract(of: Subject) -> str:
    return f"{title(of)} {population(of)} {discrimination(of)} {decision(of)}"


def objectives(of: Subject) -> str:
    return (
        f"To predict {of.task.outcome.sentence}, and to find out on held-out patients whether the model may serve "
        "under the policy of its task."
    )


def intended_use(of: Subject) -> str:
    return of.task.intended_use.purpose


def users(of: Subject) -> str:
    return of.task.intended_use.users


def role(of: Subject) -> str:
    return f"It {of.task.intended_use.role} clinical management. {NOTICE}"


def cautioned(of: Subject) -> str:
    return " ".join(of.task.intended_use.cautioned)


def population(of: Subject) -> str:
    return f"{labels.capitalized(of.task.at_risk.words)}; stays of adults, {tasks.ADULT_YEARS} or older."


def outcome(of: Subject) -> str:
    declared = of.task.outcome
    horizon = f", within {declared.within_days} days" if isinstance(declared, Readmission) else ""
    return (
        f"{labels.capitalized(declared.sentence)}{horizon}. It is read from the events of the hospital's own records "
        "by the rules of the task's file, without a person's judgement."
    )


# --- what it puts out --------------------------------------------------------------------------------------------


def output(of: Subject) -> str:
    notes = ", and the words of the note" if of.evidence.notes is not None else ""
    return (
        f"A calibrated probability of {of.task.outcome.sentence}, between 0 and 1, and the inputs that moved it "
        f"(exact SHAP values{notes})."
    )


def output_type(_: Subject) -> str:
    return "A prediction."


def thresholds(of: Subject) -> str:
    parts = [
        f"Acting at a risk of {labels.percent(alarm.threshold)}: sensitivity {share(alarm.sensitivity)}, positive "
        f"predictive value {share(alarm.ppv)}, {share(alarm.flag_rate)} of the stays flagged."
        for alarm in of.evidence.alarms
    ]
    return " ".join(parts)


def alert_burden(of: Subject) -> str:
    burden = of.evidence.alert_burden
    if burden is None:
        return ""
    lead = burden.lead_time
    hours = (
        f" Median lead time from a right alert to the outcome, in hours: {estimate_text(lead.median)}."
        if lead
        else ""
    )
    return (
        f"Acting at a risk of {labels.percent(burden.threshold)}, once per stay: alerts per 100 patient-days in "
        f"hospital {estimate_text(burden.alerts_per_100_patient_days)}; number needed to evaluate "
        f"{estimate_text(burden.number_needed_to_evaluate)}.{hours}"
    )


# --- what it learned from ----------------------------------------------------------------------------------------


def data_source(of: Subject) -> str:
    made_up = " The patients are synthetic: a program made them up." if of.landed.synthetic else ""
    return (
        f"Routine records of one hospital, an extract of the kind {of.landed.source} whose files have the SHA-256 "
        f"{of.landed.digest}.{made_up}"
    )


def relevance(of: Subject) -> str:
    if of.landed.synthetic:
        return "None for any hospital: the patients are synthetic."
    return "The model is served to the hospital whose own records it learned from, under the same dataset's name."


def data_quality(of: Subject) -> str:
    broken = ", ".join(f"{name} ({count(n)})" for name, _, n in of.landed.reasons) or "none"
    return (
        f"{count(of.landed.judged)} facts were validated and {count(of.landed.quarantined)} quarantined with their "
        f"reason; rules that were broken: {broken}. {count(of.landed.events)} events went on."
    )


def leakage(of: Subject) -> str:
    certificate = of.evidence.leakage
    if certificate is None:
        return ""
    passed, unjudged = (
        ", ".join(labels.plain(check.name) for check in certificate.checks if check.verdict == verdict)
        for verdict in ("passed", "not judged")
    )
    failed = "; ".join(f"{labels.plain(check.name)} ({check.shown})" for check in certificate.failed)
    alone = ", ".join(labels.plain(finding.name) for finding in certificate.findings)
    return (
        f"The training set was checked for leaks of the future, and {count(certificate.sampled)} stays were computed "
        f"again from what was known at their prediction times. Passed: {passed or 'nothing'}. "
        f"Failed: {failed or 'nothing'}."
        + (f" Not judged, on so few patients: {unjudged}." if unjudged else "")
        + (f" For a person to look at, because it tells the outcome alone: {alone}." if alone else "")
    )


def cohort_flow(of: Subject) -> str:
    if of.flow is None:
        return ""
    steps = "; ".join(f"{n} {what}" for what, n, _ in of.flow.steps)
    came = "; ".join(f"{n} {what}" for what, n in of.flow.outcomes)
    return f"{steps}. Of these: {came}."


def split(of: Subject) -> str:
    if of.flow is None:
        return ""
    parts = "; ".join(
        f"{part.name}: {part.rows} {of.flow.rows_are} of {part.patients} patients, {part.events} "
        "with the outcome"
        for part in of.flow.splits
    )
    return parts and f"Patients are split for good by a fixed hash, all from the same extract. {parts}."


def sample_size(of: Subject) -> str:
    policy = of.decided.policy
    return (
        f"The policy asks for {policy.min_subjects:,} held-out patients and {policy.min_events:,} with the outcome; "
        f"the evidence rests on {resting_on(of.evidence.counts)}."
    )


def class_imbalance(of: Subject) -> str:
    weighted = (
        "every stay weighs the same in the fit, however often it is predicted, and outcomes are neither weighted nor "
        "resampled"
        if of.evidence.counts.unit == "predictions"
        else "rows are neither weighted nor resampled"
    )
    return f"{resting_on(of.evidence.counts)}: {weighted}, so that the probabilities keep the prevalence."


def predictors(of: Subject) -> str:
    if of.decided.spec is None:
        return ""
    read = next((t.notes for t in of.contents.tasks if t.decided is of.decided and t.notes), None)
    by = f", by {read.network}" if read else ""
    notes = (
        f" It reads the clinical notes that were available by then, too{by}." if of.decided.spec.notes else ""
    )
    return (
        f"{len(of.decided.spec.features)} inputs of those that the task's file declares (statistics of measurements, "
        "treatments, comorbidity, earlier stays, age and sex), as the hospital knew them at the prediction "
        f"time.{notes}"
    )


def demographic_inputs(of: Subject) -> str:
    if of.decided.spec is None:
        return ""
    used = {"age_years": "age", "sex_female": "sex"}
    named = [word for feature, word in used.items() if feature in of.decided.spec.features]
    return (
        f"Inputs of the model: {' and '.join(named) or 'none'}. Ethnicity is no input; it is used to judge "
        "subgroups. Gender identity, language and social determinants of health are not read."
    )


def representation(of: Subject) -> str:
    return _listed(of.evidence)


def robustness(of: Subject) -> str:
    return " ".join(
        f"With {labels.stress(test)}: AUROC {estimate_text(test.auroc)}, lost {estimate_text(test.auroc_loss)}, "
        f"calibration intercept changed by {estimate_text(test.intercept_shift)}."
        for test in of.evidence.robustness
    )


def speed(of: Subject) -> str:
    files = of.evidence.files
    if files is None:
        return ""
    return (
        f"Its files have {files.bytes / 1e6:.3g} MB; one answer takes {1000 * files.median_seconds:.2g} ms, the "
        f"slowest of {files.answers:,} took {1000 * files.slowest_seconds:.2g} ms."
    )


def missing_data(of: Subject) -> str:
    shortened = "".join(
        f" AUROC when a request gives {len(plain.inputs)} inputs: {estimate_text(plain.auroc)}."
        for plain in of.evidence.plain_inputs
    )
    return f"{_missing_values(of)} The trees are trained with inputs withheld as requests withhold them.{shortened}"


def _missing_values(of: Subject) -> str:
    spec = of.decided.spec
    return (
        spec.missing_values
        if spec
        else "The version's files, which say what becomes of missing values, are gone."
    )


def silent_period(of: Subject) -> str:
    silent = of.decided.silent
    if silent is None:
        return ""
    parts = [
        f"{count(silent.outcomes)} answers in shadow whose outcome is known, {count(silent.events)} of them events"
    ]
    if silent.auroc and silent.calibration_intercept:
        parts += [
            f"AUROC {estimate_text(silent.auroc)}",
            f"calibration intercept {estimate_text(silent.calibration_intercept)}",
        ]
    return "; ".join(parts) + "."


# --- how it was made ---------------------------------------------------------------------------------------------


def methods(of: Subject) -> str:
    library = f" ({tree_libraries.DISPLAY_NAMES[of.decided.spec.library]})" if of.decided.spec else ""
    return (
        f"Gradient-boosted trees{library}, their number chosen on the tuning part; Platt scaling and thresholds on "
        f"the tuning part; {of.evidence.bootstrap:,} bootstrap resamples of held-out patients for every interval, at "
        f"seed {of.evidence.seed}."
    )


def specification(of: Subject) -> str:
    return (
        f"All trees, the calibration and known answers lie in the version's folder; its digest is "
        f"{of.decided.model.digest}."
    )


def reproduction(of: Subject) -> str:
    return f"The code is open (Apache-2.0); these commands make the version again: {'; '.join(of.contents.commands)}."


def updating(_: Subject) -> str:
    return (
        "The retraining DAG runs every night and retrains when the retrain decision says so: when windows of answers "
        "drifted, or performance on matured outcomes fell. A new version passes the same gate."
    )


def correction(_: Subject) -> str:
    return (
        "Every night at the earliest: a retrained version replaces this one when the gate lets it, and an engineer can "
        "move the alias back at any time with a reason that is kept."
    )


def monitoring(_: Subject) -> str:
    return (
        "Every night the drift job compares the answers of the day with the training set, column by column, at a "
        "family-wise error rate that is calibrated by resampling; outcomes are compared once they have matured."
    )


def fairness_monitoring(of: Subject) -> str:
    policy, attributes = of.decided.policy, ", ".join(labels.ATTRIBUTES.values()).lower()
    return (
        "Every night, for each window of answers whose outcomes have all matured: discrimination and calibration are "
        f"measured by {attributes}, with intervals that hold for all groups of the window together. A group whose "
        f"AUROC surely lies more than {policy.subgroup_gap_max:g} below the overall one, or whose calibration surely "
        "lies outside of the policy's range, raises an alarm and is a reason to retrain."
    )


def local_validity(of: Subject) -> str:
    watched = of.contents.watched
    if watched is None or watched.model != str(of.decided.model):
        return ""
    rehearsed = "A rehearsal on held-out patients with a planted drift. " if watched.rehearsed else ""
    windows = " ".join(f"{window.name}: {window.summary}." for window in watched.windows)
    return f"{rehearsed}{windows} {watched.reason}"


# --- how good it is ----------------------------------------------------------------------------------------------


def discrimination(of: Subject) -> str:
    points = _points_score(of.evidence)
    beside = f" The points score's AUROC is {estimate_text(points.auroc)}." if points else ""
    return f"{_metrics(of.evidence, 'auroc', 'auprc')} {labels.capitalized(resting_on(of.evidence.counts))}.{beside}"


def calibration(of: Subject) -> str:
    points = _points_score(of.evidence)
    own = _metrics(of.evidence, "calibration_slope", "calibration_intercept", "brier")
    if points is None or points.calibration_slope is None or points.calibration_intercept is None:
        return own
    return (
        f"{own} The points score's calibration slope is {estimate_text(points.calibration_slope)}, its intercept "
        f"{estimate_text(points.calibration_intercept)}."
    )


def _points_score(evidence: Evidence) -> Baseline | None:
    return next((b for b in evidence.baselines if b.kind == "points score"), None)


def _metrics(evidence: Evidence, *names: str) -> str:
    parts = [
        f"{labels.METRICS[name][0]} {estimate_text(evidence.metrics[name])}"
        for name in names
        if name in evidence.metrics
    ]
    return f"{'; '.join(parts)}." if parts else ""


def net_benefit(of: Subject) -> str:
    return " ".join(
        f"Net benefit over the better of treating all and none at {labels.percent(benefit.threshold)}: "
        f"{estimate_text(benefit.over_best_alternative)}."
        for benefit in of.evidence.net_benefit
    )


def subgroups(of: Subject) -> str:
    def performance(group: Subgroup) -> str:
        if group.auroc is None or group.status != "estimated":
            return f" ({group.status})"
        calibrated = group.calibration_intercept
        return f" (AUROC {estimate_text(group.auroc)}" + (
            f", calibration intercept {estimate_text(calibrated)})" if calibrated else ")"
        )

    return _listed(of.evidence, performance)


def _listed(evidence: Evidence, beside: Callable[[Subgroup], str] = lambda _: "") -> str:
    groups = evidence.subgroups

    def in_words(group: Subgroup, outcomes: str) -> str:
        name = f"{labels.ATTRIBUTES[group.attribute]} {group.value}"
        if group.counts is None:
            return f"{name}: number of patients {SUPPRESSED}{beside(group)}"
        counts = group.counts
        return f"{name}: {count(counts.n)} {counts.unit}, {outcomes} with the outcome{beside(group)}"

    listed = "; ".join(map(in_words, groups, outcomes_in_words(evidence)))
    why = f" {WHY_SUPPRESSED}" if SUPPRESSED in listed else ""
    return f"{listed}.{why}" if groups else ""


def fairness_approach(of: Subject) -> str:
    policy, attributes = of.decided.policy, ", ".join(labels.ATTRIBUTES.values()).lower()
    return (
        f"Discrimination and calibration are judged by {attributes}; a group with at least "
        f"{policy.subgroup_min_events:,} outcomes whose AUROC surely lies more than {policy.subgroup_gap_max:g} below "
        "the overall one, or whose calibration surely lies outside of the policy's range, keeps a version from "
        "production, and so does one whose figures are not estimable. Surely: by intervals that hold for all groups "
        f"together, so that chance refuses a version in {policy.subgroup_error_rate:.0%} of cases at most."
    )


def bias_management(of: Subject) -> str:
    floors = subgroup_floors(of.evidence, of.decided.policy)
    objections = [floor.objection for floor in floors if floor.objection]
    parts = (
        f"Objections of the gate to subgroups: {'; '.join(objections)}."
        if objections
        else "The gate had no objection to a subgroup."
    )
    return f"Ethnicity is no input. {parts} Nothing in the training corrects a bias that the records hold."


# --- what was decided, and its limits ----------------------------------------------------------------------------


def decision(of: Subject) -> str:
    return f"Decided by {of.decided.actor}: {of.decided.reason}"


def limits(of: Subject) -> str:
    return " ".join(_limits(of))


def _limits(of: Subject) -> Iterator[str]:
    if of.landed.synthetic:
        yield "The patients are synthetic: no figure says anything about a real patient."
    yield "It was judged on one hospital's records and on no other's."
    small = [
        f"{group.attribute} {group.value}" for group in of.evidence.subgroups if group.status != "estimated"
    ]
    if small:
        yield f"Too few patients or outcomes to judge: {', '.join(map(labels.plain, small))}."
    if of.decided.silent is None:
        yield "No outcome of an answer in shadow was judged before it was decided about."
    if of.decided.prior_evaluations:
        yield f"{of.decided.prior_evaluations} other versions were judged on the same held-out patients."
    missed = [floor.objection for floor in of.decided.floors if floor.objection]
    if missed:
        yield f"The policy's floors that it misses: {'; '.join(missed)}."


def assumptions(of: Subject) -> str:
    return " ".join(f"Assumed: {assumption.rstrip('.')}." for assumption in of.evidence.assumptions)
