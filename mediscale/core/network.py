"""Addresses: our own, and whether somebody listens at one, before a client tries it for minutes, or for ever."""

import socket
from contextlib import suppress

CONNECTS_WITHIN = 10.0
"""Seconds that a machine of the same network has to take a connection."""


def own_address(towards: str) -> str:
    """This machine's address on the way to ``HOST:PORT``; nothing is sent."""
    host, _, port = towards.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, int(port)))
        address: str = way.getsockname()[0]
    return address


def is_listening(address: str) -> bool:
    """Whether ``HOST:PORT`` takes a connection; also false for a text that is no such address.

    >>> is_listening("nowhere")
    False
    """
    host, _, port = address.rpartition(":")
    with suppress(OSError, ValueError, OverflowError):  # OverflowError: a port beyond 65535
        socket.create_connection((host.strip("[]"), int(port)), CONNECTS_WITHIN).close()
        return True
    return False
