"""A version is rebuilt to the bit from its record; what was changed since is noticed, and other code is named."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from component.training import test_late_fusion

from mediscale.cli import main
from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.pipeline import call
from mediscale.storage import calls, duckdb_tables, lake

NAME = "synthetic-mortality"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Settings]:
    """A home in which one version was registered by a recorded call; made once, copied for each test."""
    home = tmp_path_factory.mktemp("registered") / "home"

    def make(hospital: Callable[..., Any], freeze: Callable[..., TableRef], copy: Path) -> Settings:
        if not home.exists():
            settings = Settings(home=home)
            frozen = freeze(settings, "mortality", hospital("mortality", 500, prevalence=0.2).rows)
            given = {"dataset": "synthetic", "task": "mortality", "training_set": frozen, "rounds": 30}
            call.call("risk_model", given, settings, "cli-test")
        shutil.copytree(home, copy)
        return Settings(home=copy)

    return make


@pytest.fixture
def home(registered, hospital, freeze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MEDISCALE_HOME", str(tmp_path / "home"))
    return registered(hospital, freeze, tmp_path / "home")


def recorded(home: Settings) -> calls.Call:
    (record,) = calls.of_stage(home, "risk_model")
    return record


def files(home: Settings) -> dict[str, bytes]:
    """All that lies in a home but for its locks, of which readers take one."""
    return {
        str(path.relative_to(home.home)): path.read_bytes()
        for path in home.home.rglob("*")
        if path.is_file() and "locks" not in path.parts and path.name != "mlflow.lock"
    }


def test_a_version_is_rebuilt_to_the_bit_and_the_home_is_left_as_it_was(home, capsys) -> None:
    before = files(home)
    assert main.main(["reproduce", f"{NAME}@1"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{NAME}/1 rebuilt (risk_model, 1 worker, 1 thread): identical to the bit in model.json, predictor.json"
        in said
    )
    assert "tuning rows" in said
    assert files(home) == before


def test_one_changed_cell_of_the_training_set_is_noticed(home, capsys) -> None:
    record = recorded(home)
    (file,) = lake.files(home, TableRef.model_validate(record.params["training_set"]))
    rows = pq.read_table(file)
    at = next(i for i, split in enumerate(rows["split"].to_pylist()) if split == "train")
    ages = rows["age_years"].to_numpy().copy()
    ages[at] = 3.0 if np.isnan(ages[at]) else np.nan
    column = rows.schema.get_field_index("age_years")
    pq.write_table(rows.set_column(column, rows.schema.field(column), pa.array(ages)), file)
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    said = capsys.readouterr().out
    assert "different in model.json, predictor.json; answers on" in said
    assert float(said.rpartition("up to ")[2].split()[0]) > 0


def test_a_changed_row_that_the_model_did_not_learn_from_is_noticed_too(home, capsys) -> None:
    """A held-out patient's age changes no model, and the rows are no longer those that were written."""
    record = recorded(home)
    ref = TableRef.model_validate(record.params["training_set"])
    n, digest = duckdb_tables.digest(home, ref)
    wrote = {"stage": "training_set", "key": "0" * 32, "started_at": record.started_at - timedelta(hours=1)}
    left = {
        "inputs": (),
        "produced": record.inputs[:1],
        "outputs": (calls.Output(ref=ref, rows=n, digest=digest),),
    }
    calls.write(home, record.model_copy(update=wrote | left))
    assert main.main(["reproduce", f"{NAME}/1"]) == 0
    (file,) = lake.files(home, ref)
    rows = pq.read_table(file)
    at = next(i for i, split in enumerate(rows["split"].to_pylist()) if split == "held_out")
    ages = rows["age_years"].to_numpy().copy()
    ages[at] = 3.0
    column = rows.schema.get_field_index("age_years")
    pq.write_table(rows.set_column(column, rows.schema.field(column), pa.array(ages)), file)
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    assert f"The table {ref}, from which {NAME} v1 was made, has other rows" in capsys.readouterr().err


