"""Verbs that write a dataset in other standards: its events for MEDS, a task's features for Feast."""

import argparse

from mediscale.cli.verbs import Verb, add_purpose, path, utc


def _add_meds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", type=path, required=True, help="new folder; it holds patient data")
    parser.add_argument(
        "--as-of",
        type=utc,
        metavar="TIME",
        help="leave out what was not known by then (UTC), e.g. 2026-11-01",
    )
    add_purpose(parser, "research")


def _export_meds(options: argparse.Namespace) -> int:
    from data_pipeline import meds_dataset
    from mediscale.cli.verbs import settings
    from mediscale.storage import signing

    home = settings()
    written = meds_dataset.write(
        home,
        options.dataset,
        options.output,
        by=signing.actor(home),
        purpose=options.purpose,
        as_of=options.as_of,
    )
    print(
        f"{written.rows:,} events of {written.subjects:,} patients with {written.codes:,} codes are in "
        f"{options.output}. They are patient data: keep them where such data belongs."
    )
    return 0


def _add_feast(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--output", type=path, required=True, help="new folder; it holds patient data")
    add_purpose(parser, "research")


def _export_feast(options: argparse.Namespace) -> int:
    from data_pipeline import feast_repository
    from mediscale.cli.verbs import settings
    from mediscale.core import tasks
    from mediscale.storage import signing

    home, task = settings(), tasks.load(options.task)
    written = feast_repository.write(
        home, options.dataset, task.name, options.output, by=signing.actor(home), purpose=options.purpose
    )
    print(
        f"{written.rows:,} predictions with {written.features} features are in {options.output}; `feast apply` and "
        "`feast materialize-incremental` run there. They are patient data: keep them where such data belongs."
    )
    return 0


VERBS = (
    Verb("export-meds", "write a dataset's events in the MEDS standard", _export_meds, _add_meds),
    Verb("export-feast", "write a task's features as a Feast feature repository", _export_feast, _add_feast),
)
