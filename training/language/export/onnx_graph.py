"""ONNX: a merged language model as one graph that keeps keys and values, and how onnxruntime answers with it."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.inference import base_models
from mediscale.inference.language import LanguageModel

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FILE = "model.onnx"
_INPUTS = ("input_ids", "attention_mask", "position_ids")


def write(network: Any, folder: Path) -> None:
    """Writes the graph: tokens, their mask (with that of what was read before) and positions, and the keys and values
    of what was read before, to logits and the keys and values of all. All axes but heads and width are free."""
    import torch

    layers = range(network.config.num_hidden_layers)
    past = [f"past.{i}.{part}" for i in layers for part in ("key", "value")]
    present = [name.replace("past", "present", 1) for name in past]
    free = {0: "batch", 1: "read"}
    axes = {"input_ids": free, "position_ids": free, "attention_mask": {0: "batch", 1: "all"}, "logits": free}
    axes |= {name: {0: "batch", 2: "before"} for name in past} | {
        name: {0: "batch", 2: "all"} for name in present
    }
    ids, shape = torch.ones((2, 3), dtype=torch.int64), _shape(network.config)
    before = [torch.zeros((2, shape[0], 4, shape[1])) for _ in past]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network.config._attn_implementation = "eager"
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracing exporter announces its successor, which needs another package
        torch.onnx.export(
            _traced(network.float().cpu().eval()),
            (ids, torch.ones((2, 7), dtype=torch.int64), torch.arange(4, 7).repeat(2, 1), *before),
            folder / FILE,
            input_names=[*_INPUTS, *past],
            output_names=["logits", *present],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def _shape(config: Any) -> tuple[int, int]:
    """Heads of keys and values, and their width."""
    return config.num_key_value_heads, config.head_dim


def _traced(network: Any) -> "torch.nn.Module":
    """The network with its mask written out and its cache as plain tensors."""
    import torch
    from transformers import DynamicCache

    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: Any, mask: Any, positions: Any, *past: Any) -> tuple[Any, ...]:
            cache = DynamicCache(zip(past[::2], past[1::2], strict=True))
            every, read = mask.shape[1], ids.shape[1]
            steps = torch.arange(every)
            allowed = (steps[None] <= steps[every - read :, None])[None, None] & mask[:, None, None].bool()
            added = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
            output = self.network(
                input_ids=ids,
                attention_mask=added,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            kept = [part for layer in output.past_key_values.layers for part in (layer.keys, layer.values)]
            return output.logits, *kept

    return Graph()


class _Past:
    """Keys and values by layer, as LanguageModel asks for those of some rows."""

    def __init__(self, parts: Sequence["NDArray[np.float32]"]) -> None:
        self.parts = list(parts)

    def batch_select_indices(self, rows: "torch.Tensor") -> None:
        self.parts = [part[rows.numpy()] for part in self.parts]


class OnnxModel(LanguageModel):
    """A language model whose network is a graph in onnxruntime."""

    def __init__(self, folder: Path, instruction: str) -> None:
        import onnxruntime
        import torch
        from transformers import AutoConfig

        self.tokenizer, self.instruction = base_models.tokenizer(folder), instruction
        self._device = torch.device("cpu")
        self._config = AutoConfig.from_pretrained(folder)
        self._session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])

    @property
    def window(self) -> int:
        return int(self._config.max_position_embeddings)

    def _ends(self) -> frozenset[int]:
        return frozenset({self.tokenizer.eos_token_id})

    def _read(
        self, ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor", past: Any = None
    ) -> tuple["torch.Tensor", Any]:
        import torch

        heads, width = _shape(self._config)
        layers = range(2 * self._config.num_hidden_layers)
        nothing = np.zeros((len(ids), heads, 0, width), dtype=np.float32)
        parts = past.parts if past else [nothing for _ in layers]
        names = [inputs.name for inputs in self._session.get_inputs()]
        inputs = [ids.numpy(), mask.numpy(), positions.numpy(), *parts]
        logits, *kept = self._session.run(None, dict(zip(names, inputs, strict=True)))
        return torch.from_numpy(logits), _Past(kept)
