"""Chat template of a base model: a conversation as the text after which its answer begins.

A server that asks an engine elsewhere has the template from the version's specification, and neither the base nor
transformers. It renders as transformers does, in Jinja's sandbox, for templates come from repositories of others.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mediscale.core.errors import InputError

Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""


class ChatTemplate:
    """The template of one base."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """``source`` is empty where the base has none; ``special_tokens`` are those that it may name, by role."""
        self._special_tokens = dict(special_tokens)
        self._template = _environment().from_string(source) if source else None

    def render(self, messages: Sequence[Message]) -> str:
        """The text after which the answer to the conversation's last turn begins.

        Raises:
            InputError: the template does not take such turns.
        """
        from jinja2 import TemplateError

        if self._template is None:
            return "\n\n".join([*(message["content"] for message in messages), "Answer:"])
        try:
            return self._rendered(messages)
        except TemplateError:
            pass
        try:
            return self._rendered(_without_system(messages))  # some know no system's turn
        except TemplateError as error:
            raise InputError(
                "The model's chat template does not take these messages; let user and assistant take turns, a user "
                "first and last."
            ) from error

    def _rendered(self, messages: Sequence[Message]) -> str:
        assert self._template is not None
        rendered: str = self._template.render(
            **self._special_tokens, messages=messages, tools=None, documents=None, add_generation_prompt=True
        )
        return rendered


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system's turn at the beginning of the first user's."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return list(messages)
    system, first, *others = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]


def _environment() -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **layout)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
