"""The one operator: ``mediscale STAGE --from … --result F`` as a process of the platform's environment, or as a pod.

Nothing of a stage is known here: its output is not read, its result is a file that the next stage takes by its path.
"""

import json
import logging
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from airflow.sdk import Asset, BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mediscale.core.datasets import DATASET_PATTERN, SIZES
from mediscale.core.errors import NotFoundError, QualityError, UsageError
from mediscale.pipeline import steps

log = logging.getLogger(__name__)

HOME = os.environ.get("MEDISCALE_HOME", ".mediscale")
COMMAND = os.environ.get("MEDISCALE_COMMAND", "mediscale")
"""The platform environment's own program."""
POD_TEMPLATE = os.environ.get("MEDISCALE_POD_TEMPLATE", "")
"""Where set, a stage is a pod made from this file, such as infra/kubernetes/stage-pod.yaml; HOME is then a volume that
the cluster mounts into pods and workers."""
_POD_STARTS_WITHIN = 30 * 60
"""Seconds for a pod to be scheduled, and again to start: a node is added, and pulls an image of gigabytes; Airflow by
itself waits two minutes."""
ALERT_URL = os.environ.get("MEDISCALE_ALERT_URL", "")
"""Where set, this webhook is told of each task that failed for good and of each run that took too long."""

RESULTS = f"{HOME}/runs/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}"
"""Folder of a run's results, the same for each try: one that is repeated finds its finished work."""

RUN_ID = "{{ params.get('run_id') or dag.dag_id ~ '-' ~ run_id }}"
"""By which the lake lists what a run called: Airflow's own, unless whoever triggered the run gave another."""

FEATURES = Asset(name="mediscale_features", uri="mediscale://features")
DRIFTED = Asset(name="mediscale_drifted", uri="mediscale://drifted")
CANDIDATE = Asset(name="mediscale_candidate", uri="mediscale://candidate")


def sources() -> list[str]:
    folder = Path(steps.__file__).parents[2] / "data_pipeline" / "ingest" / "sources"
    return sorted(file.stem.replace("_", "-") for file in folder.glob("*.yaml"))


SYNTHETIC = "synthetic"
"""In the place of a source: a synthetic hospital."""


def usual(name: str) -> str | None:
    """The default of a run's parameter, by which scheduled runs go: ``MEDISCALE_SOURCE`` and so on."""
    return os.environ.get(f"MEDISCALE_{name.upper()}") or None


EXTRACT_PARAMS = {
    "source": Param(
        usual("source") or SYNTHETIC,
        type="string",
        enum=[SYNTHETIC, *sources()],
        description="What the extract is; synthetic: a synthetic hospital.",
    ),
    "path": Param(
        usual("path"),
        type=["null", "string"],
        description="Folder of the extract, on the machine where the stages run; empty for a synthetic hospital.",
    ),
    "dataset": Param(
        usual("dataset"),
        type=["null", "string"],
        pattern=DATASET_PATTERN,
        description="Name in the lake; empty: the source's.",
    ),
    "size": Param(
        usual("size") or "small",
        type="string",
        enum=list(SIZES),
        description="Of a synthetic hospital: 250, 6,000 or 40,000 patients.",
    ),
}
"""None has to be filled in: Airflow's form takes an empty text for a missing one."""

QUESTION_PARAMS = {
    "source": Param(
        "own",
        type="string",
        description="The question set: own (the project's), file, medquad, pubmedqa or medmcqa.",
    ),
    "path": Param(
        None,
        type=["null", "string"],
        description="File of the questions, on the machine where the stages run; empty for own and medmcqa.",
    ),
    "dataset": Param(
        None,
        type=["null", "string"],
        pattern=DATASET_PATTERN,
        description="Name in the lake; empty: clinical-questions.",
    ),
}

