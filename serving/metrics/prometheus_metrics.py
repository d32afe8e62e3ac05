"""Prometheus metrics: counts, seconds and versions. Labels are tasks, versions and statuses, never a patient."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.language_schemas import SafetyAction

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable that makes prometheus_client share its numbers between worker processes through files."""

_OF_VERSION = ("task", "model_version", "arm")
PERFORMANCE_LABELS = ("task", "model_version", "basis", "metric", "attribute", "value")


class Metrics:
    """One application's numbers."""

    def __init__(self, background: Sequence[str] = ()) -> None:
        """``background`` is the work whose failures are counted, from 0 on: an alert sees the first one, too."""
        self._registry = CollectorRegistry()
        self._declare_answers()
        self._declare_language()
        self._declare_versions()
        self._declare_traffic()
        self._declare_performance()
        self._declare_nights()
        self._declare_server()
        for work in background:
            self.failures.labels(work)

    def _declare_answers(self) -> None:
        """Declares the metrics of questions and answers."""
        self.predictions = Counter(
            "mediscale_predictions_total",
            "Risks and language answers",
            ["task", "model_version"],
            registry=self._registry,
        )
        self.risks = Histogram(
            "mediscale_risk",
            "Risks that were computed; the arm is empty while only one version answers",
            _OF_VERSION,
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1),
            registry=self._registry,
        )
        self.refusals = Counter(
            "mediscale_refusals_total", "Requests answered with an error", ["status"], registry=self._registry
        )
        self.feedback = Counter(
            "mediscale_feedback_total",
            "What was said of answers: helpful, wrong or unsafe",
            ["task", "verdict"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "mediscale_predict_seconds",
            "From request to logged answer",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self._registry,
        )
        self.observe_risk = lru_cache(maxsize=256)(self._risks_of)
        """``observe_risk(task, version, arm)(risk)``: looking the labels up takes longer than counting."""

    def _declare_language(self) -> None:
        """Declares the metrics of a language model's answers, and of their safety."""
        self.language_answers = Counter(
            "mediscale_language_answers_total",
            "Answers of a language model by how they ended: stop, length, content_filter (refused) or abstained",
            ["finish_reason"],
            registry=self._registry,
        )
        self.safety_actions = Counter(
            "mediscale_safety_actions_total",
            "Answers of a language model by what the safety layers did to them",
            ["action"],
            registry=self._registry,
        )
        for action in get_args(SafetyAction):  # an alert sees the first one, too
            self.safety_actions.labels(action)
        self.safety_findings = Counter(
            "mediscale_safety_findings_total",
            "Questions and answers in which a safety layer found something",
            ["of", "layer"],
            registry=self._registry,
        )
        self.generate_seconds = Histogram(
            "mediscale_generate_seconds",
            "From question to logged answer of a language model",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=self._registry,
        )

    def _declare_versions(self) -> None:
        """Declares the metrics of the versions that answer, and of those that do not."""
        self.version = Gauge(
            "mediscale_model_version",
            "Version that is served",
            ["task"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.points_score = Gauge(
            "mediscale_points_score_answers",
            "1 while the points score of a version answers for want of a version that loads, else 0",
            ["task"],
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self.fallback_answers = Counter(
            "mediscale_fallback_answers_total",
            "Answers of a version's points score, because the version failed while it answered",
            ["task", "model_version"],
            registry=self._registry,
        )
        self.promoted = Gauge(
            "mediscale_model_promoted_timestamp_seconds",
            "When the version that is served was promoted",
            ["task"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.refused_versions = Gauge(
            "mediscale_versions_refused",
            "Tasks whose newest version is not served: its signature, files or known answers are wrong",
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def _declare_traffic(self) -> None:
        """Declares the metrics of the versions that answer beside production."""
        self.version_seconds = Histogram(
            "mediscale_version_seconds",
            "From values to answer by a version, of requests that two versions were asked",
            _OF_VERSION,
            buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self._registry,
        )
        self.bad_answers = Counter(
            "mediscale_bad_answers_total",
            "Answers of a version beside production that failed, were slow, or other than those of production",
            [*_OF_VERSION, "signal"],
            registry=self._registry,
        )
        self.given_up = Gauge(
            "mediscale_versions_given_up",
            "Versions that the history lets answer beside production and that do not: broken, or not to be loaded",
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def _declare_performance(self) -> None:
        """Declares the metrics of model performance, which monitoring measures or estimates."""
        figures = {
            "performance": "Estimate of a metric in the newest window of its basis; attribute and value of a subgroup",
            "performance_low": "Lower end of its 95 % interval",
            "performance_high": "Upper end of its 95 % interval",
            "performance_alarm": "1 where the whole interval lies beyond what was promised, else 0",
        }
        self.performance = {
            name: Gauge(
                f"mediscale_{name}",
                meaning,
                PERFORMANCE_LABELS,
                registry=self._registry,
                multiprocess_mode="mostrecent",
            )
            for name, meaning in figures.items()
        }
        self.performance_known = Gauge(
            "mediscale_performance_known_timestamp_seconds",
            "When monitoring last wrote down how good the answers of the served version were",
            ["task"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    def _declare_nights(self) -> None:
        """Declares the metrics of stages, read from the lake: a stage ends long before it could be scraped."""
        self.stage_failed = Gauge(
            "mediscale_stage_failed",
            "1 where the last call of a stage failed, else 0",
            ["stage", "task"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.stage_succeeded = Gauge(
            "mediscale_stage_succeeded_timestamp_seconds",
            "When a call of a stage last ended well",
            ["stage", "task"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

    def _declare_server(self) -> None:
        """Declares the metrics of the process and of its background work."""
        self.ready = Gauge(
            "mediscale_ready",
            "1 while the server can answer, else 0",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self.certificate = Gauge(
            "mediscale_certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain that the server loaded expires",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self.backlog = Gauge(
            "mediscale_log_backlog",
            "Predictions that are durable locally and not yet in the lake",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.failures = Counter(
            "mediscale_failures_total",
            "Work behind the answers that failed: log, history, flush",
            ["work"],
            registry=self._registry,
        )

    def _risks_of(self, task: str, version: int, arm: str | None) -> Callable[[float], None]:
        return self.risks.labels(task, version, arm or "").observe

    def exposition(self) -> bytes:
        """The text format, over all workers when there are several."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)
