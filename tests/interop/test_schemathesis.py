"""Schemathesis, in an environment of its own, asks a running server what its own OpenAPI document allows, and what it
does not: whatever comes, the server answers, and never with an error of its own. Its memory stays what it was."""

import re
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixtures.server_process import Start

PROGRAM = Path(__file__).parents[2] / ".venv-interop" / "schemathesis" / "bin" / "st"
LANGUAGE = "^/(generate|chat|v1|embeddings|approvals)"
"""Routes that say 503 where no language version is served."""
GROWTH = 64 * 2**20
"""Bytes: what buffers and caches may take, a leak of a few kilobytes in each request passes it."""


@pytest.mark.soak
def test_whatever_the_document_allows_or_not_is_answered(
    start: Start, promote: Any, soak: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where it keeps what it found
    promote("mortality")
    promote("readmission")
    server = start()
    process = psutil.Process(server.process.pid)
    cases(server.address, 2)
    before = memory(process)
    generated = cases(server.address, 1000 if soak else 100)
    assert generated >= (10_000 if soak else 1_000)
    assert memory(process) - before < GROWTH
    assert server.client.get("/ready").status_code == 200


def cases(address: str, examples: int) -> int:
    """How many requests of each route's examples were sent, none of which was answered with an error of the server."""
    command = [
        str(PROGRAM), "run", f"{address}/openapi.json", "--checks", "not_a_server_error", "--phases", "fuzzing",
        "--max-examples", str(examples), "--seed", "1", "--mode", "all", "--exclude-path-regex", LANGUAGE, "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    counted = re.search(r"([\d,]+) generated", done.stdout)
    assert counted, done.stdout[-2000:]
    return int(counted[1].replace(",", ""))


def memory(process: psutil.Process) -> int:
    """Resident bytes of the server and its children."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
