"""What a component does inside the image: one call of a stage, and its outcome where a Kubeflow user looks for it.

Many people look there, so no small count of patients leaves a stage this way: it is in the lake's manifests.
"""

import html
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from mediscale.core import privacy
from mediscale.core.errors import MediscaleError, QualityError
from mediscale.core.settings import Settings
from mediscale.pipeline import call, headlines, runtime_inputs
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


def extract(home: str, config: call.RunConfig, **which: str) -> str:
    """JSON of what a run begins with; the whole run's configuration is checked before."""
    found = _or_one_sentence(lambda: runtime_inputs.extract(_settings(home), **which, config=config))
    return found.model_dump_json()


def run(name: str, task: str, home: str, config: call.RunConfig, upstream: Sequence[str]) -> Done:
    """Calls a stage on upstream results (JSON)."""
    settings = _settings(home)
    values = {**config.get(name, {}), **({"task": task} if task else {})}
    results = [json.loads(text) for text in upstream if text]
    if refusal := runtime_inputs.refusal(results):
        return _refused(refusal)
    try:
        result = _or_one_sentence(
            lambda: runtime_inputs.call_stage(name, values, results, settings), bool(task)
        )
    except QualityError as refusal:
        return _refused(str(refusal))
    left = _manifest(settings, name, result)
    told = privacy.told(left.result)
    return Done(
        result=json.dumps(told),
        metrics=dict(_numbers(told)),
        tables={str(o.ref): f"{privacy.count(o.rows)} rows, {o.digest}" for o in left.outputs},
        page=_page(headlines.of(name, result), told),
    )


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


def _manifest(settings: Settings, name: str, result: BaseModel) -> calls.Manifest:
    left = json.loads(result.model_dump_json())  # as a manifest has it
    return next(done for done in reversed(calls.of_stage(settings, name)) if done.result == left)


def _numbers(told: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in told.items():
        for label, number in value.items() if isinstance(value, Mapping) else [(name, value)]:
            if isinstance(number, (bool, int, float)):
                yield label, float(number)


def _page(headline: str, told: Mapping[str, Any]) -> str:
    return f"<p>{html.escape(headline)}</p><pre>{html.escape(json.dumps(told, indent=1))}</pre>"
