"""What the language routes take, and the one sentence that says what is wrong with the rest."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from mediscale.core.errors import InputError
from serving.language_schemas import AnalyzeRequest, GenerateRequest
from serving.log.feedback import FeedbackRequest
from serving.openai_schemas import ChatRequest, CompletionRequest
from serving.requests import json_body

ASSISTANT = {"role": "assistant", "content": "The kidney"}
BLANK = {"role": "user", "content": " "}


@pytest.mark.parametrize(
    ("shape", "body", "says"),
    [
        (GenerateRequest, {"question": " \n"}, "question: it is blank."),
        (AnalyzeRequest, {"clinical_note": "\t"}, "clinical_note: it is blank."),
        (AnalyzeRequest, {"clinical_note": "BP\0 120/80"}, "it holds characters that are not text"),
        (GenerateRequest, {"question": "What is a str\ufffdke?"}, "it holds characters that are not text"),
        (
            FeedbackRequest,
            {"prediction_id": "w-1-1", "verdict": "wrong", "corrected_answer": " "},
            "corrected_answer: it is blank.",
        ),
        (CompletionRequest, {"prompt": [-1]}, "the body: a token's number is from 0 to 2147483647."),
        (CompletionRequest, {"prompt": [[1], [2**40]]}, "a token's number is from 0 to 2147483647."),
        (ChatRequest, {"messages": [ASSISTANT]}, "the last of the messages must ask something: role user,"),
        (ChatRequest, {"messages": [ASSISTANT, BLANK]}, "the last of the messages must ask something"),
        (CompletionRequest, {"prompt": "a", "presence_penalty": 0.5}, "presence_penalty must be 0."),
        (CompletionRequest, {"prompt": ["a", 1]}, "prompt[1] must be text or a list."),
        (CompletionRequest, {"prompt": "a", "stop": 5, "n": 2}, "stop must be text or a list (and 1 more)."),
        (
            ChatRequest,
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content must be text or a list.",
        ),
        (ChatRequest, {"messages": [{"role": "user"}]}, "messages[0].content is missing."),
        (
            ChatRequest,
            {"messages": [{"role": "user", "content": []}]},
            "must be text or have at least 1 item.",
        ),
        (GenerateRequest, {"question": "a", "patient": {"agee": 70}}, "agee is not known here;"),
        (GenerateRequest, {"question": "a", "4711 Doe": 70}, "a field is not known here;"),
        (
            FeedbackRequest,
            {"prediction_id": "a", "verdict": "bad"},
            "verdict must be 'helpful', 'wrong' or 'unsafe'.",
        ),
        (
            CompletionRequest,
            {"prompt": "a", "stream_options": {"include_usage": True}},
            "stream_options go with stream alone.",
        ),
    ],
)
def test_what_asks_nothing_is_one_sentence(shape: type[BaseModel], body: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        json_body.parse(json.dumps(body).encode(), shape)
    assert str(refused.value).startswith("The request can't be answered: ")
    assert says in str(refused.value)


def test_what_a_client_sends_to_change_nothing_is_taken() -> None:
    neutral = {"n": 1, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0}
    body = {"messages": [{"role": "user", "content": "What is a migraine?"}], **neutral}
    assert json_body.parse(json.dumps(body).encode(), ChatRequest).messages[0].role == "user"
