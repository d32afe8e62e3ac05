"""Each case that the rules were developed on, by layer."""

from pathlib import Path

import pytest
import yaml

from data_pipeline.safety import check_request

CASES = yaml.safe_load(Path(__file__).with_name("development_cases.yaml").read_text(encoding="utf-8"))
LAYERS = {
    "emergency": "emergency",
    "no emergency": "emergency",
    "personalised": "personalised",
    "not personalised": "personalised",
    "injection": "prompt_injection",
    "no injection": "prompt_injection",
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_speaks_where_it_must_and_is_silent_elsewhere(kind: str) -> None:
    expected = not kind.startswith(("no ", "not "))
    wrong = [
        text
        for text in CASES[kind]
        if any(layer.layer == LAYERS[kind] for layer in check_request(text).layers) is not expected
    ]
    assert not wrong


def test_harmful_requests_are_refused_and_benign_ones_answered() -> None:
    answered = [text for text in CASES["harmful"] if not check_request(text).blocks]
    assert not answered
    refused = [text for text in CASES["benign"] if check_request(text).blocks]
    assert len(refused) <= 1  # placebo-controlled trials keep patients safe
