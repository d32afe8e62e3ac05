"""Verbs of traffic: which versions answer whom, and another one beside the one in production."""

import argparse
import sys
from typing import Literal

from mediscale.cli import stage
from mediscale.cli.verbs import Verb, add_version, settings, wrapped


def _share(text: str) -> float:
    """A percentage."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise argparse.ArgumentTypeError(f"{text} is no percentage from 0 to 100")
    return share


def _add_canary(parser: argparse.ArgumentParser) -> None:
    add_version(parser, "a staged version, e.g. icu-mortality/2")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--percent",
        type=_share,
        help="share of the patients, always the same ones, who get its answer; 0: only by its own URL",
    )
    what.add_argument("--stop", action="store_true", help="let the version in production answer alone again")
    parser.add_argument("--shadow", action="store_true", help="log its answers, and give them to nobody")
    parser.add_argument("--reason", default="", help="one sentence for the history")


def _canary(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.storage import signing
    from training import canary

    home = settings()
    signed = canary.Signatory(signing.actor(home), caller.now(), options.reason)
    if options.stop:
        setting = canary.stop(home, options.version, signed)
    else:
        mode: Literal["canary", "shadow"] = "shadow" if options.shadow else "canary"
        setting = canary.begin(home, options.version, options.percent, signed, mode)
    print(f"{setting}\nServers follow by themselves; `mediscale traffic` shows what answers whom.")
    return 0


def _add_traffic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", help="one dataset (default: all with a history)")
    parser.add_argument(
        "--outcomes", action="store_true", help="also show what became of each arm's patients, once known"
    )


def _traffic(options: argparse.Namespace) -> int:
    from mediscale.core import caller
    from mediscale.core.errors import NotFoundError
    from mediscale.governance import integrity, served_traffic

    home, lines = settings(), list[str]()
    for name in [options.dataset] if options.dataset else integrity.datasets(home):
        lines += served_traffic.lines(home, name)
        lines += served_traffic.outcomes(home, name, caller.now()) if options.outcomes else ()
    if not lines:
        raise NotFoundError(
            "Nothing is in production; promote a version with `mediscale promote --dataset D --task T --version V`."
        )
    print("\n".join(wrapped(line, 4) for line in lines))
    return 0


def _add_drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", required=True, help="the dataset whose production version is rehearsed with"
    )
    stage.add_step(parser)


def _drill(options: argparse.Namespace) -> int:
    from mediscale.core import logs
    from mediscale.simulation import drill

    stage.begin_step(options)
    with logs.handled_by(logs.to_standard_error()):
        result = drill.run(settings(), options.dataset)
    print(result.summary, file=sys.stderr if options.result else sys.stdout)
    if options.result:
        stage.write_result(result.model_dump_json(indent=2), options.result)
    return 0


VERBS = (
    Verb("traffic", "show which versions answer which share of the patients", _traffic, _add_traffic),
    Verb("canary", "let a staged version answer a share of the patients", _canary, _add_canary),
    Verb(
        "drill",
        "rehearse broken canaries and a rollback on a server of its own, under load",
        _drill,
        _add_drill,
    ),
)
