"""Chat template of a base model: a conversation as the text after which its answer begins.

Training and evaluation have it from the tokenizer. A server that asks an engine elsewhere has it from the version's
specification, and neither the base nor transformers. It renders as transformers does, in Jinja's sandbox, for templates
come from repositories of others.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from mediscale.core.errors import InputError

Message = Mapping[str, str]
"""``role`` (system, user or assistant) and ``content``."""


class ChatTemplate:
    """The template of one base."""

    @classmethod
    def of(cls, tokenizer: Any) -> "ChatTemplate":
        """A tokenizer's template."""
        return cls(tokenizer.chat_template or "", special_tokens(tokenizer))

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """``source`` is empty where the base has none; ``special_tokens`` are those that it may name, by role."""
        self._special_tokens = dict(special_tokens)
        self._template = _environment().from_string(source) if source else None

    def render(self, messages: Sequence[Message]) -> str:
        """The text after which the answer to the conversation's last turn begins.

        Raises:
            InputError: the template does not take such turns.
        """
        if self._template is None:
            return "\n\n".join([*(message["content"] for message in messages), "Answer:"])
        return self._rendered(messages)[1]

    def accepted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the template takes them: some templates know no system's turn.

        Raises:
            InputError: the template does not take such turns.
        """
        return self._rendered(messages)[0]

    def _rendered(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        from jinja2 import TemplateError

        assert self._template is not None
        others = {"tools": None, "documents": None, "add_generation_prompt": True}
        for form in (list(messages), _without_system(messages)):
            try:
                return form, self._template.render(**self._special_tokens, **others, messages=form)
            except TemplateError as error:
                refusal = error
        raise InputError(
            "The model's chat template does not take these messages; let user and assistant take turns, a user first "
            "and last."
        ) from refusal


def conversation(question: str, context: str, instruction: str) -> list[Message]:
    """A question with its context as a conversation, the instruction before it."""
    request = f"{context}\n\n{question}" if context else question
    return [{"role": "system", "content": instruction}, {"role": "user", "content": request}]


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """The tokenizer's tokens with a role, which a chat template may name."""
    return {
        role: str(token) for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system's turn at the beginning of the first user's."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return list(messages)
    system, first, *others = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]


def _environment() -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what the assistant says, and leaves the text as it is."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment
