"""Files of the hub of pretrained models, at a pinned revision, or one sentence on why they can't be had."""

import shutil
from collections.abc import Mapping, Sequence
from logging import ERROR, getLogger
from pathlib import Path

from mediscale.core.errors import UsageError


def pinned(text: str, revisions: Mapping[str, str]) -> tuple[str, str] | None:
    """A repository and its revision: a name with a revision of ours, or NAME@REVISION; None of anything else."""
    name, _, revision = text.partition("@")
    revision = revision or revisions.get(name, "")
    return (name, revision) if revision and name.count("/") == 1 else None


def fetch(repository: str, revision: str, into: Path, patterns: Sequence[str], packaged: str) -> None:
    """Downloads the files of a repository that fit the patterns; an interrupted download is resumed.

    Raises:
        UsageError: they can't be had: no network, no access, or no such revision. ``packaged`` needs none of these.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    getLogger("huggingface_hub").setLevel(ERROR)  # each try to reach a hub that is not there would be a line

    try:
        snapshot_download(repository, revision=revision, local_dir=into, allow_patterns=list(patterns))
    except GatedRepoError as error:
        raise UsageError(
            f"{repository} is gated: accept its licence on its page of the hub with your account, set HF_TOKEN to a "
            f"token of that account, and run again; or use the packaged {packaged}."
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(
            f"{repository} has no revision {revision[:12]} on the hub; name one that it has as NAME@REVISION."
        ) from error
    except Exception as error:  # the hub's own errors and its HTTP client's have no common class
        raise UsageError(
            f"{repository} at revision {revision[:12] or 'none'} can't be had from the hub: check the network, your "
            f"access and the revision, or use the packaged {packaged}."
        ) from error
    shutil.rmtree(into / ".cache", ignore_errors=True)  # the hub's own notes of the download
