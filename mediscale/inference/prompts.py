"""Prompts of a language model: a question as the text, or the conversation, that its answer follows."""

from typing import Any

from mediscale.inference.language_spec import INSTRUCTION


def messages(tokenizer: Any, question: str, context: str, instruction: str) -> list[dict[str, str]]:
    """A question as the conversation that a chat template is given, the instruction before it."""
    from jinja2 import TemplateError

    request = f"{context}\n\n{question}" if context else question
    separate = [{"role": "system", "content": instruction}, {"role": "user", "content": request}]
    try:
        tokenizer.apply_chat_template(separate, tokenize=False)
    except TemplateError:  # a template that knows no system's turn
        return [{"role": "user", "content": f"{instruction}\n\n{request}"}]
    return separate


def prompt(tokenizer: Any, question: str, context: str = "", instruction: str = INSTRUCTION) -> str:
    """A question as the text after which the answer begins, in the tokenizer's chat template where it has one."""
    if tokenizer.chat_template is None:
        request = f"{context}\n\n{question}" if context else question
        return f"{instruction}\n\n{request}\n\nAnswer:"
    rendered: str = tokenizer.apply_chat_template(
        messages(tokenizer, question, context, instruction), add_generation_prompt=True, tokenize=False
    )
    return rendered


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """The tokenizer's tokens with a role, which a chat template may name."""
    return {
        role: str(token) for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
