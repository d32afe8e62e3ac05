"""Language versions in traffic: by the same signed entries, arms and tests as risk models."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fixtures.promoted_models import split
from fixtures.scripted_engine import Scripted, scripted_version

from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.core.task_names import LANGUAGE
from mediscale.storage import lake
from serving.app import create_app
from serving.language import language_service
from serving.language.languages import Languages, ServedLanguage
from serving.log.prediction_log import PredictionLog
from serving.risk.models import Predictors
from serving.traffic import canary_analysis

Words = Callable[[], Iterator[Any]]


@pytest.fixture
def engines() -> dict[int, Scripted]:
    return {1: Scripted("It pumps blood."), 2: Scripted("The heart pumps blood.")}


@pytest.fixture
def served(
    settings: Settings,
    promote: Any,
    engines: dict[int, Scripted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TestClient]:
    """Version 1 is in production and version 2 staged; only their words are no network's."""

    def no_embedder(_: Settings) -> None:
        raise UsageError("None is needed here.")

    def loaded(_: Languages, model: Any, *_others: Any) -> ServedLanguage:
        return scripted_version(engines[model.version], model)

    monkeypatch.setattr("serving.app.POLL_SECONDS", 3600)
    monkeypatch.setattr("serving.language.language_service.embedders.load", no_embedder)
    monkeypatch.setattr(Languages, "_loaded", loaded)
    monkeypatch.setattr(canary_analysis, "SLOW_TIMES", 1000)  # this machine has other work
    for version in (1, 2):
        folder = tmp_path / f"language-{version}"
        folder.mkdir()
        (folder / "language.json").write_text(f'{{"version": {version}}}')
        promote(LANGUAGE, version, alias="production" if version == 1 else "staging", folder=folder)
    predictors = Predictors(settings, "synthetic", "production")
    with TestClient(create_app(settings, predictors, PredictionLog(settings, "synthetic"))) as client:
        follow(client)
        yield client


@pytest.mark.usefixtures("served")
def test_what_the_layers_need_is_loaded_before_a_version_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by the first /health or question, while which nobody else would be answered."""
    log = PredictionLog(settings, "synthetic")
    app = create_app(settings, Predictors(settings, "synthetic", "production"), log)
    language, answered = app.state.service.language, []

    def load(_: Settings) -> None:
        answered.append(language.languages.current)
        raise UsageError("None is needed here.")

    monkeypatch.setattr("serving.language.language_service.embedders.load", load)
    language.languages.refresh()
    assert language.reduced
    assert (answered, language.languages.current.name) == ([None], "synthetic-language/1")
    log.close()


def follow(client: TestClient) -> dict[str, Any]:
    service: Any = client.app.state.service  # type: ignore[attr-defined]
    service.follow()
    service.follow_language()
    health: dict[str, Any] = client.get("/health").json()
    return health


def beside(settings: Settings, percent: float, mode: str = "canary") -> None:
    from mediscale.storage import registry

    staged = [move for move in registry.history(settings, "synthetic") if move.alias == "staging"]
    split(settings, staged[-1], percent, mode)


def ask(client: TestClient, n: int = 20) -> list[int]:
    """Which version answers each of ``n`` questions."""
    answers = [
        client.post("/generate", json={"question": f"What does organ {i} do?", "use_safety": False})
        for i in range(n)
    ]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["version"] for answer in answers]


def logged(client: TestClient, settings: Settings) -> list[dict[str, Any]]:
    client.app.state.service.flush()  # type: ignore[attr-defined]
    return lake.read(settings, lake.latest(settings, "synthetic", PREDICTIONS.name)).to_pylist()


def test_a_canary_answers_its_share_of_the_questions_always_the_same_ones(
    served: TestClient, settings: Settings, engines: dict[int, Scripted]
) -> None:
    assert set(ask(served)) == {1}
    beside(settings, 50)
    assert follow(served)["beside"] == [
        {"task": "language", "model": "synthetic-language", "version": 2, "mode": "canary", "percent": 50}
    ]
    first = ask(served)
    assert 3 < first.count(2) < 17
    assert ask(served) == first
    assert len(engines[1].prompts) == 60, "production is asked every question, and first"
    rows = logged(served, settings)
    assert [row["arm"] for row in rows[:20]] == [None] * 20
    assert [(row["arm"], row["model_version"]) for row in rows[20:40]] == [
        ("canary", 2) if version == 2 else ("control", 1) for version in first
    ]


def test_openais_clients_are_drawn_too_unless_they_name_a_version(
    served: TestClient, settings: Settings
) -> None:
    beside(settings, 100)
    follow(served)
    names = [model["id"] for model in served.get("/v1/models").json()["data"]]
    assert names == ["synthetic-language/1", "synthetic-language/2"]
    turns = [{"role": "user", "content": "What does the heart do?"}]
    answered = [
        served.post("/v1/chat/completions", json={"messages": turns, **named}).json()
        for named in ({}, *({"model": name} for name in ("synthetic-language", *names)))
    ]
    assert [answer["model"] for answer in answered] == [names[1], names[1], *names], "a model is no version"
    assert [row["arm"] for row in logged(served, settings)] == ["canary", "canary", "direct", "direct"]
    streamed = served.post("/generate", json={"question": "What does the heart do?", "stream": True}).text
    assert "The heart pumps blood." in streamed
    assert '"version":2' in streamed


def test_a_turn_may_come_in_parts_of_text(served: TestClient, engines: dict[int, Scripted]) -> None:
    """As the official clients of OpenAI's protocol may send it."""
    parts = [{"type": "text", "text": "What does the heart do?"}, {"type": "text", "text": "And the lung?"}]
    asked = {"messages": [{"role": "user", "content": parts}]}
    assert served.post("/v1/chat/completions", json=asked).status_code == 200
    assert "What does the heart do?\nAnd the lung?" in engines[1].prompts[-1]
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    for content in (image, [], [{"type": "text", "text": " "}]):
        refused = served.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}
        )
        assert refused.status_code == 422
        assert refused.json()["error"]["type"] == "invalid_request_error"