CONFIG_PARAM = {
    "config": Param(
        {},
        type="object",
        description='Per stage, parameters that are not the defaults: {"risk_model": {"rounds": 100}}.',
    )
}
RUN_ID_PARAM = Param(
    None,
    type=["null", "string"],
    description="What the run is called in the lake; empty: by its DAG and Airflow's run id.",
)
CONFIG = ("--run-config", "{{ params.config | tojson }}")

DATASET_PARAM = Param(
    usual("dataset") or usual("source") or SYNTHETIC,
    type="string",
    pattern=DATASET_PATTERN,
    description="Name in the lake.",
)


def alert(context: Mapping[str, Any]) -> None:
    """Logs which task or run failed, and tells the webhook: names only, for a stage's sentence is in its task's log."""
    run, failed = context["dag_run"], context.get("task_instance")
    message = {"dag": run.dag_id, "run": run.run_id}
    if "reason" in context:  # of a run, whose context names any of its tasks
        message |= {"why": context["reason"]}
    elif failed is not None:
        message |= {"task": failed.task_id, "try": failed.try_number}
    log.error("mediscale alert %s", json.dumps(message))
    if ALERT_URL:
        body = json.dumps(message).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(ALERT_URL, body, headers)  # noqa: S310 -- the deployment's own
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def first_line(doc: str | None) -> str:
    """The first line of a DAG's documentation, which the list of DAGs shows."""
    return (doc or "").partition("\n")[0]


DEFAULTS = {
    "owner": "mediscale",
    "retries": 2,
    "retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(hours=3),
    "on_failure_callback": alert,
}
EVERY_DAG = {"catchup": False, "max_active_runs": 1, "tags": ["mediscale"], "on_failure_callback": alert}
"""A run that takes too long fails as a whole, and no task of it tells."""

REFUSED = QualityError.exit_code
"""How the program ends where a source lacks what a task needs: that task's steps are skipped, the others go on."""
NOT_FOUND = NotFoundError.exit_code
"""How it ends where there is nothing yet to look at."""


def killed(code: int) -> str:
    """What to do about a program that a signal ended, whose last line says only how far it was; else nothing."""
    if code >= 0:
        return ""
    return (
        f"The stage was killed by {signal.Signals(-code).name}, by hand or by the kernel for want of memory (`dmesg` "
        "says so then). Finished stages are kept: clear the task."
    )


