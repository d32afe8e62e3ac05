"""Formats of an export: what each writes of a version, and how it is loaded back in its own runtime."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mediscale.core.errors import UsageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import base_models, devices, language_version, model_files
from mediscale.inference.base_models import Quantization
from mediscale.inference.language import LanguageModel
from mediscale.inference.language_spec import LanguageSpec
from mediscale.inference.model_files import ADAPTER_CONFIG_FILE, ADAPTER_FILE, LANGUAGE_FILE
from training.language.export import gguf_file, hub, onnx_graph

_BESIDE_A_TOKENIZER = ("preprocessor_config.json", "processor_config.json")
"""Of a base that reads images, too."""
BUILD_SCRIPT = "build_engine.sh"
_BUILD = """\
#!/bin/sh
# Builds a TensorRT-LLM engine of the merged model beside this file. It needs an NVIDIA GPU of the kind that will serve
# it, its driver, and the package tensorrt-llm (whose examples/ have convert_checkpoint.py), and takes minutes.
# usage: build_engine.sh FOLDER_OF_CONVERT_CHECKPOINT
set -eu
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
command -v trtllm-build >/dev/null || { echo "install tensorrt-llm on a machine with an NVIDIA GPU" >&2; exit 1; }
python "${1:?the folder of convert_checkpoint.py}/convert_checkpoint.py" \\
    --model_dir "$here/merged" --output_dir "$here/checkpoint" --dtype auto
trtllm-build --checkpoint_dir "$here/checkpoint" --output_dir "$here/engine" --gemm_plugin auto \\
    --max_batch_size 8 --max_seq_len WINDOW
"""


@dataclass(frozen=True)
class Version:
    """A registered version whose files were checked, and where its base lies."""

    ref: ModelRef
    spec: LanguageSpec
    files: Mapping[str, bytes]
    base: Path
    repository: str = ""
    """Of the hub, where the version goes there."""

    @staticmethod
    def load(settings: Settings, ref: ModelRef, repository: str = "") -> "Version":
        """The version of a reference.

        Raises:
            StorageError: its files were changed.
            UsageError: its base can't be had.
        """
        files = model_files.read_verified(settings, ref)
        spec = LanguageSpec.model_validate_json(files[LANGUAGE_FILE])
        return Version(ref, spec, files, base_models.folder(settings, spec.base), repository)

    def parent(self) -> LanguageModel:
        """What forms are compared with, in single precision: two runtimes round bfloat16 differently, and on one text
        that makes more of a difference than a form may."""
        return self._adapted(self.spec.quantization)

    def merged(self) -> Any:
        """The base's network, not quantized, with the adapter added to its weights."""
        return self._adapted("none").network.merge_and_unload()

    def _adapted(self, quantization: Quantization) -> LanguageModel:
        import torch

        config, weights = self.files[ADAPTER_CONFIG_FILE], self.files[ADAPTER_FILE]
        return language_version.adapted(
            self.base, config, weights, quantization, self.spec.instruction, torch.float32
        )

    def with_adapter(self, folder: Path) -> LanguageModel:
        """The base with the adapter in a folder, as PEFT loads it."""
        import torch
        from peft import PeftModel

        network = base_models.network(self.base, torch.float32, self.spec.quantization)
        with language_version.libraries_quiet():
            adapted = PeftModel.from_pretrained(network, folder)
        return LanguageModel(adapted, base_models.tokenizer(folder), self.spec.instruction)


@dataclass(frozen=True)
class Format:
    """One form of a version."""

    write: Callable[[Version, Path], None]
    read: Callable[[Version, Path], LanguageModel] | None
    """Loads it back; None where no runtime of it is here."""
    runtime: str
    """The package that loads it."""
    needs: str = ""
    """What a person still has to do or to have."""
    left_behind: str = ""
    """Where a form that is blocked lies still."""


def _write_adapter(version: Version, folder: Path) -> None:
    for name in (ADAPTER_FILE, ADAPTER_CONFIG_FILE, LANGUAGE_FILE):
        (folder / name).write_bytes(version.files[name])
    base_models.tokenizer(version.base).save_pretrained(folder)
    (folder / "README.md").write_text(hub.card(version.ref, version.spec))


def _read_from_hub(version: Version, folder: Path) -> LanguageModel:
    commit = hub.upload(folder, version.repository)
    with tempfile.TemporaryDirectory() as downloaded:
        hub.download(version.repository, commit, Path(downloaded))
        return version.with_adapter(Path(downloaded))


def _write_merged(version: Version, folder: Path) -> None:
    version.merged().save_pretrained(folder)
    base_models.tokenizer(version.base).save_pretrained(folder)
    for name in _BESIDE_A_TOKENIZER:
        if (version.base / name).exists():
            shutil.copy(version.base / name, folder / name)


def _read_merged(version: Version, folder: Path) -> LanguageModel:
    import torch

    network = base_models.network(folder, torch.float32).to(devices.device())
    return LanguageModel(network, base_models.tokenizer(folder), version.spec.instruction)


def _write_gguf(version: Version, folder: Path) -> None:
    gguf_file.check(base_models.without_weights(version.base))
    gguf_file.write(version.merged(), version.base, str(version.ref), folder)


def _write_onnx(version: Version, folder: Path) -> None:
    network = version.merged()
    if not hasattr(network.config, "num_key_value_heads"):
        raise UsageError(
            f"ONNX is written here for language models of text alone, and {version.spec.base.name} reads images, too; "
            "export it merged."
        )
    onnx_graph.write(network, folder)
    network.config.save_pretrained(folder)
    base_models.tokenizer(version.base).save_pretrained(folder)


def _write_tensorrt(version: Version, folder: Path) -> None:
    (folder / "merged").mkdir()
    _write_merged(version, folder / "merged")
    window = base_models.without_weights(version.base).config.get_text_config().max_position_embeddings
    script = folder / BUILD_SCRIPT
    script.write_text(_BUILD.replace("WINDOW", str(window)))
    script.chmod(0o755)


FORMATS: Mapping[str, Format] = {
    "adapter": Format(_write_adapter, Version.with_adapter, "peft"),
    "merged": Format(_write_merged, _read_merged, "transformers"),
    "gguf": Format(
        _write_gguf, lambda version, folder: gguf_file.read(folder, version.spec.instruction), "transformers"
    ),
    "onnx": Format(
        _write_onnx,
        lambda version, folder: onnx_graph.OnnxModel(folder, version.spec.instruction),
        "onnxruntime",
    ),
    "hub": Format(
        _write_adapter,
        _read_from_hub,
        "huggingface_hub",
        left_behind="it was uploaded before it was compared, and lies in its repository until it is deleted there",
    ),
    "tensorrt": Format(
        _write_tensorrt,
        None,
        "tensorrt-llm",
        f"run {BUILD_SCRIPT} where TensorRT-LLM and an NVIDIA GPU are, and compare the engine before it serves",
    ),
}
"""Every format by name."""
