"""Note model inference in ONNX Runtime on the CPU; its known answers are recomputed when it is loaded.

Serving and evaluation share it. It needs neither torch nor transformers, and unpickles nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.inference import collate
from mediscale.inference.collate import Special, Tokens
from mediscale.inference.model_files import GRAPH_FILE, SPEC_FILE, TOKENIZER_FILE
from mediscale.inference.note_model_spec import NoteSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-3
"""In log-odds, between ONNX Runtime here and where the model was trained."""
_CHARACTERS_PER_TOKEN = 8
"""Of clinical prose a token has four or five, its blank included."""

Floats = NDArray[np.float64]


def session(graph: bytes, threads: int = 1) -> "InferenceSession":
    """The network of a note model, ready to read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def margin(network: "InferenceSession", pieces: Sequence[Tokens], special: Special) -> float:
    """Uncalibrated log-odds of a stay, read alone.

    The scale of activations in 8 bits is that of a whole batch, so that an answer would depend on which stays are read
    with it.
    """
    batch = collate.batch([pieces], special)
    parts = network.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})
    weighted, weight = (part.astype(np.float64).sum(axis=0) for part in parts)
    return float((weighted / weight).sum())


class Reader(ABC):
    """A note model, wherever its network is."""

    def __init__(self, spec: NoteSpec) -> None:
        self.spec = spec

    @property
    def characters(self) -> int:
        """No more of a text is read than this: more than the tokens of the windows are long, in any prose."""
        return self.spec.most_windows * self.spec.window * _CHARACTERS_PER_TOKEN

    def windows(self, notes: Sequence[Tokens]) -> list[Tokens]:
        """What the network reads of a stay's notes, newest first."""
        return collate.windows(notes, self.spec.window, self.spec.most_windows)

    @abstractmethod
    def margins(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        """Uncalibrated log-odds (n) of stays, each given as its windows."""

    def margins_where_written(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        """``margins`` (n); NaN for a stay of which nothing was written."""
        margins = np.full(len(stays), np.nan)
        written = [i for i, pieces in enumerate(stays) if any(map(len, pieces))]
        margins[written] = self.margins([stays[i] for i in written])
        return margins


class NoteReader(Reader):
    """A note model that is loaded here. It is immutable, so threads may share it."""

    def __init__(self, files: Mapping[str, bytes], threads: int = 1) -> None:
        """``files`` are the model's by name.

        Raises:
            StorageError: a file is missing or damaged, or the known texts are not answered as they were in training.
        """
        from tokenizers import Tokenizer

        try:
            super().__init__(NoteSpec.model_validate_json(files[SPEC_FILE]))
            self._tokenizer = Tokenizer.from_str(files[TOKENIZER_FILE].decode())
            self._session = session(files[GRAPH_FILE], threads)
        except (KeyError, ValidationError) as error:
            raise StorageError("The note model's folder lacks what reading needs; train it again.") from error
        self._special = collate.special(self._tokenizer)
        self._check()

    def tokens(self, text: str) -> Tokens:
        """The text as numbers; unlike ``encode``, the call for several texts lets other threads run meanwhile."""
        [encoded] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoded.ids, dtype=np.int32)

    def margins(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        return np.array([margin(self._session, pieces, self._special) for pieces in stays])

    def _check(self) -> None:
        texts = self.spec.known_texts
        stays = [collate.windows([self.tokens(text.text)], self.spec.window, 1) for text in texts]
        answers = [text.margin for text in texts]
        if not texts or not np.allclose(self.margins(stays), answers, rtol=0, atol=TOLERANCE):
            raise StorageError(f"{self.spec.name} does not answer as it did in training; it is not served.")
