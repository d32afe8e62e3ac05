"""An engine that answers nonsense or too late is one sentence, and what it wrote in time is the answer."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixtures.scripted_engine import Scripted, scripted_version

from mediscale.core.settings import Settings
from mediscale.inference.sampling import Sampling
from serving.language import engine_client
from serving.language.engine_client import EngineClient
from serving.language.language_engine import EngineError

WORD = {"choices": [{"text": "So ", "logprobs": {"tokens": ["So "], "token_logprobs": [-0.5]}}]}


@pytest.fixture
def engine(settings: Settings) -> Iterator[Callable[[list[str]], EngineClient]]:
    """``engine(lines)``: a client of one whose stream has these lines, one in a tenth of a second."""
    servers: list[ThreadingHTTPServer] = []

    def client(lines: list[str]) -> EngineClient:
        class Streaming(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.end_headers()
                for line in lines:
                    self.wfile.write(f"{line}\n\n".encode())
                    time.sleep(0.1)

            def log_message(self, *_: Any) -> None:
                """Not in the test's output."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Streaming))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        home = settings.model_copy(
            update={"language_engine": f"http://127.0.0.1:{servers[-1].server_port}/v1"}
        )
        return EngineClient(home, "test-language/1", scripted_version(Scripted("")).spec)

    yield client
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("number", ["NaN", "0.7", '"high"'])
def test_a_log_probability_that_is_none_is_nonsense(
    engine: Callable[[list[str]], EngineClient], number: str
) -> None:
    line = f"data: {json.dumps(WORD).replace('-0.5', number)}"
    with pytest.raises(EngineError, match="something else than OpenAI's protocol"):
        list(engine([line, "data: [DONE]"]).stream("Why?", Sampling(4)))


def test_an_engine_that_does_not_end_is_cut_and_one_that_says_nothing_is_refused(
    engine: Callable[[list[str]], EngineClient],
) -> None:
    words = engine([f"data: {json.dumps(WORD)}"] * 50)
    tokens = list(words.stream("Why?", Sampling(99, deadline=time.monotonic() + 0.3)))
    assert 1 <= len(tokens) < 50
    with pytest.raises(EngineError, match="wrote nothing in the time that an answer may take"):
        list(engine([": wait"] * 50).stream("Why?", Sampling(99, deadline=time.monotonic() + 0.3)))


def test_an_engine_that_ends_in_the_middle_is_one_sentence(
    engine: Callable[[list[str]], EngineClient],
) -> None:
    with pytest.raises(EngineError, match="ended its answer in the middle; ask again"):
        list(engine([f"data: {json.dumps(WORD)}"]).stream("Why?", Sampling(4)))


def test_only_the_first_question_waits_long_for_an_engine_that_hangs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are refused, or answered by quotes, once it has not even listed its versions."""
    monkeypatch.setattr(engine_client, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(engine_client, "RETURN_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        home = settings.model_copy(update={"language_engine": url})
        hanging = EngineClient(home, "test-language/1", scripted_version(Scripted("")).spec)
        for seconds in ("1", "0.1", "0.1"):
            with pytest.raises(EngineError, match=f"did not answer within {seconds} seconds"):
                list(hanging.stream("Why?", Sampling(4)))
