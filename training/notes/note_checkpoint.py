"""Checkpoints of a fit of the note model: safetensors whose names carry their digest."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core.refs import Frozen

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_KEPT = 2
"""The newest and the one before it: a write may be cut off, and a disk may lie."""
_STATE = "state"


class State(Frozen):
    """What is not a tensor. ``batch`` batches of ``epoch`` are done, ``step`` steps of the optimizer in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = -1
    loss: float = 0.0
    """Loss of the epoch's batches so far, summed, on the first worker: the one whose state is kept."""
    stays: int = 0
    """In them."""
    train_losses: tuple[float, ...] = ()
    tuning_losses: tuple[float, ...] = ()
    tokens: int = 0
    """Real tokens that the optimizer has learnt from."""
    padded: int = 0
    """The same with padding."""


class Checkpoints:
    """The checkpoints of one fit in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: State, tensors: "Tensors") -> None:
        """Writes under a temporary name and moves it into place; older ones go afterwards."""
        from safetensors.torch import save

        content = save(tensors, metadata={_STATE: state.model_dump_json()})
        digest = hashlib.sha256(content).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / "part"
        part.write_bytes(content)
        part.replace(self._folder / f"{state.epoch:04d}-{state.batch:06d}-{digest}.safetensors")
        for old in self._all()[_KEPT:]:
            old.unlink()

    def newest(self) -> "tuple[State, Tensors] | None":
        """The newest checkpoint that is whole; one that is damaged, or whose state can't be read, is passed over."""
        from safetensors.torch import load

        for path in self._all():
            content = path.read_bytes()
            whole = hashlib.sha256(content).hexdigest()[:16] == path.stem.split("-")[-1]
            state = _state(content) if whole else None
            if state is not None:
                return state, load(content)
        return None

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("*-*-*.safetensors"), reverse=True)


def _state(content: bytes) -> State | None:
    """The state in the header of a checkpoint; None where there is none that can be read."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return State.model_validate_json(header["__metadata__"][_STATE])
    except (ValueError, KeyError):  # of JSON, of the text's encoding or of the state
        return None
