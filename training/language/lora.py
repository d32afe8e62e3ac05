"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): of which layers, and what is trained."""

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen

if TYPE_CHECKING:
    from peft import LoraConfig

_NEAR = 5
"""Names that an error lists at most."""
_SMALL = 1_000_000_000
"""Parameters below which a model knows too little of medicine to be asked in earnest."""


class Adapter(Frozen):
    """The settings of an adapter."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter; none: all of the language model."""
    fully_trained: tuple[str, ...] = ()
    """Names of modules that are trained whole, beside the adapter."""


class Trainable(Frozen):
    """What of a network is trained."""

    lora: int
    """Parameters of the adapter."""
    fully_trained: int
    """Parameters of the modules that are trained whole."""
    total: int
    """Of the base and all that is trained."""

    @property
    def caution(self) -> str:
        """What a person must know of a small model; empty for others."""
        if self.total >= _SMALL:
            return ""
        millions = f"{self.total / 1e6:,.0f} million parameters"
        return f"a toy of {millions}, a proof of the path and no source of medical answers"

    def __str__(self) -> str:
        share = (self.lora + self.fully_trained) / self.total
        whole = f" and {self.fully_trained:,} in modules trained whole" if self.fully_trained else ""
        return f"{self.lora:,} parameters in the adapter{whole} are trained, {share:.2%} of {self.total:,}"


def config(network: Any, adapter: Adapter) -> "LoraConfig":
    """The adapter of a network: on its language model alone where it reads images, too.

    Raises:
        UsageError: a target matches no linear layer, or a name no module.
    """
    from peft import LoraConfig

    linear = linear_layers(network)
    targets = adapter.targets or tuple(sorted({name.rpartition(".")[2] for name in linear}))
    modules = [name for name, _ in network.named_modules() if name]
    _check(adapter.targets, linear, "linear layer")
    _check(adapter.fully_trained, modules, "module")
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=_pattern(targets, linear, modules),
        modules_to_save=list(adapter.fully_trained) or None,
        task_type="CAUSAL_LM",
    )


def linear_layers(network: Any) -> list[str]:
    """Names of the linear layers of the language model, without the one that ends in the vocabulary."""
    import torch

    output = network.get_output_embeddings()
    linear = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    ]
    return [name for name in linear if "language_model." in name] or linear


def _pattern(targets: Sequence[str], linear: Sequence[str], modules: Sequence[str]) -> str | list[str]:
    """The layers as PEFT takes them: names, or a pattern where an image encoder has layers of the same names."""
    if not all("language_model." in name for name in linear) or len(linear) == len(modules):
        return list(targets)
    return rf".*language_model\..*\.({'|'.join(map(re.escape, targets))})"


def _check(names: Sequence[str], there: Sequence[str], what: str) -> None:
    for name in names:
        if any(each == name or each.endswith(f".{name}") for each in there):
            continue
        short = sorted({each.rpartition(".")[2] for each in there})
        near = difflib.get_close_matches(name, short, n=_NEAR, cutoff=0.4) or short[:_NEAR]
        raise UsageError(
            f"The base model has no {what} {name!r}; near names are {', '.join(near)}. Nothing was trained."
        )


def trainable(network: Any) -> Trainable:
    """Counts what is trained of a network with an adapter."""
    trained = [(name, p.numel()) for name, p in network.named_parameters() if p.requires_grad]
    lora = sum(n for name, n in trained if "lora_" in name)
    return Trainable(
        lora=lora, fully_trained=sum(n for _, n in trained) - lora, total=network.num_parameters()
    )
