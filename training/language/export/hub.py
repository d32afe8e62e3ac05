"""An adapter as a private repository of the hub, or of a server that speaks its protocol (``HF_ENDPOINT``)."""

import os
from pathlib import Path

from mediscale.core.errors import UsageError
from mediscale.core.refs import ModelRef
from mediscale.inference.language_spec import LanguageSpec


def card(model: ModelRef, spec: LanguageSpec) -> str:
    """README.md in the hub's form: whose adapter it is, and what it may not be used for."""
    name = Path(spec.base.name).name if Path(spec.base.name).is_absolute() else spec.base.name
    return (
        f"---\nlibrary_name: peft\nbase_model: {name}\n---\n\n# {model}\n\nA low-rank adapter of {name} at revision "
        f"{spec.base.revision}.\n\n{spec.notice}\n"
    )


def upload(folder: Path, repository: str) -> str:
    """Uploads a folder as a commit of a private repository, which is made where there is none; the commit.

    Raises:
        UsageError: the hub can't be reached, or refuses.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder).oid)
    except Exception as error:  # the hub's own errors and its HTTP client's have no common class
        raise UsageError(
            f"{repository} could not be uploaded to the hub ({type(error).__name__}); check the network, HF_ENDPOINT, "
            "and that HF_TOKEN may write to it."
        ) from error


def download(repository: str, commit: str, into: Path) -> None:
    """Downloads a commit of a repository.

    Raises:
        UsageError: the hub can't be reached, or has no such commit.
    """
    from huggingface_hub import snapshot_download

    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        snapshot_download(repository, revision=commit, local_dir=into, endpoint=endpoint)
    except Exception as error:
        raise UsageError(
            f"{repository} at {commit[:12]} could not be read back from the hub ({type(error).__name__})."
        ) from error
