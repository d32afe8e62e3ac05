"""Settings: WHERE things are. How a stage works is in its ``Params``; importing this reads no environment."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_NEARLY = 0.9
"""Ratio of equal characters from which a name, ``MEDISCALE_`` included, is taken for a misspelt one."""


class Settings(BaseSettings):
    """Locations, each overridable by ``MEDISCALE_<NAME>``; the defaults need no network and no server."""

    model_config = SettingsConfigDict(
        env_prefix="MEDISCALE_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    home: Path = Path(".mediscale")
    """Folder for everything that a local run leaves: lake, tracking store, reports, locks."""
    lake: str = ""
    """Root of the Delta lake, a path or a URI (s3://, gs://, abfss://). Default: ``<home>/lake``."""
    tracking_uri: str = ""
    """MLflow tracking and registry store. Default: SQLite in ``home``."""
    artifact_root: str = ""
    """Where MLflow keeps model files. Default: ``<home>/artifacts``."""
    trust: Path = Path()
    """Folder of what decides whom to believe: keys that sign, keys that are accepted, heads of the history that were
    accepted, hashes of API keys. Default: ``mediscale`` in the account's configuration folder (XDG). Never in the home
    or the lake: who can write those must not be able to make anybody believe them."""
    signing_key: Path = Path()
    """PEM file of the private key (ECDSA P-256) that signs the history and model versions. Default:
    ``<trust>/signing_key.pem``, made at first need. A server that only answers needs none."""
    signing_command: str = ""
    """A command that signs in the key's place, for a key that never leaves a KMS or an HSM: it gets the bytes on its
    standard input and prints the ECDSA P-256 SHA-256 signature, DER or its base64."""
    public_keys: Path = Path()
    """Folder of the public keys that are accepted: ``NAME.pem`` for a person, ``NAME.service.pem`` for a server or a
    scheduler that may name the person whom it authenticated, ``NAME.approver.pem`` for who may approve,
    ``NAME.retired.pem`` for a key that signs nothing new. Default: ``<trust>/signers``."""
    history_heads: str = ""
    """Entries that the histories must contain, as ``DATASET:SEQUENCE:DIGEST`` with commas between, which is how
    ``mediscale verify`` prints them: what a machine believes that has not read them before."""
    spark_master: str = "local[*]"
    ray_address: str = ""
    """Address of a running Ray cluster. Default: a local one, started and stopped by the stage."""
    kfp_host: str = ""
    """Address of a Kubeflow Pipelines API, for ``mediscale kubeflow submit``."""
    kfp_token: SecretStr = SecretStr("")
    """Bearer token for it, where it asks for one."""
    kfp_claim: str = ""
    """Volume claim of the cluster that every step mounts as its home: the keys, locks and checkpoints of the steps."""
    kfp_secret: str = ""
    """Secret of the cluster whose keys are settings (MEDISCALE_LAKE, MEDISCALE_TRACKING_URI …) of every step."""
    kfp_image: str = ""
    """Image of the steps, in which ``mediscale`` is installed, with its registry. Default: its bare name."""
    kfp_accelerator: str = ""
    """What the cluster calls its accelerators, such as nvidia.com/gpu; the note model's step then asks for one."""
    encoder: str = "all-MiniLM-L6-v2"
    """What notes are read with: the packaged BERT, or a name of the hub whose revision is pinned in
    ``data_pipeline.notes.encoders``, such as ``emilyalsentzer/Bio_ClinicalBERT``."""
    deidentifier: str = "rules"
    """What replaces identifiers in notes, in the lake and in a request: our own rules, or the module and the factory of
    another ``data_pipeline.notes.deidentification.deidentifier.Deidentifier``, such as ``hospital.deidentify:make``."""
    language_engine: str = ""
    """Base URL of an engine that serves the language version under its name MODEL/VERSION by OpenAI's protocol, such as
    http://127.0.0.1:8001/v1 of a vLLM server. Default: the version is loaded into the server's own process."""
    language_engine_key: SecretStr = SecretStr("")
    """Bearer key of that engine, where it asks for one."""
    api_key: SecretStr = SecretStr("")
    """Key of a server that ``mediscale bench-serving`` asks."""
    allowed_hosts: str = ""
    """Names under which the server answers, with commas between. Default: on loopback this machine's, elsewhere any,
    for there every request needs a key or token."""
    rate_limit: str = Field("6000/minute", pattern=r"^[1-9]\d*/(second|minute|hour)$")
    """How many requests one key or token may send, per worker process of the server."""
    oidc_issuer: str = ""
    """The hospital's identity provider (OpenID Connect) whose tokens the server accepts, exactly as they name it."""
    oidc_audience: str = ""
    """Whom those tokens must be made for: what the provider calls this server."""
    oidc_jwks_uri: str = ""
    """Where the provider's keys are. Default: what its ``/.well-known/openid-configuration`` says."""
    oidc_roles_claim: str = "roles"
    """The claim that holds our names of roles; ``realm_access.roles`` for one inside another."""
    oidc_name_claim: str = "sub"
    """The claim that names whoever asks in the log and the history, such as ``preferred_username``."""
    spark_memory: str = Field("3g", pattern=r"^\d+[mg]$")
    """Heap of a local Spark driver."""

    @field_validator("lake", "artifact_root")
    @classmethod
    def _is_a_place(cls, root: str) -> str:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", root)
        if scheme and not re.match(r"(?:s3|gs|abfss)://[^/]|file:///", root):
            raise ValueError(
                f"{root} is no place; give a path, or a URI such as s3://BUCKET/FOLDER, gs:// or abfss://"
            )
        return root

    def model_post_init(self, _context: object) -> None:
        home = self.home.expanduser().resolve()
        set_once = object.__setattr__  # frozen: this is the one place where defaults depend on home
        set_once(self, "home", home)
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
        trust = configuration / "mediscale" if self.trust == Path() else self.trust
        trust = trust.expanduser().resolve()
        set_once(self, "trust", trust)
        for name, default in (("signing_key", "signing_key.pem"), ("public_keys", "signers")):
            path = getattr(self, name)
            set_once(self, name, path.expanduser().resolve() if path != Path() else trust / default)
        set_once(self, "lake", self.lake or str(home / "lake"))
        set_once(self, "tracking_uri", self.tracking_uri or f"sqlite:///{home / 'mlflow.db'}")
        set_once(self, "artifact_root", self.artifact_root or str(home / "artifacts"))

    @property
    def lake_folder(self) -> Path | None:
        """The lake's folder on a disk of this machine; None where it lies in an object store."""
        root = self.lake.removeprefix("file://")
        return None if "://" in root else Path(root)

    def table_uri(self, dataset: str, table: str) -> str:
        """Address of a Delta table: ``<lake>/<dataset>/<table>``."""
        return f"{self.lake.rstrip('/')}/{dataset}/{table}"


def misspelt(environment: Iterable[str]) -> dict[str, str]:
    """Environment variables that are nearly a setting's, with the name that was probably meant.

    Whoever misspells the lake would write to the default one. Others, such as those that Kubernetes sets for a service
    ``mediscale-serving``, are no mistakes.

    >>> misspelt(["MEDISCALE_LAK", "MEDISCALE_LAKE", "MEDISCALE_SERVING_PORT", "MEDISCALE_ACTOR"])
    {'MEDISCALE_LAK': 'MEDISCALE_LAKE'}
    """
    names = [f"MEDISCALE_{field.upper()}" for field in Settings.model_fields]
    unknown = [name for name in environment if name.startswith("MEDISCALE_") and name not in names]
    near = {name: get_close_matches(name, names, n=1, cutoff=_NEARLY) for name in unknown}
    return {name: matches[0] for name, matches in near.items() if matches}
