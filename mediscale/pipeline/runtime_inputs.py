"""Runtime inputs: what a caller gives a stage that is not configuration, the same for every orchestrator.

Upstream results fill parameters by field name. What a stage may not look up by itself (the clock, today's production
model, the next number of the promotion history) its own module's hook looks up here, just before the call, so that the
key of a call covers all that the stage saw.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mediscale.core.datasets import DATASET_PATTERN
from mediscale.core.errors import StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.pipeline import call as stages
from mediscale.pipeline import steps
from mediscale.pipeline.call import FinishedCall, RunConfig
from mediscale.storage import accepted_heads, calls, exclusions, history, lake

log = logging.getLogger(__name__)

REFUSED = "refused"
"""The only field of a result where a source lacks what a task needs: that task's further steps pass it on, and the
other tasks go on."""


class Source(BaseModel):
    """What a run works on, as a person gives it: a hospital's extract, or the size of a synthetic hospital; for the
    language pipeline a set of questions."""

    pipeline: str = "risk"
    size: str = ""
    source: str = ""
    path: str = ""
    dataset: str = ""

    @property
    def name(self) -> str:
        """The dataset's name in the lake."""
        usual = "synthetic" if self.pipeline == "risk" else "clinical-questions"
        return self.dataset or (self.source if self.pipeline == "risk" else "") or usual

    @property
    def as_arguments(self) -> dict[str, str]:
        """What a pipeline takes as its arguments."""
        return self.model_dump(exclude={"pipeline"})

    def check(self) -> "Source":
        """Refuses half a choice before anything is started.

        Raises:
            UsageError: a source without a path or the other way round, both a source and a size, or a dataset's name
                that can't be part of a path.
        """
        if self.dataset and not re.fullmatch(DATASET_PATTERN, self.dataset):
            raise UsageError(
                "The name of a dataset is at most 100 lower-case letters, digits and dashes; choose another --dataset."
            )
        if self.pipeline not in steps.PIPELINES:
            raise UsageError(
                f"There is no pipeline {self.pipeline!r}; there are {' and '.join(steps.PIPELINES)}."
            )
        if self.pipeline == "language":
            if self.size:
                raise UsageError(
                    "A size is for the synthetic hospital; leave it out with --pipeline language."
                )
            return self
        if bool(self.source) != bool(self.path):
            lacking = "path (--path FOLDER)" if self.source else "source (--source S)"
            raise UsageError(
                f"A source and a path belong together: what the extract is, and where it lies. Add the {lacking}."
            )
        if self.source and self.size:
            raise UsageError("A size is for the synthetic hospital; leave it out with a source and a path.")
        return self


def prepare_source(settings: Settings, which: Source, config: RunConfig, run_id: str) -> BaseModel:
    """What a run begins with: a hospital's own files with their digest, or the synthetic stage's extract.

    Raises:
        UsageError: a source without a path, both a source and a size, or a stage would refuse its configuration.
        InputError: unknown source, or a file of it is missing.
        StorageError: the dataset's history is not to be trusted, so that a run could not end in it.
    """
    which.check()
    stages.check(config, which.pipeline)
    _check_history(settings, which)
    if which.pipeline == "language":
        from data_pipeline.documents import question_set

        return question_set.source(which.source, which.path, which.name)
    if not which.source:
        source_params = {"size": which.size or "small", "dataset": which.name}
        result: BaseModel = stages.call(
            "synthetic", {**config.get("synthetic", {}), **source_params}, settings, run_id
        ).result
        return result
    from data_pipeline.ingest import bronze
    from data_pipeline.ingest.extract_files import digest_of

    path = str(Path(which.path).resolve())
    digest = digest_of(path, which.source)
    excluded = exclusions.fingerprint(settings, which.name)
    return bronze.Extract(
        source=which.source, dataset=which.name, path=path, extract_digest=digest, excluded=excluded
    )


def _check_history(settings: Settings, which: Source) -> None:
    """Whether the run can end in the dataset's history; a synthetic hospital whose lake was deleted begins anew."""
    if which.name not in lake.datasets(settings) and accepted_heads.accepted(settings, which.name):
        if which.source:
            raise StorageError(
                f"{settings.lake} has no dataset {which.name}, and its history was accepted here before; is the lake "
                "mounted? If it was deleted on purpose, delete "
                f"{accepted_heads.file_of(settings, which.name)}, too, and unset MEDISCALE_HISTORY_HEADS."
            )
        log.warning("The lake of the synthetic hospital %s was deleted; its history begins anew.", which.name)
        accepted_heads.forget(settings, which.name)
    history.entries(settings, which.name)


def refusal(upstream: Sequence[Mapping[str, Any]]) -> str:
    """Why a step can't have its work done, where one before it was refused; else empty."""
    return next((str(result[REFUSED]) for result in upstream if REFUSED in result), "")


def call(
    stage: str,
    config: Mapping[str, Any],
    upstream: Sequence[Mapping[str, Any]],
    settings: Settings,
    run_id: str,
) -> FinishedCall:
    """``pipeline.call.call`` with upstream results as plain mappings and with the stage's runtime inputs.

    Raises:
        UsageError: two upstream results disagree about a parameter; and what ``pipeline.call.call`` raises.
    """
    return stages.call(stage, filled(stage, config, upstream, settings), settings, run_id)


def filled(
    stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, Any]:
    """The parameters of a call: those given, those of upstream results, and those that are looked up now."""
    params = wired(stage, config, upstream)
    look_up = stages.load(stage).runtime_inputs
    if look_up is None:
        return params
    values = params
    for context in look_up(params, settings):
        values = {**context.params, **params}
        if _was_called(stage, values, context.key, settings):
            break
    return values


def _was_called(stage: str, values: Mapping[str, Any], key: str, settings: Settings) -> bool:
    try:
        this = stages.key(stage, values)
    except UsageError:
        return False
    return this == key or calls.find(settings, stage, this) is not None


def wired(stage: str, config: Mapping[str, Any], upstream: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters given, and for those that are not, the upstream results' fields of the same name.

    Raises:
        UsageError: two upstream results disagree about a parameter.
    """
    values = dict(config)
    fields = stages.load(stage).Params.model_fields.keys() - config.keys()
    for result in upstream:
        for name in fields & result.keys():
            if values.setdefault(name, result[name]) != result[name]:
                raise UsageError(
                    f"Stage {stage}: two upstream results disagree about {name!r}; set it explicitly."
                )
    return values
