"""How often an undrifted window is called drifted: thresholds that fit the window's size beside Evidently's defaults.

    python benchmarks/drift_false_alarms.py [--windows 10]

Reference and windows are drawn from one population of clinical-looking columns (skewed, binary, rare, often missing;
patients with several visits), so every alarm is false. "any" is the share of windows in which any column was flagged,
which our verdict goes by; "half" of those in which half of the columns were, which is Evidently's default for a whole
data set, and under which a changed unit of one measurement goes unseen: the last lines are windows with such a change.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from monitoring.drift import comparison
from monitoring.drift.null_distribution import Sample
from monitoring.drift.report import ColumnVerdict, judge

COLUMNS = 20
NAMES = tuple(f"column {i}" for i in range(COLUMNS))
SIZES = (60, 200, 1000)
REFERENCE_PATIENTS = 1500


def population(patients: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    visits = 1 + rng.poisson(0.3, patients)
    subjects = np.repeat(np.arange(patients), visits)
    common = np.repeat(rng.normal(size=(patients, 1)), visits, axis=0)
    own = np.repeat(rng.normal(size=(patients, COLUMNS)), visits, axis=0)
    z = 0.5 * common + 0.6 * own + 0.6 * rng.normal(size=own.shape)
    values = np.where(np.arange(COLUMNS) < 12, np.exp(z), z)
    values[:, 15:18] = z[:, 15:18] > (0.5, 1.3, 2.3)
    values[rng.random(values.shape) < np.linspace(0, 0.6, COLUMNS)] = np.nan
    return Sample(values, np.zeros(len(subjects), np.int64), subjects)


def window(rows: int, seed: int) -> Sample:
    drawn = population(rows, seed)
    return Sample(drawn.values[:rows], drawn.strata[:rows], drawn.patients[:rows])


def ours(now: Sample, before: Sample) -> dict[str, ColumnVerdict]:
    pair = comparison.Comparison(NAMES, now, before)
    generator = np.random.default_rng(0)
    [calibrated] = comparison.calibrate(
        [pair], family_wise_error_rate=0.05, n_resamples=400, generator=generator
    )
    return judge(dict(calibrated.columns()), generator).columns


def defaults(now: Sample, before: Sample) -> dict[str, ColumnVerdict]:
    """``DataDriftPreset()`` as it comes. It raises on an empty column; here there is none."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(NAMES))
    current, reference = (
        Dataset.from_pandas(pd.DataFrame(side.values, columns=list(NAMES)), definition)
        for side in (now, before)
    )
    found = Report([DataDriftPreset()], include_tests=True).run(
        current_data=current, reference_data=reference
    )
    return {
        test["metric_config"]["params"]["column"]: ColumnVerdict(0.0, str(test["status"]).endswith("FAIL"))
        for test in found.dict()["tests"]
        if "column" in test["metric_config"]["params"]
    }


Method = Callable[[Sample, Sample], dict[str, ColumnVerdict]]


def windows(rows: int, repeats: int, unit: float) -> Iterator[tuple[Sample, Sample]]:
    for i in range(repeats):
        now = window(rows, 10_000 + i)
        now.values[:, 0] *= unit
        yield now, population(REFERENCE_PATIENTS, i)


def line(method: Method, rows: int, repeats: int, unit: float = 1.0) -> tuple[str, str, str, str]:
    began = time.process_time()
    found = [method(*pair) for pair in windows(rows, repeats, unit)]
    seconds = (time.process_time() - began) / repeats
    shares = np.array([np.mean([column.drifted for column in each.values()]) for each in found])
    return (
        f"{shares.mean():.1%}",
        f"{(shares > 0).mean():.0%}",
        f"{(shares >= 0.5).mean():.0%}",
        f"{seconds:.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of drift thresholds on undrifted windows.")
    parser.add_argument("--windows", type=int, default=10, help="windows of each size")
    repeats = parser.parse_args().windows
    warnings.filterwarnings("ignore")
    shown = Table(
        title=f"{repeats} windows a line, {COLUMNS} columns, {REFERENCE_PATIENTS} reference patients, stated rate 5 %"
    )
    for heading in (
        "windows",
        "n",
        "thresholds",
        "columns flagged",
        "any column",
        "half of columns",
        "CPU s",
    ):
        shown.add_column(heading, justify="left" if heading in ("windows", "thresholds") else "right")
    for rows in SIZES:
        shown.add_row("undrifted", str(rows), "calibrated", *line(ours, rows, repeats))
        shown.add_row("undrifted", str(rows), "Evidently", *line(defaults, rows, repeats))
    for rows in SIZES:
        shown.add_row("unit changed", str(rows), "calibrated", *line(ours, rows, repeats, unit=88.4))
    Console().print(shown)


if __name__ == "__main__":
    main()
