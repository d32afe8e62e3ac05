"""The policy's floors for a model in use: what its alerts cost, what spoils its inputs, its data and its files."""

from collections.abc import Iterator

from mediscale.core.policy import DataQuality as QualityLimits
from mediscale.core.policy import Policy, Stress
from mediscale.core.privacy import SMALL_COUNT, count, is_small
from training.evaluation.evaluation_report import DataQuality, Evidence, SilentPeriod
from training.promotion.floor import Floor, at_least, at_most, reaches, within


def alert_burden_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """What alerts at the clinical threshold may cost and must bring."""
    burden, limits, at = evidence.alert_burden, policy.alert_burden, f"{policy.clinical_threshold:.0%}"
    if burden is not None and burden.threshold != policy.clinical_threshold:
        burden = None
    lead = burden.lead_time if burden else None
    yield at_most(
        f"alerts per 100 patient-days at {at}",
        burden.alerts_per_100_patient_days if burden else None,
        limits.alerts_per_100_patient_days_max,
    )
    yield at_most(
        f"number needed to evaluate at {at}",
        burden.number_needed_to_evaluate if burden else None,
        limits.number_needed_to_evaluate_max,
    )
    yield at_least(f"sensitivity at {at}", burden.sensitivity if burden else None, limits.sensitivity_low)
    if limits.lead_time_hours_low is not None:
        yield at_least(
            f"median hours from alert to outcome at {at}",
            lead.median if lead else None,
            limits.lead_time_hours_low,
        )


def robustness_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """How much each stress of the policy may change the answers."""
    for stress in policy.stresses:
        test = next((t for t in evidence.robustness if _is(t, stress)), None)
        if test and test.unchanged:
            yield Floor(f"answers with {stress.name}", "little changed", "none changed")
            continue
        if stress.auroc_low is not None:
            yield at_least(f"AUROC with {stress.name}", test.auroc if test else None, stress.auroc_low)
        if stress.auroc_loss_max is not None:
            loss = test.auroc_loss if test else None
            yield at_most(f"AUROC lost with {stress.name}", loss, stress.auroc_loss_max)
        most = stress.intercept_shift_max
        what = f"calibration intercept changed by {stress.name}"
        yield within(what, test.intercept_shift if test else None, -most, most)


def _is(test: object, stress: Stress) -> bool:
    return all(getattr(test, name) == getattr(stress, name) for name in ("kind", "share", "group"))


def data_quality_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """What validation may have said of the extract."""
    quality, limits = evidence.data_quality, policy.data_quality
    if quality is None or not quality.judged:
        what = "data quality of the extract"
        problem = "no record says how the extract was validated; evaluate with its quarantine"
        yield Floor(what, "validated", "not known", problem)
        return
    yield from _broken(quality, limits)
    for column, n in quality.unlisted.items():
        records, most = quality.records.get(column, 0), limits.unlisted_share_max
        yield _share(f"words of {column} in no list", n, records, "records", most)


def _broken(quality: DataQuality, limits: QualityLimits) -> Iterator[Floor]:
    if not quality.broken:
        yield Floor("facts that break a rule", f"at most {limits.rule_share_max:.0%}", "none")
    for rule, n in quality.broken.items():
        yield _share(f"facts that break the rule {rule}", n, quality.judged, "facts", limits.rule_share_max)


def _share(what: str, n: int, of: int, unit: str, most: float) -> Floor:
    """``n`` of ``of`` are at most a share; an ``of`` of nothing is no share."""
    observed = f"fewer than {SMALL_COUNT} of {of:,} {unit}" if is_small(n) else f"{n:,} of {of:,} {unit}"
    problem = f"{what}: {observed}, where the policy allows {most:.0%}"
    return Floor(what, f"at most {most:.0%}", observed, "" if of and n <= most * of else problem)


def silent_floors(silent: SilentPeriod | None, policy: Policy) -> Iterator[Floor]:
    """What the version must have shown in shadow, where the policy asks for that."""
    required = policy.silent_period
    if required is None:
        return
    what = "silent period in shadow"
    if silent is None:
        problem = "it has no silent period: serve it with --alias staging until enough outcomes have matured"
        yield Floor(what, f"{required.min_outcomes:,} matured outcomes", "none", problem)
        return
    for unit, n, least in (
        ("matured outcomes", silent.outcomes, required.min_outcomes),
        ("events", silent.events, required.min_events),
    ):
        short = f"{count(n)} {unit} in its {what} where the policy needs {least:,}"
        yield Floor(f"{what}: {unit}", f"at least {least:,}", count(n), "" if n >= least else short)
    yield at_least(f"AUROC in the {what}", silent.auroc, required.auroc_low)
    intercept = silent.calibration_intercept
    yield reaches(f"calibration intercept in the {what}", intercept, *required.calibration_intercept)


def file_floors(evidence: Evidence, policy: Policy) -> Iterator[Floor]:
    """How large and how slow the version may be."""
    files, limits = evidence.files, policy.files
    if files is None or not files.answers:
        yield Floor(
            "size and speed of the files", "measured", "not known", "size and speed were not measured"
        )
        return
    megabytes, most = files.bytes / 1e6, limits.bytes_max / 1e6
    large = f"the files have {megabytes:,.1f} MB where the policy allows {most:,.0f}"
    yield Floor(
        "size of the files",
        f"at most {most:,.0f} MB",
        f"{megabytes:.3g} MB",
        large if megabytes > most else "",
    )
    seconds, ceiling = files.slowest_seconds, limits.seconds_per_answer_max
    slow = f"an answer took {seconds:g} s where the policy allows {ceiling:g}"
    in_time = 0 <= seconds <= ceiling  # not so where it is not a number
    yield Floor(
        "time per answer", f"at most {ceiling:g} s", f"{1000 * seconds:.2g} ms", "" if in_time else slow
    )
