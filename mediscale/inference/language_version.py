"""Language model versions: a base with a version's low-rank adapter, as a model that answers as it did in training.

The adapter is read from the very bytes whose digest was compared; the base and its tokenizer are refused unless they
are those of the training.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings
from mediscale.inference import base_models, devices, fused_adapter
from mediscale.inference.base_models import Quantization
from mediscale.inference.language import LanguageModel
from mediscale.inference.language_spec import INSTRUCTION, LanguageSpec
from mediscale.inference.model_files import ADAPTER_CONFIG_FILE, ADAPTER_FILE, LANGUAGE_FILE

if TYPE_CHECKING:
    import torch

TOLERANCE = 0.05
"""In log-likelihood per token, between this device and the one of the training."""


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Silences what libraries say of each other's coming versions, which nobody here can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def adapted(
    base: Path,
    config: bytes,
    weights: bytes,
    quantization: Quantization = "none",
    instruction: str = INSTRUCTION,
    dtype: "torch.dtype | None" = None,
) -> LanguageModel:
    """The model of a base's folder and an adapter's configuration and weights, computed in ``dtype``, by default that
    of the device.

    Raises:
        StorageError: the adapter can't be read, or does not fit the base.
    """
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load as safetensors

    try:
        settings, tensors = LoraConfig.from_peft_type(**json.loads(config)), safetensors(weights)
    except (ValueError, TypeError, SafetensorError) as error:
        raise StorageError("The adapter of the language model can't be read; train it again.") from error
    on = devices.device()
    network = base_models.network(base, dtype or devices.precision(on), quantization)
    with libraries_quiet():
        model = PeftModel(network, settings)
    try:
        loaded = set_peft_model_state_dict(model, tensors)
    except RuntimeError as error:  # of another shape
        raise StorageError(
            "The adapter of the language model does not fit its base; train it again."
        ) from error
    if loaded.unexpected_keys or any("lora_" in name for name in loaded.missing_keys):
        raise StorageError("The adapter of the language model does not fit its base; train it again.")
    model = model.to(on) if quantization == "none" else model
    model.requires_grad_(False)
    if on.type == "cpu":
        fused_adapter.fuse(model)
    return LanguageModel(model, base_models.tokenizer(base), instruction)


def load(settings: Settings, files: Mapping[str, bytes]) -> LanguageModel:
    """The model of a version's files, which answers as it did in training.

    Raises:
        StorageError: a file is missing or damaged, the base or its tokenizer is another one, or the known texts are not
            as likely as they were in training.
        UsageError: the base can't be had.
    """
    try:
        spec = LanguageSpec.model_validate_json(files[LANGUAGE_FILE])
        config, weights = files[ADAPTER_CONFIG_FILE], files[ADAPTER_FILE]
    except (KeyError, ValidationError) as error:
        raise StorageError(
            "The language model's folder lacks what answering needs; train it again."
        ) from error
    base = base_models.folder(settings, spec.base)
    if (base_models.digest(base), base_models.tokenizer_digest(base)) != (spec.base_digest, spec.tokenizer):
        raise StorageError(
            f"{spec.name} was trained on another {spec.base.name} than the one here; delete {base.name} from the "
            "home's base_models, so that it is fetched again."
        )
    model = adapted(base, config, weights, spec.quantization, spec.instruction)
    _check(model, spec)
    return model


def _check(model: LanguageModel, spec: LanguageSpec) -> None:
    likelihoods = model.log_likelihoods([(text.question, "", text.answer) for text in spec.known_texts])
    expected = [text.log_likelihood for text in spec.known_texts]
    if not expected or not np.allclose(
        [each.per_token for each in likelihoods], expected, rtol=0, atol=TOLERANCE
    ):
        raise StorageError(f"{spec.name} does not answer as it did in training; it is not used.")
