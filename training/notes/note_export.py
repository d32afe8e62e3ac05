"""The note network as ONNX in 8 bits, so that the server needs neither torch nor transformers, and half the CPU."""

import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

OUTPUTS = ("weighted", "weight")


def to_onnx(network: Any, window: int) -> bytes:
    """The graph of one reading: ``input_ids, attention_mask`` (w, length) to ``weighted, weight`` (w, heads)."""
    return quantized(single_precision(network, window))


def single_precision(network: Any, window: int) -> bytes:
    """The same graph as the network was trained."""
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


def quantized(graph: bytes) -> bytes:
    """The graph with its embeddings and products of matrices in 8 bits, by ONNX Runtime's dynamic quantisation.

    Each output has a scale of its own: with one for all of a layer, answers moved by eight times as much. Weights are
    in 7 bits, for the sum of two products fits into 16 bits then: else it overflows on processors without VNNI, and
    only there.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root, silent = logging.getLogger(), logging.NullHandler()
    root.addFilter(_is_no_advice)
    root.addHandler(
        silent
    )  # without one, the advice would give the process a handler that prints all from then on
    try:
        with tempfile.TemporaryDirectory() as folder:
            single, eight = Path(folder) / "single.onnx", Path(folder) / "eight.onnx"
            single.write_bytes(graph)
            quantize_dynamic(single, eight, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
            return eight.read_bytes()
    finally:
        root.removeHandler(silent)
        root.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Keeps back the advice to preprocess a graph, which goes for static quantisation."""
    return "pre-processing before quantization" not in record.getMessage()
