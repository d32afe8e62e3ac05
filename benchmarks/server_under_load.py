"""What costly requests of a few clients cost everybody else: p99 of ``/health`` and of a two-value ``/predict``.

    python benchmarks/server_under_load.py

One worker serves a model that reads notes. Each load is four clients, processes of their own, that send one kind of
costly body one after another; what a fifth one waits for is measured before them, meanwhile and after them, in one run.
"""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.predict_request import (
    NOTE,
    SERVE,
    TWO_VALUES,
    free_port,
    promote,
    read_notes,
    running,
    set_apart,
    write_model,
)
from mediscale.core.settings import Settings
from serving.schemas import NOTE_CHARACTERS

CLIENTS = 4
SECONDS = 10.0
"""Of each measurement."""

_NOTES = (NOTE + "\n") * (NOTE_CHARACTERS // (len(NOTE) + 1))
BODIES: Mapping[str, bytes] = {
    "notes of a page": json.dumps({**TWO_VALUES, "clinical_note": NOTE}).encode(),
    "notes of a megabyte": json.dumps({**TWO_VALUES, "clinical_note": _NOTES}).encode(),
    "a megabyte that never ends": b'{"clinical_note": "' + b"\\u00e9" * 2**18,
    "a megabyte of escapes": b'{"clinical_note": "' + b"\\u00e9" * 2**18 + b'", "ages": 67}',
    "a megabyte of nesting": b'{"age": ' + b"[" * 2**20,
    "a megabyte of names": b"{" + b", ".join(b'"age": %d' % i for i in range(2**16)) + b"}",
    "a megabyte of space": b'{"age": 67' + b" " * 2**20 + b"}",
    "a megabyte that is not UTF-8": b'{"clinical_note": "' + b"a" * 2**20 + b'\xff"}',
}
ASKED: Mapping[str, tuple[str, str, bytes]] = {
    "/health": ("GET", "/health", b""),
    "/predict": ("POST", "/predict", json.dumps(TWO_VALUES).encode()),
}

CLIENT = """
import http.client, sys
port, path = int(sys.argv[1]), sys.argv[2]
body = open(path, "rb").read()
while True:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    connection.getresponse().read()
    connection.close()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        set_apart(Path(folder))
        home, table, reading = (
            Settings(home=Path(folder) / "home"),
            Path(folder) / "table",
            Path(folder) / "reading",
        )
        write_model(table, "mortality")
        read_notes(table, reading)
        promote(home, {"mortality": reading}, ("mortality",))
        port = free_port()
        with running([sys.executable, "-c", SERVE, str(home.home), str(port)], port):
            warm(port)
            print(f"{CLIENTS} clients send one kind of body; p99 in ms, and how many times the idle one\n")
            print(f"{'':32}" + "".join(f"{name:>20}" for name in ASKED))
            for what, body in BODIES.items():
                show(what, compared(port, body, Path(folder)))


def warm(port: int) -> None:
    for name in ASKED:
        latencies(port, name, 2)


def compared(
    port: int, body: bytes, folder: Path, seconds: float = SECONDS
) -> dict[str, tuple[float, float]]:
    """By what is asked, the p99 under the load and the idle one, which is the worse of before and after, in ms."""
    before = {name: p99(port, name, seconds) for name in ASKED}
    with loaded(port, body, folder):
        meanwhile = {name: p99(port, name, seconds) for name in ASKED}
    wait_until_quiet(port)
    after = {name: p99(port, name, seconds) for name in ASKED}
    return {name: (meanwhile[name], max(before[name], after[name])) for name in ASKED}


def show(what: str, measured: Mapping[str, tuple[float, float]]) -> None:
    cells = (f"{load:9.2f} {idle:5.2f} {load / idle:3.1f}x" for load, idle in measured.values())
    print(f"{what:32}" + "".join(cells), flush=True)
    for name, (load, idle) in measured.items():
        print(f"figure: p99 of {name} under {what} over idle = {load / idle:.1f}")


@contextmanager
def loaded(port: int, body: bytes, folder: Path) -> Iterator[None]:
    """While clients of their own processes send a body again and again."""
    file = folder / "body"
    file.write_bytes(body)
    command = [sys.executable, "-c", CLIENT, str(port), str(file)]
    clients = [psutil.Popen(command, stderr=subprocess.DEVNULL) for _ in range(CLIENTS)]
    try:
        time.sleep(1)
        yield
    finally:
        for client in clients:
            client.kill()
            client.wait()


def wait_until_quiet(port: int) -> None:
    """What the clients left is worked off once a note is answered."""
    note = json.dumps({**TWO_VALUES, "clinical_note": "Walks."}).encode()
    while True:
        status, _ = timed(
            http.client.HTTPConnection("127.0.0.1", port, timeout=600), "POST", "/predict", note
        )
        if status == 200:
            return
        time.sleep(0.5)


def p99(port: int, name: str, seconds: float) -> float:
    return float(np.percentile(latencies(port, name, seconds), 99)) * 1e3


def latencies(port: int, name: str, seconds: float) -> list[float]:
    """Seconds of requests on one connection, a few hundred a second at most."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    measured: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status, took = timed(connection, *ASKED[name])
        if status != 200:
            raise SystemExit(f"{name} answered {status}")
        measured.append(took)
        time.sleep(0.002)
    return measured


def timed(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> tuple[int, float]:
    begun = time.perf_counter()
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status, time.perf_counter() - begun


if __name__ == "__main__":
    main()
