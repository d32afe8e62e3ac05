"""Low-rank adapters in bfloat16: the outputs of the base and of the adapter are added before they are rounded.

PEFT adds the adapter's output to a base's that was rounded to eight bits, and what is smaller than half of the last of
them is lost. In the first steps of a fit that is most of what the adapter says, so that a fit in bfloat16 learnt less
than one in single precision did. Here the base's product of matrices begins from the adapter's output (``addmm``), and
is summed in single precision. The base's weights stay where they are: versions of one base share them in memory.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def fuse(network: Any) -> None:
    """Sums each adapter of a network of PEFT with the layer beside which it stands, where that is in bfloat16."""
    import torch
    from peft.tuners.lora import Linear

    for layer in network.modules():
        if isinstance(layer, Linear) and layer.get_base_layer().weight.dtype == torch.bfloat16:
            layer.forward = partial(_forward, layer)


def _forward(layer: Any, x: "torch.Tensor") -> "torch.Tensor":
    """What PEFT's ``forward`` of the layer computes, of inputs (..., in_features)."""
    import torch
    from torch.nn.functional import linear

    base = layer.get_base_layer()
    dtype = base.weight.dtype
    x = x.to(dtype)
    if layer.disable_adapters:
        return base(x)
    (name,) = layer.active_adapters
    a, b = (part[name].weight.to(dtype) for part in (layer.lora_A, layer.lora_B))
    inner = linear(layer.lora_dropout[name](x), a) * layer.scaling[name]
    adapted = linear(inner, b, base.bias)
    return torch.addmm(adapted.flatten(0, -2), x.flatten(0, -2), base.weight.T).view_as(adapted)
