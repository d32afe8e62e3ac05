"""Drill: broken canaries, a promotion and a rollback at a real server under load, none of which may fail a request.

It has a home, a history, keys and a server of its own, which end with it: of the hospital it takes the files of the
version in production and nothing else. Version 2 of the drill is the same files, so that only its faults are found.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mediscale.core import task_names
from mediscale.core.caller import now
from mediscale.core.errors import NotFoundError, QualityError, StorageError
from mediscale.core.refs import Frozen, ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_signature
from mediscale.simulation import load
from mediscale.simulation.broken_server import FAULTS, VERSION
from mediscale.simulation.load import Load, Route
from mediscale.storage import fallbacks, history, lake, registry, signing
from mediscale.storage.history_entries import Alias, Draft, Traffic
from mediscale.storage.registry import Move

log = logging.getLogger(__name__)

PERCENT = 50.0
SECONDS = 120.0
"""After which a step of the drill has failed; where nothing else runs it takes two."""
_EVIDENCE = "0" * 64
_ROLLBACK = """
import sys
from mediscale.storage import registry
registry.repair_later = lambda dataset: None  # nobody looks at MLflow's alias of a drill
from mediscale.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class Result(Frozen):
    """The figures of a drill. Seconds are what a person who looks would have measured."""

    model: str
    requests: int
    failed: int
    """Requests that were not answered with 200."""
    p99_milliseconds: float
    given_up_seconds: dict[str, float]
    """By fault, from the canary's breaking until the servers kept in the lake that they gave it up."""
    rollback_seconds: float
    """Until the command returned."""
    followed_seconds: float
    """From then until the last answer by the version that was withdrawn."""

    @property
    def summary(self) -> str:
        given_up = ", ".join(
            f"{seconds:.1f} s when it {fault}" for fault, seconds in self.given_up_seconds.items()
        )
        return (
            f"{self.requests:,} requests, {self.failed} failed (p99 {self.p99_milliseconds:.0f} ms). A canary of "
            f"{self.model} was given up after {given_up}. The rollback returned after {self.rollback_seconds:.1f} s, "
            f"and no answer came from the withdrawn version {self.followed_seconds:.1f} s later."
        )


def run(settings: Settings, dataset: str) -> Result:
    """Rehearses with the first risk model of a dataset that is in production, else with its language model.

    Raises:
        NotFoundError: none is.
        QualityError: requests failed, or a step did not come to its end.
    """
    move = _production(settings, dataset)
    log.info("a server of the drill's own starts, with the files of %s v%d", move.model, move.to_version)
    with tempfile.TemporaryDirectory(prefix="mediscale-drill-", ignore_cleanup_errors=True) as folder:
        own = _own_settings(Path(folder))
        # Made here, and not at first need: nobody is to keep a copy of a key that ends with the rehearsal.
        signing.make_account_key(own, own.signing_key)
        drill = _Drill(own, dataset, move.task, Path(folder) / "fault")
        drill.take(settings, move)
        with drill.served() as address:
            _until(lambda: load.is_loaded(address), "the version is loaded")
            with load.run(address, drill.route) as running:
                result = drill.rehearse(running)
    if result.failed:
        raise QualityError(f"The drill failed: {result.summary}")
    return result


def _production(settings: Settings, dataset: str) -> Move:
    for task in (*task_names.all_names(), task_names.LANGUAGE):
        if move := registry.current(settings, dataset, task, "production"):
            return move
    raise NotFoundError(f"No model of {dataset} is in production, so there is nothing to rehearse with.")


def _own_settings(folder: Path) -> Settings:
    home, trust = folder / "home", folder / "trust"
    return Settings(
        home=home,
        lake=str(home / "lake"),
        tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
        artifact_root=str(home / "artifacts"),
        trust=trust,
        signing_key=trust / "signing_key.pem",
        public_keys=trust / "signers",
        signing_command="",
        history_heads="",
    )


def _environment(settings: Settings) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MEDISCALE_")}
    return outside | {"MEDISCALE_HOME": str(settings.home), "MEDISCALE_TRUST": str(settings.trust)}


