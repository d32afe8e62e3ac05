"""Verbs of upkeep: reclaim what nothing needs, take a backup, put it back."""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, path, settings

if TYPE_CHECKING:
    from mediscale.core.settings import Settings


def _add_clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="delete it (default: only list it)")


def _clean(options: argparse.Namespace) -> int:
    from mediscale.core.plural import counted
    from mediscale.governance import cleaning

    home = settings()
    items = cleaning.find(home)
    sizes, files = Counter[str](), Counter[str]()
    for item in items:
        sizes[item.kind] += item.size
        files[item.kind] += 1
    if options.yes:
        cleaning.delete(home, items)
    if not items:
        print("Nothing to reclaim: registered versions, answers and the next run need all of it.")
        return 0
    for kind, size in sorted(sizes.items()):
        print(f"{size / 1e6:>12,.1f} MB in {counted(files[kind], 'file')}: {kind}")
    total = f"{sum(sizes.values()) / 1e6:,.1f} MB"
    if options.yes:
        print(f"{total} reclaimed.")
    else:
        print(f"{total} to reclaim; nothing was deleted. Delete it with --yes.")
    return 0


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=path, help="folder of the backup")


def _backup(options: argparse.Namespace) -> int:
    from mediscale.core.errors import UsageError
    from mediscale.core.plural import counted
    from mediscale.governance import backup
    from mediscale.storage import lake

    home = settings()
    datasets = lake.datasets(home)
    try:
        n = backup.backup(home, options.folder)
    except UsageError:  # of whoever typed it: no backup failed
        raise
    except Exception as error:
        _note_backup(home, datasets, error)
        raise
    _note_backup(home, datasets, None)
    print(
        f"{counted(n, 'file')} written to {options.folder}. They hold patient data and no private key: keep the folder "
        "as private as the home, and a copy of the signing key elsewhere."
    )
    return 0


def _note_backup(home: "Settings", datasets: Sequence[str], error: Exception | None) -> None:
    """Notes how a backup ended, for each dataset, because a server shows the notes of one dataset."""
    from mediscale.storage import last_calls

    warnings = (last_calls.reason("backup", "", error),) if error else ()
    for dataset in datasets:
        last_calls.record(home, dataset, "backup", "", failed=error is not None, warnings=warnings)


def _restore(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.core.plural import counted
    from mediscale.governance import backup
    from mediscale.storage import signing

    home = settings()
    restored = backup.restore(home, options.folder, signing.actor(home), caller.now())
    print(f"{counted(restored.files, 'file')} restored.")
    for dataset, end in sorted(restored.histories.items()):
        lost = f", and entry {end.accepted} was accepted here before" if end.accepted > end.sequence else ""
        print(
            f"The history of {dataset} ends at entry {end.sequence} of {end.at:%Y-%m-%d %H:%M} UTC{lost}: what was "
            "decided after that is lost."
        )
    for dataset, n in sorted(restored.erased.items()):
        print(f"Erased again in {dataset}, because of erasures after the backup: {counted(n, 'patient')}.")
    return 0


VERBS = (
    Verb("backup", "copy home, lake, models and public keys into a folder", _backup, _add_folder),
    Verb("clean", "list, or delete, what no version, no answer and no next run needs", _clean, _add_clean),
    Verb("restore", "restore a backup; patients erased since stay erased", _restore, _add_folder),
)
