"""The network that reads notes: a BERT sequence classifier whose answers for a stay's windows are averaged."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.note_batches import Batch
from mediscale.refs import Frozen

if TYPE_CHECKING:
    import torch


class Shape(Frozen):
    """Which part of the encoder is used and which of it is trained."""

    layers: int
    """Lowest layers that are kept; 0 keeps all. What the upper ones add is small for short phrases (Sajjad et al. 2023,
    doi:10.1016/j.csl.2022.101429), and they cost in proportion."""
    trained_layers: int
    """Upper ones of those kept that are trained; the embeddings and the layers below stay as they came."""
    seed: int


def build(encoder: Path, shape: Shape) -> "torch.nn.Module":
    """The classifier with the encoder's weights, its head drawn from the seed."""
    import torch
    from transformers import AutoConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # it lists the layers that are left out on purpose
    logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(encoder)
    config.num_labels = 1
    config.num_hidden_layers = shape.layers or config.num_hidden_layers
    torch.manual_seed(shape.seed)
    network: Any = BertForSequenceClassification.from_pretrained(
        encoder, config=config, use_safetensors=True, dtype=torch.float32
    )
    network.bert.embeddings.requires_grad_(False)
    for layer in network.bert.encoder.layer[: config.num_hidden_layers - shape.trained_layers]:
        layer.requires_grad_(False)
    return network


def margins(network: Any, batch: Batch, device: Any) -> "torch.Tensor":
    """Log-odds (n) of a batch of stays: the mean over each stay's windows."""
    import torch

    ids, mask, owner = (torch.as_tensor(part, device=device) for part in (batch.ids, batch.mask, batch.owner))
    each = network(input_ids=ids, attention_mask=mask).logits[:, 0].float()
    stays = int(batch.owner[-1]) + 1
    total = torch.zeros(stays, device=device).index_add(0, owner, each)
    return total / torch.bincount(owner, minlength=stays)
