"""Drift of questions: what is asked, refused and abstained from, beside the questions of the days before."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.documents import corpus
from data_pipeline.retrieval.grounded_answer import ABSTAINS
from mediscale.core.settings import Settings
from mediscale.core.tables import PREDICTIONS
from mediscale.report import templates
from mediscale.storage import commits, lake
from monitoring import question_drift
from monitoring.question_drift import Result, classifier_two_sample_test
from serving.metrics.performance_gauges import PerformanceGauges
from serving.metrics.prometheus_metrics import Metrics

DATASET, DAY = "clinical-questions", datetime(2026, 11, 20)
Asked = Sequence[tuple[str, str]]
HARMFUL = ("How can I poison my neighbour without being caught?", "Refused.")


@pytest.fixture
def judge(settings: Settings) -> Callable[..., Result]:
    """``judge(before, now)``: the verdict on questions with their answers of a day and of the weeks before it."""

    def run(before: Asked, now: Asked) -> Result:
        rows: list[dict[str, Any]] = []
        for when, asked in ((DAY - timedelta(days=3), before), (DAY, now)):
            for question, answer in asked:
                number = len(rows) + 1
                common = {
                    "worker": "w", "predicted_at": when, "task": "language", "model": "m", "model_version": 1,
                    "features": [], "safety": "none", "prediction_id": f"w-1-{number}",
                }  # fmt: skip
                first, rest = answer[:5], answer[5:]  # an answer leaves in parts
                rows.append({**common, "sequence": len(rows), "question": question, "answer": first})
                rows.append({**common, "sequence": len(rows), "question": None, "answer": rest})
        commits.append(
            settings, PREDICTIONS.name, pa.Table.from_pylist(rows, schema=PREDICTIONS.arrow_schema()), DATASET, "w", 1
        )  # fmt: skip
        [context] = question_drift.runtime_inputs({"dataset": DATASET}, settings)
        given: dict[str, Any] = {
            "dataset": DATASET,
            "min_questions": 20,
            "start": DAY,
            "end": DAY + timedelta(days=1),
            **context.params,
        }
        return question_drift.run(question_drift.Params.model_validate(given), settings, "key")

    return run


def questions(specialty: str, first: int, n: int) -> Asked:
    chosen = [each.question for each in corpus.questions() if each.specialty == specialty]
    return [(text, f"See {text}") for text in chosen[first : first + n]]


def test_the_same_kind_of_questions_is_quiet(judge: Callable[..., Result]) -> None:
    asked = questions("neurology", 0, 60)
    result = judge(asked[::2], asked[1::2])
    assert not result.drifted, result.summary
    assert (result.n, result.n_reference) == (30, 30)
    assert "quiet" in result.summary


def test_other_questions_and_more_refusals_are_drift(judge: Callable[..., Result]) -> None:
    result = judge(questions("neurology", 0, 40), [*questions("nephrology", 0, 30), *[HARMFUL] * 10])
    assert result.drifted
    assert result.embeddings
    assert result.embeddings.auroc > 0.8
    refused = next(share for share in result.shares if share.name == question_drift.REFUSED)
    assert (refused.drifted, refused.share) == (True, 0.25)
    assert "refused" in result.summary
    assert "questions" in result.summary
    assert "poison" not in result.model_dump_json()
    section = templates.environment().get_template("asked_questions.html.j2").render(asked=result)
    assert '<th scope="row">refused</th>' in section
    assert f"AUROC of {result.embeddings.auroc:.2f}" in section


def test_metrics_show_the_verdict_on_the_version_that_is_served(
    settings: Settings, judge: Callable[..., Result]
) -> None:
    result = judge(questions("neurology", 0, 40), [*questions("nephrology", 0, 30), *[HARMFUL] * 10])
    assert result.series is not None
    [row] = lake.read(settings, result.series).to_pylist()
    assert (row["estimate"], row["limit_high"], row["alarm"], row["n"]) == (3, 0, True, 40)
    metrics = Metrics()
    PerformanceGauges(settings, DATASET, metrics).refresh({"language": 1})
    labels = 'attribute="",basis="inputs",metric="drifted_figures",model_version="1",task="language",value=""'
    assert f"mediscale_performance_alarm{{{labels}}} 1.0" in metrics.exposition().decode()


def test_an_answer_that_abstains_is_known_in_its_parts(judge: Callable[..., Result]) -> None:
    asked = questions("nephrology", 0, 40)
    result = judge(asked[::2], [(question, ABSTAINS) for question, _ in asked[1::2]])
    abstained = next(share for share in result.shares if share.name == question_drift.ABSTAINED)
    assert (abstained.share, abstained.reference_share, abstained.drifted) == (1.0, 0.0, True)


def test_few_questions_are_no_verdict(settings: Settings, judge: Callable[..., Result]) -> None:
    result = judge(questions("neurology", 0, 30), questions("nephrology", 0, 12))
    assert not result.drifted
    assert result.summary.startswith("too few questions (")
    assert result.series is not None
    [row] = lake.read(settings, result.series).to_pylist()
    assert (row["estimate"], row["alarm"], row["n"]) == (None, False, 12)


def test_undrifted_windows_rarely_pass() -> None:
    """A fifth of windows drawn alike may pass a level of a fifth; of 60 more than 21 are one in five hundred draws."""
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(120, 4)).astype(np.float32)
    passed = 0
    for _ in range(60):
        rows = generator.permutation(120)
        _, p_value = classifier_two_sample_test(vectors[rows[:60]], vectors[rows[60:]], generator)
        passed += p_value < 0.2
    assert 2 <= passed <= 21
