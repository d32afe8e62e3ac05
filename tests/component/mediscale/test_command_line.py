"""``mediscale`` as a process: what each verb prints, and that every way to end is a code and at most one sentence."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mediscale.cli import main
from mediscale.cli.verbs import Verb
from mediscale.core.settings import Settings

PROGRAM = str(Path(sys.executable).with_name("mediscale"))
RUN = "cli-20260101T0300-synthetic"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def around(settings: Settings) -> dict[str, str]:
    """The environment of a person's shell: output is buffered there, as it is not in many containers."""
    left = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**left, "MEDISCALE_HOME": str(settings.home)}


@pytest.fixture
def command(settings: Settings) -> Command:
    """Runs the program in the home with these words."""

    def run(*words: str, program: tuple[str, ...] = (PROGRAM,)) -> "subprocess.CompletedProcess[str]":
        env = around(settings)
        return subprocess.run([*program, *words], env=env, capture_output=True, text=True, check=False)

    return run


@pytest.mark.usefixtures("home")
def test_history_says_who_moved_which_alias_when_and_why(command: Command) -> None:
    done = command("history", "--dataset", "synthetic")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"   {move}  2026-11-22 08:00  tests  synthetic-mortality production: - → {move}  It is better."
        for move in (1, 2)
    ]


@pytest.mark.usefixtures("home")
def test_runs_are_listed_and_one_of_them_is_reported(command: Command, tmp_path: Path) -> None:
    listed = command("runs")
    assert listed.returncode == 0
    (line,) = listed.stdout.splitlines()
    assert RUN in line
    assert "mortality promoted; readmission staged" in line
    assert "No run of elsewhere has called a stage" in command("runs", "--dataset", "elsewhere").stdout
    page = tmp_path / "page.html"
    reported = command("report", RUN, "--output", str(page))
    assert (reported.returncode, reported.stdout) == (0, f"{page}\n")
    assert "synthetic-mortality" in page.read_text()


