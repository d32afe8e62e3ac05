"""A page on which a person asks a running server's language model: Gradio, in an environment of its own.

    python -m serving.demo [URL of the server]

It is a client like any other and imports nothing of ours: what it may ask is what the key that is typed in may ask. It
listens on this machine alone.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

import gradio
import httpx

PORT = 7860
SERVER = "http://127.0.0.1:8000"
SECONDS = 300.0


def ask(server: str, question: str, temperature: float, max_length: float, key: str) -> tuple[str, str]:
    """The answer, and what is to be known about it as Markdown."""
    headers = {"Authorization": f"Bearer {key.strip()}"} if key.strip() else {}
    body = {"question": question, "temperature": temperature, "max_length": int(max_length)}
    try:
        answered = httpx.post(
            f"{server}/generate", json=body, headers=headers, timeout=SECONDS, trust_env=False
        )
        content: Mapping[str, Any] = answered.json()
    except (httpx.HTTPError, ValueError):
        return f"There is no server of ours at {server}; start it with `mediscale serve`.", ""
    if answered.status_code != 200:
        return str(content.get("error", "The server did not answer.")), ""
    return str(content["response"]), about(content)


def about(answer: Mapping[str, Any]) -> str:
    """Sources, warnings and the disclaimer of an answer."""
    sources = [
        f"- “{_plain(each['text'])}” — "
        + _plain(", ".join(filter(None, (each["source"], each["place"], each["date"]))))
        for each in answer["citations"]
    ]
    report = answer.get("safety_report") or {"risk_level": "not checked", "warnings": []}
    confidence = answer.get("confidence")
    lines = [
        *(["**Sources**", *sources] if sources else []),
        f"**Risk level:** {report['risk_level']}",
        *(f"- {_plain(warning)}" for warning in report["warnings"]),
        *([f"**Confidence:** {confidence:.2f}"] if confidence is not None else []),
        f"**Version:** {answer['model']}/{answer['version']}, {answer['inference_time_ms']:.0f} ms",
        f"*{answer['disclaimer']}*",
    ]
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    """The text as Markdown shows it: what a document holds is not marked up, and loads no picture from anywhere."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~$])", r"\\\1", text)


def page(server: str) -> gradio.Blocks:
    """The page."""
    with gradio.Blocks(title="MediScale", analytics_enabled=False) as blocks:
        gradio.Markdown("# MediScale: ask the language model")
        question = gradio.Textbox(label="Question", lines=3, max_length=2**15)
        with gradio.Row():
            temperature = gradio.Slider(0, 2, value=0, label="Temperature")
            max_length = gradio.Slider(1, 1024, value=128, step=1, label="Tokens of the answer, at most")
            key = gradio.Textbox(label="Your key, where the server asks for one", type="password")
        button = gradio.Button("Ask", variant="primary")
        answer = gradio.Textbox(label="Answer", lines=4, max_lines=30, interactive=False)
        details = gradio.Markdown()
        button.click(
            lambda *given: ask(server, *given),
            [question, temperature, max_length, key],
            [answer, details],
            api_name=False,
        )
    return blocks


def main() -> None:
    """Answers on this machine's port 7860 until it is stopped."""
    server = sys.argv[1] if len(sys.argv) > 1 else SERVER
    page(server.rstrip("/")).launch(server_name="127.0.0.1", server_port=PORT, share=False)


if __name__ == "__main__":
    main()