class StageOperator(BaseOperator):
    """Runs the program in a process group of its own, which ends with the task, however the task ends.

    Returns the path of the result file, which is all that Airflow sees.
    """

    template_fields = ("arguments", "result", "actor")

    def __init__(
        self, *, arguments: list[str], result: str, actor: str, skips: tuple[int, ...], **others: Any
    ) -> None:
        super().__init__(**others)
        self.arguments, self.result, self.actor, self.skips = arguments, result, actor, skips
        self._process: subprocess.Popen[bytes] | None = None

    def execute(self, context: Any) -> str:  # noqa: ARG002 -- an operator's signature
        log = Path(self.result).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream, log.open("rb") as output:  # an earlier try may still write to it
            output.seek(stream.tell())
            code, sentence = self._run(stream, output)
        if code in self.skips:
            raise AirflowSkipException(sentence)
        if code:
            hopeless = code == UsageError.exit_code  # no second try mends it
            raise AirflowFailException(sentence) if hopeless else RuntimeError(sentence)
        return self.result

    def _run(self, stream: BinaryIO, output: BinaryIO) -> tuple[int, str]:
        """Exit code and last line of the program, whose words go into the task's log as it says them."""
        around = os.environ | ({"MEDISCALE_ACTOR": self.actor} if self.actor else {})
        command = [COMMAND, *self.arguments, "--exit-with-parent"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=stream, stderr=stream, start_new_session=True, env=around
        )
        code, text = None, ""
        try:
            while code is None:
                with suppress(subprocess.TimeoutExpired):
                    code = self._process.wait(1)
                if more := output.read().decode(errors="replace"):
                    self.log.info("%s", more.rstrip("\n"))
                    text += more
        finally:  # a timeout too
            if code != 0:  # else Java is at the end of its cleaning, which deletes rows of patients
                self.on_kill()
        return code, killed(code) or text.strip().rpartition("\n")[
            2
        ] or f"ended with code {code} without a word"

    def on_kill(self) -> None:
        """Kills the program: Airflow's hook for a task that a person, a lost heartbeat or the scheduler's end stops."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def step(name: str, arguments: list[str], skips: tuple[int, ...] = (), actor: str = "") -> BaseOperator:
    """A task that runs ``mediscale`` with these (templated) arguments and leaves ``RESULTS/name.json``.

    ``skips`` are exit codes at which it, and what needs its result, is skipped. ``actor`` is who is recorded; by
    default whom Airflow was started for, else who triggered the run.
    """
    result = f"{RESULTS}/{name}.json"
    arguments = [*arguments, "--wait-for-lock", "--result", result, "--run-id", RUN_ID]
    actor = actor or os.environ.get("MEDISCALE_ACTOR") or "{{ dag_run.triggering_user_name or '' }}"
    if POD_TEMPLATE:
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        return KubernetesPodOperator(
            task_id=name,
            name=name.replace("_", "-"),
            pod_template_file=POD_TEMPLATE,
            cmds=["mediscale"],
            arguments=arguments,
            env_vars={"MEDISCALE_HOME": HOME, "MEDISCALE_ACTOR": actor},
            skip_on_exit_code=list(skips),
            startup_timeout_seconds=_POD_STARTS_WITHIN,
        )
    return StageOperator(task_id=name, arguments=arguments, result=result, actor=actor, skips=skips)


def prepare_source(config: tuple[str, str] = CONFIG) -> BaseOperator:
    """What a run begins with, from the run's parameters."""
    synthetic = f"params.source == '{SYNTHETIC}'"
    options = [
        f"--source={{{{ '' if {synthetic} else params.source }}}}",
        "--path={{ params.path or '' }}",
        "--dataset={{ params.dataset or '' }}",
        f"--size={{{{ params.size if {synthetic} else '' }}}}",
    ]
    return step(steps.PREPARE_SOURCE, ["prepare-source", *options, *config])


def prepare_questions(config: tuple[str, str] = CONFIG) -> BaseOperator:
    """What a run of the language pipeline begins with, from the run's parameters."""
    options = [
        "--source={{ params.source }}",
        "--path={{ params.path or '' }}",
        "--dataset={{ params.dataset or '' }}",
    ]
    return step(steps.PREPARE_SOURCE, ["prepare-source", "--pipeline=language", *options, *config])


def stage(
    node: steps.Node, folders: Mapping[str, str], settings: Iterable[str] = (), **others: str
) -> BaseOperator:
    """A stage on the results of others, which lie in ``folders`` (by name, else in this run's)."""
    arguments = [node.stage, "--fill-runtime-inputs", *settings]
    for name in node.upstream:
        arguments += ["--from", f"{folders.get(name, RESULTS)}/{name}.json"]
    if node.task:
        arguments += ["--set", f"task={node.task}", "--skip-unsupported"]
    return step(node.name, arguments, skips=(REFUSED,) if node.task else (), **others)


def chain(
    pipeline: tuple[steps.Step, ...],
    before: Mapping[str, BaseOperator],
    folders: Mapping[str, str] | None = None,
    config: tuple[str, str] = CONFIG,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, BaseOperator]:
    """One task per node, after those tasks whose results it takes.

    ``fixed`` is, per stage, a parameter as NAME=VALUE that the run's configuration can't change.
    """
    done = dict(before)
    for node in steps.nodes(pipeline):
        setting = (fixed or {}).get(node.stage)
        done[node.name] = stage(node, folders or {}, (*config, "--set", setting) if setting else config)
        for name in node.upstream:
            if name in done:
                done[name] >> done[node.name]
    return done
