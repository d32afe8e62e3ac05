"""Commands of the set-up: run with a log, a sign of life and one sentence where they fail."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from infra.set_up import places

PACKAGES = "the Python package registry"
HEARTBEAT_SECONDS = 10.0
UNREACHABLE = re.compile(
    r"connect|dns error|name resolution|timed? ?out|tunnel|certificate|UnknownHost|unresolved|server error",
    re.IGNORECASE,
)


def run(title: str, command: Sequence[str], source: str, **environment: str) -> None:
    """Runs a command with its output in a log, saying every few seconds that it is still at work.

    ``source`` is what the command depends on, as the sentence names it when the command fails.
    """
    say(title)
    started = last_message = time.monotonic()
    log = places.TOOLS / "set-up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=mirrored() | environment,
            close_fds=False,
        )
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - last_message > HEARTBEAT_SECONDS:
                last_message = time.monotonic()
                say(f"  … {last_message - started:.0f} s")
    if process.returncode:
        explain(log, title, source)


def mirrored() -> dict[str, str]:
    """The environment of uv, with pip's settings, which it does not read: a site's mirror and certificate are there."""
    theirs = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "SSL_CERT_FILE": "PIP_CERT"}
    return {ours: os.environ[pips] for ours, pips in theirs.items() if pips in os.environ} | dict(os.environ)


def explain(log: Path, title: str, source: str) -> NoReturn:
    output, where = log.read_text(errors="replace"), log.relative_to(places.ROOT)
    if "No space left" in output:
        fail(f"{title}: the disk is full; make room and run it again")
    if re.search("hash mismatch|do not match the hashes", output, re.IGNORECASE):
        fail(f"{title}: {source} sent something else than the locks name, so nothing of it is used ({where})")
    if UNREACHABLE.search(output):
        fail(f"{title}: {source} cannot be reached; check the network and run it again (details: {where})")
    fail(f"{title}: this needs {source} and failed; {where} says how")


def say(message: str) -> None:
    print(f"set-up: {message}", file=sys.stderr, flush=True)


def fail(message: str) -> NoReturn:
    say(message)
    raise SystemExit(1)


def uv(*command: str) -> list[str]:
    return [
        str(places.TOOLS / "uv" / "bin" / "uv"),
        *command,
        "--system-certs",
        "--no-progress",
        "--no-python-downloads",
    ]
