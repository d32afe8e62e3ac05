"""The commands that make a run again, as its report prints them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline.ingest import landing
from data_pipeline.notes import encoders
from data_pipeline.notes.encoders import Encoder
from mediscale.pipeline import call as stages
from mediscale.pipeline import steps
from mediscale.storage.lineage import DECISIONS, Run
from training.notes import note_model


def of_risk(run: Run) -> tuple[str, ...]:
    """The commands of a run of the risk pipeline."""
    bronze, tokens = run.only("bronze"), run.newest("note_tokens")
    if landing.is_synthetic(bronze):
        made = run.newest("synthetic")  # None after an erasure
        usual, which = "synthetic", ["--size", made.params["size"]] if made else []
    else:
        usual = bronze.params["source"]
        which = ["--source", bronze.params["source"], "--path", bronze.params["path"]]
    if run.dataset != usual:
        which += ["--dataset", run.dataset]
    encoder = Encoder.model_validate(tokens.params["encoder"]) if tokens else encoders.PACKAGED
    recipes = {"note_model": note_model.RECIPES.get(encoder.name, {})}
    for stage in ("synthetic", *(step.stage for step in steps.RISK)):
        which += _configuration(run, stage, recipes.get(stage, {}))
    reader = "" if encoder == encoders.PACKAGED else f"MEDISCALE_ENCODER={encoder.name} "
    return reader + shlex.join(["mediscale", "run", *which]), f"mediscale report {run.run_id}"


def of_language(run: Run) -> tuple[str, ...]:
    """The commands of a run of the language pipeline."""
    params = run.only("question_set").params
    which = [] if params["source"] == "own" else ["--source", params["source"]]
    which += ["--path", params["path"]] if params["path"] else []
    which += ["--dataset", run.dataset] if run.dataset != "clinical-questions" else []
    for step in steps.LANGUAGE:
        which += _configuration(run, step.stage, {})
    command = shlex.join(["mediscale", "run", "--pipeline", "language", *which])
    return command, f"mediscale report {run.run_id}"


def _configuration(run: Run, stage: str, recipe: Mapping[str, Any]) -> Iterator[str]:
    """What a stage has to be given for the same key, beside its defaults and its encoder's recipe. A decision is made
    anew, and each task gets the same."""
    call = None if stage in DECISIONS else run.newest(stage)
    for name, value in stages.configured(stage, call.params).items() if call else ():
        if name not in recipe or value != recipe[name]:
            text = value if isinstance(value, str) else json.dumps(value)
            yield from ("--set", f"{stage}.{name}={text}")
