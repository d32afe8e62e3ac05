"""A language version that an engine elsewhere answers: a server of ours in another process, and ones that misbehave."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from component.serving.test_generate import BROKEN, QUESTION, greedy, loaded, wait
from fastapi.testclient import TestClient
from fixtures.language_versions import DATASET
from fixtures.promoted_models import promoter
from fixtures.server_process import Server

from mediscale.core.settings import Settings
from mediscale.core.task_names import LANGUAGE
from serving.app import create_app
from serving.language import engine_client
from serving.language.languages import Languages
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors

Lean = Callable[..., TestClient]


@pytest.fixture
def lean(settings: Settings, promote: Any) -> Iterator[Lean]:
    """``lean(url)``: a client of an application whose language version the engine at that URL answers."""
    promote("mortality")
    clients: list[TestClient] = []

    def client(url: str) -> TestClient:
        home = settings.model_copy(update={"language_engine": url})
        language = Languages(home, DATASET, "production"), PredictionLog(home, DATASET)
        predictors = Predictors(home, "synthetic", "production")
        app = create_app(home, predictors, PredictionLog(home, "synthetic"), language=language)
        clients.append(TestClient(app).__enter__())
        return clients[-1]

    yield client
    for one in clients:
        one.__exit__(None, None, None)


@pytest.fixture(scope="module")
def engines() -> Iterator[list[Server]]:
    """Those that were started, of which the last one may answer still: each imports torch for ten seconds."""
    started: list[Server] = []
    yield started
    for one in started:
        one.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def engine_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("engine") / "home")


@pytest.fixture
def promote_in_engine(
    engine_home: Settings, trained: Any, language_versions: Callable[[int], Path]
) -> Callable[[int], object]:
    """``promote_language`` for the home of the engine."""

    def move(version: int) -> object:
        folder = language_versions(version)
        return promoter(engine_home, trained)(LANGUAGE, version, dataset=DATASET, folder=folder)

    return move


@pytest.fixture
def engine(
    engines: list[Server], engine_home: Settings, promote_in_engine: Callable[[int], object]
) -> Server:
    """One with a home of its own, which answers as the first version."""
    promote_in_engine(1)
    if not engines or engines[-1].process.poll() is not None:
        engines.append(Server(engine_home, options=["--dataset", DATASET]))
    loaded(engines[-1])
    return engines[-1]


def refused(client: TestClient) -> str:
    """Why no question is answered, once the engine was tried; risks are answered all the same."""
    wait(lambda: len(client.get("/health").json()["problems"]) > 0)
    answered = client.post("/generate", json={"question": QUESTION})
    assert answered.status_code == 503
    assert client.post("/predict", json={"age": 67}).status_code == 200
    sentence: str = answered.json()["error"]
    assert sentence in client.get("/health").json()["problems"]
    return sentence


def test_an_engine_with_another_adapter_under_the_same_name_gets_no_question(
    lean: Lean, engine: Server, promote_language: Any, language_versions: Callable[[int], Path]
) -> None:
    promote_language(1, folder=language_versions(2))
    assert "does not answer as clinical-questions-language/1 did in training" in refused(
        lean(f"{engine.address}/v1")
    )


def test_an_engine_that_failed_gives_the_known_answers_again_before_the_next_question(
    settings: Settings, engine: Server, promote_language: Any, promote_in_engine: Callable[[int], object]
) -> None:
    promote_language(1)
    home = settings.model_copy(update={"language_engine": f"{engine.address}/v1"})
    app = create_app(home, Predictors(home, DATASET, "production"), PredictionLog(home, DATASET))
    with TestClient(app) as client:
        wait(lambda: client.get("/health").json()["model_loaded"])
        promote_in_engine(2)
        loaded(engine, 2)
        sentences = [client.post("/generate", json={"question": QUESTION}).json()["error"] for _ in range(2)]
        assert "answers with status 404" in sentences[0]
        assert f"serves {DATASET}-language/2 and not {DATASET}-language/1" in sentences[1]
        client.app.state.service.check_language()  # type: ignore[attr-defined]
        assert client.get("/health").json()["status"] == "unavailable"


def test_an_engine_answers_what_the_version_answers_in_process(
    lean: Lean,
    engine: Server,
    promote_language: Any,
    toy_base: Path,
    language_versions: Callable[[int], Path],
) -> None:
    promote_language(1)
    beside = lean(engine.address)
    wait(lambda: beside.get("/health").json()["problems"])
    assert "the address of most ends with /v1," in str(beside.get("/health").json()["problems"])
    client = lean(f"{engine.address}/v1")
    wait(lambda: client.get("/health").json()["model_loaded"])
    body = {"question": QUESTION, "max_length": 12, "use_safety": False}
    answer = client.post("/generate", json=body).json()
    assert answer["response"].rstrip(BROKEN) == greedy(toy_base, language_versions(1))
    direct = engine.client.post("/generate", json=body).json()
    assert answer["confidence"] == pytest.approx(direct["confidence"])
    assert client.get("/health").json()["gpu_available"] is None, "the protocol does not say"
    ids = {"prompt": [5, 6, 7, 8], "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    mine, theirs = (
        each.post("/v1/completions", json=ids).json()["choices"] for each in (client, engine.client)
    )
    assert mine == theirs
    counted = {"prompt": [5, 6, 7, 8], "stream": True, "stream_options": {"include_usage": True}}
    for each in (client, engine.client):
        assert '"prompt_tokens":4,' in each.post("/v1/completions", json=counted).text
    long = client.post("/generate", json={**body, "question": "Which organ? " * 100})
    assert (long.status_code, "longer than its window" in long.json()["error"]) == (422, True)
    engine.end(signal.SIGKILL)
    gone = client.post("/generate", json=body)
    assert (gone.status_code, "can't be reached" in gone.json()["error"]) == (503, True)
    assert client.post("/predict", json={"age": 67}).status_code == 200


def test_an_engine_that_hangs_gets_no_question(
    lean: Lean, promote_language: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "SILENT_SECONDS", 0.5)
    promote_language(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sentence = refused(lean(f"http://127.0.0.1:{silent.getsockname()[1]}/v1"))
    assert sentence == "The language engine did not answer within 0.5 seconds; ask again in a moment."


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (b"hello", "something else than OpenAI's protocol"),
        (b'{"data": [{"id": "another"}]}', f"serves another and not {DATASET}-language/1"),
        (f'{{"data": [{{"id": "{DATASET}-language/1"}}]}}'.encode(), "something else than OpenAI's protocol"),
    ],
)
def test_an_engine_that_talks_nonsense_gets_no_question(
    lean: Lean, promote_language: Any, says: bytes, sentence: str
) -> None:
    promote_language(1)

    class Nonsense(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(says)))
            self.end_headers()
            self.wfile.write(says)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Not in the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert sentence in refused(lean(f"http://127.0.0.1:{server.server_port}/v1"))
        server.shutdown()


def test_the_lean_server_asks_an_engine_without_torch() -> None:
    look = "import sys, serving.language.engine_client; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )
