"""What a component does inside the image: one call of a stage, and its outcome where a Kubeflow user looks for it.

Many people look there, so no small count of patients leaves a stage this way: it is in the lake's call records.
"""

import html
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, TypeVar

from mediscale.core import privacy
from mediscale.core.errors import MediscaleError, QualityError
from mediscale.core.settings import Settings
from mediscale.pipeline import call, runtime_inputs
from mediscale.pipeline.call import RunConfig
from mediscale.storage import calls

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """A finished stage call, as Kubeflow shows it."""

    result: str
    """JSON of the stage's result."""
    metrics: dict[str, float]
    tables: dict[str, str]
    """Table versions that the stage left, with their rows and logical digests."""
    page: str

    def write(self, report: str, record: str) -> None:
        Path(record).write_text(self.result)
        Path(report).write_text(self.page)


def prepare_source(home: str, config: RunConfig, run_id: str, job: str, **which: str) -> str:
    """The source that a run begins with, as JSON, after the configuration of all its stages was checked."""
    source = _or_one_sentence(
        lambda: runtime_inputs.prepare_source(
            _settings(home), runtime_inputs.Source(**which), config, _run_id(run_id, job)
        )
    )
    return source.model_dump_json()


def run(
    name: str, task: str, home: str, config: RunConfig, run_id: str, job: str, upstream: Sequence[str]
) -> Done:
    """Calls a stage on upstream results (JSON)."""
    settings = _settings(home)
    values = {**config.get(name, {}), **({"task": task} if task else {})}
    results = [json.loads(text) for text in upstream if text]
    if refusal := runtime_inputs.refusal(results):
        return _refused(refusal)
    try:
        finished = _or_one_sentence(
            lambda: runtime_inputs.call(name, values, results, settings, _run_id(run_id, job)), bool(task)
        )
    except QualityError as refusal:
        return _refused(str(refusal))
    result = privacy.suppress_small_counts(finished.result)
    return Done(
        result=json.dumps(result),
        metrics=dict(_numbers(result)),
        tables={str(o.ref): f"{privacy.count(o.rows)} rows, {o.digest}" for o in finished.record.outputs},
        page=_page(call.load(name).summary(finished.result), result),
    )


@contextmanager
def quick_exit() -> Iterator[None]:
    """After the block the step's process ends without freeing its memory object by object: of a process that imported
    MLflow and torch that took a second.

    Kubeflow's executor, which still writes what the step left, owns the end. Handlers of all that is imported from
    here on are called before it.
    """
    succeeded: list[bool] = []
    Finalize(None, _end, (succeeded,), exitpriority=-1000)  # after all others, of which none is below -100
    yield
    succeeded.append(True)


def _end(succeeded: list[bool]) -> None:
    if succeeded and not hasattr(sys, "last_value"):  # else the executor could not write, and Python said so
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _run_id(run_id: str, job: str) -> str:
    """The run's id as whoever submitted it gave it, else Kubeflow's own."""
    return run_id or calls.run_id_of(f"kubeflow-{job}")


def _settings(home: str) -> Settings:
    return Settings(home=Path(home)) if home else Settings()


def _refused(sentence: str) -> Done:
    page = f"<p>refused: {html.escape(sentence)}</p>"
    return Done(result=json.dumps({runtime_inputs.REFUSED: sentence}), metrics={}, tables={}, page=page)


def _or_one_sentence(work: Callable[[], T], refusable: bool = False) -> T:
    try:
        return work()
    except MediscaleError as error:
        if refusable and isinstance(error, QualityError):
            raise
        print(f"mediscale: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in result.items():
        for label, number in value.items() if isinstance(value, Mapping) else [(name, value)]:
            if isinstance(number, (bool, int, float)):
                yield label, float(number)


def _page(summary: str, result: Mapping[str, Any]) -> str:
    return f"<p>{html.escape(summary)}</p><pre>{html.escape(json.dumps(result, indent=1))}</pre>"
