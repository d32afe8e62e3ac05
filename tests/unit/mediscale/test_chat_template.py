"""A chat template is rendered without transformers as transformers renders it in training."""

import pytest

from mediscale.core.errors import InputError
from mediscale.inference.chat_template import ChatTemplate

SYSTEM = {"role": "system", "content": "Answer."}
USER = {"role": "user", "content": "Which organ?"}
ALTERNATING = """{{ bos_token }}
{%- for m in messages %}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant take turns') }}
    {%- endif %}
    {%- if m['content'] is string %}{{ '<turn>' + m['role'] + '\n' + m['content'] | trim + '<end>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}
"""
"""As Gemma's: it knows no system's turn, and names a special token."""


def test_a_template_without_a_systems_turn_gets_the_instruction_in_the_first_question() -> None:
    template = ChatTemplate(ALTERNATING, {"bos_token": "<bos>"})
    assert template.render([SYSTEM, USER]) == "<bos><turn>user\nAnswer.\n\nWhich organ?<end>\n<turn>model\n"


def test_turns_that_a_template_does_not_take_are_one_sentence() -> None:
    template = ChatTemplate(ALTERNATING, {"bos_token": "<bos>"})
    with pytest.raises(InputError, match="let user and assistant take turns"):
        template.render([USER, USER])


def test_a_base_without_a_template_is_asked_in_plain_text() -> None:
    assert ChatTemplate("", {}).render([SYSTEM, USER]) == "Answer.\n\nWhich organ?\n\nAnswer:"


def test_a_mark_of_what_the_assistant_says_changes_nothing() -> None:
    source = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    assert ChatTemplate(source, {}).render([SYSTEM, USER]) == "Answer.Which organ?"


def test_a_template_reaches_nothing_outside_of_it() -> None:
    with pytest.raises(InputError):
        ChatTemplate("{{ messages.__class__.__mro__ }}", {}).render([USER])
