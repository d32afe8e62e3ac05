"""An adapter in bfloat16 says what it says in single precision, however little that is, and learns from it."""

from pathlib import Path
from typing import Any

import pytest

from mediscale.inference import base_models, fused_adapter
from training.language import lora
from training.language.lora import Adapter

SMALL = 3e-5
"""Of the adapter's weights after a first step. The toy's own weights are as small beside those of a trained base."""


def adapted(folder: Path, dtype: Any) -> Any:
    """The toy base with an adapter after a first step, the same for each number format."""
    import torch
    from peft import get_peft_model

    adapter = Adapter(rank=4, alpha=8, dropout=0.0, targets=(), fully_trained=())
    network = base_models.network(folder, dtype)
    network = get_peft_model(network, lora.config(network, adapter))
    draws = torch.Generator().manual_seed(0)
    for name, weights in network.named_parameters():
        if "lora_" in name:
            drawn = torch.randn(weights.shape, generator=draws)
            weights.data = SMALL * drawn.sign() if "lora_B" in name else 0.2 * drawn
    return network.eval()


def said(network: Any) -> Any:
    """What the adapter changes of a layer's output, and the gradient of what it learns."""
    import torch

    layer = network.base_model.model.model.layers[0].mlp.gate_proj
    x = torch.randn(64, layer.in_features, generator=torch.Generator().manual_seed(1)).bfloat16()
    x = x.to(layer.get_base_layer().weight.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        output = layer(x)
        (output.float() * torch.linspace(-1, 1, 64)[:, None]).mean().backward()
    with network.disable_adapter():
        return (output - layer(x)).detach().float(), layer.lora_B["default"].weight.grad


def test_what_is_smaller_than_a_last_bit_is_added_and_learnt(toy_base: Path) -> None:
    import torch

    exact, gradient = said(adapted(toy_base, torch.float32))
    rounded, _ = said(adapted(toy_base, torch.bfloat16))
    fused = adapted(toy_base, torch.bfloat16)
    fused_adapter.fuse(fused)
    added, learnt = said(fused)

    def share(change: Any) -> float:
        return float((change * exact).sum() / exact.square().sum())

    assert share(added) == pytest.approx(1, abs=0.1)
    assert share(rounded) < 0.8, "PEFT rounds as it is rounded here"
    assert torch.cosine_similarity(learnt.flatten(), gradient.flatten(), 0) > 0.999


def test_the_base_answers_without_the_adapter(toy_base: Path) -> None:
    import torch

    network, tokens = adapted(toy_base, torch.bfloat16), torch.arange(12)[None]
    with torch.inference_mode():
        with network.disable_adapter():
            before = network(tokens).logits
        fused_adapter.fuse(network)
        assert not torch.equal(network(tokens).logits, before)
        with network.disable_adapter():
            assert torch.equal(network(tokens).logits, before)


def test_versions_of_one_base_share_its_weights_in_memory(toy_base: Path, tmp_path: Path) -> None:
    """Its weights stay pages of its file, which all processes of a machine that map it have in common."""
    import torch
    from peft.tuners.lora import Linear

    base_models.network(toy_base, torch.bfloat16).save_pretrained(tmp_path)
    for _ in range(2):
        network = adapted(tmp_path, torch.bfloat16)
        fused_adapter.fuse(network)
        with torch.inference_mode():
            network(torch.arange(12)[None])
        for layer in network.modules():
            if isinstance(layer, Linear):
                assert mapped_file(layer.get_base_layer().weight.data_ptr()) == str(
                    tmp_path / "model.safetensors"
                )


def mapped_file(address: int) -> str:
    """The file of whose pages an address of this process is."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, *_, name = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in place.split("-"))
        if first <= address < last:
            return name
    raise AssertionError("an address that is not mapped")


def test_what_a_step_changes_is_read_with_and_without_gradients(toy_base: Path) -> None:
    """PyTorch's fused optimizer does not count its change of the weights as one (``_version``)."""
    import torch

    network, tokens = adapted(toy_base, torch.bfloat16), torch.arange(12)[None]
    fused_adapter.fuse(network)
    outer = [weights for name, weights in network.named_parameters() if "lora_B" in name]
    optimizer = torch.optim.AdamW(outer, lr=0.01, fused=True)
    with torch.no_grad():
        before = network(tokens).logits
    network(tokens).logits.float().square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        after = network(tokens).logits
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(after, network(tokens).logits.detach())
