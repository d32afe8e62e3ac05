"""MedMCQA is loaded by ``datasets`` at the pinned revision from a server that speaks the Hub's protocol."""

import http.server
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from fixtures import http_servers
from pyarrow import parquet

from data_pipeline.documents.question_sets import MEDMCQA, MEDMCQA_REVISION

FILE = "data/train-00000-of-00001.parquet"
ROW = {
    "question": "Which?",
    "opa": "one",
    "opb": "two",
    "opc": "three",
    "opd": "four",
    "choice_type": "single",
    "exp": None,
    "subject_name": "Medicine",
    "topic_name": None,
}
LOAD = """
from data_pipeline.documents.question_sets import MEDMCQA_REVISION, load_medmcqa
from mediscale.core.errors import InputError
for question in load_medmcqa(MEDMCQA_REVISION):
    print(question.id, question.letter, question.references[0])
try:
    load_medmcqa(revision="f" * 40)
except InputError as error:
    print(error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's API that ``datasets`` asks for one Parquet file; other revisions do not exist."""

    content = b""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        api = f"/api/datasets/{MEDMCQA}"
        if path in (api, f"{api}/revision/{MEDMCQA_REVISION}"):
            self.answer({"id": MEDMCQA, "sha": MEDMCQA_REVISION, "siblings": [{"rfilename": FILE}]})
        elif path == f"{api}/tree/{MEDMCQA_REVISION}":
            self.answer([{"type": "directory", "oid": "2" * 40, "size": 0, "path": "data"}])
        elif path == f"{api}/tree/{MEDMCQA_REVISION}/data":
            self.answer([{"type": "file", "oid": "1" * 40, "size": len(self.content), "path": FILE}])
        elif path == f"/datasets/{MEDMCQA}/resolve/{MEDMCQA_REVISION}/{FILE}":
            self.answer(self.content)
        else:
            code = "EntryNotFound" if f"/resolve/{MEDMCQA_REVISION}/" in path else "RevisionNotFound"
            self.answer(b"", 404, code)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, body: object, status: int = 200, error: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            ("X-Repo-Commit", MEDMCQA_REVISION),
            ("ETag", f'"{"1" * 40}"'),
            ("X-Error-Code", error),
        ):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing goes to the console of the tests."""


@pytest.fixture
def hub() -> Iterator[str]:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist([ROW | {"id": str(cop), "cop": cop} for cop in range(4)]), file)
    Hub.content = file.getvalue()
    with http_servers.listening(Hub) as address:
        yield address


def test_medmcqa_comes_from_the_hub_at_its_revision_and_no_other(hub: str, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True
    )
    *questions, refusal = loaded.stdout.splitlines()
    reference = f"{MEDMCQA}@{MEDMCQA_REVISION[:8]}"
    assert questions == [f"medmcqa/{cop} {letter} {reference}" for cop, letter in enumerate("ABCD")]
    assert refusal.startswith(f"{MEDMCQA} at revision ffffffff could not be read")
