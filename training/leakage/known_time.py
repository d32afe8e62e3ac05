"""Dynamic leak checks: prediction times, features and notes of sampled stays, computed again from what was known then.

The computation is the pipeline's own: the kernel, the cohort's prediction times and the visibility of notes.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from data_pipeline.cohort import at_risk, prediction_times
from data_pipeline.cohort.bitemporal import Floats, latest_as_of
from data_pipeline.cohort.stays import patients
from data_pipeline.features import kernel
from mediscale.core import tasks
from mediscale.core.privacy import count
from training.leakage import planted
from training.leakage.certificate import Check, check
from training.leakage.declared import shortened
from training.leakage.sample import KEY, Sample


def checks(sample: Sample) -> Iterator[Check]:
    yield prediction_time_known(sample)
    then = _features(sample, sample.visible_at_prediction(sample.events))
    yield _unchanged(
        "features_known_then",
        "the training set has the features that the kernel computes from what was known at the prediction time",
        sample, sample.frozen, then, "computed again without the future, none differs",
    )  # fmt: skip
    n_codes = len(planted.codes(sample))
    experiments: tuple[tuple[str, str, Callable[[Sample], pa.Table], str], ...] = (
        ("later_facts", "facts that became known after the prediction reach no feature", planted.later_facts,
         f"{n_codes} codes planted, in every table of the extract"),
        ("later_corrections", "corrections that became known after the prediction reach no feature",
         planted.later_corrections, "everything known corrected or withdrawn a second later"),
        ("outcome_facts", "the outcome reaches no feature, even if it is known before the prediction",
         planted.outcome_facts, "death, its flag and declared outcomes planted"),
    )  # fmt: skip
    for name, asks, plant, otherwise in experiments:
        yield _unchanged(name, asks, sample, _features(sample, plant(sample)), then, otherwise)


def _features(sample: Sample, events: pa.Table) -> Floats:
    return kernel.compute(events.select(list(kernel.COLUMNS)), sample.predictions, sample.task)


def _unchanged(
    name: str, asks: str, sample: Sample, values: Floats, expected: Floats, otherwise: str
) -> Check:
    differs = ~((values == expected) | (np.isnan(values) & np.isnan(expected)))
    stays, columns = differs.any(axis=1).sum(), np.flatnonzero(differs.any(axis=0))
    names = [kernel.names(sample.task)[i] for i in columns]
    problem = f"{shortened(names)} differ in {count(int(stays))} of {count(len(sample))} stays"
    return check(name, asks, [problem] if names else [], f"{otherwise} ({count(len(sample))} stays)")


def prediction_time_known(sample: Sample) -> Check:
    """Check that each prediction time follows from what was known then; one that lies hours before a death does not."""
    task = tasks.load(sample.task)
    then = sample.visible_at_prediction(sample.events)
    records = at_risk.assertions(then, task)
    rows = {
        (patient.subject_id, stay.first.visit_id, stay.admitted.time, at)
        for patient in patients(latest_as_of(then, None))
        for stay in patient.units(task.unit)
        for at in prediction_times.of_stay(patient, stay, task)
        if not at_risk.failed_step(records.get(patient.subject_id, at_risk.NOTHING), stay, task, at)
    }
    rows_there = sample.predictions.to_pylist()
    unlike = sum(tuple(row[name] for name in KEY) not in rows for row in rows_there)
    problem = f"{count(unlike)} of {count(len(rows_there))} prediction times can't be told from what was known by then"
    return check(
        "prediction_time_known",
        "when a stay is predicted follows from what was known by then",
        [problem] if unlike else [],
        f"{count(len(rows_there))} stays",
    )
