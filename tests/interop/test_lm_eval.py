"""The field's own harness scores what is served, and finds the accuracy that evaluation finds."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from component.serving.test_generate import loaded, model_of
from fixtures.language_versions import DATASET
from fixtures.server_process import Start

from benchmarks.lm_eval import prepare
from data_pipeline.documents.questions import Question
from training.language import language_measures
from training.language.language_measures import Effort

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / ".venv-interop" / "lm-eval" / "bin" / "lm_eval"


def test_the_harness_finds_the_accuracy_that_evaluation_finds(
    start: Start,
    promote_language: Any,
    language_versions: Callable[[int], Path],
    toy_base: Path,
    toy_questions: list[Question],
    tmp_path: Path,
) -> None:
    promote_language(1)
    server = start(options=["--dataset", DATASET])
    loaded(server)
    model = model_of(toy_base, language_versions(1))
    asked = [
        question.model_copy(update={"answer": question.options[i % 4], "letter": "ABCD"[i % 4]})
        for i, question in enumerate(each for each in toy_questions if each.options)
    ][:24]  # with right options that differ, of which this model, which learnt nothing, prefers one
    prepare.write(model, asked, tmp_path / "task")
    described = f"base_url={server.address}/v1/completions,model={DATASET}-language/1,tokenizer={toy_base}"
    command = [
        str(HARNESS), "run", "--model", "local-completions", "--model_args", described, "--tasks",
        "mediscale_multiple_choice", "--include_path", ".", "--output_path", "out", "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command,
        cwd=tmp_path / "task",
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (tmp_path / "task" / "out").rglob("results_*.json")
    accuracy = json.loads(results.read_text())["results"]["mediscale_multiple_choice"]["acc,none"]
    effort = Effort(max_generated=0, max_tokens=1, bootstrap=50, seed=0)
    ours = language_measures.scores(model, asked, effort)["multiple_choice_accuracy"]
    assert 0 < np.mean(ours) < 1, "nothing could differ"
    assert accuracy == pytest.approx(np.mean(ours))
    (samples,) = (tmp_path / "task" / "out").rglob("samples_*.jsonl")
    by_id = {row["doc"]["id"]: row for row in map(json.loads, samples.read_text().splitlines())}
    for question in asked:
        *found, white_space = [float(each[0][0]) for each in by_id[question.id]["resps"]]
        expected = model.log_likelihoods([(question.question, "", option) for option in question.options])
        assert np.array(found) - white_space == pytest.approx([each.total for each in expected], abs=1e-3)
