"""Sentence embeddings in ONNX Runtime on the CPU: text to unit vectors, without torch."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mediscale.core.errors import StorageError
from mediscale.core.refs import Frozen

Vectors = NDArray[np.float32]


class EmbedderSpec(Frozen):
    """An embedder's recipe: how the vector of a text is made of what the network gives for its tokens."""

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
        """Loads the network from the files' bytes.

        Raises:
            StorageError: they are damaged.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Else sums of products in 8 bits overflow on processors without VNNI, and only there: their vectors would lie
        # elsewhere than those of the machine that made an index or fitted what the package ships.
        options.add_session_config_entry("session.x64quantprecision", "1")
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
        vectors = [self._embed(text) for text in texts]
        return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)

    def question(self, text: str) -> Vectors:
        """Unit vector of a question: (dimensions,)."""
        return self._embed(self.spec.query_prefix + text)

    def _embed(self, text: str) -> Vectors:
        """Alone: in 8 bits the scale of the activations is that of a whole batch, so that a text's vector would depend
        on which others are read with it; and nothing is padded."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        available = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        inputs = {name: values for name, values in available.items() if name in self._inputs}
        hidden: Vectors = self._session.run(None, inputs)[0][0]
        pooled = hidden[0] if self.spec.pooling == "cls" else hidden.mean(axis=0)
        vector: Vectors = pooled / np.linalg.norm(pooled)
        return vector
