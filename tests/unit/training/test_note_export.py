"""Export of a note model's graph: 8 bits, and nothing left behind in the process."""

import logging

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.notes import note_export


def product_of_matrices() -> bytes:
    """A graph of one product, as the smallest that is quantised."""
    weights = numpy_helper.from_array(np.eye(8, dtype=np.float32), "weights")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("read", "answer")]
    product = helper.make_node("MatMul", ["read", "weights"], ["answer"])
    graph = helper.make_graph([product], "note model", ports[:1], ports[1:], [weights])
    opsets = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def test_a_run_that_trains_a_second_note_model_prints_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's advice is logged by the root logger, which gave the process a handler that printed what every
    other logger said as well, from the first export on."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    note_export.quantized(product_of_matrices())
    assert logging.getLogger().handlers == []
