"""Answers of a model card: what happens once it answers."""

from mediscale.core.privacy import count
from mediscale.report.charts import estimate_text
from mediscale.report.model_card.answers.subject import Subject


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


def monitoring(_: Subject) -> str:
    return (
        "Every night the drift job compares the answers of the day with the training set, column by column, at a "
        "family-wise error rate that is calibrated by resampling; outcomes are compared once they have matured."
    )


def local_validity(of: Subject) -> str:
    watched = of.contents.watched
    if watched is None or watched.model != str(of.decided.model):
        return ""
    rehearsed = ["A rehearsal on held-out patients with a planted drift."] if watched.rehearsed else []
    windows = (f"Window {window.name}: {window.summary}." for window in watched.windows)
    return "\n".join([*rehearsed, *windows, watched.reason])


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
