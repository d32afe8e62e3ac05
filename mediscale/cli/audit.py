"""Verbs of an auditor: rebuild a version, follow a patient or a prediction, take a patient out."""

import argparse
import sys
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, settings

if TYPE_CHECKING:
    from mediscale.governance.reproduce import Comparison


def _add_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "version", metavar="MODEL/VERSION", help="a registered version, e.g. synthetic-mortality/2"
    )


def _reproduce(options: argparse.Namespace) -> int:
    from mediscale.core.errors import StorageError, UsageError
    from mediscale.core.refs import parse_version
    from mediscale.governance import reproduce

    home, version = settings(), parse_version(options.version)
    if version is None:
        raise UsageError("A version is written MODEL/VERSION, such as synthetic-mortality/2.")
    if commit := reproduce.other_place(home, *version):
        print(
            f"mediscale: its code is that of commit {commit[:12]}; it is rebuilt from there.", file=sys.stderr
        )
        return reproduce.at_commit(home, commit, ["reproduce", options.version])
    identical = True
    for compared in reproduce.rebuild(home, *version):
        identical &= compared.identical
        print(_sentence(compared))
    return 0 if identical else StorageError.exit_code


def _sentence(compared: "Comparison") -> str:
    model, rows = compared.model, f"{compared.rows:,} tuning rows"
    how = f"{compared.stage}{f', {compared.layout}' if compared.layout else ''}"
    if compared.identical:
        return (
            f"{model.name}/{model.version} rebuilt ({how}): identical to the bit in {', '.join(compared.same)} "
            f"(digest {model.digest[:12]}) and in its answers on {rows}."
        )
    files = ", ".join(compared.different) or "no file"
    return (
        f"{model.name}/{model.version} rebuilt ({how}): different in {files}; "
        f"answers on {rows} differ by up to {compared.largest:.3g} in log-odds."
    )


VERBS = (
    Verb("reproduce", "rebuild a registered version and compare it to the bit", _reproduce, _add_reproduce),
)