def test_a_changed_record_is_noticed_also_by_who_gives_it_a_key_that_fits(home, capsys) -> None:
    record = recorded(home)
    forged = record.model_copy(update={"params": {**record.params, "seed": 1}})
    calls.write(home, forged)
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    assert "does not give its own key" in capsys.readouterr().err
    calls.write(home, forged.model_copy(update={"key": call.key("risk_model", forged.params)}))
    (Path(home.lake) / "_records" / "risk_model" / f"{record.key}.json").unlink()
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    assert "different in model.json" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["code", "lock"])
def test_other_code_or_another_lock_is_refused_by_both_names(home, what: str, capsys) -> None:
    record = recorded(home)
    calls.write(home, record.model_copy(update={what: "0" * 64}))
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    said = capsys.readouterr().err
    assert "000000000000" in said
    assert getattr(record, what)[:12] in said


@pytest.mark.usefixtures("home")
def test_a_version_that_nobody_registered_is_named(capsys) -> None:
    assert main.main(["reproduce", f"{NAME}/7"]) == 7
    assert f"it has {NAME}/1" in capsys.readouterr().err
    assert main.main(["reproduce", NAME]) == 2


def test_a_combined_version_is_rebuilt_with_what_it_was_made_from(home, add_notes, capsys) -> None:
    record = recorded(home)
    frozen = TableRef.model_validate(record.params["training_set"])
    model = ModelRef.model_validate(record.result["model"])
    notes = test_late_fusion.note_model(home, frozen, signal=3.0)
    shutil.copytree(home.home / model.uri, home.home / "artifacts" / "reading")
    add_notes(home.home / "artifacts" / "reading")
    shutil.copytree(
        home.home / "artifacts" / "reading" / "notes",
        home.home / "artifacts" / "note-model",
        dirs_exist_ok=True,
    )
    digest = model_files.digest(home.home / "artifacts" / "note-model")
    notes = notes.model_copy(update={"model": notes.model.model_copy(update={"digest": digest})})
    given = {
        "dataset": "synthetic",
        "task": "mortality",
        "training_set": frozen,
        "model": model,
        "note_model": notes,
    }
    joined = call.call("late_fusion", given, home, "cli-test").result
    assert (joined.reads_notes, joined.model.version) == (True, 2)
    assert main.main(["reproduce", f"{NAME}/2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAME}/1 rebuilt (risk_model")
    assert second.startswith(
        f"{NAME}/2 rebuilt (late_fusion): identical to the bit in model.json, notes/model.onnx"
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository whose command line says in which commit it stands; the checkout has gone on since."""
    root = tmp_path / "repository"
    program = root / "mediscale" / "cli" / "main.py"
    program.parent.mkdir(parents=True)
    (root / "mediscale" / "__init__.py").touch()
    (root / "mediscale" / "cli" / "__init__.py").touch()
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e@localhost"]
    subprocess.run([*git, "init", "-q"], check=True)
    for number in (1, 2):
        program.write_text(
            f"import sys\ndef main(): print({number}, *sys.argv[1:], flush=True); return {number + 2}\n"
        )
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "m"], check=True)
    monkeypatch.setattr(calls, "ROOT", root)
    calls.commit.cache_clear()
    yield root
    calls.commit.cache_clear()


def test_a_version_of_another_commit_is_rebuilt_with_the_code_of_that_commit(home, repository, capfd) -> None:
    git = ["git", "-C", str(repository)]
    log = subprocess.run([*git, "rev-list", "HEAD"], capture_output=True, text=True, check=True)
    now, then = log.stdout.split()
    assert calls.commit() == now
    calls.write(home, recorded(home).model_copy(update={"code": "0" * 64, "commit": then}))
    assert main.main(["reproduce", f"{NAME}/1"]) == 3
    assert capfd.readouterr().out.split() == ["1", "reproduce", f"{NAME}/1"]
    left = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(left.stdout.splitlines()) == 1
    calls.write(home, recorded(home).model_copy(update={"code": "0" * 64, "commit": "1" * 40}))
    assert main.main(["reproduce", f"{NAME}/1"]) == 6
    assert "111111111111" in capfd.readouterr().err


def test_a_commit_is_read_from_packed_references_and_in_a_worktree(repository, tmp_path, monkeypatch) -> None:
    git = ["git", "-C", str(repository)]
    commit = calls.commit()
    subprocess.run([*git, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other")], check=True)
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    for root in (repository, tmp_path / "other"):
        monkeypatch.setattr(calls, "ROOT", root)
        calls.commit.cache_clear()
        assert calls.commit() == commit
    monkeypatch.setattr(calls, "ROOT", tmp_path)
    calls.commit.cache_clear()
    assert calls.commit() == ""
