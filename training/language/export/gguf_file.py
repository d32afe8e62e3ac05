"""GGUF, the file format of llama.cpp and what is built on it: a merged model of Llama's architecture in 16 bits.

Names of tensors and metadata are those of the package ``gguf``; how rotary heads are laid out follows llama.cpp's
``convert_hf_to_gguf.py``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.core.errors import UsageError
from mediscale.inference.language import LanguageModel

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from numpy.typing import NDArray

FILE = "model.gguf"
_PRE_TOKENIZERS = {("Digits", "ByteLevel"): "smollm", ("ByteLevel",): "gpt-2"}
"""llama.cpp's name of what splits a text before the byte pairs, by the kinds of the tokenizer's own steps."""


def check(network: Any) -> None:
    """Refuses a network that this writer can't write.

    Raises:
        UsageError: its architecture is not Llama's.
    """
    if (kind := network.config.model_type) != "llama":
        raise UsageError(
            f"GGUF is written here for bases of Llama's architecture, and this one is {kind}; export it merged, and "
            "convert that folder with llama.cpp's convert_hf_to_gguf.py."
        )


def write(network: Any, tokenizer_folder: Path, name: str, folder: Path) -> None:
    """Writes a merged network and its tokenizer's files as ``FILE``.

    Raises:
        UsageError: the architecture or the tokenizer is another one than this writer's.
    """
    import gguf

    check(network)
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    _metadata(writer, network.config, name)
    _vocabulary(writer, tokenizer_folder, network.config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, network.config.num_hidden_layers)
    for key, tensor in network.state_dict().items():
        if key == "lm_head.weight" and network.config.tie_word_embeddings:
            continue
        short = str(names.get_name(key, try_suffixes=(".weight",)))
        values = _laid_out(key, tensor.float().cpu().numpy(), network.config)
        writer.add_tensor(short, values if values.ndim == 1 else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _metadata(writer: "GGUFWriter", config: Any, name: str) -> None:
    import gguf

    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _vocabulary(writer: "GGUFWriter", folder: Path, size: int) -> None:
    import gguf

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    steps = tokenizer["pre_tokenizer"] or {"type": "none"}
    kinds = tuple(step["type"] for step in steps.get("pretokenizers", [steps]))
    if tokenizer["model"]["type"] != "BPE" or kinds not in _PRE_TOKENIZERS:
        raise UsageError(
            f"GGUF is written here for byte-pair tokenizers of SmolLM's and GPT-2's kind, and this one is "
            f"{tokenizer['model']['type']} after {', '.join(kinds)}; export it merged, and convert that folder with "
            "llama.cpp's convert_hf_to_gguf.py."
        )
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZERS[kinds])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    gguf.SpecialVocab(folder, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)


def _laid_out(key: str, values: "NDArray[np.float32]", config: Any) -> "NDArray[np.float32]":
    """A weight as GGUF has it: of queries and keys, the two halves of a rotated head interleaved."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for projection, n in heads.items():
        if key.endswith(f"{projection}.weight"):
            halves = values.reshape(n, 2, values.shape[0] // n // 2, *values.shape[1:])
            return halves.swapaxes(1, 2).reshape(values.shape)
    return values


def read(folder: Path, instruction: str) -> LanguageModel:
    """The model as transformers' GGUF reader gives it, in single precision."""
    import io
    from contextlib import redirect_stderr

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    named = {"gguf_file": FILE}
    with redirect_stderr(io.StringIO()):  # a bar that nothing else switches off
        tokenizer = AutoTokenizer.from_pretrained(folder, **named)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **named)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return LanguageModel(network, tokenizer, instruction)
