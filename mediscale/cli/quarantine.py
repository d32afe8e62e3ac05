"""The verb of what can't be used: which rules it breaks, where it stands, and taking in what was mended."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_pipeline.quarantine import Place
    from mediscale.core.settings import Settings

_MOST_PLACES = 50


def _add_quarantine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--rule", default="", help="only facts that break this rule, with file and line")
    parser.add_argument(
        "--table", default="", help="only facts of this table of the extract, with file and line"
    )
    parser.add_argument(
        "--output", type=path, help="CSV file to write with every place, for whoever mends the extract"
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help="read the newest extract's folder again after mending it or its YAML; what is now usable is appended",
    )
    parser.add_argument(
        "--source", metavar="NAME|FILE", help="with --replay: the mended YAML, if it is a file of your own"
    )


def _quarantine(options: argparse.Namespace) -> int:
    from data_pipeline import quarantine
    from mediscale.cli.verbs import settings
    from mediscale.core.plural import counted

    home = settings()
    if options.replay:
        return _replay(home, options)
    if not (options.rule or options.table or options.output):
        return _show_broken_rules(home, options.dataset)
    places = quarantine.places(home, options.dataset, options.rule, options.table)
    if options.output:
        _write_places(places, options.output)
        print(f"{counted(len(places), 'fact')} with file and line written to {options.output}.")
        return 0
    for place in places[:_MOST_PLACES]:
        print(f"{place.file}:{place.line}  {place.code}  {place.rules}")
    if len(places) > _MOST_PLACES:
        print(f"and {len(places) - _MOST_PLACES:,} more; --output FILE writes them all")
    return 0


def _show_broken_rules(home: "Settings", dataset: str) -> int:
    from data_pipeline import quarantine

    broken = quarantine.broken_rules(home, dataset)
    if not broken:
        print(f"Nothing of {dataset} is in quarantine.")
        return 0
    print(f"{'table':<24}{'rule':<22}{'facts':>12}{'rows':>12}{'files':>7}")
    for one in broken:
        print(f"{one.table:<24}{one.rule:<22}{one.facts:>12,}{one.rows:>12,}{one.files:>7,}")
    print("\nwhat a usable fact fulfils")
    for rule, meaning in {one.rule: one.meaning for one in broken}.items():
        print(f"  {rule:<22}{meaning}")
    print("\nMend the extract, or the source's YAML, and give --replay: what is usable then is appended.")
    return 0


def _replay(home: "Settings", options: argparse.Namespace) -> int:
    """Takes the newest extract in again: what a mended row or a mended YAML makes usable is appended."""
    from data_pipeline import quarantine
    from data_pipeline.ingest import landing
    from data_pipeline.ingest import source as sources
    from mediscale.core.errors import NotFoundError
    from mediscale.core.plural import counted
    from mediscale.pipeline import local, runtime_inputs, steps
    from mediscale.storage import calls, locks

    landed = landing.newest_call(home, "bronze", options.dataset)
    if landed is None or landing.is_synthetic(landed):
        raise NotFoundError(
            f"No extract of a hospital was landed in {options.dataset}; `mediscale run` takes one in, and makes a "
            "synthetic one anew."
        )
    source = sources.register(options.source or landed.params["source"])
    which = runtime_inputs.Source(source=source, path=landed.params["path"], dataset=options.dataset)
    with locks.exclusive(home, f"run-{options.dataset}", f"A run of {options.dataset}"):
        before = quarantine.newest(home, options.dataset)
        this = local.Run(home, options.dataset, calls.new_run_id("quarantine"))
        results: local.Results = {steps.PREPARE_SOURCE: local.prepare_source(this, which)}
        this.follow(tuple(steps.nodes(steps.INGEST, ())), results)
        left, entered = quarantine.difference(home, before, quarantine.newest(home, options.dataset))
    print(f"{counted(left, 'fact')} left the quarantine of {options.dataset}; new in it: {entered:,}.")
    return _show_broken_rules(home, options.dataset)


def _write_places(places: "Sequence[Place]", output: Path) -> None:
    import csv

    from data_pipeline.quarantine import Place

    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Place._fields)
        writer.writerows(places)


VERBS = (
    Verb(
        "quarantine",
        "list unusable facts by the rule that they break, with file and line",
        _quarantine,
        _add_quarantine,
    ),
)
