"""Bases fetched by the hub's own client from a hub on this machine; why one can't be had is one sentence."""

import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import http_servers

from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.inference import base_models
from mediscale.inference.base_models import Base

BASE = Base(name="own/toy", revision="c" * 40)


class Hub(http.server.BaseHTTPRequestHandler):
    """The two routes that matter to the client: what a revision holds, and its files."""

    files: dict[str, bytes]
    refusal: tuple[int, str] | None
    """Status and error code of the hub, of every file."""
    revision_error: tuple[int, str] | None
    """The same, of the list of files."""

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            held = self.files.items()
            listed = json.dumps([_entry(name, content) for name, content in held]).encode()
            return self._refuse(*self.revision_error) if self.revision_error else self._answer(listed)
        if self.refusal:
            return self._refuse(*self.refusal)
        content = self.files.get(self.path.removeprefix(f"/{BASE.name}/resolve/{BASE.revision}/"))
        return self._answer(content) if content is not None else self._refuse(404, "EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content)}"')
        self.send_header("X-Repo-Commit", BASE.revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": str(hash(content))}


@pytest.fixture
def hub(toy_base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Holds a base, and a file of it that is not needed."""
    files = {path.name: path.read_bytes() for path in toy_base.iterdir()} | {"flax_model.msgpack": b"x"}
    handler = type("Held", (Hub,), {"files": files, "refusal": None, "revision_error": None})
    with http_servers.hub(handler, monkeypatch):
        yield handler


def test_a_base_of_the_hub_is_fetched_once_as_safetensors_and_json(
    settings: Settings, hub: type[Hub], toy_base: Path
) -> None:
    files = base_models.folder(settings, BASE)
    assert {path.name for path in files.iterdir()} == {path.name for path in toy_base.iterdir()}
    assert base_models.digest(files) == base_models.digest(toy_base)
    hub.revision_error = (500, "")
    assert base_models.folder(settings, BASE) == files


@pytest.mark.parametrize(
    ("where", "refusal", "sentence"),
    [
        ("refusal", (403, "GatedRepo"), "own/toy is gated: accept its licence on its page of the hub"),
        ("revision_error", (401, "GatedRepo"), "own/toy is gated: accept its licence"),
        (
            "revision_error",
            (404, "RevisionNotFound"),
            "own/toy has no revision cccccccccccc on the hub; name one",
        ),
        (
            "revision_error",
            (404, "RepoNotFound"),
            "can't be had from the hub: check the network, your access",
        ),
        ("refusal", (404, "EntryNotFound"), "can't be had from the hub"),
    ],
)
def test_why_a_base_can_not_be_had_is_one_sentence_and_the_next_try_has_it(
    settings: Settings, hub: type[Hub], where: str, refusal: tuple[int, str], sentence: str
) -> None:
    setattr(hub, where, refusal)
    with pytest.raises(UsageError, match=sentence):
        base_models.folder(settings, BASE)
    setattr(hub, where, None)
    assert base_models.folder(settings, BASE).is_dir(), "what was fetched in part stands in the way"
