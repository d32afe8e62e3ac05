"""The page /docs is whole without a network: it loads nothing, and its policy forbids every other server."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from fastapi.testclient import TestClient

from serving import schemas


class Page(HTMLParser):
    """What a browser finds: attributes, the text of scripts and styles, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, str] = {"script": "", "style": "", "": ""}
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag if tag in self.inside else ""
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the parser's signature
        self._tag = ""

    def handle_data(self, data: str) -> None:
        self.inside[self._tag] += data if self._tag else f" {data} "


def test_no_schema_is_named_by_its_module(client: TestClient) -> None:
    """As FastAPI does where two classes have one name."""
    assert not [name for name in client.get("/openapi.json").json()["components"]["schemas"] if "__" in name]


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/docs")
    page = Page(response.text)
    loaded = {
        value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")
    }
    assert loaded == {"openapi.json", "data:,"}
    assert not re.search(r"//|@import|url\(", page.inside["script"] + page.inside["style"])
    assert "://" not in response.text
    assert client.get("/openapi.json").status_code == 200
    absent = client.get("/redoc")
    sentence = "There is no such address; the page /docs lists them all."
    assert (absent.status_code, absent.json()) == (404, {"error": sentence})
    wrong = client.get("/predict")
    sentence = "This address does not take GET; it takes POST."
    assert (wrong.status_code, wrong.json(), wrong.headers["allow"]) == (405, {"error": sentence}, "POST")
    assert client.get("/v1/chat/completions").json()["error"]["message"] == sentence


def test_a_telephone_and_a_dark_ward_can_read_it(client: TestClient) -> None:
    """Without its own width a telephone shows a page of 980 pixels; an answer is read aloud as it comes."""
    page = Page(client.get("/docs").text)
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert ("pre", "role", "status") in page.attributes
    assert "color-scheme:light dark" in page.inside["style"]
    assert not re.search(r"[^-]color:|background", page.inside["style"]), (
        "the browser's own colours, in both schemes"
    )
    columns = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert columns
    assert set(columns) == {"col"}


def test_the_policy_admits_the_page_s_own_script_and_style_and_no_other_server(client: TestClient) -> None:
    response = client.get("/docs")
    page = Page(response.text)
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in response.headers["content-security-policy"].split(";")
    )
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
        assert policy.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert policy.pop("img-src") == "data:"
    assert policy.pop("connect-src") == "'self'"
    assert set(policy.values()) == {"'none'"}
    assert "default-src" in policy


def test_the_page_shows_every_input_answer_and_address_and_its_examples_work(client: TestClient) -> None:
    page, contract = Page(client.get("/docs").text), client.get("/openapi.json").json()
    text = page.inside[""]
    for name in (*schemas.MAIN_NAMES, *contract["paths"], "unusual_values", "not_predicted"):
        assert re.search(rf"{re.escape(name)}(?!\w)", text), name
    bodies = [value for _, name, value in page.attributes if name == "data-body"]
    assert [json.loads(body) for body in bodies] == [e["value"] for e in schemas.EXAMPLES.values()]
    for body in bodies:
        assert client.post("/predict", content=body).status_code == 200


def test_times_in_the_contract_are_the_times_that_are_answered(client: TestClient) -> None:
    contract = client.get("/openapi.json").json()["components"]["schemas"]
    assert contract["ModelHealth"]["properties"]["promoted_at"]["format"] == "date-time"
    promoted_at = client.get("/health").json()["models"][0]["promoted_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", promoted_at), "RFC 3339 asks for the offset"
    for name in ("unusual_values", "thresholds"):
        assert name in contract["TaskRisk"]["properties"]
    assert "hardly seen" in contract["TaskRisk"]["properties"]["unusual_values"]["description"]


def test_the_contract_refers_to_nothing_outside_of_it(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    contract, references = json.loads(text), set(re.findall(r'"\$ref":\s*"([^"]+)"', text))
    assert references
    for reference in references:
        part = contract
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
