"""The note network as ONNX, so that the server needs neither torch nor transformers."""

import io
import logging
import warnings
from typing import Any


def to_onnx(network: Any, window: int) -> bytes:
    """The graph of one reading: ``input_ids, attention_mask`` (w, length) to ``margins`` (w), before averaging."""
    import torch

    class Reading(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits[:, 0]

    network.config._attn_implementation = "eager"  # the fused kernel has no ONNX operator
    ids = torch.ones((2, min(16, window)), dtype=torch.int64)
    content = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracing exporter announces its successor, which needs another package
        torch.onnx.export(
            Reading().eval(),
            (ids, torch.ones_like(ids)),
            content,
            input_names=["input_ids", "attention_mask"],
            output_names=["margins"],
            dynamic_axes={name: {0: "windows", 1: "length"} for name in ("input_ids", "attention_mask")}
            | {"margins": {0: "windows"}},
            opset_version=17,
            dynamo=False,
        )
    return content.getvalue()
