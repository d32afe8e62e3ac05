"""Answers of a model card: how it was made."""

from mediscale.core import tree_libraries
from mediscale.report.charts import estimate_text
from mediscale.report.model_card.answers.subject import Subject


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


def missing_data(of: Subject) -> str:
    shortened = "".join(
        f" AUROC when a request gives {len(plain.inputs)} inputs: {estimate_text(plain.auroc)}."
        for plain in of.evidence.plain_inputs
    )
    gone = "The version's files, which say what becomes of missing values, are gone."
    missing = of.decided.spec.missing_values if of.decided.spec else gone
    return f"{missing} The trees are trained with inputs withheld as requests withhold them.{shortened}"
