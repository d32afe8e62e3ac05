"""The network that reads notes, and its answers for stays."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core.errors import UsageError
from mediscale.core.refs import Frozen
from mediscale.inference.collate import Batch

if TYPE_CHECKING:
    import torch

    from training.notes.note_pooling import NoteNetwork


class Shape(Frozen):
    """Which part of the encoder is used and which of it is trained."""

    layers: int
    """Lowest layers that are kept; 0 keeps all. What the upper ones add is small for short phrases (Sajjad et al. 2023,
    doi:10.1016/j.csl.2022.101429), and they cost in proportion."""
    trained_layers: int
    """Upper ones of those kept that are trained, at most all of them; the embeddings and the layers below stay as they
    came."""
    seed: int


def config(encoder: Path, shape: Shape) -> Any:
    """The encoder's configuration, with the layers that are kept.

    Raises:
        UsageError: it does not have so many.
    """
    from transformers import AutoConfig

    bert_config = AutoConfig.from_pretrained(encoder)
    if shape.layers > bert_config.num_hidden_layers:
        raise UsageError(
            f"The encoder has {bert_config.num_hidden_layers} layers where {shape.layers} are to be kept; set layers "
            f"to at most {bert_config.num_hidden_layers}, or to 0 for all."
        )
    bert_config.num_hidden_layers = shape.layers or bert_config.num_hidden_layers
    # The head has dropout. Drawing the encoder's took a fifth of a CPU's time, and the fits were no better for it.
    bert_config.attention_probs_dropout_prob = bert_config.hidden_dropout_prob = 0.0
    bert_config._attn_implementation = (
        "eager"  # in windows this short the fused kernel's gradient costs a CPU more
    )
    return bert_config


def build(encoder: Path, shape: Shape, prior: float = 0.0) -> "NoteNetwork":
    """The network with the encoder's weights; its head, drawn from the seed, answers about ``prior`` log-odds."""
    import torch
    from transformers import BertModel
    from transformers.utils import logging

    from training.notes.note_pooling import HEADS, NoteNetwork

    logging.set_verbosity_error()  # it lists the layers that are left out on purpose
    logging.disable_progress_bar()
    kept = config(encoder, shape)
    torch.manual_seed(shape.seed)
    bert = BertModel.from_pretrained(
        encoder, config=kept, add_pooling_layer=False, use_safetensors=True, dtype=torch.float32
    )
    network = NoteNetwork(bert)
    torch.nn.init.constant_(network.value.bias, prior / HEADS)
    bert.embeddings.requires_grad_(False)
    for layer in bert.encoder.layer[: max(0, kept.num_hidden_layers - shape.trained_layers)]:
        layer.requires_grad_(False)
    return network


def margins(network: Any, batch: Batch, device: Any) -> "torch.Tensor":
    """Log-odds (n) of a batch of stays, pooled over all tokens of each stay's windows."""
    import torch

    ids, mask, owner = (torch.as_tensor(part, device=device) for part in (batch.ids, batch.mask, batch.owner))
    weighted, weight = network(input_ids=ids, attention_mask=mask)
    empty = torch.zeros((int(batch.owner[-1]) + 1, weight.shape[1]), device=device)
    return (empty.index_add(0, owner, weighted) / empty.index_add(0, owner, weight)).sum(1)


def native_bfloat16(device: "torch.device") -> bool:
    """Whether the device multiplies bfloat16 itself; emulating it is slower than single precision."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def precision(device: "torch.device") -> AbstractContextManager[Any]:
    """Products in bfloat16 where the device multiplies it itself; for training and for what is only looked at."""
    import torch

    autocast: AbstractContextManager[Any] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=native_bfloat16(device)
    )
    return autocast
