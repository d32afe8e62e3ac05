"""Sentence embeddings in ONNX Runtime on the CPU: text to unit vectors, without torch."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen

Vectors = NDArray[np.float32]

_BATCH = 8


class EmbedderSpec(Frozen):
    """How the vector of a text is made of what the network gives for its tokens."""

    name: str
    revision: str
    pooling: Literal["cls", "mean"]
    query_prefix: str
    """What stands before a question, and not before a passage, as the network was trained."""
    window: int
    """Tokens; what is longer is cut."""


class Embedder:
    """A loaded network. It is immutable, so threads may share it."""

    def __init__(self, spec: EmbedderSpec, graph: bytes, tokenizer: bytes, threads: int = 1) -> None:
        """Raises:
        StorageError: the files are damaged.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # of ONNX Runtime and of the tokenizers, which have no common class
            raise StorageError(
                f"The files of the embedder {spec.name} are damaged; fetch them again."
            ) from error
        self.spec, self.graph, self.tokenizer = spec, graph, tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.window)
        self._inputs = {each.name for each in self._session.get_inputs()}

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts that are searched: (n, dimensions)."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
        vectors: Vectors | None = None
        for places, batch in self._batches(texts, order):
            embedded = self._embed(batch)
            if vectors is None:
                vectors = np.empty((len(texts), embedded.shape[1]), np.float32)
            vectors[places] = embedded
        return np.empty((0, 0), np.float32) if vectors is None else vectors

    def question(self, text: str) -> Vectors:
        """Unit vector of a question: (dimensions,)."""
        vector: Vectors = self._embed([self.spec.query_prefix + text])[0]
        return vector

    @staticmethod
    def _batches(texts: Sequence[str], order: Sequence[int]) -> Iterator[tuple[list[int], list[str]]]:
        for start in range(0, len(order), _BATCH):
            places = list(order[start : start + _BATCH])
            yield places, [texts[place] for place in places]

    def _embed(self, texts: Sequence[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(list(texts))
        longest = max(len(each.ids) for each in encoded)
        ids = np.zeros((len(encoded), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(encoded):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        available = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        inputs = {name: values for name, values in available.items() if name in self._inputs}
        hidden: Vectors = self._session.run(None, inputs)[0]
        pooled = hidden[:, 0] if self.spec.pooling == "cls" else _mean(hidden, mask)
        vectors: Vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors


def _mean(hidden: Vectors, mask: NDArray[np.int64]) -> Vectors:
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean
