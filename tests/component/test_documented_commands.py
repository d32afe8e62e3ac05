"""Every command of README and docs works, every file that they name exists, and their two examples can be added.

``CHECKS`` says which commands are run, and how. What takes minutes or starts a server is read by its own parser here,
and run by other tests: the loop by tests/integration/test_runners.py, the server by
tests/component/serving/test_server.py, batch scoring and reproduction by test_batch_scoring.py and test_reproduce.py in
tests/component/training, and Airflow by tests/integration/test_airflow_standalone.py.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from data_pipeline import cohort
from data_pipeline.features import kernel
from data_pipeline.ingest import source as sources
from mediscale.cli import main, verbs
from mediscale.core import task_names, tasks
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import call, steps
from mediscale.storage import commits, registry
from serving.app import create_app
from serving.language_schemas import GenerateRequest
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from training.evaluation import baselines

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
HOW = ROOT / "docs" / "how-it-is-built.md"
FOLDERS = ("benchmarks", "dags", "data_pipeline", "docs", "infra", "kubeflow_pipelines", "mediscale", "monitoring",
           "requirements", "serving", "tests", "training")  # fmt: skip
NEW_STAGE, NEW_TASK = "stay_length", "mortality_48h"
NEW_FILES = {f"data_pipeline/cohort/{NEW_STAGE}.py", f"data_pipeline/cohort/tasks/{NEW_TASK}.yaml"}
"""What the page adds, and the repository does not have."""

VERBS = {verb.name: verb for verb in chain.from_iterable(main.GROUPS.values())}
PLACEHOLDERS = {
    "S": "mimic-iv", "DIR": "FOLDER", "D": "synthetic", "T": "mortality", "V": "1", "N": "3", "YOU": "somebody",
    "H": "127.0.0.1", "ID_OR_NAME": "dr.who", "P": "100", "WHO": "dr.who",
    "F": "written.yaml", "kubeflow_pipelines/train_pipeline.yaml": "written.yaml", "RUN": "synthetic", "STAGE": "gold",
    "STAGE.NAME=VALUE": "gold.audited_per_shard=4", "benchmarks/SCRIPT": "benchmarks/loop.py",
    "MODEL/VERSION": "synthetic-mortality/1", "PREDICTION": "w-1-1", "PATIENT": "10000002", "TIME": "2026-01-01T00:00",
    "URL": "http://127.0.0.1:8000", "FILE": "questions.jsonl", "REPORT.json": "report.json",
    "my_hospital.yaml": "mimic-iv", "my_task.yaml": "mortality",
    "PATH": "guideline.pdf", "QUESTION": "Which?", "NAME": "documents",
}  # fmt: skip
"""What stands in a command for something else, and what a test puts there."""


# --- what the pages say ------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command of a page, in words, without what is set in front of it."""

    page: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The key of ``CHECKS``: the program, and for ``mediscale`` its verb too."""
        program, *rest = self.words
        if program != "mediscale":
            return program
        stage = rest[0] in steps.STAGES or rest[0] == NEW_STAGE
        return "mediscale STAGE" if stage else " ".join(["mediscale", rest[0], *_action(rest)])


def _action(rest: list[str]) -> list[str]:
    return rest[1:2] if rest[0] in ("kubeflow", "keys", "source", "task") else []


FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4,}.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
BEGINNING = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:mediscale|make|curl|python) ")


def _in_blocks(text: str) -> Iterator[str]:
    """The lines of code blocks, a line that ends with a backslash joined with the next one."""
    fenced = [block for _, _, block in FENCED.findall(text)]
    for block in [*fenced, *INDENTED.findall(FENCED.sub("", text))]:
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def _inline(text: str) -> Iterator[str]:
    """Inline code; in a table a bar is escaped."""
    for code in INLINE.findall(FENCED.sub("", text)):
        yield " ".join(code.replace("\\|", "|").split())


def synopses(text: str) -> Iterator[str]:
    """The commands that a synopsis stands for: without its options, and with each choice of each of them.

    >>> list(synopses("mediscale run [--size tiny|small] [--nights N]"))
    ['mediscale run', 'mediscale run --size tiny', 'mediscale run --size small', 'mediscale run --nights N']
    """
    bare = re.sub(r" \[[^\]]+\]", "", text)
    yield bare
    for option in re.findall(r" \[([^\]]+)\]", text):
        first, space, last = option.rpartition(" ")
        yield from (f"{bare} {first}{space}{choice}" for choice in last.split("|"))


def _command(page: Path, text: str) -> Command:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(text, comments=True)]
    environment = []
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment.append((name, value))
    return Command(page.name, (Path(words[0]).name, *words[1:]), tuple(environment))


def commands() -> Iterator[Command]:
    for page in PAGES:
        text = page.read_text()
        inline = (said for code in _inline(text) for said in synopses(code))
        for said in (*_in_blocks(text), *inline):
            if BEGINNING.match(said):
                yield _command(page, said)


COMMANDS = sorted({command[1:]: command for command in commands()}.values())
"""Each once, whatever the number of pages that name it."""
FRAGMENTS = sorted({code for page in PAGES for code in _inline(page.read_text()) if code.startswith("--")})


# --- how each is checked -----------------------------------------------------------------------------------------


def parse(command: Command, _request: pytest.FixtureRequest) -> None:
    """Reads the options with the verb's own parser, and what they say of a run."""
    options = _parser(command.words[1]).parse_args(command.words[2:])
    if "source" in options and "path" in options:
        verbs.source_of(options)
    if "set" in options:
        call.check(verbs.config_of(options.set), getattr(options, "pipeline", "risk"))


def parse_alone(command: Command, _request: pytest.FixtureRequest) -> None:
    """Reads the options of a verb whose source has no files."""
    options = _parser(command.words[1]).parse_args(command.words[2:])
    sources.read(options.source)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name)
    VERBS[name].add_arguments(parser)
    return parser


def run(command: Command, request: pytest.FixtureRequest) -> None:
    """Runs it in a home that holds a run and two versions of a model that were promoted."""
    request.getfixturevalue("home")
    assert _main(command.words[1:]) == 0


def draft(command: Command, _request: pytest.FixtureRequest) -> None:
    """Drafts the source of a small hospital; tests/unit/data_pipeline/test_source_draft.py checks it."""
    Path("FOLDER").mkdir()
    Path("FOLDER/patients.csv").write_text(
        "patient_id,birth_date\n100001,1950-01-01\n100002,1960-01-01\n100003,1970-01-01\n"
    )
    Path("FOLDER/visits.csv").write_text(
        "visit_id,patient_id,admitted,discharged\n"
        + "".join(f"20000{i},10000{i},2026-01-0{i} 08:00,2026-01-0{i} 18:00\n" for i in (1, 2, 3))
    )
    assert _main(command.words[1:]) == 0


def move(command: Command, request: pytest.FixtureRequest) -> None:
    """Runs what moves an alias, or refuses to by the exit code that the page names; MLflow follows."""
    home: Settings = request.getfixturevalue("home")
    mlflow = registry.client(home)
    mlflow.create_registered_model("synthetic-mortality")
    for promoted in registry.history(home, "synthetic"):
        mlflow.create_model_version(promoted.model, registry.locate(home, promoted.model_uri))
    assert _main(command.words[1:]) == (4 if command.words[1] == "promote" else 0)


def run_stage(command: Command, _request: pytest.FixtureRequest) -> None:
    """Reads all options, without a call; those of a call give each parameter that the stage requires."""
    _, name, *options = command.words
    assert _main([name, *options, "--schema"]) == 0
    upstream = [Path(options[i + 1]).stem.lower() for i, word in enumerate(options) if word == "--from"]
    if upstream:
        fields = call.load(name).Params.model_fields
        given = {options[i + 1].partition("=")[0] for i, word in enumerate(options) if word == "--set"}
        assert given <= fields.keys()
        given |= {field for stage in upstream for field in _leaves(stage)}
        assert {name for name, field in fields.items() if field.is_required()} <= given


def _leaves(stage: str) -> set[str]:
    result = call.load("synthetic" if stage == steps.PREPARE_SOURCE else stage).Result
    return set(result.model_fields)


def _main(arguments: Any) -> Any:
    try:
        return main.main([*arguments])
    except SystemExit as ended:  # argparse's, after --help
        return ended.code


def make(command: Command, _request: pytest.FixtureRequest) -> None:
    """The target exists, and so does all that it needs."""
    dry = ["make", "--dry-run", *command.words[1:]]
    environment = {**os.environ, **dict(command.environment)}
    done = subprocess.run(dry, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def ask(command: Command, request: pytest.FixtureRequest) -> None:
    """Sends the same request to the application, which listens where ``mediscale serve`` would."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", dest="header")
    parser.add_argument("-d", dest="body")
    parser.add_argument("url")
    sent = parser.parse_args(command.words[1:])
    address, _, path = sent.url.partition("/")
    assert address == f"localhost:{_parser('serve').get_default('port')}"
    header, _, value = sent.header.partition(": ")
    home: Settings = request.getfixturevalue("home")
    app = create_app(home, Predictors(home, "synthetic", "production"), PredictionLog(home, "synthetic"))
    with TestClient(app) as client:
        answer = client.post(f"/{path}", content=sent.body, headers={header: value})
    if path == "generate":  # tests/component/serving/test_generate.py promotes a language version and asks it
        GenerateRequest.model_validate_json(sent.body)
        assert answer.status_code == 503, "no language version is promoted here"
        return
    assert answer.status_code == 200, answer.text
    assert 0 < answer.json()["predictions"][0]["risk"] < 1


def exists(command: Command, _request: pytest.FixtureRequest) -> None:
    _, script, *rest = command.words
    file = f"{rest[0].replace('.', '/')}/__main__.py" if script == "-m" else script
    assert (ROOT / file).is_file()


CHECKS: dict[str, Callable[[Command, pytest.FixtureRequest], None]] = {
    "make": make,
    "curl": ask,
    "python": exists,
    "mediscale STAGE": run_stage,
    "mediscale --help": run,
    "mediscale clean": run,
    "mediscale history": run,
    "mediscale keys list": run,
    "mediscale kubeflow compile": run,
    "mediscale model-card": run,
    "mediscale promote": move,
    "mediscale report": run,
    "mediscale rollback": move,
    "mediscale traffic": run,
    "mediscale runs": run,
    "mediscale source draft": draft,
    "mediscale stages": run,
    "mediscale stream": parse_alone,
}
"""By its name; every other command is parsed."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own for what a command writes, and the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))


@pytest.fixture(autouse=True)
def added_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's one file and one line, added as it says."""
    (module,), (line,) = blocks("python"), blocks("text")
    (tmp_path / f"{NEW_STAGE}.py").write_text(module)
    monkeypatch.setattr(cohort, "__path__", [*cohort.__path__, str(tmp_path)])
    source = Path(steps.__file__).read_text()
    labels = re.search(r"^    Step\(\"data_pipeline.cohort.labels\".*\n", source, re.MULTILINE)
    assert labels
    changed = tmp_path / "changed_steps.py"
    changed.write_text(f"{source[: labels.end()]}    {line}{source[labels.end() :]}")
    spec = importlib.util.spec_from_file_location("changed_steps", changed)
    assert spec
    assert spec.loader
    with_it = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(with_it)
    monkeypatch.setattr(steps, "RISK", with_it.RISK)
    monkeypatch.setattr(steps, "PIPELINES", with_it.PIPELINES)
    monkeypatch.setattr(steps, "STAGES", with_it.STAGES)


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language."""
    found = FENCED.findall(HOW.read_text())
    return [textwrap.dedent(block) for _, of, block in found if of == language]


# --- the tests ---------------------------------------------------------------------------------------------------


def test_commands_are_found() -> None:
    """The extraction sees blocks, continued lines, inline code, tables and synopses."""
    found = {" ".join(command.words) for command in COMMANDS}
    assert {"make run", "mediscale serve", "mediscale stages", "mediscale run --size large"} <= found
    assert any(said.startswith("curl") and "clinical_note" in said for said in found)
    assert len(found) > 30


def test_every_verb_is_on_the_page_of_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    # An orchestrator types the one, and `make airflow` the other.
    left_out = {name for name in VERBS if f"mediscale {name}" not in page}
    assert left_out == {"prepare-source", "airflow"}


def test_a_newcomer_reads_the_two_commands_first() -> None:
    first = (ROOT / "README.md").read_text().splitlines()[:20]
    assert [line.split()[:2] for line in first if line.startswith("    make")] == [
        ["make", "run"],
        ["make", "test"],
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}: {' '.join(c.words)[:60]}")
def test_a_documented_command_works(command: Command, request: pytest.FixtureRequest) -> None:
    CHECKS.get(command.name, parse)(command, request)


@pytest.mark.parametrize("options", FRAGMENTS)
def test_documented_options_are_taken(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that stand alone are those of a run or of a stage."""
    settings = re.findall(r"--set ([a-z_]+\.[a-z_]+=\S+)", options)
    for stage, given in verbs.config_of(settings).items():
        call.check({stage: given}, steps.pipeline_of(stage))
    _main(["gold", "--help"])
    taken = set(re.findall(r"--[a-z-]+", capsys.readouterr().out + _parser("run").format_help()))
    assert set(re.findall(r"--[a-z-]+", options)) <= taken


def test_every_option_of_a_step_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    _main(["gold", "--help"])
    options = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert options - {"--schema"} <= {word for code in FRAGMENTS for word in code.split()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = {page.parent / link for link in re.findall(r"\]\(([^):]+)\)", text)}
    words = {word for code in _inline(text) for word in code.split()} - NEW_FILES - PLACEHOLDERS.keys()
    paths = {ROOT / word for word in words if re.match(rf"({'|'.join(FOLDERS)})/", word) and "<" not in word}
    assert sorted(str(path) for path in links | paths if not path.exists()) == []
    assert links | paths


def test_every_script_of_the_readme_measures() -> None:
    """The scripts in the table of figures, and those named after it, are in benchmarks/."""
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/measured.md"))
    named = {code for code in _inline(text) if re.fullmatch(r"(\w+/)?\w+\.py", code)}
    assert len(named) >= 6
    assert sorted(name for name in named if not (ROOT / "benchmarks" / name).is_file()) == []


def test_the_stage_of_the_page_runs(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    labels = _labels(settings)
    given = {"prepare_source": {"dataset": "synthetic"}, "labels": {"labels": labels.model_dump()}}
    for name, result in given.items():
        Path(f"{name}.json").write_text(json.dumps(result))
    node = next(node for node in steps.nodes(steps.RISK, ("mortality",)) if node.stage == NEW_STAGE)
    assert node.upstream == ("prepare_source", "labels_mortality")
    upstream = [word for name in given for word in ("--from", f"{name}.json")]
    assert _main([NEW_STAGE, *upstream, "--set", "task=mortality", "--set", "quantile=0.75"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stays": 5, "hours": 30.0}


def _labels(settings: Settings) -> TableRef:
    """Five stays that were predicted 0, 10, 20, 30 and 40 hours after admission."""
    admitted = datetime(2150, 1, 1)
    rows = pa.table({
        "admission_time": pa.array([admitted] * 5, pa.timestamp("us")),
        "prediction_time": pa.array([admitted + timedelta(hours=10 * i) for i in range(5)], pa.timestamp("us")),
    })  # fmt: skip
    ref = commits.append(settings, "labels_mortality", rows, "synthetic", "made", 0)
    assert ref
    return ref


def test_the_task_of_the_page_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("yaml")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / f"{NEW_TASK}.yaml").write_text(text)
    monkeypatch.setattr(task_names, "FOLDER", folder)
    assert tasks.load(NEW_TASK).prediction_time.hours_after == 48
    assert baselines.rule_of(NEW_TASK).name == "NEWS2"
    assert {"lactate_max_stay", "in_icu", "treatment_vasopressor_24h"} <= set(kernel.names(NEW_TASK))