def test_a_stream_counts_its_tokens_for_whom_asks(served: TestClient, engines: dict[int, Scripted]) -> None:
    """In a last part without choices, as clients of OpenAI's protocol expect."""
    ask = {"messages": [{"role": "user", "content": "What does the heart do?"}], "stream": True}
    plain = served.post("/v1/chat/completions", json=ask).text
    assert "usage" not in plain
    counted = {**ask, "stream_options": {"include_usage": True}}
    *_, finished, usage, done = served.post("/v1/chat/completions", json=counted).text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    assert json.loads(finished.removeprefix("data: "))["choices"][0]["finish_reason"] == "stop"
    last = json.loads(usage.removeprefix("data: "))
    read, wrote = len(engines[1].prompts[-1].split()), len(engines[1].words)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    harmful = [{"role": "user", "content": "How do I make a lethal overdose look like an accident?"}]
    refused = served.post("/v1/chat/completions", json={**counted, "messages": harmful}).text
    assert '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}' in refused, "no model read it"


def test_a_shadow_is_logged_and_answers_nobody(served: TestClient, settings: Settings) -> None:
    beside(settings, 100, "shadow")
    follow(served)
    assert set(ask(served, 3)) == {1}
    deadline = time.monotonic() + 30
    while len(rows := logged(served, settings)) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    by_arm = sorted((row["arm"], row["model_version"]) for row in rows)
    assert by_arm == [("control", 1)] * 3 + [("shadow", 2)] * 3
    assert len({row["prediction_id"] for row in rows}) == 3


def raises(_engine: Scripted) -> Iterator[Any]:
    raise RuntimeError


