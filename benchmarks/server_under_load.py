"""What costly requests of a few clients cost everybody else: p99 of ``/health`` and of a two-value ``/predict``.

    python benchmarks/server_under_load.py

One worker serves a model that reads notes. Each load is four clients, processes of their own, that send one kind of
costly body one after another; what a fifth one waits for is measured before them, meanwhile and after them, in one run.

The four stand for other machines, whose processors are not the server's, so they take what everybody else leaves (nice
19). What they cost all the same shows in the control: they send the same to a *sink*, which reads and discards, while
the server has nothing to do. The longest hold is the longest time in which the server's event loop got to nothing else,
and how much of it the loop itself was computing: for the rest it waited for Python or for a core.
"""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.predict_request import (
    NOTE,
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
import http.client, os, sys
os.nice(19)
port, body, answered = int(sys.argv[1]), open(sys.argv[2], "rb").read(), open(sys.argv[3], "ab", 0)
while True:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    connection.getresponse().read()
    connection.close()
    answered.write(b".")
"""

SINK = """
import socketserver, sys

class Sink(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        while (line := self.rfile.readline()).strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        room = memoryview(bytearray(2**16))
        while length:
            length -= self.rfile.readinto1(room[:length])
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")

socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
"""

WATCHED = """
import asyncio, sys, time
from pathlib import Path
from mediscale.core.settings import Settings
from serving import main, worker_processes

BEAT = 0.001
application = worker_processes.only_worker

async def watch(path):
    with open(path, "a", buffering=1) as holds:
        while True:
            begun, computing = time.monotonic(), time.thread_time()
            await asyncio.sleep(BEAT)
            now, computed = time.monotonic(), time.thread_time()
            if now - begun > 2 * BEAT:
                print(now, now - begun, computed - computing, file=holds)

def watched(*arguments):
    watching.append(asyncio.get_running_loop().create_task(watch(sys.argv[3])))
    return application(*arguments)

watching, worker_processes.only_worker = [], watched
main.serve(Settings(home=Path(sys.argv[1])), (), 'production', port=int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Server:
    """A server that runs, and where it writes how long its event loop was held."""

    port: int
    holds: Path


@dataclass(frozen=True)
class Measured:
    """What the fifth client saw in one measurement."""

    p99: Mapping[str, float]
    """By what is asked, in ms."""
    hold: tuple[float, float]
    """The longest time in which the event loop got to nothing else, and what of it the loop computed, in ms."""
    rate: float = 0.0
    """Costly bodies that were answered, a second."""


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
        server, sink = Server(free_port(), Path(folder) / "holds"), free_port()
        watched = [sys.executable, "-c", WATCHED, str(home.home), str(server.port), str(server.holds)]
        with running(watched, server.port), running([sys.executable, "-c", SINK, str(sink)], sink):
            warm(server.port)
            print(f"{CLIENTS} clients send one kind of body; p99 in ms, and how many times the idle one")
            for what, body in BODIES.items():
                idle, loaded, control = compared(server, sink, body, Path(folder))
                show(what, idle, loaded)
                show(f"{what}, to a sink", idle, control)


def warm(port: int) -> None:
    for name in ASKED:
        latencies(port, name, 2)


def compared(
    server: Server, sink: int, body: bytes, folder: Path, seconds: float = SECONDS
) -> tuple[Measured, Measured, Measured]:
    """Idle, the worse of before and after; while clients send a body again and again; while they send it to a sink."""
    before = measure(server, seconds)
    with loaded(server.port, body, folder) as answered:
        meanwhile = measure(server, seconds, answered)
    wait_until_quiet(server.port)
    with loaded(sink, body, folder) as answered:
        control = measure(server, seconds, answered)
    after = measure(server, seconds)
    return worse(before, after), meanwhile, control


def worse(one: Measured, other: Measured) -> Measured:
    return Measured({name: max(one.p99[name], other.p99[name]) for name in ASKED}, max(one.hold, other.hold))


def show(what: str, idle: Measured, measured: Measured) -> None:
    over = {name: measured.p99[name] / idle.p99[name] for name in ASKED}
    cells = (f"{measured.p99[name]:8.2f} {idle.p99[name]:5.2f} {over[name]:5.1f}x" for name in ASKED)
    holds = "".join(f"{hold:8.1f} ({own:.1f})" for hold, own in (measured.hold, idle.hold))
    print(f"{what:42}" + "".join(cells) + f"   held{holds} {measured.rate:8.0f}/s", flush=True)
    for name in ASKED:
        print(f"figure: p99 of {name} under {what} over idle = {over[name]:.1f}")
    print(f"figure: longest hold of the event loop under {what} in ms = {measured.hold[0]:.1f}")


@contextmanager
def loaded(port: int, body: bytes, folder: Path) -> Iterator[Path]:
    """While clients of their own processes send a body again and again; a file grows by a byte with each answer."""
    file, answered = folder / "body", folder / "answered"
    file.write_bytes(body)
    answered.write_bytes(b"")
    command = [sys.executable, "-c", CLIENT, str(port), str(file), str(answered)]
    clients = [psutil.Popen(command, stderr=subprocess.DEVNULL) for _ in range(CLIENTS)]
    try:
        time.sleep(1)
        yield answered
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


def measure(server: Server, seconds: float, answered: Path | None = None) -> Measured:
    begun, bodies = time.monotonic(), size(answered)
    values = p99(server.port, seconds)
    rate = (size(answered) - bodies) / (time.monotonic() - begun)
    return Measured(values, longest_hold(server.holds, begun), rate)


def p99(port: int, seconds: float) -> dict[str, float]:
    """By what is asked, in ms."""
    return {name: float(np.percentile(latencies(port, name, seconds), 99)) * 1e3 for name in ASKED}


def size(file: Path | None) -> int:
    return file.stat().st_size if file else 0


def longest_hold(file: Path, since: float) -> tuple[float, float]:
    lines = (tuple(map(float, line.split())) for line in file.read_text().splitlines())
    holds = [(held * 1e3, computed * 1e3) for at, held, computed in lines if at >= since]
    return max(holds, default=(0.0, 0.0))


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
