"""How the process of a step ends: quickly where it succeeded, as Python ends it where it did not."""

import subprocess
import sys

import pytest

STEP = """
import atexit, sys
from kfp.dsl import executor_main
from kubeflow_pipelines import component
class Kept:
    def __del__(self): print("freed")
kept = Kept()
with component.quick_exit():
    atexit.register(print, "cleaned")
    {block}
print("x" * 100_000)
{executor}
"""


def step(block: str, executor: str) -> "subprocess.CompletedProcess[str]":
    program = STEP.format(block=block, executor=executor)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_step_that_succeeded_frees_nothing_and_does_what_waits_for_its_end() -> None:
    done = step("pass", "pass")
    assert (done.returncode, done.stdout) == (0, "x" * 100_000 + "\ncleaned\n")


@pytest.mark.parametrize(
    ("block", "executor", "code"), [("sys.exit(3)", "pass", 3), ("1 / 0", "pass", 1), ("pass", "1 / 0", 1)]
)
def test_a_step_that_failed_says_so(block: str, executor: str, code: int) -> None:
    done = step(block, executor)
    assert done.returncode == code
    assert ("ZeroDivisionError" in done.stderr) == ("1 / 0" in (block, executor))
    assert done.stdout.endswith("cleaned\nfreed\n")
