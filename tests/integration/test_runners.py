"""The same extract by CLI, Kubeflow and Airflow in three homes leaves the same work, also when a step is killed.

The CLI runs every task, as a person has it. The other two start a process for each stage, so they run a platform whose
folder of tasks has one file, with a thread for each Spark, and are compared with what the CLI did for that task.
Airflow reads the same hospital without its notes, whose stages import most and do least, and is compared in all that
they do not reach.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fixtures.undisturbed_run import ROOT, around, finish, start

from data_pipeline import synthetic
from data_pipeline.synthetic import blocks
from mediscale.core.settings import Settings
from mediscale.pipeline import steps
from mediscale.storage import calls as manifest
from mediscale.storage import registry
from mediscale.storage.lineage import Lineage

pytestmark = pytest.mark.timeout(3000)

TASK = "mortality"
"""Of which all three runners do the same."""
ORCHESTRATE = (
    "import os, sys; from mediscale.cli import orchestrators as runners; from mediscale.core.settings import Settings\n"
    "from mediscale.pipeline.runtime_inputs import Source\n"
    "config = {'risk_model': {'rounds': 60}, 'promotion': {'target_alias': 'production'}, 'note_model': "
    "{'epochs': 1, 'max_examples_per_epoch': 100, 'window': 32, 'most_windows': 1, 'threads': 1}, "
    "'synthetic': {'notes': sys.argv[1] != 'airflow'}}\n"
    "os.umask(0o077)  # as the command line does first\n"
    "runners.orchestrate(sys.argv[1], Settings(), Source(size='tiny'), config, sys.argv[1] + '-1')"
)
PLACES = {"table_id", "uri", "evidence", "evidence_digest", "certificate", "certificate_digest"}
"""Named by the home that they lie in. A model's digest is not: equal models have equal digests."""
CLOCK = {"moved_at", "sequence"}
OF_NOTES = {"synthetic", "bronze", "deidentify", "note_tokens", "note_model", "late_fusion"}
"""Stages that read or leave something else where there are no notes."""
NAMED_OF_NOTES = {"bronze", "note_tokens", "absent"}
"""Parameters of the other stages that name what those leave."""


def by_airflow(home: Path, platform: Path) -> None:
    finish(_orchestrate("airflow", home, platform))


def by_kubeflow_killed_once(home: Path, platform: Path) -> None:
    """The step that lands the validate stage is killed with -9; the same command then goes on."""
    first = _orchestrate("kubeflow", home, platform)
    os.kill(_holder(home / "locks" / "validate-synthetic.lock", first), signal.SIGKILL)
    said, _ = first.communicate()
    assert first.returncode != 0
    assert b"ended without a word" in said
    finish(_orchestrate("kubeflow", home, platform))