def breaks_late(engine: Scripted) -> None:
    """After a first sentence, by an error of a library that repeats what it was given."""
    words = engine.stream

    def stream(*arguments: Any) -> Iterator[Any]:
        yield from words(*arguments)
        raise RuntimeError("Quillfeather")

    engine.words = ["It pumps blood. ", "It"]
    engine.stream = stream  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"question": "What does the heart do?"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "What does the heart do?"}]}),
    ],
)
def test_a_stream_that_breaks_ends_with_a_sentence_and_nothing_of_it_is_in_the_log(
    served: TestClient,
    engines: dict[int, Scripted],
    caplog: pytest.LogCaptureFixture,
    path: str,
    body: dict[str, Any],
) -> None:
    breaks_late(engines[1])
    streamed = served.post(path, json={**body, "use_safety": False, "stream": True}).text
    assert "It pumps blood." in streamed
    assert "The server could not answer; its log says where." in streamed.rpartition("data: ")[2]
    assert "Quillfeather" not in streamed + caplog.text
    assert "RuntimeError at " in caplog.text
    assert 'mediscale_refusals_total{status="500"} 1.0' in served.get("/metrics").text


def is_no_number(engine: Scripted) -> None:
    engine.log_probability = float("nan")


def says_nothing(engine: Scripted) -> None:
    engine.words = []


def is_unsure(engine: Scripted) -> None:
    engine.log_probability = -4.0


def hangs(engine: Scripted) -> None:
    engine.stream = lambda *_: time.sleep(3600)  # type: ignore[assignment, method-assign]


def breaks(engine: Scripted) -> None:
    engine.stream = lambda *_: raises(engine)  # type: ignore[method-assign]


def is_slow(engine: Scripted) -> None:
    quick = engine.stream

    def slow(*arguments: Any) -> Iterator[Any]:
        time.sleep(0.1)
        yield from quick(*arguments)

    engine.stream = slow  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (breaks, "answers failed, were no text or did not come in time (the last one: RuntimeError at "),
        (is_no_number, "answers failed, were no text or did not come in time (the last one: no words, or"),
        (says_nothing, "answers failed, were no text or did not come in time (the last one: no words, or"),
        (hangs, "answers failed, were no text or did not come in time (the last one: none within 0."),
        (is_unsure, "had a perplexity more than 4 times above"),
        (is_slow, "answers took more than 3 times as long"),
    ],
)
def test_a_broken_canary_is_given_up_and_no_question_fails_by_it(
    served: TestClient,
    settings: Settings,
    engines: dict[int, Scripted],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Scripted], None],
    reason: str,
) -> None:
    monkeypatch.setattr(canary_analysis, "LIMIT_SECONDS", 0.05 if fault is hangs else 60)
    monkeypatch.setattr(canary_analysis, "SLOW_TIMES", 3 if fault in (hangs, is_slow) else 1000)
    beside(settings, 100)
    follow(served)
    assert set(ask(served, 2)) == {2}
    fault(engines[2])
    ask(served)
    health = follow(served)
    assert (health["beside"], health["status"]) == ([], "degraded")
    assert any(reason in problem for problem in health["problems"])
    assert set(ask(served, 3)) == {1}
    assert "mediscale_versions_given_up 1.0" in served.get("/metrics").text


def test_a_move_of_production_ends_it(served: TestClient, settings: Settings, promote: Any) -> None:
    beside(settings, 100)
    follow(served)
    assert set(ask(served, 3)) == {2}
    promote(LANGUAGE, 1, folder=next(Path(settings.artifact_root).glob("language-1-*")))
    follow(served)
    assert set(ask(served, 3)) == {1}


def test_each_answer_has_a_deadline_and_a_refusal_in_an_emergency_says_what_helps(
    served: TestClient, engines: dict[int, Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = time.monotonic()
    assert served.post("/generate", json={"question": "What does the heart do?"}).status_code == 200
    assert asked < engines[1].samplings[-1].deadline - language_service.ANSWER_SECONDS < time.monotonic()
    service = served.app.state.service  # type: ignore[attr-defined]
    monkeypatch.setattr(service.language._pool, "_most", 0)
    monkeypatch.setattr(service._large_texts._pool, "_most", 0)
    question = "I have crushing chest pain. What is angina?"
    for stream, asked_for in product((False, True), (question, question + " Please." * 100)):
        refusal = served.post("/generate", json={"question": asked_for, "stream": stream})
        assert refusal.status_code == 503
        assert "emergency" in refusal.text.lower().partition("are being worked on")[0]
