"""Model specification of a language model: ``language.json``, the file beside its adapter.

Training writes it into the logged model's folder; evaluation and serving read it and need nothing else of the training
code. The folder holds the adapter alone. The base, which may be a hundred times larger, is found by its name and
revision and compared by its digest.
"""

from mediscale.core.refs import Frozen
from mediscale.core.task_names import LANGUAGE
from mediscale.inference.base_models import Base, Quantization

TASK = LANGUAGE
"""What stands in a language model's name, tags and history where a risk model has its task."""

INSTRUCTION = "Answer the question in one sentence."
"""What stands before every question, in training as in an answer."""

NOTICE = (
    "Written by a language model, which may be wrong: for qualified staff, who check it against its sources. No care "
    "may be given or withheld on this text alone."
)


class KnownText(Frozen):
    """A made-up question, its answer, and the log-likelihood that must come out of it when the model is loaded."""

    question: str
    answer: str
    log_likelihood: float
    """Per token of the answer."""


class LanguageSpec(Frozen):
    """``language.json``: all that is needed beside the adapter to ask the model."""

    name: str
    """Registered model's name, ``<dataset>-language``."""
    dataset: str
    base: Base
    base_digest: str
    """SHA-256 of the base's configuration and weights."""
    tokenizer: str
    """SHA-256 of the base's tokenizer files."""
    chat_template: str
    """In which questions were put in training; empty where the base has none."""
    special_tokens: dict[str, str] = {}
    """Of the tokenizer, by their role, such as bos_token: the template may name them."""
    instruction: str
    quantization: Quantization
    known_texts: tuple[KnownText, ...]
    notice: str = NOTICE
