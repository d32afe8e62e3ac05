"""Low-rank adapters in bfloat16: the products of the base's weights and of the adapter's as one, which is rounded once.

PEFT adds the adapter's output to a base's that was rounded to eight bits, and what is smaller than half of the last of
them is lost. In the first steps of a fit that is most of what the adapter says, so that a fit in bfloat16 learnt less
than one in single precision did. Here the adapter's columns stand beside the base's in one matrix, and a product of
matrices is summed in single precision.
"""

from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def join(network: Any) -> None:
    """Joins each adapter of a network of PEFT with the weights beside which it stands, where these are in bfloat16."""
    import torch
    from peft.tuners.lora import Linear

    for layer in network.modules():
        if isinstance(layer, Linear) and layer.get_base_layer().weight.dtype == torch.bfloat16:
            layer.forward = partial(_forward, layer, _joined(layer))


def _joined(layer: Any) -> "torch.Tensor":
    """The matrix of both, of which the base's weights become a part, so that they are in memory once."""
    base, (name,) = layer.get_base_layer(), layer.active_adapters
    width = base.in_features
    joined = base.weight.new_zeros(base.out_features, width + layer.r[name])
    joined[:, :width] = base.weight.detach()
    base.weight.data = joined[:, :width]
    return joined


def _forward(layer: Any, joined: "torch.Tensor", x: "torch.Tensor") -> "torch.Tensor":
    """What PEFT's ``forward`` computes."""
    import torch

    base, x = layer.get_base_layer(), x.to(joined.dtype)
    if layer.disable_adapters:
        return base(x)
    (name,) = layer.active_adapters
    weights = layer.lora_A[name].weight.to(joined.dtype)
    inner = torch.nn.functional.linear(layer.lora_dropout[name](x), weights)
    outer = layer.lora_B[name].weight * layer.scaling[name]
    return _product()(x, inner, outer, joined, base.bias)


@cache
def _product() -> Any:
    """The product of an input with joined weights, whose gradients autograd gets from here."""
    import torch

    class JoinedProduct(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, inner: Any, outer: Any, joined: Any, bias: Any) -> "torch.Tensor":
            joined[:, x.shape[-1] :] = outer
            ctx.save_for_backward(inner)
            ctx.joined = joined
            return torch.nn.functional.linear(torch.cat([x, inner], -1), joined, bias)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (inner,), (gradient,) = ctx.saved_tensors, gradients
            gradient = gradient.to(ctx.joined.dtype)
            of_both = gradient @ ctx.joined
            width = of_both.shape[-1] - inner.shape[-1]
            of_outer = gradient.flatten(0, -2).T @ inner.flatten(0, -2)
            return of_both[..., :width], of_both[..., width:], of_outer.float(), None, None

    return JoinedProduct.apply
