"""The edges of the real server process: what one peer, and all together, may hold of it and for how long."""

import gzip
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fixtures.promoted_models import promoter
from fixtures.server_process import Server

from mediscale.core.settings import Settings
from serving.bounded_http import CONNECTIONS, HEAD_BYTES, HEAD_FIELDS, PIPELINED
from serving.routes.predict import BODY_BYTES

SECONDS = 1.5
UNREAD = 2
QUICKER = f"bounded_http.HEAD_SECONDS = bounded_http.BODY_SECONDS = {SECONDS}; bounded_http.UNREAD_SECONDS = {UNREAD}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, trained: Any) -> Iterator[Server]:
    settings = Settings(home=tmp_path_factory.mktemp("edges") / "home")
    promoter(settings, trained)("mortality")
    process = Server(settings, first=QUICKER)
    process.ask(age=67)
    yield process
    process.end(signal.SIGKILL)


def peer(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=20)


def answer(connection: socket.socket) -> tuple[int, str]:
    """Status and text of what comes until the server ends the connection."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(2**16):
            received += part
    status = re.match(rb"HTTP/1.1 (\d+)", received)
    return int(status[1]) if status else 0, received.partition(b"\r\n\r\n")[2].decode()


def refusals(server: Server, status: int) -> float:
    counted = re.search(
        rf'mediscale_refusals_total{{status="{status}"}} ([0-9.]+)', server.client.get("/metrics").text
    )
    return float(counted[1]) if counted else 0.0


def resident_mib(server: Server) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


START = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n"
ENDLESS = {
    "fields": (START, b"x-filler: " + b"y" * 1000 + b"\r\n"),
    "one field": (START + b"x-filler: ", b"y" * 1000),
    "many small fields": (START, b"a: b\r\n" * 200),
    "a name": (START, b"n" * 1000),
    "an address": (b"GET /", b"a" * 1000),
    "nothing but empty lines": (b"", b"\r\n" * 500),
}


@pytest.mark.parametrize(("start", "part"), ENDLESS.values(), ids=ENDLESS)
def test_an_endless_head_takes_no_memory(server: Server, start: bytes, part: bytes) -> None:
    before = resident_mib(server)
    with closing(peer(server)) as connection:
        sent = 0
        with suppress(ConnectionError):
            connection.sendall(start)
            while sent < 50 * 2**20:
                connection.sendall(part * 60)
                sent += len(part) * 60
    assert resident_mib(server) - before < 20
    assert server.client.get("/live").status_code == 200


@pytest.mark.parametrize(
    "head",
    [b"x-filler: " + b"y" * HEAD_BYTES + b"\r\n", b"a: b\r\n" * (HEAD_FIELDS + 1)],
    ids=["too long", "too many fields"],
)
def test_a_head_that_is_too_large_is_answered_431(server: Server, head: bytes) -> None:
    counted = refusals(server, 431)
    with closing(peer(server)) as connection:
        connection.sendall(START + head + b"\r\n")
        status, text = answer(connection)
    assert status == 431
    assert str(HEAD_BYTES) in json.loads(text)["error"]
    assert refusals(server, 431) == counted + 1


def test_what_is_too_large_is_refused_under_v1_as_openai_s_clients_read_it(server: Server) -> None:
    for sent in (
        b"x-filler: " + b"y" * HEAD_BYTES + b"\r\n\r\n",
        b"host: localhost\r\ncontent-length: 99999999\r\n\r\n",
    ):
        with closing(peer(server)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\n" + sent)
            status, text = answer(connection)
        assert status in (431, 413)
        assert "larger than" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        START,
        START + b"content-length: 50\r\n\r\n{",
        START + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a chunked body"],
)
def test_who_falls_silent_is_answered_408_in_time(server: Server, sent: bytes) -> None:
    counted = refusals(server, 408)
    with closing(peer(server)) as connection:
        connection.sendall(sent)
        begun = time.monotonic()
        status, text = answer(connection)
    assert status == 408
    assert "did not arrive within" in json.loads(text)["error"]
    assert time.monotonic() - begun < 3 * SECONDS + 2
    assert refusals(server, 408) == counted + 1


def test_who_sends_byte_by_byte_gets_no_more_time(server: Server) -> None:
    begun = time.monotonic()
    with closing(peer(server)) as connection, suppress(ConnectionError):
        connection.sendall(START)
        while time.monotonic() - begun < 10 * SECONDS:
            connection.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - begun < 3 * SECONDS + 2


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_answered_413_before_it_came(server: Server, declared: bool) -> None:
    counted = refusals(server, 413)
    with closing(peer(server)) as connection:
        if declared:
            connection.sendall(START + b"content-length: %d\r\n\r\n{" % (BODY_BYTES + 1))
        else:
            connection.sendall(START + b"transfer-encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(BODY_BYTES // 2**16 + 2):
                    connection.sendall(b"10000\r\n" + b" " * 2**16 + b"\r\n")
        status, text = answer(connection)
    assert status == 413
    assert str(BODY_BYTES) in json.loads(text)["error"]
    assert refusals(server, 413) == counted + 1


def test_many_unfinished_bodies_hold_bounded_memory_and_small_requests_are_answered(server: Server) -> None:
    before = resident_mib(server)
    peers = [peer(server) for _ in range(60)]
    body = START + b"content-length: %d\r\n\r\n" % BODY_BYTES + b" " * (BODY_BYTES - 1)

    def send(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            connection.sendall(body)

    sending = [threading.Thread(target=send, args=[connection]) for connection in peers]
    for thread in sending:
        thread.start()
    while any(thread.is_alive() for thread in sending):
        assert server.ask(age=67, blood_pressure=140).status_code == 200
    assert resident_mib(server) - before < 200
    statuses = [answer(connection)[0] for connection in peers]
    for connection in peers:
        connection.close()
    assert set(statuses) <= {503, 408, 0}
    assert refusals(server, 503) > 0


def test_more_sockets_than_the_limit_are_answered_503_and_idle_ones_go(server: Server) -> None:
    idle = [peer(server) for _ in range(CONNECTIONS + 40)]
    with closing(peer(server)) as one_more:
        one_more.settimeout(20)
        refused = one_more.recv(2**16)
    assert (refused.startswith(b"HTTP/1.1 503"), b"retry-after: 2\r\n" in refused) == (True, True)
    time.sleep(2 * SECONDS)
    statuses = [answer(connection)[0] for connection in idle]
    for connection in idle:
        connection.close()
    assert statuses.count(408) >= CONNECTIONS - 40
    assert httpx.get(f"http://{server.host}:{server.port}/live").status_code == 200


@pytest.mark.parametrize(
    ("head", "status", "sentence"),
    [
        (b"GET /nothing", 404, "There is no such address"),
        (b"GET /predict%ff%00", 404, "There is no such address"),
        (b"POST /predict/", 404, "There is no such address"),
        (b"PUT /predict", 405, "does not take PUT; it takes POST"),
        (b"OPTIONS /predict", 405, "does not take OPTIONS; it takes POST"),
        (b"POST /models/x/y/predict", 422, "version must be an integer"),
        (b"POST /predict?a=%ff", 422, "a parameter that is unknown here"),
        (b"POST /predict HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\nx:", 415, "The body is compressed"),
        (b"BREW /predict", 400, "is not valid HTTP/1.1"),
        (b"GET /live HTTP/1.1\r\ncontent-length: -1\r\nx:", 400, "is not valid HTTP/1.1"),
    ],
    ids=str,
)
def test_what_the_server_does_not_take_has_a_status_and_a_sentence_and_is_counted(
    server: Server, head: bytes, status: int, sentence: str
) -> None:
    counted = refusals(server, status)
    with closing(peer(server)) as connection:
        connection.sendall(head + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        received, text = answer(connection)
    assert (received, sentence in json.loads(text)["error"]) == (status, True)
    assert refusals(server, status) == counted + 1
    assert not [line for line in server.lines if "WARNING" in line], "a peer can't fill the log"


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/metrics", "/docs"])
def test_a_balancer_may_ask_by_head(server: Server, path: str) -> None:
    answered, whole = server.client.head(path), server.client.get(path)
    assert (answered.status_code, answered.content) == (200, b"")
    assert answered.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("path", ["/predict", "/generate", "/fhir/RiskAssessment/$predict"])
def test_a_compressed_body_is_refused_in_words(server: Server, path: str) -> None:
    counted, body = refusals(server, 415), gzip.compress(b'{"age": 67}')
    answered = server.client.post(path, content=body, headers={"Content-Encoding": "gzip"})
    assert (answered.status_code, "send it as it is" in answered.json()["error"]) == (415, True)
    assert refusals(server, 415) == counted + 1
    as_it_is = server.client.post("/predict", json={"age": 67}, headers={"Content-Encoding": "identity"})
    assert as_it_is.status_code == 200


def test_who_waits_for_leave_to_send_gets_it_or_the_refusal_and_pipelined_requests_their_answers(
    server: Server,
) -> None:
    body = b'{"age": 67}'
    fields = START + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    with closing(peer(server)) as connection:
        connection.sendall(fields % len(body))
        assert connection.recv(2**16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert b" 200 OK" in connection.recv(2**16)
    with closing(peer(server)) as connection:
        connection.sendall(fields % (BODY_BYTES + 1))
        assert answer(connection)[0] == 413
    with closing(peer(server)) as connection:
        ask = b"content-length: %d\r\n\r\n" % len(body) + body
        connection.sendall((START + ask) * 3 + START + b"connection: close\r\n" + ask)
        received = b""
        while part := connection.recv(2**16):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 4


def test_of_requests_sent_ahead_few_are_kept_and_those_are_answered(server: Server) -> None:
    counted = refusals(server, 503)
    with closing(peer(server)) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1500)
        status, text = answer(connection)
    assert (status, text.count("HTTP/1.1 200 OK") + 1) == (200, PIPELINED + 1)
    assert text.count("connection: close") == 1
    assert refusals(server, 503) == counted + 1


@pytest.mark.parametrize(
    "refused",
    [
        START + b"x-filler: " + b"y" * HEAD_BYTES + b"\r\n\r\n",
        START + b"content-length: %d\r\n\r\n{" % (BODY_BYTES + 1),
        START + b"content-length: 50\r\n\r\n{",
        b"BREW /predict HTTP/1.1\r\n\r\n",
    ],
    ids=["head", "body", "half a body", "no HTTP"],
)
def test_a_refusal_takes_no_place_of_an_answer_that_was_asked_for_before(
    server: Server, refused: bytes
) -> None:
    body = b'{"age": 67}'
    first = START + b"content-length: %d\r\n\r\n" % len(body) + body
    with closing(peer(server)) as connection:
        connection.sendall(first * 2 + refused)
        status, text = answer(connection)
    assert (status, text.count("prediction_id"), text.count("HTTP/1.1 200")) == (200, 2, 1)


def test_who_does_not_read_the_answers_holds_no_socket_for_ever(server: Server) -> None:
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((server.host, server.port))
        own = connection.getsockname()
        for _ in range(100):  # more than the kernel's buffers take
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n")
            time.sleep(0.01)
        assert own in peers(server), "it waits to be read"
        deadline = time.monotonic() + 10 * UNREAD
        while own in peers(server) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert own not in peers(server)


def peers(server: Server) -> list[tuple[str, int]]:
    return [each.raddr for each in psutil.Process(server.process.pid).net_connections("tcp") if each.raddr]


def test_malformed_requests_get_no_five_hundred(server: Server) -> None:
    """Cut, doubled and changed at random places: each gets an answer of the four hundreds or is what it was."""
    import random

    chance = random.Random(10)
    good = (
        START
        + b"content-type: application/json\r\ncontent-length: 31\r\n\r\n"
        + b'{"age": 67, "heart_rate": 118.0}'
    )
    for _ in range(150):
        message = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        with closing(peer(server)) as connection:
            connection.sendall(
                bytes(message[: chance.choice([len(message), chance.randrange(len(message))])])
            )
            connection.shutdown(socket.SHUT_WR)
            status, _ = answer(connection)
        assert status < 500, bytes(message)
