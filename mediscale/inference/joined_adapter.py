"""Low-rank adapters in bfloat16: the products of the base's weights and of the adapter's as one, which is rounded once.

PEFT adds the adapter's output to a base's that was rounded to eight bits, and what is smaller than half of the last of
them is lost. In the first steps of a fit that is most of what the adapter says, so that a fit in bfloat16 learnt less
than one in single precision did. Here the adapter's columns stand beside the base's in one matrix, and a product of
matrices is summed in single precision.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def join(network: Any) -> None:
    """Joins each adapter of a network of PEFT with the weights beside which it stands, where these are in bfloat16."""
    import torch
    from peft.tuners.lora import Linear

    for layer in network.modules():
        if isinstance(layer, Linear) and layer.get_base_layer().weight.dtype == torch.bfloat16:
            layer.forward = JoinedForward(layer)


class JoinedForward:
    """What PEFT's ``forward`` of a layer computes."""

    def __init__(self, layer: Any) -> None:
        base, (self._name,) = layer.get_base_layer(), layer.active_adapters
        self._layer, self._width = layer, base.in_features
        self.joined = base.weight.new_zeros(base.out_features, self._width + layer.r[self._name])
        """The matrix of both, of which the base's weights become a part, so that they are in memory once."""
        self.joined[:, : self._width] = base.weight.detach()
        base.weight.data = self.joined[:, : self._width]
        self._write()

    def __call__(self, x: "torch.Tensor") -> "torch.Tensor":
        import torch

        base, x = self._layer.get_base_layer(), x.to(self.joined.dtype)
        if self._layer.disable_adapters:
            return base(x)
        a, b = (part[self._name].weight for part in (self._layer.lora_A, self._layer.lora_B))
        inner = torch.nn.functional.linear(self._layer.lora_dropout[self._name](x), a.to(self.joined.dtype))
        if b.requires_grad:  # a fit's steps change it
            self._write()
        if not torch.is_grad_enabled():
            return torch.nn.functional.linear(torch.cat([x, inner], -1), self.joined, base.bias)
        return _product()(x, inner, b * self._layer.scaling[self._name], self.joined, base.bias)

    def _write(self) -> None:
        """Writes the adapter's columns."""
        weights = self._layer.lora_B[self._name].weight.detach()
        self.joined[:, self._width :] = weights * self._layer.scaling[self._name]


@cache
def _product() -> Any:
    """The product of an input with joined weights, whose gradients autograd gets from here: ``_outer`` is in them."""
    import torch

    class JoinedProduct(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, inner: Any, _outer: Any, joined: Any, bias: Any) -> "torch.Tensor":
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
