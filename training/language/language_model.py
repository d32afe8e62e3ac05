"""Stage: a low-rank adapter of a language model, fine-tuned on questions with Ray, logged and registered."""

import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from mediscale.core.annotations import RuntimeInput
from mediscale.core.errors import NotFoundError
from mediscale.core.refs import Frozen, ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import DEEP_LEARNING, Context, Stage
from mediscale.core.task_names import LANGUAGE
from mediscale.inference import base_models, chat_template, language_version
from mediscale.inference.base_models import Base, Quantization
from mediscale.inference.language import LanguageModel
from mediscale.inference.language_spec import INSTRUCTION, KnownText, LanguageSpec
from mediscale.inference.model_files import ADAPTER_CONFIG_FILE, ADAPTER_FILE, LANGUAGE_FILE
from mediscale.storage import calls, registry
from mediscale.storage.calls import canonical
from training import tracking
from training.language import language_training
from training.language.language_training import FittedAdapter, Job, Recipe
from training.language.lora import Adapter, Trainable
from training.tracking import Data, Training

PROVENANCE_FILE = "training.json"
"""In the model's folder: what it was made of and how, for whoever reads it; it changes no answer."""

KNOWN_TEXTS = (
    ("What does the heart do?", "It pumps blood through the body."),
    ("Which organ filters the blood and makes urine?", "The kidney."),
)
"""Made up; their likelihoods are checked when a model is loaded."""


class Params(Adapter, Recipe):
    """What to train on and how."""

    dataset: RuntimeInput[str]
    questions: RuntimeInput[TableRef]
    base: str = base_models.OFFLINE
    """The packaged base, a pinned repository of the hub such as google/medgemma-4b-it, another one as NAME@REVISION,
    or a folder."""
    base_model: RuntimeInput[Base]
    """The same with its revision, looked up by the caller."""
    quantization: Quantization = "none"
    """Of the base's weights: 4bit is QLoRA."""
    workers: int = Field(1, ge=1)


class Result(Frozen):
    model: ModelRef
    trainable: Trainable


class Provenance(Frozen):
    """``training.json``: how an adapter was made."""

    key: str
    base: Base
    base_digest: str
    tokenizer: str
    questions: TableRef
    adapter: Adapter
    quantization: Quantization
    recipe: Recipe
    trainable: Trainable


def model_name(dataset: str) -> str:
    return registry.model_name(dataset, LANGUAGE)


def find_version(settings: Settings, name: str, version: int) -> ModelRef:
    """A version by its name and number.

    Raises:
        NotFoundError: no call of this home registered it.
    """
    models = [
        ModelRef.model_validate(call.result["model"]) for call in calls.of_stage(settings, "language_model")
    ]
    versions = [model for model in models if (model.name, model.version) == (name, version)]
    if not versions:
        there = ", ".join(f"{model.name}/{model.version}" for model in models) or "none yet"
        raise NotFoundError(f"There is no language model {name}/{version} in this home; there are: {there}.")
    return versions[0]


def run(params: Params, settings: Settings, key: str) -> Result:
    """Trains and registers one version; a call whose key already registered one returns it, one that was killed goes on
    from its last checkpoint.

    Raises:
        UsageError: the base can't be had, a target is none of its layers, there are more workers than batches, or the
            Ray cluster can't be reached.
        InputError: the base is no language model, or its files can't be read.
    """
    model = tracking.find(settings, params.dataset, model_name(params.dataset), key)
    if model is None:
        model = tracking.log(settings, fit(params, settings, key))
    shutil.rmtree(_checkpoints(settings, key), ignore_errors=True)
    folder = Path(registry.locate(settings, model.uri))
    provenance = Provenance.model_validate_json((folder / PROVENANCE_FILE).read_bytes())
    return Result(model=model, trainable=provenance.trainable)


