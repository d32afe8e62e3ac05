"""The network that reads notes: a BERT sequence classifier whose answers for a stay's windows are averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mediscale.refs import Frozen

if TYPE_CHECKING:
    import torch

    from training.note_examples import Tokens


class Shape(Frozen):
    """Which part of the encoder is used and which of it is trained."""

    layers: int
    """Lowest layers that are kept; 0 keeps all. What the upper ones add is small for short phrases (Sajjad et al. 2023,
    doi:10.1016/j.csl.2022.101429), and they cost in proportion."""
    trained_layers: int
    """Upper ones of those kept that are trained; the embeddings and the layers below stay as they came."""
    seed: int


@dataclass(frozen=True)
class Special:
    """Token numbers of the tokenizer's special tokens."""

    start: int
    end: int
    padding: int


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


def margins(network: Any, batch: "Batch", device: Any) -> "torch.Tensor":
    """Log-odds (n) of a batch of stays: the mean over each stay's windows."""
    import torch

    ids, mask, owner = (torch.as_tensor(part, device=device) for part in (batch.ids, batch.mask, batch.owner))
    each = network(input_ids=ids, attention_mask=mask).logits[:, 0].float()
    stays = int(batch.owner[-1]) + 1
    total = torch.zeros(stays, device=device).index_add(0, owner, each)
    return total / torch.bincount(owner, minlength=stays)


@dataclass(frozen=True)
class Batch:
    """Windows of some stays, padded: ``ids`` and ``mask`` (w, length), ``owner`` (w): the stay's place in the batch."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    owner: NDArray[np.int64]


def batch(stays: "Sequence[Sequence[Tokens]]", special: Special) -> Batch:
    """Pads the windows of some stays to the longest of them."""
    pieces = [piece for pieces in stays for piece in pieces]
    ids = np.full((len(pieces), 2 + max(map(len, pieces))), special.padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, piece in enumerate(pieces):
        ids[i, : len(piece) + 2] = [special.start, *piece, special.end]
        mask[i, : len(piece) + 2] = 1
    return Batch(ids, mask, np.repeat(np.arange(len(stays)), [len(pieces) for pieces in stays]))


def grouped(lengths: NDArray[np.int64], budget: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Indices of stays of like length, batch by batch in random order, each of about ``budget`` padded tokens.

    Padding costs as much as reading: with stays of all lengths together most of the work is on nothing.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(lengths)), lengths[:, 1]))
    groups: list[list[int]] = [[]]
    held = longest = 0
    for i in order:
        pieces, length = lengths[i]
        if groups[-1] and (held + pieces) * max(longest, length) > budget:
            groups.append([])
            held = longest = 0
        groups[-1].append(int(i))
        held, longest = held + pieces, max(longest, length)
    for g in rng.permutation(len(groups)) if len(lengths) else []:
        yield np.array(groups[g], dtype=np.int64)
