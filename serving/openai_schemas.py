"""OpenAI's protocol, as far as it is spoken here: what its two routes of completions take and answer.

What a client may send and would change nothing here is refused, so that nobody believes that it did.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from data_pipeline.safety import DISCLAIMER
from serving.language_schemas import (
    MAX_LENGTH,
    QUESTION_CHARACTERS,
    TEMPERATURES,
    SafetySummary,
    StrictRequest,
)

PROMPTS = 32
"""Of one request, at most."""
PARTS = 64
"""Of a turn, at most."""
TOKENS = 2**15
"""Of a prompt that is given by its tokens' numbers, at most."""
LARGEST_TOKEN = 2**31 - 1
"""That a tokenizer can be asked about."""


class StreamOptions(StrictRequest):
    """What a stream holds beside the answer."""

    include_usage: bool = False
    """A last part without choices, which counts the tokens."""
    include_obfuscation: Literal[False] = False


class _Sampled(StrictRequest):
    """How an answer is written."""

    model: str = ""
    """The version's name, MODEL/VERSION, as ``/v1/models`` lists it; default: the one that is served."""
    max_tokens: int = Field(16, ge=1, le=MAX_LENGTH)
    temperature: float = Field(1.0, ge=TEMPERATURES[0], le=TEMPERATURES[1])
    seed: int = Field(0, ge=0, lt=2**63)
    stop: str | list[str] | None = Field(None, max_length=4)
    """Texts at which the answer ends; they are no part of it."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    top_p: Literal[1] = 1
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0
    user: str = ""
    """Not read: the log names whoever proved who they are."""

    @model_validator(mode="after")
    def _has_options_of_a_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options go with stream alone")
        return self

    @property
    def counts_tokens(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionRequest(_Sampled):
    """A text to write on after, as it is: no instruction and no chat template are put before it."""

    prompt: str | list[str] | list[int] | list[list[int]]
    """A text or several, or the numbers of their tokens."""
    logprobs: int | None = Field(None, ge=0, le=1)
    """Log-probabilities of the tokens, and with 1 of the likeliest in each place."""
    echo: bool = False
    """The prompt before the answer; with logprobs it needs the role engineer."""
    add_special_tokens: bool = True
    """Whether a text gets the special tokens with which the model's texts begin, as vLLM names it."""

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        if not 1 <= len(self.prompts) <= PROMPTS:
            raise ValueError(f"prompt must be 1 to {PROMPTS} texts")
        if any(len(p) > (QUESTION_CHARACTERS if isinstance(p, str) else TOKENS) for p in self.prompts):
            raise ValueError(f"a prompt has at most {QUESTION_CHARACTERS} characters or {TOKENS} tokens")
        if any(
            not 0 <= token <= LARGEST_TOKEN for p in self.prompts if not isinstance(p, str) for token in p
        ):
            raise ValueError(f"a token's number is from 0 to {LARGEST_TOKEN}")
        if self.stream and (self.echo or len(self.prompts) > 1):
            raise ValueError("stream goes with one prompt and without echo")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # one prompt's tokens
        return list(self.prompt)  # type: ignore[arg-type]


class TextPart(StrictRequest):
    """A part of a turn: text, for the model here reads no images."""

    type: Literal["text"]
    text: str = Field(max_length=QUESTION_CHARACTERS)


class Turn(StrictRequest):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: (
        Annotated[str, Field(max_length=QUESTION_CHARACTERS)]
        | Annotated[list[TextPart], Field(min_length=1, max_length=PARTS)]
    )
    """A text, or its parts, as some clients send it."""

    @property
    def text(self) -> str:
        return (
            self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        )


class ChatRequest(_Sampled):
    """A conversation whose last turn is answered."""

    messages: list[Turn] = Field(min_length=1, max_length=64)
    """Without a system's turn the version's own instruction stands before them."""
    max_tokens: int = Field(128, ge=1, le=MAX_LENGTH)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_LENGTH)
    """Another name of max_tokens."""
    temperature: float = Field(0.0, ge=TEMPERATURES[0], le=TEMPERATURES[1])
    use_safety: bool = True
    """As in ``/generate``."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if self.messages[-1].role == "assistant" or not self.messages[-1].text.strip():
            raise ValueError("the last of the messages must ask something: role user, and not blank")
        return self


class LogProbs(BaseModel):
    """Log-probabilities of a text's tokens, in their order; natural logarithms, null for a first token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: LogProbs | None = None


class Usage(BaseModel):
    """Tokens that the model read and wrote; none of either where a question reached no model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Answered(BaseModel):
    id: str
    """Names this answer in the log."""
    created: int
    model: str
    usage: Usage | None = None
    """In the last part of a stream for which ``stream_options`` asked for it."""
    safety_report: SafetySummary | None = None
    """As in ``/generate``; of several prompts the first one's."""
    needs_clinician_review: Literal[True] = True
    disclaimer: str = DISCLAIMER


class Completion(_Answered):
    """The answers to a request's prompts, or a part of one."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]


class ChatChoice(BaseModel):
    """One answer, or in a stream a part of it."""

    index: Literal[0] = 0
    message: dict[str, str] | None = None
    delta: dict[str, str] | None = None
    finish_reason: str | None = None


class ChatCompletion(_Answered):
    """The answer to a conversation, or a part of it."""

    object: Literal["chat.completion", "chat.completion.chunk"] = "chat.completion"
    choices: list[ChatChoice]


class Model(BaseModel):
    """The version that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "mediscale"


class Models(BaseModel):
    """What ``/v1/models`` lists."""

    object: Literal["list"] = "list"
    data: list[Model]


class ErrorDetail(BaseModel):
    """Why there is no answer, in the words that OpenAI's clients show."""

    message: str
    type: str
    param: None = None
    code: None = None


class ErrorResponse(BaseModel):
    """A refusal as OpenAI's clients read it."""

    error: ErrorDetail


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(sentence: str, status: int) -> bytes:
    """The body of a refusal in OpenAI's protocol."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return ErrorResponse(error=ErrorDetail(message=sentence, type=kind)).model_dump_json().encode()
