"""History entries: what each kind of entry of the history says was done, and how an entry is written down."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationError

from mediscale.core.errors import StorageError
from mediscale.core.plural import counted
from mediscale.core.refs import Frozen, ModelRef
from mediscale.storage import calls

Alias = Literal["staging", "production"]


class Body(Frozen):
    """What an entry says was done. No patient's identifier or value: the history is read by many and never erased."""

    kind: ClassVar[str]


class AliasMove(Body):
    """An alias was pointed to another version of a model."""

    kind = "move"
    model: str
    task: str
    """A risk model's task, or ``language``."""
    alias: Alias
    from_version: int | None
    to_version: int
    reason: str
    evidence_digest: str
    model_uri: str
    model_digest: str
    records_digest: str = ""
    """SHA-256 of the list of records behind the version (``record_list``); empty where an older release signed."""

    def __str__(self) -> str:
        return f"{self.model} {self.alias}: {self.from_version or '-'} → {self.to_version}  {self.reason}"

    @property
    def version(self) -> ModelRef:
        """The version that the alias points to since then."""
        return ModelRef(
            name=self.model, version=self.to_version, uri=self.model_uri, digest=self.model_digest
        )


class Traffic(Body):
    """Another version of a task answers beside the one in production, or no longer does. The alias' next move ends it,
    so that a rollback is one entry."""

    kind = "traffic"
    model: str
    task: str
    mode: Literal["canary", "shadow", "ended"]
    """``canary``: the patients who are drawn get its answer. ``shadow``: it is computed for them and only logged."""
    percent: float = Field(ge=0, le=100)
    """Share of the patients who are drawn; with 0 the version is loaded and answers under its own path alone."""
    version: int
    evidence_digest: str
    model_uri: str
    model_digest: str
    reason: str

    def __str__(self) -> str:
        state = "ended" if self.mode == "ended" else f"as {self.mode} for {self.percent:g} % of the patients"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.model} v{self.version} beside production {state}{why}"

    @property
    def challenger(self) -> ModelRef:
        """The version that answers beside the one in production."""
        return ModelRef(name=self.model, version=self.version, uri=self.model_uri, digest=self.model_digest)


class _AboutVersion(Body):
    """What a person says of a version on its evidence."""

    model: str
    version: int
    evidence_digest: str
    model_digest: str
    reason: str


class Proposal(_AboutVersion):
    """A version that passed the gate waits for somebody else's approval."""

    kind = "proposal"
    task: str

    def __str__(self) -> str:
        return f"{self.model} v{self.version} proposed for production: {self.reason}"


class Approval(_AboutVersion):
    """An approver, other than who proposed it, approved of a version."""

    kind = "approval"
    proposal: int
    """The number of the proposal's entry."""

    def __str__(self) -> str:
        return f"{self.model} v{self.version} approved: {self.reason}"


class ApprovalRule(Body):
    """From here on a version goes to production only with another person's approval (four eyes), or no longer so."""

    kind = "approval_rule"
    required: bool
    reason: str

    def __str__(self) -> str:
        who = "another person approves of it" if self.required else "the gate alone decides"
        return f"production: {who}, from here on: {self.reason}"


class Erasure(Body):
    """A patient was removed from all tables."""

    kind = "erasure"
    pseudonym: str
    """Keyed with a salt of this patient's own, which the erasure destroyed."""
    reason: str
    trained: tuple[str, ...]
    """The registered versions that were trained on the patient, as MODEL/VERSION."""
    judged: tuple[str, ...]
    """Those whose evidence the patient is in. No counts: how many rows there were could tell whose they were."""

    def __str__(self) -> str:
        return f"a patient was erased, on whom {counted(len(self.trained), 'version')} had been trained: {self.reason}"


class RowAttestation(Body):
    """What tables hold since an erasure took a patient's rows out of them; before it they held what was recorded."""

    kind = "row_attestation"
    tables: int
    digest: str
    """SHA-256 of the list of their row counts and digests (``record_list``)."""

    def __str__(self) -> str:
        return f"after an erasure {counted(self.tables, 'table')} read again, each with the rows that were recorded"


class Export(Body):
    """Records left the platform."""

    kind = "export"
    what: str
    purpose: str
    rows: int
    digest: str
    """SHA-256 of what was handed out."""

    def __str__(self) -> str:
        return f"{counted(self.rows, 'row')} of {self.what} exported: {self.purpose}"


class FeedbackReview(Body):
    """An approver accepted feedback on an answer, so that a model may learn from it, or rejected it."""

    kind = "feedback_review"
    feedback_id: str
    decision: Literal["accepted", "rejected"]
    digest: str
    """SHA-256 of the review's row, with a salt that lies in the row alone: after an erasure it says nothing."""

    def __str__(self) -> str:
        return f"feedback {self.feedback_id} {self.decision}"


_BODIES: tuple[type[Body], ...] = (
    AliasMove, Traffic, Proposal, Approval, ApprovalRule, Erasure, RowAttestation, Export, FeedbackReview,
)  # fmt: skip
KINDS: Mapping[str, type[Body]] = {body.kind: body for body in _BODIES}


class Draft(NamedTuple):
    """What is to be written: the number, the chain and the signature are added."""

    body: Body
    actor: str
    at: datetime
    key: str


class Entry(Frozen):
    """One entry of a history, as the table has it."""

    sequence: int
    kind: str
    actor: str
    at: datetime
    body: str
    key: str
    previous: str
    digest: str
    signer: str
    signature: str

    @cached_property
    def content(self) -> Body:
        """What was done.

        Raises:
            StorageError: a newer release wrote the entry.
        """
        if self.kind not in KINDS:
            raise StorageError(
                f"Entry {self.sequence} of the history is a {self.kind}, which this release can't read."
            )
        try:
            return KINDS[self.kind].model_validate_json(self.body)
        except ValidationError as error:
            raise StorageError(
                f"Entry {self.sequence} of the history, a {self.kind}, was written by another release."
            ) from error

    def signed_bytes(self, dataset: str) -> bytes:
        """What the digest and the signature cover: all of the entry but these two, and whose history it is."""
        covered = self.model_dump(mode="json", exclude={"digest", "signature"})
        return calls.canonical({"dataset": dataset, **covered}).encode()