def with_one_task(folder: Path) -> Path:
    """A copy of the platform that has one task, for processes that find it first on their path."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "tests", "docs", "benchmarks"))
    (folder / ".venv-airflow").symlink_to(ROOT / ".venv-airflow")
    for file in (folder / "data_pipeline" / "cohort" / "tasks").glob("*.yaml"):
        if file.stem != TASK:
            file.unlink()
    return folder


def _orchestrate(runner: str, home: Path, platform: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", ORCHESTRATE, runner]
    with_platform = {**around(home), "PYTHONPATH": str(platform), "MEDISCALE_SPARK_MASTER": "local[1]"}
    # which ``-c`` finds first in its folder, whatever is installed
    return start(command, with_platform, platform)


def _holder(lock: Path, run: "subprocess.Popen[bytes]") -> int:
    while not (lock.exists() and lock.read_text()):
        assert run.poll() is None, "it ended before that step"
        time.sleep(0.05)
    return int(lock.read_text())


@pytest.fixture(scope="module")
def homes(undisturbed_run: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    folder = tmp_path_factory.mktemp("homes")
    runs = {"kubeflow": by_kubeflow_killed_once, "airflow": by_airflow}
    platform = with_one_task(folder / "platform")
    with ThreadPoolExecutor() as pool:  # a runner waits for its own start half of the time
        for done in [pool.submit(run, folder / name, platform) for name, run in runs.items()]:
            done.result()
    return {"cli": undisturbed_run, **{name: Settings(home=folder / name) for name in runs}}


def test_a_run_asks_no_other_machine(homes: dict[str, Settings]) -> None:
    watch = homes["cli"].home.with_name("watch")
    assert (watch / "ended").exists()
    assert not (watch / "calls").exists(), (watch / "calls").read_text()


@pytest.mark.parametrize("runner", ["kubeflow", "airflow"])
def test_every_stage_did_the_same(homes: dict[str, Settings], runner: str) -> None:
    n_stages = len(list(steps.nodes(steps.RISK, (TASK,)))) + 1  # and the synthetic extract
    assert len(_done(homes[runner])) == n_stages
    without = OF_NOTES if runner == "airflow" else set()
    ours, theirs = _done(homes["cli"], TASK, without), _done(homes[runner], TASK, without)
    assert len(ours) == n_stages - len(without)
    assert theirs == ours
    (run,) = Lineage(homes[runner]).runs()
    assert (run.run_id, len(run.calls)) == (f"{runner}-1", n_stages)
    for task in manifest.of_stage(homes[runner], "risk_model"):
        assert task.params["rounds"] == 60


def test_the_cli_did_every_stage_of_every_task(homes: dict[str, Settings]) -> None:
    assert len(_done(homes["cli"])) == len(list(steps.nodes(steps.RISK))) + 1


def test_a_notebook_reads_what_a_run_left(undisturbed_run: Settings, tmp_path: Path) -> None:
    """The cell on the data scientist's page, typed beside a home."""
    (cell,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data-scientist.md").read_text(), re.DOTALL)
    (tmp_path / ".mediscale").symlink_to(undisturbed_run.home)
    printed = subprocess.run(
        [sys.executable, "-c", f"{textwrap.dedent(cell)}\nprint(len(held_out), risks.between(0, 1).sum())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert int(printed[0]) == int(printed[1]) > 10


def test_a_killed_step_left_nothing_twice(homes: dict[str, Settings]) -> None:
    client = registry.client(homes["kubeflow"])
    assert len(client.search_model_versions(f"name = 'synthetic-{TASK}'")) == 1
    moves = [(m.model, m.alias) for m in registry.history(homes["kubeflow"], "synthetic")]
    assert len(moves) == len(set(moves))


@pytest.mark.parametrize("runner", ["cli", "kubeflow", "airflow"])
def test_every_file_of_a_home_is_its_owner_s_alone(homes: dict[str, Settings], runner: str) -> None:
    home = homes[runner].home
    left = [home, *home.rglob("*")]
    assert len(left) > 200
    modes = {str(path): oct(path.stat().st_mode) for path in left if not path.is_symlink()}
    assert {path: mode for path, mode in modes.items() if not mode.endswith("00")} == {}


@pytest.mark.parametrize("runner", ["cli", "kubeflow", "airflow"])
def test_no_identifier_of_the_extract_is_left_where_many_may_look(
    homes: dict[str, Settings], runner: str
) -> None:
    """Every table's numbers of patients, stays and notes, and what is planted in the notes' texts, are looked for in
    all that a run leaves but the tables of the lake: call records, logs, evidence, reports, MLflow, runners' files."""
    home = homes[runner].home
    (extract,) = (path for path in (home / "extracts").iterdir() if path.is_dir())
    canaries = _numbers(extract) | _planted()
    assert len(canaries) > (1000 if runner == "airflow" else 2000), "Airflow's extract has no notes"
    looked_at = [path for path in home.rglob("*") if path.is_file() and not _may_hold_patients(path, home)]
    assert any(path.name == "mlflow.db" for path in looked_at)
    assert any("_records" in path.parts for path in looked_at)
    told = {path: set(re.findall(rb"[\w.@+-]{6,}", path.read_bytes())) & canaries for path in looked_at}
    assert {str(path): len(found) for path, found in told.items() if found} == {}


@pytest.mark.parametrize("runner", ["cli", "kubeflow"])
def test_no_name_or_date_of_the_notes_is_left_outside_of_extract_and_lake(
    homes: dict[str, Settings], runner: str
) -> None:
    """Looked for in every file, models, pictures and Parquet too: logs, MLflow, reports, quality documents, ONNX."""
    home = homes[runner].home
    names, dates = _names_and_dates()
    (discharges,) = (home / "extracts").rglob("discharge.csv.gz")
    written = gzip.decompress(discharges.read_bytes())
    assert len(_names_in(written) & names) > 100, "the search finds them where they are"
    assert len(_dates_in(written) & dates) > 100, "the search finds them where they are"
    places = [path for path in home.rglob("*") if path.is_file() and not _is_governed(path, home)]
    assert {".onnx", ".db", ".html"} <= {path.suffix for path in places}
    assert {str(path): left for path in places if (left := _n_names_and_dates(path))} == {}


_NOT_TABLES = ("_records", "_runs", "_last_calls")
"""Of the lake."""


def _is_governed(path: Path, home: Path) -> bool:
    place = path.relative_to(home).parts
    return place[0] == "extracts" or (place[0] == "lake" and place[1] not in _NOT_TABLES)


_SEARCHED: dict[bytes, int] = {}
"""By digest: the homes hold the same large models."""


def _n_names_and_dates(path: Path) -> int:
    """How many of the planted ones a file holds. Parquet is compressed, so that its bytes tell nothing."""
    data = pl.read_parquet(path).write_csv().encode() if path.suffix == ".parquet" else path.read_bytes()
    digest = hashlib.sha256(data).digest()
    if digest not in _SEARCHED:
        names, dates = _names_and_dates()
        texts = b"\n".join(_TEXTS.findall(data))
        _SEARCHED[digest] = len(_names_in(texts) & names | _dates_in(texts) & dates)
    return _SEARCHED[digest]


_TEXTS = re.compile(rb"[\x20-\x7e]{6,}")
"""What of a model's megabytes can be text: no name and no date is shorter, or has another character in it."""
_FULL_NAME = re.compile(
    rb"(?<![\w-])(?=([A-Z][A-Za-z'-]{2,}(?: [A-Z]\.)?(?: |, ?)[A-Z][A-Za-z'-]{2,})(?![\w-]))"
)
_WRITTEN_DATE = re.compile(
    rb"(?<![\w/-])(?:\d{1,2}/\d{1,2}/(?:\d{4}|\d\d)|[A-Z][a-z]{2,8}\.? \d{1,2}, \d{4}"
    rb"|\d{1,2}[ -][A-Z][a-z]{2,8}[ -]\d{4}|(?:19\d\d|200\d)-\d\d-\d\d)(?![\w/-])"
)
"""Dates as notes write them; of ISO dates only those before 2010 (births), for a log is full of its own."""


def _names_in(data: bytes) -> set[bytes]:
    return set(_FULL_NAME.findall(data))


def _dates_in(data: bytes) -> set[bytes]:
    return set(_WRITTEN_DATE.findall(data))


@cache
def _names_and_dates() -> tuple[set[bytes], set[bytes]]:
    """The full names and the dates that are planted in the synthetic notes, as they are written there."""
    pieces: dict[str, list[str]] = {"name": [], "date": []}
    for block in blocks.generate(synthetic.SUBJECTS["tiny"], synthetic.Params().seed):
        for note in block.notes:
            for span in note.spans:
                if span.kind in pieces:
                    pieces[span.kind].append(note.text[span.start : span.end])
    texts = {kind: "\n".join(found).encode() for kind, found in pieces.items()}
    return _names_in(texts["name"]), _dates_in(texts["date"])


def _may_hold_patients(path: Path, home: Path) -> bool:
    """The extract, the lake's tables (which are governed), and binary files of models, whose bytes are random."""
    place = path.relative_to(home).parts
    return (
        place[0] == "extracts"
        or (place[0] == "lake" and place[1] not in _NOT_TABLES)
        or path.suffix in _BINARY
    )


_BINARY = {".safetensors", ".onnx", ".png", ".parquet"}


def _numbers(extract: Path) -> set[bytes]:
    """Of subjects, visits, stays and notes, from every file of the extract."""
    found: set[bytes] = set()
    for file in extract.rglob("*.csv.gz"):
        rows = pl.read_csv(file, infer_schema=False)
        for name in {"subject_id", "hadm_id", "stay_id", "note_id", "labevent_id"} & set(rows.columns):
            found |= {str(value).encode() for value in rows[name].drop_nulls() if len(str(value)) >= 6}
    return found


def _planted() -> set[bytes]:
    """What is unique to a person in the made-up notes: numbers, addresses of mail, and pages."""
    notes = (
        note
        for block in blocks.generate(synthetic.SUBJECTS["tiny"], synthetic.Params().seed)
        for note in block.notes
    )
    kinds = {"record", "phone", "email", "url"}
    texts = (note.text[s.start : s.end] for note in notes for s in note.spans if s.kind in kinds)
    return {text.encode() for text in texts if re.fullmatch(r"[\w.@+-]{6,}", text)}


def _done(settings: Settings, task: str = "", without: Set[str] = frozenset()) -> list[str]:
    """What each stage call was given and what it left, less where and when; of one task and of none, or of all; without
    some stages, and without the parameters that name what those leave."""
    stages = [stage for stage in ("synthetic", *(step.stage for step in steps.RISK)) if stage not in without]
    calls = [done for stage in stages for done in manifest.of_stage(settings, stage)]
    left_out = NAMED_OF_NOTES if without else set()
    return sorted(
        _told(done, left_out) for done in calls if not task or done.params.get("task", task) == task
    )


def _told(done: manifest.Call, left_out: Set[str]) -> str:
    tables = [(output.ref.table, output.rows, output.digest) for output in done.outputs]
    params = {name: value for name, value in _plain(done.params).items() if name not in left_out}
    left = [done.stage, params, done.code, done.lock, tables, _plain(done.result).get("metrics")]
    return json.dumps(left, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name not in PLACES | CLOCK}
    return [_plain(item) for item in value] if isinstance(value, list) else value
