"""What the operating system refuses at the command line is one sentence that names the place and what to do."""

import errno
from typing import NoReturn

import pytest
from deltalake.exceptions import DeltaError

from mediscale.cli import main


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/home/a/locks"),
            "This account may not use /home/a/locks: run this as its owner",
        ),
        (  # as Arrow raises it
            PermissionError(errno.EACCES, "Failed stat()ing path '/home/a/lake'. Detail: Permission denied"),
            "This account may not use /home/a/lake: run this as its owner",
        ),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "/a is on a file system that can only be read"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full (what this command writes)"),
        (  # as Delta raises it
            DeltaError("Generic LocalFileSystem error: No space left on device (os error 28)"),
            "The disk is full (what this command writes); free space",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused."),
    ],
)
def test_it_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, sentence: str
) -> None:
    def refused(_arguments: list[str]) -> NoReturn:
        raise error

    monkeypatch.setattr(main, "_dispatch", refused)
    assert main.main(["runs"]) == 6
    said = capsys.readouterr().err
    assert said.startswith(f"mediscale: {sentence}")
    assert said.count("\n") == 1
