"""The tools of `make check-infra`, and the server as its image starts it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fixtures import dockerfiles, performance_tables
from fixtures.clusters import free_ports
from fixtures.promoted_models import promoter
from fixtures.server_process import environment, own_trust

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.storage import last_calls

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-infra"

Tool = Callable[..., str]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """``tool("promtool", "check", …)``: runs it from the repository's root; what it printed, or a failure with that."""

    def run(name: str, *arguments: str | Path, stdin: str | None = None, fails: bool = False) -> str:
        command = [str(TOOLS / "bin" / name), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=300
        )
        said = done.stdout + done.stderr
        assert bool(done.returncode) == fails, f"{shlex.join(command)} ended with {done.returncode}:\n{said}"
        return said

    return run


@pytest.fixture(scope="session")
def program() -> Callable[..., subprocess.Popen[bytes]]:
    """``program("prometheus", …)``: starts it; whoever asks ends it."""

    libraries = next(iter(TOOLS.glob("debian/usr/lib/*-linux-gnu")), TOOLS)
    around = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}  # those of Debian's packages are not installed

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(TOOLS / "bin" / name), *arguments], stderr=subprocess.DEVNULL, env=around
        )

    return start


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return lambda: free_ports(1)[0]


class ImageServer(NamedTuple):
    """The serving image's command, run in the image's files and environment of packages."""

    address: str
    client: httpx.Client
    certificate: Path
    engineer: str
    """Key of that role."""
    code: Path
    packages: Path
    """Folder of the packages that it can import."""


@pytest.fixture(scope="session")
def image_server(tmp_path_factory: pytest.TempPathFactory, trained: Any) -> Iterator[ImageServer]:
    home = tmp_path_factory.mktemp("image-server")
    settings = own_trust(home)
    promote = promoter(settings, trained)
    promote("mortality")
    promote("readmission")
    performance_tables.write(settings, performance_tables.usual(), "series")
    with suppress(StorageError), last_calls.recording(settings, "synthetic", "gold", "mortality"):
        raise StorageError("A night that failed.")
    certificate, private_key = _certificate(home)
    keys = {role: _key(settings, role) for role in ("clinician", "engineer")}
    code = home / "code"
    recipe = dockerfiles.read(ROOT / "infra" / "docker" / "serving.Dockerfile")
    for source, target in recipe.copied:
        _copy(ROOT / source, code / target)
    here = {"8443": "0", "/tls/tls.crt": str(certificate), "/tls/tls.key": str(private_key)}
    program = [str(TOOLS / "serving" / "bin" / "python"), str(code / ".venv" / "bin" / "mediscale")]
    command = [*program, *(here.get(word, word) for word in recipe.command[1:])]
    with _started(command, environment(settings) | {"PYTHONPATH": str(code), "HOME": str(home)}) as address:
        headers = {"Authorization": f"Bearer {keys['clinician']}"}
        with httpx.Client(base_url=address, verify=str(certificate), headers=headers, timeout=60) as client:
            (packages,) = (TOOLS / "serving" / "lib").glob("python*/site-packages")
            yield ImageServer(address, client, certificate, keys["engineer"], code, packages)


@contextmanager
def _started(command: list[str], around: dict[str, str]) -> Iterator[str]:
    """A server and the address that it says it listens on."""
    process = subprocess.Popen(command, env=around, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"https://[\d.]+:(\d+)", line):
                break
        else:
            pytest.fail(f"the image's command ended: {''.join(said)}")
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reader.start()
        yield f"https://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(60)
    reader.join()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """As docs/deployment.md makes one to try with."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=serving -addext"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [*make.split(), names, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _key(settings: Settings, role: str) -> str:
    """A key made on the command line, in a process of its own."""
    program = str(Path(sys.executable).with_name("mediscale"))
    command = [program, "keys", "create", "--name", f"a {role}", "--role", role]
    around = {**os.environ, **environment(settings)}
    made = subprocess.run(command, env=around, check=True, capture_output=True, text=True)
    found = re.search(r"msk_\w+[\w-]*", made.stdout)
    assert found, made.stdout
    return found[0]