def test_the_module_is_the_program(command: Command) -> None:
    by_module = command("stages", program=(sys.executable, "-m", "mediscale"))
    assert by_module.returncode == 0
    assert by_module.stdout == command("stages").stdout
    assert "late_fusion" in by_module.stdout
    refused = command("gild", program=(sys.executable, "-m", "mediscale"))
    assert (refused.returncode, refused.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("gild", 2, "There is no verb or stage 'gild'; did you mean gold?"),
        ("xyzzy", 2, "There is no verb or stage 'xyzzy'."),
        ("history --dataset elsewhere", 7, "No alias of elsewhere was ever moved"),
        ("report", 7, "No run has come to a decision in this home yet"),
        ("serve", 7, "lake has no model as production; train one with `mediscale run`"),
        ("score --dataset d --task mortality --output risks.parquet", 7, "d-mortality has no version as production"),
        ("promote --dataset d --task mortality --version 1", 7, "d-mortality v1 was never evaluated"),
        ("rollback --dataset d --task mortality --version 1 --reason x", 7, "can't go back to version 1: no"),
        ("canary d-mortality/2 --percent 5", 7, "was never staged"),
        ("canary mortality --stop", 2, "name it as MODEL/VERSION"),
        ("traffic", 7, "Nothing is in production"),
        ("erase 1 --dataset d --reason x --dry-run", 7, "The lake has no patients of d"),
        ("simulate --nights 0", 2, "1 to 45 nights"),
    ],
)  # fmt: skip
def test_without_a_home_every_verb_ends_with_a_sentence_and_makes_none(
    command: Command, settings: Settings, words: str, code: int, sentence: str
) -> None:
    done = command(*words.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("mediscale: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not settings.home.exists()


@pytest.mark.parametrize("words", ["stages", "--help", "run --help", "history --dataset synthetic"])
@pytest.mark.usefixtures("home")
def test_a_reader_who_left_ends_it_without_a_word(settings: Settings, words: str) -> None:
    """As ``| head`` does; a pipe whose reader has left before anything is written shows it at every speed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [PROGRAM, *words.split()]
    done = subprocess.run(
        command, env=around(settings), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_does_not_fit_is_a_sentence(settings: Settings) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "stages"], env=around(settings), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr.startswith("mediscale: The disk is full")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_stops_it_with_a_sentence(settings: Settings) -> None:
    """The signal goes to the whole group, as a terminal sends it."""
    command = [PROGRAM, "prepare-source", "--size", "large"]
    process = subprocess.Popen(
        command, env=around(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    while not (settings.home / "extracts").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    told, error = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")
    assert error == "mediscale: stopped; finished stages are kept, the same command continues.\n"


@pytest.mark.usefixtures("keyboard")
def test_a_second_ctrl_c_ends_what_libraries_do_at_the_end_without_a_traceback(settings: Settings) -> None:
    """As Ray and torch do, for a second or two after the sentence of the first."""
    program = (
        "import atexit, time; from mediscale.cli import main\n"
        "main.main()\n"
        "atexit.register(lambda: (print('a library ends', flush=True), time.sleep(60)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "prepare-source", "--size", "large"], env=around(settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (settings.home / "extracts").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "a library ends\n"
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == "mediscale: stopped; finished stages are kept, the same command continues.\n"


def test_a_defect_is_a_sentence_that_says_where_and_nothing_of_a_patient(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_options: object) -> int:
        return Settings.model_construct().table_uri({"name": "Quillfeather"}["nobody"], "events").count("")

    monkeypatch.setitem(main.GROUPS, "tests", (Verb("fail", "fails", fail),))
    assert main.main(["fail"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("mediscale: unexpected KeyError at mediscale/cli/main.py:")
    assert "raised in test_command_line.py:" in told
    assert "nobody" not in told
    assert told.count("\n") == 1


def test_a_reader_of_a_table_who_left_is_no_failure(settings: Settings) -> None:
    """Tables are drawn by rich, which ends the process by itself then."""
    code = (
        "import sys; from mediscale.cli import main; from mediscale.cli.verbs import Verb\n"
        "from rich.console import Console\n"
        "def draw(_): Console().print('a table'); return 0\n"
        "main.GROUPS['tests'] = (Verb('draw', 'draws', draw),)\n"
        "sys.exit(main.main(['draw']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=around(settings), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_program_frees_nothing_as_it_ends_and_does_what_waits_for_its_end(settings: Settings) -> None:
    code = (
        "import atexit, sys; from mediscale.cli import main; from mediscale.cli.verbs import Verb\n"
        "class Held:\n"
        "    def __del__(self): print('freed')\n"
        "held = Held()\n"
        "def work(_): atexit.register(print, 'cleaned'); print('x' * 100_000); return 3\n"
        "main.GROUPS['tests'] = (Verb('work', 'works', work),)\n"
        "sys.argv[1:] = ['work']; sys.exit(main.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=around(settings), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "x" * 100_000 + "\ncleaned\n"


OF_NO_PRIVILEGE = (
    (
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
        "--inh-caps",
        "-dac_override,-dac_read_search",
    )
    if os.geteuid() == 0
    else ()
)
"""Before a command: root reads what nobody else may."""


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        (("source", "check", "mimic-iii", "--path"), "icu"),
        (("source", "check", "mimic-iii", "--path"), "PATIENTS.csv"),
        (("index",), "icu"),
    ],
)
def test_a_folder_or_file_of_somebody_else_is_no_absent_and_no_torn_one(
    command: Command, tmp_path: Path, words: tuple[str, ...], closed: str
) -> None:
    extract = tmp_path / "extract"
    (extract / "icu").mkdir(parents=True)
    for name in ("PATIENTS.csv", "ADMISSIONS.csv", "icu/CHARTEVENTS.csv", "icu/guideline.md"):
        (extract / name).write_text("subject_id,gender,dob,dod,dod_hosp,dod_ssn,expire_flag\n")
    (extract / closed).chmod(0)
    ended = command(*words, str(extract), program=(*OF_NO_PRIVILEGE, PROGRAM))
    (extract / closed).chmod(0o700)
    assert ended.returncode == 6, ended.stderr
    assert ended.stderr.startswith(f"mediscale: This account may not use {extract / closed}: ")
