"""The rule of this tier holds: what would start an engine ends the test instead."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["java", "-version"], check=False),
        lambda: subprocess.run([sys.executable, "-c", "pass"], check=False),
        lambda: os.system("true"),
        os.fork,
        lambda: socket.create_connection(("127.0.0.1", 1)),
    ],
    ids=["java", "python", "shell", "fork", "server"],
)
def test_a_process_or_a_server_ends_the_test(start: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="must not"):
        start()
