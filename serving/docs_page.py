"""The page ``/docs``: the OpenAPI document as one HTML page that loads nothing, from here or from elsewhere.

FastAPI's own page takes its scripts from a content delivery network, and is empty in a hospital without one. Its policy
forbids the browser every address but this server's.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}
tr{border-bottom:1px solid #8888}code,pre,textarea{font:14px/1.4 ui-monospace,monospace}
pre{white-space:pre-wrap;overflow-wrap:anywhere}button{font:inherit;padding:.3rem .6rem;margin:.1rem 0}
textarea,input{width:100%;box-sizing:border-box;font-size:16px}textarea{height:8rem}
@media(max-width:40rem){body{overflow-wrap:anywhere}tr:first-child{display:none}tr,td{display:block}tr{padding:.3rem 0}
td{padding:0}}
"""
_SCRIPT = """
const body = document.getElementById("body"), answer = document.getElementById("answer");
const key = document.getElementById("key");
for (const example of document.querySelectorAll("button[data-body]"))
  example.onclick = () => { body.value = example.dataset.body; };
document.getElementById("ask").onclick = async () => {
  const headers = {"content-type": "application/json"};
  if (key.value) headers.authorization = "Bearer " + key.value.trim();
  try {
    const response = await fetch("predict", {method: "POST", body: body.value, headers});
    answer.textContent = response.status + "\\n" + JSON.stringify(await response.json(), null, 2);
  } catch (error) { answer.textContent = "The server could not be reached."; }
};
"""


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; connect-src 'self'; img-src data:; style-src {_digest(_STYLE)}; "
    f"script-src {_digest(_SCRIPT)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy."""


def page(document: Json) -> str:
    """The HTML page of an OpenAPI document that has a ``POST /predict`` with examples."""
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    about = document["info"]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(about["title"])}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<link rel="icon" href="data:,"><style>{_STYLE}</style>',
            f"<h1>{_text(about['title'])}</h1><p>{_text(about['description'])}</p>",
            "<h2>Ask</h2>",
            *_asking(content["examples"]),
            "<h2>Addresses</h2>",
            *_table(("Address", "What it does", "Answers"), _addresses(document["paths"])),
            "<h2>What a request may give</h2>",
            *_table(("Field", "Meaning"), _fields(content["schema"])),
            "<h2>What is answered</h2>",
            *_answers(document["components"]["schemas"]),
            '<p>All of this for programs: <a href="openapi.json">openapi.json</a></p>',
            f"<script>{_SCRIPT}</script></html>",
        ]
    )


def _asking(examples: Json) -> Iterator[str]:
    for name, example in examples.items():
        body, summary = json.dumps(example["value"], indent=1), example["summary"]
        yield f'<button type="button" data-body="{_text(body)}" title="{_text(summary)}">{_text(name)}</button>'
    first = json.dumps(next(iter(examples.values()))["value"], indent=1)
    yield f'<p><label for="body">Body of POST /predict</label><textarea id="body">{_text(first)}</textarea>'
    yield '<p><label for="key">Your key or token, where this server asks for one (it is sent and not kept)</label>'
    yield '<input id="key" type="password" autocomplete="off" spellcheck="false">'
    yield '<p><button type="button" id="ask">Ask</button><pre id="answer" role="status"></pre>'


def _addresses(paths: Json) -> Iterator[tuple[str, ...]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            statuses = (f"{status}: {r['description']}" for status, r in operation["responses"].items())
            yield f"{method.upper()} {path}", operation.get("summary", ""), "; ".join(statuses)


def _fields(schema: Json) -> Iterator[tuple[str, ...]]:
    for name, field in schema["properties"].items():
        yield name, field.get("description", "")


def _answers(schemas: Json) -> Iterator[str]:
    for name, schema in schemas.items():
        if "properties" in schema:
            yield f"<h3>{_text(name)}</h3><p>{_text(schema.get('description', ''))}</p>"
            yield from _table(("Field", "Meaning"), _fields(schema))


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    columns = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    yield f"<table><tr>{columns}</tr>"
    for first, *others in rows:
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in others)
        yield f"<tr><td><code>{_text(first)}</code></td>{cells}</tr>"
    yield "</table>"


def _text(text: str) -> str:
    return html.escape(text)
