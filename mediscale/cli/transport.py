"""The verb ``transport``: it evaluates a version on the patients of another dataset."""

import argparse
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, add_version

if TYPE_CHECKING:
    from training.evaluation.transport import Transport


def _add_transport(parser: argparse.ArgumentParser) -> None:
    add_version(parser)
    parser.add_argument(
        "--to", required=True, metavar="DATASET", help="another dataset on which the task was run"
    )


def _transport(options: argparse.Namespace) -> int:
    from mediscale.cli.verbs import settings
    from mediscale.core.errors import NotFoundError
    from mediscale.core.refs import ModelRef, TableRef
    from mediscale.storage import calls, registry
    from mediscale.storage.lineage import Lineage
    from training.evaluation import transport

    home = settings()
    dataset, task, number = registry.parse_version(options.version)
    trained = Lineage(home).maker(registry.model_name(dataset, task), number)
    frozen = calls.newest_night(home, "training_set", options.to, task)
    if frozen is None:
        labelled = calls.newest_night(home, "labels", options.to, task) is not None
        advice = "its run ended before one was made, as where too few have the outcome or lack it: `mediscale runs`"
        first = f"run `mediscale run --task {task}` on its extract first"
        raise NotFoundError(
            f"The home has no training set of {options.to} for {task}; {advice if labelled else first}."
        )
    transported = transport.run(
        home,
        ModelRef.model_validate(trained.result["model"]),
        task,
        trained_on=TableRef.model_validate(trained.params["training_set"]),
        other=TableRef.model_validate(frozen.result["training_set"]),
    )
    for line in _transported(transported, options.to):
        print(line)
    return 0


def _transported(transported: "Transport", dataset: str) -> list[str]:
    from mediscale.core.privacy import count, count_of

    counts = transported.counts
    lines = [
        f"{transported.model} on {count(counts.n)} {counts.unit} of {count(counts.subjects)} patients of {dataset}, "
        f"{count_of(counts.events, counts.n)} with the outcome; by values alone, without notes",
        "",
        f"  {'figure':<44}{'value':>10}  95 % interval",
    ]
    for name, estimate in transported.metrics.items():
        ends = (estimate.value, estimate.low, estimate.high)
        value, low, high = ("not estimable" if end is None else f"{end:.3f}" for end in ends)
        interval = f"{low} to {high}" if estimate.low is not None else low
        lines.append(f"  {name.replace('_', ' '):<44}{value:>10}  {interval}")
    lines += ["", f"  {'recalibrated with':<24}{'slope':>10}{'intercept':>12}{'log loss':>12}  of the others"]
    for one in transported.recalibrations:
        who = f"{one.patients:,} patients" if one.patients else "nobody"
        figures = ((one.calibration_slope, 10, 2), (one.calibration_intercept, 12, 2), (one.log_loss, 12, 4))
        cells = ("–".rjust(w) if figure is None else f"{figure:{w}.{d}f}" for figure, w, d in figures)
        lines.append(f"  {who:<24}{''.join(cells)}")
    if len(transported.recalibrations) == 1:
        lines.append("  There are too few patients to recalibrate with some and to judge on the others.")
    lines += ["", f"  {'most important inputs':<40}{'missing':>10}{'in training':>14}{'shift (SD)':>12}"]
    for shift in transported.inputs:
        moved = "" if shift.difference is None else f"{shift.difference:+.2f}"
        lines.append(f"  {shift.name:<40}{shift.missing:>10.0%}{shift.missing_in_training:>14.0%}{moved:>12}")
    return lines


VERBS = (Verb("transport", "evaluate a version on another dataset", _transport, _add_transport),)
