"""Labels of the report: the standard term, and plain words beside it."""

import re
from collections.abc import Iterator

from training.evaluation.evaluation_report import Evidence, StressTest
from training.statistics.estimate import Estimate

METRICS = {
    "auroc": ("Discrimination (AUROC)", "1 is perfect, 0.5 is a coin's toss"),
    "auprc": ("Average precision", "to be held against the share with the outcome"),
    "brier": ("Brier score", "mean squared error of the risk; lower is better"),
    "log_loss": ("Log loss", "in nats; lower is better"),
    "calibration_slope": ("Calibration slope", "1 is right; below 1 risks are too extreme"),
    "calibration_intercept": (
        "Calibration in the large",
        "0 is right, in log-odds; above 0 risks are too low",
    ),
}

PPV = "Positive predictive value (alerts that are right)"

SPLITS = {
    "train": ("training", "models learn from the training part"),
    "tuning": ("tuning", "sizes, calibration and thresholds are chosen on the tuning part"),
    "held_out": ("held out", "every figure of this report is of the part held out"),
}

VERDICTS = {
    "production": ("Released to production", "good"),
    "staging": ("Not released: kept in staging", "held"),
    "refused": ("Refused: not even staged", "bad"),
}
"""A decision's status in words for everybody, and of which kind it is."""

ATTRIBUTES = {"sex": "Sex", "age_band": "Age", "ethnicity": "Ethnicity"}


def stress(test: StressTest) -> str:
    """What was done to the inputs, in a few words."""
    if test.kind == "unavailable":
        return f"no {plain(str(test.group))}"
    share = percent(test.share or 0)
    return (
        f"{share} of values missing"
        if test.kind == "missing"
        else f"noise of {share} of a standard deviation"
    )


def predictors(evidence: Evidence) -> Iterator[tuple[str, Estimate]]:
    """What the model stands beside on the same patients, each with its AUROC: simpler predictors, its own parts, itself
    with fewer inputs, and the best possible where that is known."""
    yield from ((baseline.name, baseline.auroc) for baseline in evidence.baselines)
    if evidence.notes is not None:
        yield "the table alone, without notes", evidence.notes.table_auroc
        yield "the notes alone, where there are any", evidence.notes.notes_auroc
    for few in evidence.plain_inputs:
        names = (
            ", ".join(map(plain, few.inputs)) if len(few.inputs) < 4 else f"{len(few.inputs)} bedside values"
        )
        yield f"the model, given only {names}", few.auroc
    if evidence.oracle is not None:
        yield "the best possible (synthetic patients)", evidence.oracle.auroc


def percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def typeset(text: str) -> str:
    """Numbers as print has them: a minus is no hyphen, and a line ends neither in an interval nor before a percent.

    >>> typeset("-0.1 (-0.2 to 0.3), 95 %, 5%, 45-64").replace("\u00a0", "_")
    '−0.1 (−0.2_to_0.3), 95_%, 5_%, 45-64'
    """
    text = re.sub(r"(?<![\w.-])-(?=[\d.])", "−", text)
    text = re.sub(r"(?<=\d) ?%", "\u00a0%", text)
    return re.sub(r"\([−\d][^()]* to [^()]*\)", lambda interval: interval[0].replace(" ", "\u00a0"), text)


def capitalized(sentence: str) -> str:
    """A sentence that begins with a capital, its other letters as they are.

    >>> capitalized("stays of ICU patients")
    'Stays of ICU patients'
    """
    return sentence[:1].upper() + sentence[1:]


def plain(name: str) -> str:
    """A name of the code as words."""
    return re.sub(r"[_\s]+", " ", name).strip()


def hours(estimate: Estimate) -> str:
    """A time to an outcome with its interval, in days where hours say no more.

    >>> hours(Estimate(value=76.117, low=59.817, high=87.783)).replace("\u00a0", " ")
    '76.1 h (59.8 to 87.8 h)'
    >>> hours(Estimate(value=303.25, low=265.0, high=335.4)).replace("\u00a0", " ")
    '12.6 days (11.0 to 14.0 days)'
    """
    if estimate.value is None:
        return estimate.text()
    unit, within = ("days", 24) if estimate.value >= _IN_DAYS else ("h", 1)
    scaled = Estimate(
        value=estimate.value / within,
        low=None if estimate.low is None else estimate.low / within,
        high=None if estimate.high is None else estimate.high / within,
    )
    text = scaled.text(digits=1).replace(" (", f" {unit} (", 1)
    return typeset(text.replace(")", f" {unit})") if scaled.interval else text)


_IN_DAYS = 120
"""Hours from which on a time is told in days."""


def duration(seconds: float) -> str:
    """A duration as text.

    >>> duration(0.44), duration(75), duration(4000)
    ('0.4 s', '1 min 15 s', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {round(seconds / 60) % 60} min"
