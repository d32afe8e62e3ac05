"""Server CPU of one ``/predict`` with a key, the audit columns and the checks of a request on, beside another commit.

    python benchmarks/predict_beside.py [COMMIT]

Both servers run at the same time on loopback, each with one worker, the same model and the same two values, and are
asked in turns, so that what else the machine does falls on both. What FastAPI's own dependencies cost is measured in
the same run: a route with one dependency beside the same route without.
"""

import argparse
import asyncio
import http.client
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TURNS, REQUESTS = 12, 1000
ROOT = Path(__file__).parents[1]
TASK = "mortality"
PREPARE = f"""
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import predict_request as bench
home = Path(sys.argv[2])
folder = home / "home" / "artifacts" / "{TASK}"
bench.write_model(folder, "{TASK}")
bench.promote(bench.Settings(home=home / "home"), {{"{TASK}": folder}}, ("{TASK}",))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default="0bbffe2")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        checkout = Path(folder) / "checkout"
        git = ["git", "archive", commit]
        archive = subprocess.run(git, cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(checkout, filter="data")
        text = make_key(Path(folder) / "trust")
        servers = {
            name: start(stack, root, Path(folder) / name, Path(folder) / "trust")
            for name, root in (("theirs", checkout), ("ours", ROOT))
        }
        cpu = {name: np.empty(TURNS) for name in servers}
        for turn in range(-1, TURNS):
            for name, (process, port) in servers.items():
                cpu[name][turn] = measure(process, port, text)
    show(commit, cpu)


def make_key(trust: Path) -> str:
    from mediscale.core import caller
    from mediscale.core.settings import Settings
    from serving.security import api_keys
    from serving.security.principal import Role

    now = caller.now()
    settings = Settings(home=trust.parent / "none", trust=trust)
    return api_keys.create(settings, "bench", (Role.CLINICIAN,), now + timedelta(days=1), "bench", now)[1]


def benchmark_of(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "predict_request", root / "benchmarks" / "predict_request.py"
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{root} has no benchmarks/predict_request.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def start(stack: ExitStack, root: Path, home: Path, trust: Path) -> tuple[Any, int]:
    """A server of a checkout's code, with the same packages."""
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "MEDISCALE_TRUST": str(trust),
        "MEDISCALE_RATE_LIMIT": "1000000/minute",
    }
    prepare = [sys.executable, "-c", PREPARE, str(root / "benchmarks"), str(home)]
    subprocess.run(prepare, cwd=home.parent, env=environment, check=True, capture_output=True)
    ours = benchmark_of(ROOT)
    serve = (
        (root / "benchmarks" / "predict_request.py").read_text().partition("SERVE = (")[2].partition("\n)")[0]
    )
    port = ours.free_port()
    command = [
        sys.executable,
        "-c",
        "".join(map(json.loads, serve.split("\n")[1:])),
        str(home / "home"),
        str(port),
    ]
    said = stack.enter_context((home / "server.log").open("w+"))
    process = ours.psutil.Popen(command, cwd=home.parent, env=environment, stderr=said)
    try:
        ours.wait_for(port, process)
    except SystemExit:
        said.seek(0)
        raise SystemExit(f"the server of {root} did not start: {said.read()[-2000:]}") from None
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process, port


def measure(process: Any, port: int, key: str) -> float:
    """Milliseconds of CPU per request."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"age": 67, "blood_pressure": 140}).encode()
    before = process.cpu_times()
    for _ in range(REQUESTS):
        connection.request("POST", "/predict", body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"/predict answered {response.status}: {answer.decode()}")
    after = process.cpu_times()
    connection.close()
    return float(after.user + after.system - before.user - before.system) / REQUESTS * 1e3


def show(commit: str, cpu: dict[str, Any]) -> None:
    ratios = cpu["ours"] / cpu["theirs"]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    for name, values in cpu.items():
        print(f"{name:8}{np.median(values):7.3f} ms of CPU (median of {TURNS} turns of {REQUESTS} requests)")
    print(
        f"figure: CPU of /predict with a key over {commit} = {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
    )
    bare, one = (asyncio.run(route_cost(dependency)) for dependency in (False, True))
    print(f"a FastAPI route alone {bare:.1f} us, with one dependency {one:.1f} us")


async def route_cost(dependency: bool) -> float:
    """Microseconds of CPU of an empty route."""
    from fastapi import Depends, FastAPI, Request, Response

    from serving.security.auth import Require
    from serving.security.principal import Principal, Role

    nobody = Principal("nobody", "nothing", frozenset())

    class Admits(Require):
        async def __call__(self, request: Request) -> Principal:  # noqa: ARG002 - as a route's own
            return nobody

    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    needs = [Depends(Admits(Role.CLINICIAN))] if dependency else []

    @app.post("/", dependencies=needs)
    async def route(request: Request) -> Response:  # noqa: ARG001 - as /predict takes it
        return Response(b"")

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/", "scheme": "http",
             "query_string": b"", "root_path": "", "headers": [], "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 80)}  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(_message: Any) -> None:
        """To nobody."""

    ask: Callable[[], Any] = lambda: app(dict(scope), receive, send)  # noqa: E731
    for _ in range(500):
        await ask()
    begun = time.process_time()
    for _ in range(5000):
        await ask()
    return (time.process_time() - begun) / 5000 * 1e6


if __name__ == "__main__":
    main()