@dataclass(frozen=True)
class _Drill:
    settings: Settings
    dataset: str
    task: str
    fault: Path

    @property
    def name(self) -> str:
        return registry.model_name(self.dataset, self.task)

    @property
    def route(self) -> Route:
        """How its versions are asked."""
        return load.LANGUAGE if self.task == task_names.LANGUAGE else load.RISK

    def take(self, hospital: Settings, move: Move) -> None:
        """Copies the files of the version in production twice: version 1 of the drill serves, version 2 is staged."""
        from pyarrow import fs

        source, path = lake.filesystem(registry.locate(hospital, move.model_uri))
        for version in (1, VERSION):
            self._folder(version).mkdir(parents=True)
            fs.copy_files(path, str(self._folder(version)), source_filesystem=source)
            model_signature.sign(self.settings, self._model(version, move.model_digest), _EVIDENCE)
        self.fault.write_text("")
        self._move("production", 1, move.model_digest)
        self._move("staging", VERSION, move.model_digest)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The address of a server of its own, whose version 2 breaks as the file says."""
        command = [sys.executable, "-m", "mediscale.simulation.broken_server", self.dataset, str(self.fault)]
        process = subprocess.Popen(
            command,
            env=_environment(self.settings),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield _address(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def rehearse(self, running: Load) -> Result:
        digest = registry.history(self.settings, self.dataset)[-1].model_digest
        _until(lambda: running.by(1), "the server answers")
        given_up = {fault: self._given_up(running, fault, digest) for fault in FAULTS}
        self.fault.write_text("")
        log.info("the staged version is promoted, and rolled back")
        self._move("production", VERSION, digest)
        _until(lambda: running.by(VERSION), "servers follow a promotion")
        began = time.monotonic()
        self._roll_back()
        returned = time.monotonic()
        _until(lambda: running.by(1), "servers follow a rollback")
        last = max(at for at, version in running.answers if version == VERSION)
        return Result(
            model=self.name,
            requests=len(running.seconds),
            failed=running.failed,
            p99_milliseconds=sorted(running.seconds)[int(0.99 * len(running.seconds))] * 1000,
            given_up_seconds=given_up,
            rollback_seconds=returned - began,
            followed_seconds=max(0.0, last - returned),
        )

    def _given_up(self, running: Load, fault: str, digest: str) -> float:
        self.fault.write_text("")
        self._split(digest)
        _until(lambda: VERSION in {version for _, version in running.answers[-20:]}, "a canary answers")
        entry = history.entries(self.settings, self.dataset)[-1]
        self.fault.write_text(fault)
        began = time.monotonic()
        _until(
            lambda: fallbacks.read(self.settings, self.dataset, entry) is not None,
            f"servers give up a canary that {fault}",
        )
        seconds = time.monotonic() - began
        log.info("a canary that %s was given up after %.1f s", fault, seconds)
        _until(lambda: running.by(1), "the version in production answers alone")
        return seconds

    def _roll_back(self) -> None:
        words = [
            "rollback",
            "--dataset",
            self.dataset,
            "--task",
            self.task,
            "--version",
            "1",
            "--reason",
            "A drill.",
        ]
        done = subprocess.run(
            [sys.executable, "-c", _ROLLBACK, *words],
            env=_environment(self.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise QualityError(
                f"The drill failed: the rollback ended with {done.returncode}: {done.stderr.strip()}"
            )

    @property
    def _signer(self) -> str:
        """Who signs on the drill's own server: whom an orchestrator names has no key there."""
        return signing.signer(self.settings).key.name

    def _move(self, alias: Alias, version: int, digest: str) -> None:
        sequence, model = registry.next_sequence(self.settings, self.dataset), self._model(version, digest)
        registry.record(
            self.settings,
            self.dataset,
            Move(
                sequence=sequence, model=model.name, task=self.task, alias=alias, from_version=None,
                to_version=version, actor=self._signer, moved_at=now(), reason="A drill.",
                evidence_digest=_EVIDENCE, model_uri=model.uri, model_digest=digest, key=f"drill-{sequence}",
            ),
        )  # fmt: skip

    def _split(self, digest: str) -> None:
        sequence, model = registry.next_sequence(self.settings, self.dataset), self._model(VERSION, digest)
        setting = Traffic(
            model=model.name, task=self.task, mode="canary", percent=PERCENT, version=VERSION,
            evidence_digest=_EVIDENCE, model_uri=model.uri, model_digest=digest, reason="A drill.",
        )  # fmt: skip
        draft = Draft(setting, self._signer, now(), f"drill-{sequence}")
        history.append(self.settings, self.dataset, draft, sequence=sequence)

    def _model(self, version: int, digest: str) -> ModelRef:
        uri = registry.relative(self.settings, str(self._folder(version)))
        return ModelRef(name=self.name, version=version, uri=uri, digest=digest)

    def _folder(self, version: int) -> Path:
        return Path(self.settings.artifact_root) / f"version-{version}"


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if listening := re.search(r"http://[\d.]+:\d+", line):
            threading.Thread(
                target=process.stderr.read, daemon=True
            ).start()  # so that the pipe is never full
            return listening[0]
    raise StorageError(f"The server of the drill did not start: {''.join(lines).strip()[-500:]}")


def _until(happened: Callable[[], bool], what: str) -> None:
    """Waits until something has happened; ``what`` says it, after "it was awaited that".

    Raises:
        QualityError: it did not within ``SECONDS``.
    """
    deadline = time.monotonic() + SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise QualityError(
                f"The drill failed: it was awaited that {what}, and {SECONDS:.0f} s later that had not happened."
            )
        time.sleep(0.02)
