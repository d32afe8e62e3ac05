"""The policy's floor about leaks: a certificate of the version's own training set, and all of its checks passed."""

from training.evaluation.evaluation_report import Evidence
from training.promotion.floor import Floor


def leak_floor(evidence: Evidence) -> Floor:
    """The floor of the leak certificate: a failed check, no certificate, or that of another training set refuses."""
    certificate = evidence.leakage
    what, required = "leak certificate of its training set", "every check passed"
    if certificate is None:
        problem = (
            "its training set has no leak certificate; run the stage leakage and evaluate with its result"
        )
        return Floor(what, required, "none", problem)
    if certificate.training_set != evidence.training_set:
        problem = (
            f"its leak certificate is not of {evidence.training_set}, on which it was trained and judged"
        )
        return Floor(what, required, "of another training set", problem)
    failed, unjudged = (
        "; ".join(f"{check.title} ({check.shown})" for check in checks)
        for checks in (certificate.failed, certificate.unjudged)
    )
    n_passed = sum(check.verdict == "passed" for check in certificate.checks)
    problem = ""
    if not certificate.passed:
        problem = f"suspected leak: {failed or 'nothing was checked'}"
    elif unjudged:
        problem = f"its leak certificate could not judge {unjudged}"
    return Floor(what, required, f"{n_passed} of {len(certificate.checks)} passed", problem)
