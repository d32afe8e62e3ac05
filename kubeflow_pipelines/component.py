"""What a component does inside the image: one call of a stage, and its outcome where a Kubeflow user looks for it."""

import html
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from mediscale import headlines, manifest, resolve, stages
from mediscale.errors import MediscaleError, QualityError
from mediscale.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """A finished stage call, as Kubeflow shows it."""

    result: str
    """JSON of the stage's result."""
    metrics: dict[str, float]
    tables: dict[str, str]
    """Table versions that the stage left, with their rows and logical digests."""
    page: Path | str
    """The stage's own report where it has one, else a small page."""

    def write(self, report: str, record: str) -> None:
        Path(record).write_text(self.result)
        if isinstance(self.page, Path):
            shutil.copyfile(self.page, report)
        else:
            Path(report).write_text(self.page)


def extract(home: str, config: stages.RunConfig, **which: str) -> str:
    """JSON of what a run begins with; the whole run's configuration is checked before."""
    found = _or_one_sentence(lambda: resolve.extract(_settings(home), **which, config=config))
    return found.model_dump_json()


def run(name: str, task: str, home: str, config: stages.RunConfig, upstream: Sequence[str]) -> Done:
    """Calls a stage on upstream results (JSON)."""
    settings = _settings(home)
    values = {**config.get(name, {}), **({"task": task} if task else {})}
    results = [json.loads(text) for text in upstream if text]
    if refusal := resolve.refusal(results):
        return _refused(refusal)
    try:
        result = _or_one_sentence(lambda: resolve.call(name, values, results, settings), bool(task))
    except QualityError as refusal:
        return _refused(str(refusal))
    left = _manifest(settings, name, result)
    return Done(
        result=result.model_dump_json(),
        metrics=dict(_numbers(result)),
        tables={str(output.ref): f"{output.rows} rows, {output.digest}" for output in left.outputs},
        page=_page(settings, name, result),
    )


def _settings(home: str) -> Settings:
    return Settings(home=Path(home)) if home else Settings()


def _refused(sentence: str) -> Done:
    page = f"<p>refused: {html.escape(sentence)}</p>"
    return Done(result=json.dumps({resolve.REFUSED: sentence}), metrics={}, tables={}, page=page)


def _or_one_sentence(work: Callable[[], T], refusable: bool = False) -> T:
    try:
        return work()
    except MediscaleError as error:
        if refusable and isinstance(error, QualityError):
            raise
        print(f"mediscale: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _manifest(settings: Settings, name: str, result: BaseModel) -> manifest.Manifest:
    left = json.loads(result.model_dump_json())  # as a manifest has it
    return next(done for done in reversed(manifest.of_stage(settings, name)) if done.result == left)


def _numbers(result: BaseModel) -> Iterator[tuple[str, float]]:
    for name, value in result:
        for label, number in value.items() if isinstance(value, Mapping) else [(name, value)]:
            if isinstance(number, (bool, int, float)):
                yield label, float(number)


def _page(settings: Settings, name: str, result: BaseModel) -> Path | str:
    for field in ("docs", "report"):
        place: str | None = getattr(result, field, None)
        pages = [settings.home / place, settings.home / place / "index.html"] if place else []
        for page in pages:
            if page.is_file():
                return page
    text = html.escape(json.dumps(result.model_dump(mode="json"), indent=1))
    return f"<p>{html.escape(headlines.of(name, result))}</p><pre>{text}</pre>"