def fit(params: Params, settings: Settings, key: str) -> Training:
    """Trains one version, or goes on from the last checkpoint of the home, and registers nothing.

    Raises:
        MediscaleError: as ``run``.
    """
    job = job_of(params, settings, key)
    files = Path(job.base)
    language_training.check(job, params.workers)
    fitted = language_training.on_ray(settings, job, params.workers, key)
    config, weights = _config(fitted, params), (fitted.adapter / ADAPTER_FILE).read_bytes()
    spec = _spec(params, files, language_version.adapted(files, config, weights, params.quantization))
    provenance = Provenance(
        key=key,
        base=params.base_model,
        base_digest=spec.base_digest,
        tokenizer=spec.tokenizer,
        questions=params.questions,
        adapter=job.adapter,
        quantization=params.quantization,
        recipe=job.recipe,
        trainable=fitted.trainable,
    )
    contents = {
        ADAPTER_FILE: weights,
        ADAPTER_CONFIG_FILE: config,
        LANGUAGE_FILE: canonical(spec).encode(),
        PROVENANCE_FILE: canonical(provenance).encode(),
    }
    return Training(
        name=spec.name,
        key=key,
        stage="language_model",
        task=LANGUAGE,
        kind=LANGUAGE,
        params=params.model_dump(mode="json"),
        curves={"loss_train": fitted.losses},
        metrics=_measured(fitted),
        counts={},
        data=[Data(params.questions, "training")],
        save=partial(_save, contents),
    )


def job_of(params: Params, settings: Settings, key: str) -> Job:
    """What each worker of a fit is told.

    Raises:
        UsageError: the base can't be had.
    """
    return Job(
        home=str(settings.home),
        lake=settings.lake,
        questions=params.questions,
        base=str(base_models.folder(settings, params.base_model)),
        instruction=INSTRUCTION,
        adapter=Adapter(**{name: getattr(params, name) for name in Adapter.model_fields}),
        quantization=params.quantization,
        recipe=Recipe(**{name: getattr(params, name) for name in Recipe.model_fields}),
        checkpoints=str(_checkpoints(settings, key)),
    )


def _checkpoints(settings: Settings, key: str) -> Path:
    return settings.home / "checkpoints" / key


def _config(fitted: FittedAdapter, params: Params) -> bytes:
    """The adapter's configuration without this machine's paths, the same for the same settings."""
    config = json.loads((fitted.adapter / ADAPTER_CONFIG_FILE).read_bytes())
    base = params.base_model
    name = Path(base.name).name if Path(base.name).is_absolute() else base.name
    config |= {"base_model_name_or_path": name, "revision": base.revision}
    ordered = {name: sorted(value) if isinstance(value, list) else value for name, value in config.items()}
    return canonical(ordered).encode()


def _spec(params: Params, files: Path, model: LanguageModel) -> LanguageSpec:
    likelihoods = model.log_likelihoods([(question, "", answer) for question, answer in KNOWN_TEXTS])
    return LanguageSpec(
        name=model_name(params.dataset),
        dataset=params.dataset,
        base=params.base_model,
        base_digest=base_models.digest(files),
        tokenizer=base_models.tokenizer_digest(files),
        chat_template=model.tokenizer.chat_template or "",
        special_tokens=chat_template.special_tokens(model.tokenizer),
        instruction=model.instruction,
        quantization=params.quantization,
        known_texts=tuple(
            KnownText(question=question, answer=answer, log_likelihood=likelihood.per_token)
            for (question, answer), likelihood in zip(KNOWN_TEXTS, likelihoods, strict=True)
        ),
    )


def _save(contents: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def _measured(fitted: FittedAdapter) -> dict[str, float]:
    """What is known before anyone looks at the held-out questions."""
    before, after = fitted.tuning_losses
    figures = {
        "tuning_loss_of_the_base": before,
        "tuning_loss": after,
        "tokens_learnt_from": fitted.tokens,
        "share_padding": 1 - fitted.tokens / max(fitted.padded, 1),
        "tokens_per_cpu_second": fitted.tokens / max(fitted.cpu_seconds, 1e-9),
        "lora_parameters": fitted.trainable.lora,
        "fully_trained_parameters": fitted.trainable.fully_trained,
        "all_parameters": fitted.trainable.total,
    }
    return {name: value for name, value in figures.items() if value == value}


def runtime_inputs(params: Mapping[str, Any], _settings: Settings) -> Iterator[Context]:
    """The base's revision."""
    named = params.get("base", Params.model_fields["base"].default)
    yield Context({"base_model": base_models.resolve(named).model_dump()})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="fine-tune the language model",
    summary=lambda r: f"{r.model} registered; {r.trainable}",
    resources=DEEP_LEARNING,
    runtime_inputs=runtime_inputs,
    fit=fit,
)
