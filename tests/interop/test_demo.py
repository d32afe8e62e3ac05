"""The page for people, in an environment of its own, asks a server that runs."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from component.serving.test_generate import QUESTION, loaded
from fixtures.language_versions import DATASET
from fixtures.server_process import Start

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-interop" / "demo" / "bin" / "python"
ASK = """
import sys
from serving.demo import __main__ as demo
print(*demo.ask(sys.argv[1], sys.argv[2], 0, 8, ""), sep="\\n---\\n")
print(*demo.ask("http://127.0.0.1:9", sys.argv[2], 0, 8, ""))
"""


def test_the_page_shows_an_answer_with_all_that_belongs_to_it(start: Start, promote_language: Any) -> None:
    promote_language(1)
    server = start(options=["--dataset", DATASET])
    loaded(server)
    command = [str(PYTHON), "-c", ASK, server.address, QUESTION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answer, about = done.stdout.split("\n---\n")
    direct = server.client.post("/generate", json={"question": QUESTION, "max_length": 8}).json()
    assert answer.strip() == direct["response"]
    assert re.search(rf"\*\*Version:\*\* {DATASET}-language/1, \d+ ms", about)
    assert "A clinician must review it" in about
    assert "There is no server of ours at http://127.0.0.1:9" in about


def test_what_a_document_holds_is_shown_as_it_is_and_loads_nothing() -> None:
    shown = """
from serving.demo import __main__ as demo
cited = {"text": "![x](http://example.org/a?b=1) # A | B", "source": "a_b.pdf", "place": "page 2", "date": ""}
answer = {"citations": [cited], "model": "m", "version": 1, "inference_time_ms": 1, "disclaimer": "d"}
print(demo.about(answer))
"""
    done = subprocess.run(
        [str(PYTHON), "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert r"\!\[x\]\(http://example\.org/a?b=1\) \# A \| B" in done
    assert r"a\_b\.pdf, page 2" in done


def test_the_page_is_served_on_this_machine_alone() -> None:
    quiet = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    page = subprocess.Popen(
        [str(PYTHON), "-m", "serving.demo"], cwd=ROOT, env=quiet, stdout=subprocess.PIPE, text=True
    )
    try:
        assert page.stdout
        line = page.stdout.readline()
        assert "http://127.0.0.1:7860" in line
        until = time.monotonic() + 60
        while True:
            try:
                shown = httpx.get("http://127.0.0.1:7860/", timeout=60)
                break
            except httpx.ConnectError:
                assert time.monotonic() < until
                time.sleep(0.5)
        assert "MediScale" in shown.text
    finally:
        page.send_signal(signal.SIGTERM)
        page.wait(60)
