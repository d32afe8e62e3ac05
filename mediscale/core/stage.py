"""A stage as a value: what CLI, Airflow, Kubeflow, report and lineage know of it.

A stage is one module with frozen ``Params`` and ``Result``, ``run(params, settings, key) -> Result`` and one value
``STAGE`` that says all that the platform knows of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mediscale.core.annotations import Declaration, Meaning, field_meanings
from mediscale.core.settings import Settings


class Resources(NamedTuple):
    """What a step asks of a cluster."""

    cpu: str
    memory: str
    accelerator: bool = False
    """Whether it asks for the cluster's accelerator, where one is named (MEDISCALE_KFP_ACCELERATOR)."""


SMALL = Resources(cpu="1", memory="3G")
SPARK = Resources(cpu="2", memory="6G")
TRAINING = Resources(cpu="4", memory="8G")
"""Trees: XGBoost's threads on four cores beat a GPU's start at the sizes of one hospital."""
DEEP_LEARNING = Resources(cpu="4", memory="12G", accelerator=True)


class Context(NamedTuple):
    """What a caller looked up for a call. Of a past one it says which call it was: a repeated run finds that call."""

    params: dict[str, Any]
    key: str = ""
    """Of the past call, where it is known."""


class VersionFiles(Protocol):
    """What a stage would register: the files of a version."""

    @property
    def save(self) -> Callable[[Path], None]:
        """Writes the version's folder."""

    @property
    def margins(self) -> Any:
        """Arrow rows of ``NOTE_MARGINS`` that the stage leaves beside the version, where it leaves some."""


@dataclass(frozen=True)
class Stage:
    """All that the platform knows of a stage. Its name is that of its module."""

    Params: type[BaseModel]
    Result: type[BaseModel]
    run: Callable[[Any, Settings, str], BaseModel]
    display_name: str
    """What it does, in a few words, for a person."""
    summary: Callable[[Any], str]
    """One line about a result: counts and references, nothing of a patient."""
    resources: Resources = SMALL
    runtime_inputs: Callable[[Mapping[str, Any], Settings], Iterator[Context]] | None = None
    """What a caller looks up just before the call, from the parameters known so far: past contexts first, today's last.
    The first under which the call is finished already is taken, else today's."""
    fit: Callable[[Any, Settings, str], VersionFiles] | None = None
    """Of a stage that registers a version: makes it and registers nothing, so that it can be reproduced."""
    timeout_seconds: int = 4 * 3600
    """After which an orchestrator ends the step."""


def is_configurable(field: FieldInfo) -> bool:
    """Whether a run's configuration may set a parameter: what has a default and is no runtime input."""
    return not field.is_required() and Meaning.RUNTIME_INPUT not in field_meanings(field)


def declarations(params: BaseModel) -> dict[str, Any]:
    """The parsed declarations that parameters name, by field: a source, a task."""
    named = {}
    for name, field in type(params).model_fields.items():
        for marker in field_meanings(field):
            value = getattr(params, name)
            if isinstance(marker, Declaration) and value is not None:
                named[name] = marker.load(value).model_dump(mode="json")
    return named
