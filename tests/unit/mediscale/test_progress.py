"""Progress of a run: what begins, what a stage logs, how it ended, on a terminal and in a pipe."""

import io
import logging

from rich.console import Console

from mediscale.core import logs
from mediscale.pipeline.progress import Progress
from training.step_log import StepLog

log = logging.getLogger("training.notes.note_training")


def progress(terminal: bool = False) -> tuple[Progress, io.StringIO]:
    written = io.StringIO()
    return Progress(Console(file=written, force_terminal=terminal, highlight=False, width=120)), written


def test_a_pipe_gets_what_begins_what_is_logged_and_how_it_ended() -> None:
    shown, written = progress()
    with shown.step("note_model mortality", "train the note model") as step:
        log.info("step %d of %d, loss %.4f, 35 s left", 40, 192, 0.25)
        log.debug("of no use to a person")
        step.summary = "registered [v1]"
    begun, logged, ended = written.getvalue().splitlines()
    assert begun.strip() == "note_model mortality: train the note model …"
    assert logged.strip() == "note_model mortality: step 40 of 192, loss 0.2500, 35 s left"
    assert ended.split()[1:] == ["note_model", "mortality", "registered", "[v1]"]


def test_a_terminal_keeps_the_last_line_and_what_is_wrong() -> None:
    shown, written = progress(terminal=True)
    with shown.step("bronze", "land the extract as it came") as step:
        log.info("half of it")
        log.warning("a warning [stays]")
        step.summary = "done"
    lines = written.getvalue().splitlines()
    assert any("bronze: a warning [stays]" in line for line in lines)
    assert "bronze" in lines[-1]
    assert lines[-1].rstrip().endswith("done")
    assert not [line for line in lines if line.strip() == "bronze: half of it"]


def test_after_a_stage_our_packages_log_as_before_it() -> None:
    shown, written = progress()
    with shown.step("bronze"):
        pass
    before = written.getvalue()
    log.info("nobody listens")
    assert written.getvalue() == before
    assert not any(logging.getLogger(package).handlers for package in logs.PACKAGES)


def test_other_libraries_are_not_shown() -> None:
    shown, written = progress()
    with shown.step("bronze"):
        logging.getLogger("some.library").info("chatter")
    assert "chatter" not in written.getvalue()


def test_a_fit_tells_step_loss_and_time_left_every_ten_seconds() -> None:
    now = 0.0
    shown, written = progress()
    with shown.step("note_model"):
        steps = StepLog(log, "step", total=100, done=40, clock=lambda: now)
        for done in range(41, 101):  # a killed fit goes on at step 40, a second a step
            now += 1.0
            steps.step(done, 1 / done)
    lines = [line.strip() for line in written.getvalue().splitlines()[:-1]]
    assert lines == [
        f"note_model: step {done} of 100, loss {1 / done:.4f}, {100 - done} s left"
        for done in (42, 52, 62, 72, 82, 92)
    ]


def test_minutes_are_told_as_minutes() -> None:
    now = 0.0
    shown, written = progress()
    with shown.step("risk_model"):
        steps = StepLog(log, "tree", total=600, clock=lambda: now)
        now = 10.0
        steps.step(10, 0.5)
    assert "tree 10 of 600, loss 0.5000, 10 min left" in written.getvalue()
