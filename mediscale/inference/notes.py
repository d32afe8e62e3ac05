"""Note model inference in ONNX Runtime on the CPU; its known answers are recomputed when it is loaded.

Serving and evaluation share it. It needs neither torch nor transformers, and unpickles nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mediscale.core.errors import StorageError
from mediscale.inference import collate
from mediscale.inference.collate import Tokens
from mediscale.inference.model_files import GRAPH_FILE, SPEC_FILE, TOKENIZER_FILE
from mediscale.inference.note_model_spec import NoteSpec

TOLERANCE = 1e-3
"""In log-odds, between ONNX Runtime here and torch in training."""
_CHARACTERS_PER_TOKEN = 8
"""Of clinical prose a token has four or five, its blank included."""
_BUDGET = 8192
"""Padded tokens that are read at once."""

Floats = NDArray[np.float64]


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
        import onnxruntime
        from tokenizers import Tokenizer

        try:
            super().__init__(NoteSpec.model_validate_json(files[SPEC_FILE]))
            self._tokenizer = Tokenizer.from_str(files[TOKENIZER_FILE].decode())
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(
                files[GRAPH_FILE], options, providers=["CPUExecutionProvider"]
            )
        except (KeyError, ValidationError) as error:
            raise StorageError("The note model's folder lacks what reading needs; train it again.") from error
        self._special = collate.special(self._tokenizer)
        self._check()

    def tokens(self, text: str) -> Tokens:
        """The text as numbers; unlike ``encode``, the call for several texts lets other threads run meanwhile."""
        [encoded] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoded.ids, dtype=np.int32)

    def margins(self, stays: Sequence[Sequence[Tokens]]) -> Floats:
        margins = np.zeros(len(stays))
        for members in collate.bucket_by_length(collate.lengths(stays), _BUDGET, 0):
            batch = collate.batch([stays[i] for i in members], self._special)
            parts = self._session.run(None, {"input_ids": batch.ids, "attention_mask": batch.mask})
            starts = np.flatnonzero(np.diff(batch.owner, prepend=-1))
            weighted, weight = (np.add.reduceat(part.astype(np.float64), starts) for part in parts)
            margins[members] = (weighted / weight).sum(axis=1)
        return margins

    def _check(self) -> None:
        texts = self.spec.known_texts
        read = partial(collate.windows, window=self.spec.window, most=1)
        margins = self.margins([read([self.tokens(text.text)]) for text in texts])
        if not texts or not np.allclose(margins, [text.margin for text in texts], rtol=0, atol=TOLERANCE):
            raise StorageError(f"{self.spec.name} does not answer as it did in training; it is not served.")
