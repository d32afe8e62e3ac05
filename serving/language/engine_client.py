"""Engine client: a language version that another server answers by OpenAI's protocol, such as vLLM.

Before it takes traffic the engine must list the version by its name and give the known texts the log-likelihoods that
they had in training. Prompts are rendered here and sent to ``/completions``, so that the engine reads what training
taught and no template of its own.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from mediscale.core.errors import InputError, UsageError
from mediscale.core.settings import Settings
from mediscale.inference.chat_template import ChatTemplate, conversation
from mediscale.inference.language_spec import KnownText, LanguageSpec
from mediscale.inference.language_version import TOLERANCE
from mediscale.inference.sampling import Sampling, Token
from serving.language.language_engine import EngineError, Prompt

CONNECT_SECONDS, SILENT_SECONDS = 3.0, 30.0
"""How long an engine may take to accept a connection, and between two things that it says."""
RETURN_SECONDS = 3.0
"""How long one that failed may take to list its versions, before it is asked anything else: else each question would
wait for a hanging engine as long as the first one did."""
ANSWER_SECONDS, ANSWER_BYTES = 300.0, 2**24
"""How long a whole answer may take, however lively the engine is, and how large it may be."""

_MODELS = "/models"


class EngineClient:
    """One version at one engine."""

    on_gpu: bool | None = None
    """The protocol does not say."""

    def __init__(self, settings: Settings, name: str, spec: LanguageSpec) -> None:
        """``name`` is the version's, MODEL/VERSION.

        Raises:
            UsageError: the setting is no URL.
        """
        url = settings.language_engine
        if not re.match(r"https?://[^/\s]+", url):
            raise UsageError("MEDISCALE_LANGUAGE_ENGINE is no URL; write it as http://127.0.0.1:8001/v1.")
        key = settings.language_engine_key.get_secret_value()
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,  # a proxy of the environment would see what is asked
        )
        self._name, self._spec = name, spec
        self._failed = False
        """Whether the engine failed since it gave the known answers: it may have come back as another one."""
        self._template = ChatTemplate(spec.chat_template, spec.special_tokens)

    def stream(self, prompt: Prompt, sampling: Sampling, special: bool = False) -> Iterator[Token]:
        if self._failed:
            self._listed(RETURN_SECONDS)
            self.check()
        body = self._body(prompt, special) | {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            "logprobs": 1,
            "stream": True,
        }
        wrote = False
        with self._spoken_to(), self._client.stream("POST", "/completions", json=body) as reply:
            _check_status(reply)
            for line in _bounded(reply.iter_lines()):
                if line.removeprefix("data:").strip() == "[DONE]":
                    return
                if line.startswith("data:"):
                    for token in _tokens(_choice(json.loads(line.removeprefix("data:")))):
                        wrote = True
                        yield token
                if sampling.is_late and wrote:
                    return
                if sampling.is_late:
                    raise EngineError(
                        "The language engine wrote nothing in the time that an answer may take; ask again."
                    )
        raise EngineError("The language engine ended its answer in the middle; ask again.")

    def scores(self, prompt: Prompt, _sampling: Sampling, special: bool = False) -> list[Token]:
        return [token for token, _ in self._scored(prompt, special)]

    def length(self, prompt: Prompt, special: bool = False) -> int:
        return len(self._scored(prompt, special))

    def text(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        return "".join(token.text for token, _ in self._scored(prompt, False))

    def check(self) -> None:
        names = [each.get("id") for each in self._listed()]
        if self._name not in names:
            raise EngineError(
                f"The language engine serves {', '.join(map(str, names)) or 'nothing'} and not {self._name}; start it "
                f"with that name (vLLM: --enable-lora --lora-modules {self._name}=FOLDER)."
            )
        expected = [text.log_likelihood for text in self._spec.known_texts]
        likelihoods = [self._likelihood(text) for text in self._spec.known_texts]
        if not expected or not np.allclose(likelihoods, expected, rtol=0, atol=TOLERANCE):
            raise EngineError(
                f"The language engine does not answer as {self._name} did in training: known texts have other "
                "likelihoods; it serves another base, adapter or precision, and gets no question."
            )
        self._failed = False

    def _likelihood(self, text: KnownText) -> float:
        """Log-likelihood per token that the engine gives a known answer."""
        prompt = self._template.render(conversation(text.question, "", self._spec.instruction))
        answer = text.answer if self._spec.chat_template else f" {text.answer}"
        special = not self._spec.chat_template
        scored = self._scored(prompt + answer, special)
        values = [token.log_probability for token, at in scored if at >= len(prompt)]
        if not values or None in values:
            raise EngineError(
                "The language engine gives a prompt's tokens no log-probabilities (echo with logprobs), so that its "
                "answers can't be compared with those of training; use an engine that does, such as vLLM."
            )
        return float(np.mean([value for value in values if value is not None]))

    def _listed(self, seconds: float | None = None) -> Sequence[Mapping[str, Any]]:
        """The versions that the engine serves, within so many seconds of silence."""
        with self._spoken_to(seconds):
            listed: Sequence[Mapping[str, Any]] = self._reply("GET", _MODELS, seconds=seconds)["data"]
            return listed

    def _scored(self, prompt: Prompt, special: bool) -> list[tuple[Token, int]]:
        """Tokens of an echoed prompt, each with where it begins in the text."""
        # At least one token must be asked for, by vLLM's rule; it is the last one and not the prompt's.
        body = self._body(prompt, special) | {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
        with self._spoken_to():
            choice = _choice(self._reply("POST", "/completions", body))
            offsets = choice["logprobs"]["text_offset"]
            return list(zip(_tokens(choice), offsets, strict=True))[:-1]

    def _reply(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float | None = None
    ) -> Any:
        timeout = httpx.Timeout(seconds or SILENT_SECONDS, connect=CONNECT_SECONDS)
        with self._client.stream(method, path, json=body, timeout=timeout) as reply:
            if path == _MODELS and reply.status_code == 404:
                raise EngineError(
                    "The language engine lists no models at MEDISCALE_LANGUAGE_ENGINE; the address of most ends with "
                    "/v1, as in http://127.0.0.1:8001/v1."
                )
            _check_status(reply)
            return json.loads("".join(_bounded(reply.iter_text())))

    def _body(self, prompt: Prompt, special: bool) -> dict[str, Any]:
        tokens = prompt if isinstance(prompt, str) else list(prompt)
        return {"model": self._name, "prompt": tokens, "add_special_tokens": special}

    @contextmanager
    def _spoken_to(self, seconds: float | None = None) -> Iterator[None]:
        """One sentence for all that can go wrong with another server."""
        try:
            yield
        except EngineError:
            self._failed = True
            raise
        except httpx.TimeoutException as error:
            self._failed = True
            raise EngineError(
                f"The language engine did not answer within {seconds or SILENT_SECONDS:g} seconds; ask again in a "
                "moment."
            ) from error
        except httpx.HTTPError as error:
            self._failed = True
            raise EngineError(
                "The language engine can't be reached; look at it and at MEDISCALE_LANGUAGE_ENGINE."
            ) from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            self._failed = True
            raise EngineError(
                "The language engine answers something else than OpenAI's protocol; look at what runs at "
                "MEDISCALE_LANGUAGE_ENGINE."
            ) from error


def connected(settings: Settings, name: str, spec: LanguageSpec) -> EngineClient:
    """A version's engine, after it gave the known answers.

    Raises:
        UsageError: the setting is no URL.
        EngineError: it can't be asked, or does not answer as the version did in training.
    """
    client = EngineClient(settings, name, spec)
    client.check()
    return client


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    """Passes a reply on, up to the limits on an answer's length and time.

    Raises:
        EngineError: it is longer, or takes longer.
    """
    ends, size = time.monotonic() + ANSWER_SECONDS, 0
    for part in parts:
        size += len(part)
        if size > ANSWER_BYTES or time.monotonic() > ends:
            raise EngineError(
                f"The language engine's answer is longer than {ANSWER_BYTES // 2**20} MiB or took more than "
                f"{ANSWER_SECONDS:g} seconds; ask for a shorter one."
            )
        yield part


def _check_status(reply: httpx.Response) -> None:
    if reply.status_code in (400, 413, 422):
        raise InputError(
            "The language engine does not take the request; the question is probably longer than its window."
        )
    if reply.status_code != 200:
        raise EngineError(f"The language engine answers with status {reply.status_code}; look at its log.")


def _choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    choice: Mapping[str, Any] = reply["choices"][0]
    return choice


def _tokens(choice: Mapping[str, Any]) -> list[Token]:
    """The tokens of a reply; of an engine that gives no log-probabilities the text as one."""
    log_probabilities = choice.get("logprobs")
    if not log_probabilities:
        return [Token(str(choice["text"]), None)] if choice["text"] else []
    likeliest = log_probabilities.get("top_logprobs") or [None] * len(log_probabilities["tokens"])
    rows = zip(log_probabilities["tokens"], log_probabilities["token_logprobs"], likeliest, strict=True)
    return [Token(str(text), _number(value), _best(top)) for text, value, top in rows]


_MOST_LOG_PROBABILITY = 1e-3
"""0 but for rounding."""


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not number < _MOST_LOG_PROBABILITY:  # not a number either
        raise ValueError("no log-probability")
    return number


def _best(top: Mapping[str, float] | None) -> tuple[str, float] | None:
    return max(top.items(), key=lambda each: each[1]) if top else None
