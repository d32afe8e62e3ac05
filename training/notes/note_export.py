"""The note network as ONNX, so that the server needs neither torch nor transformers."""

import io
import logging
import warnings
from typing import Any

OUTPUTS = ("weighted", "weight")


def to_onnx(network: Any, window: int) -> bytes:
    """The graph of one reading: ``input_ids, attention_mask`` (w, length) to ``weighted, weight`` (w, heads)."""
    import torch

    ids = torch.ones((2, min(16, window)), dtype=torch.int64)
    content = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracing exporter announces its successor, which needs another package
        torch.onnx.export(
            network.eval(),
            (ids, torch.ones_like(ids)),
            content,
            input_names=["input_ids", "attention_mask"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "windows", 1: "length"} for name in ("input_ids", "attention_mask")}
            | {name: {0: "windows"} for name in OUTPUTS},
            opset_version=17,
            dynamo=False,
        )
    return content.getvalue()
