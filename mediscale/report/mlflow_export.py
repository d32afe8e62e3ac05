"""MLflow export of a run: one parent, a child for each stage call, the page and its charts where they look.

Like the page it is read off the call records, so every runner's runs look the same, and small counts are suppressed. A
call has one run, known by its key: what another run had done before stays that run's child, and nothing is made twice.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mediscale.core import privacy
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import call as stages
from mediscale.report import svg
from mediscale.storage import registry
from mediscale.storage.calls import Call

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from mediscale.report.data import Contents
    from mediscale.report.page import Page

RUN_TAG = "mediscale.run"
"""Tag of a parent: the id of its run."""
PARENT_TAG = "mlflow.parentRunId"
"""By which MLflow's UI nests runs."""
_LONGEST = 6000
"""MLflow's limit of a parameter's text."""


def publish(settings: Settings, page: "Page", path: Path) -> str:
    """Makes or completes the run's parent and children, with the page at ``path``; returns the parent's id."""
    mlflow, run = registry.client(settings), page.contents.run
    experiment = registry.experiment(settings, mlflow, run.dataset)
    parent = _parent(mlflow, experiment, page.contents)
    children = {call.key: _child(mlflow, experiment, parent, call) for call in run.calls}
    for part in page.parts:
        evaluated = run.newest("evaluate", part.task.name)
        decided = part.decided
        if evaluated is not None and decided is not None:
            registering = next(
                call for call in run.calls if call.result.get("model") == decided.model.model_dump()
            )
            for run_id in sorted({children[evaluated.key], children[registering.key]}):
                for chart in part.charts:
                    file = f"plots/{chart.name.partition('-')[2]}.svg"
                    mlflow.log_text(run_id, svg.standalone(chart.svg), file)
    mlflow.log_text(parent, path.read_text(encoding="utf-8"), "report.html")
    mlflow.set_terminated(parent, "FINISHED", end_time=_ended(run.calls[-1]))
    return parent


def _parent(mlflow: "MlflowClient", experiment: str, contents: "Contents") -> str:
    run = contents.run
    runs = mlflow.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.run_id}'", max_results=1)
    decisions = "\n\n".join(
        f"**{task.title}**: {task.decided.reason if task.decided else 'no model'}" for task in contents.tasks
    )
    tags = {
        RUN_TAG: run.run_id,
        "mediscale.lock": run.calls[-1].lock,
        "mlflow.note.content": f"{decisions}\n\nThe whole report is among the artifacts.",
    }
    if runs:
        parent = str(runs[0].info.run_id)
        for name, value in tags.items():
            mlflow.set_tag(parent, name, value)
    else:
        began = _milliseconds(run.calls[0])
        parent = str(mlflow.create_run(experiment, began, tags, run_name=run.run_id).info.run_id)
    _log(mlflow, parent, _milliseconds(run.calls[-1]), _run_params(contents), _figures(contents))
    return parent


def _run_params(contents: "Contents") -> dict[str, str]:
    """What the run was made of and led to."""
    values = {
        "dataset": contents.run.dataset,
        "source": contents.landed.source,
        "extract": contents.landed.digest,
    }
    return values | {f"{t.name}.decision": t.decided.status for t in contents.tasks if t.decided}


def _figures(contents: "Contents") -> dict[str, float]:
    quarantined = contents.landed.quarantined
    values = {"seconds": contents.seconds}
    values |= {} if privacy.is_small(quarantined) else {"quarantined": float(quarantined)}
    for task in contents.tasks:
        for name, estimate in task.decided.evidence.metrics.items() if task.decided else ():
            ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
            values |= {f"{task.name}.{name}{end}": v for end, v in ends.items() if v is not None}
    return values


def _child(mlflow: "MlflowClient", experiment: str, parent: str, call: Call) -> str:
    """The run of a call: the one that the stage itself logged, or one made here."""
    runs = mlflow.search_runs([experiment], f"tags.`{registry.KEY_TAG}` = '{call.key}'", max_results=1)
    if runs:
        child = runs[0]
        if PARENT_TAG not in child.data.tags:
            mlflow.set_tag(child.info.run_id, PARENT_TAG, parent)
            for name, value in _tags(call).items():
                mlflow.set_tag(child.info.run_id, name, value)
        return str(child.info.run_id)
    name = f"{call.stage} {call.task}".strip()
    tags = {**_tags(call), registry.KEY_TAG: call.key, PARENT_TAG: parent}
    began = _milliseconds(call)
    child_id = str(mlflow.create_run(experiment, began, tags, run_name=name).info.run_id)
    _log(mlflow, child_id, began, dict(_params(call)), _measured(call))
    mlflow.log_inputs(child_id, [registry.dataset_input(table, "input") for table in _tables(call.params)])
    mlflow.set_terminated(child_id, "FINISHED", end_time=_ended(call))
    return child_id


def _tags(call: Call) -> dict[str, str]:
    tables = ", ".join(f"{output.ref} ({privacy.count(output.rows)} rows)" for output in call.outputs)
    return {
        "mediscale.stage": call.stage,
        "mediscale.task": call.task,
        "mediscale.code": call.code,
        "mediscale.lock": call.lock,
    } | ({"mediscale.tables": tables[:_LONGEST]} if tables else {})


def _params(call: Call) -> Iterator[tuple[str, str]]:
    params = stages.load(call.stage).Params.model_validate(call.params)
    for name, value in privacy.suppress_small_counts(params).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            yield name, text[:_LONGEST]


def _measured(call: Call) -> dict[str, float]:
    result = stages.load(call.stage).Result.model_validate(call.result)
    rows = {
        f"rows.{output.ref.table}": float(output.rows)
        for output in call.outputs
        if not privacy.is_small(output.rows)
    }
    figures = {"seconds": call.seconds, **rows, **dict(_numbers("", privacy.suppress_small_counts(result)))}
    return {name.replace("/", "_"): value for name, value in figures.items()}


def _numbers(before: str, value: Any) -> Iterator[tuple[str, float]]:
    """Numbers of a result by their path."""
    if isinstance(value, Mapping) and "version" not in value:
        for name, inner in value.items():
            yield from _numbers(f"{before}.{name}" if before else str(name), inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield before, float(value)


def _tables(value: Any) -> Iterator[TableRef]:
    if isinstance(value, Mapping):
        if {"table_id", "version"} <= value.keys():
            yield TableRef.model_validate(value)
        else:
            for inner in value.values():
                yield from _tables(inner)


def _log(
    mlflow: "MlflowClient", run_id: str, at: int, params: Mapping[str, str], figures: Mapping[str, float]
) -> None:
    from mlflow.entities import Metric, Param

    mlflow.log_batch(
        run_id,
        metrics=[Metric(name, value, at, 0) for name, value in sorted(figures.items())],
        params=[Param(name, value) for name, value in sorted(params.items())],
    )


def _milliseconds(call: Call) -> int:
    return round(call.started_at.timestamp() * 1000)


def _ended(call: Call) -> int:
    return round((call.started_at + timedelta(seconds=call.seconds)).timestamp() * 1000)
