"""Answers of a model card: the records that it learned from."""

from mediscale.core.privacy import count
from mediscale.report import labels
from mediscale.report.charts import resting_on
from mediscale.report.model_card.answers.subject import Subject


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
        ", ".join(check.title for check in certificate.checks if check.verdict == verdict)
        for verdict in ("passed", "not judged")
    )
    failed = "; ".join(f"{check.title} ({check.shown})" for check in certificate.failed)
    alone = ", ".join(labels.plain(finding.name) for finding in certificate.findings)
    return (
        f"The training set was checked for leaks of the future, and {count(certificate.sampled)} stays were computed "
        f"again from what was known at their prediction times. Passed: {passed or 'nothing'}. "
        f"Failed: {failed or 'nothing'}."
        + (f" Not judged, on so few patients: {unjudged}." if unjudged else "")
        + (f" For a person to look at, because it predicts the outcome on its own: {alone}." if alone else "")
    )


def cohort_flow(of: Subject) -> str:
    if of.flow is None:
        return ""
    steps = [f"{n} {what}" for what, n, _ in of.flow.steps]
    came = "; ".join(f"{n} {what}" for what, n in of.flow.outcomes)
    return "\n".join([*steps, f"Of these: {came}."])


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
