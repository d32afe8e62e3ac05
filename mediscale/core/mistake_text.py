"""What pydantic says of a value, in the words of a sentence that names a place."""

import re


def in_words(message: str) -> str:
    """The message as it follows ``place: ``.

    >>> in_words("Input should be less than 1"), in_words("Field required"), in_words("Value error, It is empty")
    ('must be below 1', 'is missing', 'it is empty')
    >>> in_words("Input should be a valid integer, unable to parse string as an integer")
    'must be an integer'
    >>> in_words("List should have at most 4 items after validation, not 5")
    'must have at most 4 items'
    """
    message = message.removeprefix("Value error, ")
    message = re.sub(r", unable to parse .*| after validation.*", "", message)
    message = re.sub(r"^(String|List|Tuple|Set|Dictionary|Value|Decimal input) should ", "must ", message)
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return f"{message[:1].lower()}{message[1:]}"


_WORDS = {
    "Input should be a valid list": "must be a list",
    "Input should be a valid array": "must be a list",
    "Input should be a valid integer": "must be an integer",
    "Input should be a valid dictionary": "must be a mapping of names to values",
    "Input should be a valid tuple": "must be a list",
    "Input should be a valid string": "must be text",
    "Input should be a valid number": "must be a number",
    "Input should be a valid boolean": "must be true or false",
    "Input should ": "must ",
    "Field required": "is missing",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}
"""Their words and ours; what begins like another one stands before it."""
