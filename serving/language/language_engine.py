"""Language engines: what writes a language version's answers, in this process or elsewhere.

In process it is ``mediscale.inference.language`` with torch, which is imported when a version is loaded and not before.
An engine elsewhere speaks OpenAI's protocol (``serving.language.engine_client``).
"""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Protocol

from mediscale.core.errors import InputError, MediscaleError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import devices, language_version, model_files
from mediscale.inference.language import LanguageModel
from mediscale.inference.sampling import Sampling, Token

Prompt = str | Sequence[int]
"""A text, or the numbers of its tokens."""


NEEDS = ("torch", "transformers", "peft")
"""What a version is answered with in this process."""


class NotInstalledError(MediscaleError):
    """What answers a language version is no part of this installation."""


class EngineError(MediscaleError):
    """The engine hangs, is gone, or answers something else than it should."""


class Engine(Protocol):
    """Writes on after prompts. Its methods block; they are called in threads, several at a time."""

    on_gpu: bool | None
    """Whether it computes on an accelerator; None where it does not say."""

    def stream(self, prompt: Prompt, sampling: Sampling, special: bool = False) -> Iterator[Token]:
        """The answer's tokens, each as soon as it is chosen, up to the deadline; ``special`` puts a text's first token
        before it.

        Raises:
            InputError: prompt and answer do not fit into the model's window.
            BusyError: the deadline was over before the first.
            EngineError: the engine can't answer.
        """

    def scores(self, prompt: Prompt, sampling: Sampling, special: bool = False) -> list[Token]:
        """The prompt's own tokens with their log-probabilities; it raises what ``stream`` raises."""

    def length(self, prompt: Prompt, special: bool = False) -> int:
        """The number of the prompt's tokens; it raises what ``stream`` raises."""

    def text(self, prompt: Prompt) -> str:
        """The prompt as a text; it raises what ``stream`` raises."""

    def check(self) -> None:
        """Whether it answers as the version did in training.

        Raises:
            EngineError: it does not, or can't be asked.
        """


class InProcess:
    """A version in this process."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.on_gpu: bool | None = devices.device().type != "cpu"

    def stream(self, prompt: Prompt, sampling: Sampling, special: bool = False) -> Iterator[Token]:
        return self._model.stream(self._ids(prompt, special), sampling)

    def scores(self, prompt: Prompt, sampling: Sampling, special: bool = False) -> list[Token]:
        return self._model.scores(self._ids(prompt, special), sampling)

    def length(self, prompt: Prompt, special: bool = False) -> int:
        return len(self._ids(prompt, special))

    def text(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        decoded: str = self._model.tokenizer.decode(list(prompt))
        return decoded

    def check(self) -> None:
        """Does nothing: the version was checked when it was loaded, and does not change."""

    def _ids(self, prompt: Prompt, special: bool) -> list[int]:
        if isinstance(prompt, str):
            return self._model.encode(prompt, special)
        if any(not 0 <= each < len(self._model.tokenizer) for each in prompt):
            raise InputError(
                f"The prompt has a number that is no token; there are {len(self._model.tokenizer)}."
            )
        return list(prompt)


def in_process(settings: Settings, model: ModelRef) -> InProcess:
    """Loads a version into this process.

    Raises:
        NotInstalledError: torch or what it needs is not installed.
        MediscaleError: as ``language_version.load``.
    """
    if sentence := absent():
        raise NotInstalledError(sentence)
    _one_thread_less()
    return InProcess(language_version.load(settings, model_files.read_verified(settings, model)))


def absent() -> str:
    """Why this installation can't answer in its own process; empty where it can."""
    names = [name for name in NEEDS if find_spec(name) is None]
    if not names:
        return ""
    return (
        f"A language model is promoted and this server can't answer with it, for {', '.join(names)} is not installed: "
        "install the extra serving-language (requirements/serving-language.txt), or set MEDISCALE_LANGUAGE_ENGINE to "
        "the URL of an engine that serves it."
    )


def _one_thread_less() -> None:
    """Torch works with all cores but one, which answers ``/predict``."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
