"""The one task: ``mediscale STAGE --from … --result F`` as a process of the platform's environment, or as a pod.

Nothing of a stage is known here: its output is not read, its result is a file that the next stage takes by its path.
"""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Param, task
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from mediscale import graph

HOME = os.environ.get("MEDISCALE_HOME", ".mediscale")
COMMAND = os.environ.get("MEDISCALE_COMMAND", "mediscale")
"""The platform environment's own program."""
POD_IMAGE = os.environ.get("MEDISCALE_POD_IMAGE", "")
"""Where set, a stage is a pod of this image; HOME is then a volume that the cluster mounts into pods and workers."""
ALERT_URL = os.environ.get("MEDISCALE_ALERT_URL", "")
"""Where set, a failed task is told to this webhook."""

RESULTS = f"{HOME}/runs/{{{{ dag.dag_id }}}}/{{{{ run_id }}}}"
"""Folder of a run's results, the same for each try: one that is repeated finds its finished work."""

FEATURES = Asset(name="mediscale_features", uri="mediscale://features")
DRIFTED = Asset(name="mediscale_drifted", uri="mediscale://drifted")
CANDIDATE = Asset(name="mediscale_candidate", uri="mediscale://candidate")

GRACE_SECONDS = 30.0
"""What a stage gets to end by itself before its process group is killed."""


def sources() -> list[str]:
    folder = Path(graph.__file__).parents[1] / "data_pipeline" / "sources"
    return sorted(file.stem.replace("_", "-") for file in folder.glob("*.yaml"))


SYNTHETIC = "synthetic"
"""In the place of a source: a made-up hospital."""


def usual(name: str) -> str | None:
    """What a run gets that nobody gives a parameter to, as each scheduled one: ``MEDISCALE_SOURCE`` and so on."""
    return os.environ.get(f"MEDISCALE_{name.upper()}") or None


EXTRACT_PARAMS = {
    "source": Param(
        usual("source") or SYNTHETIC,
        type="string",
        enum=[SYNTHETIC, *sources()],
        description="What the extract is; synthetic: a made-up hospital.",
    ),
    "path": Param(
        usual("path"),
        type=["null", "string"],
        description="Folder of the extract, on the machine where the stages run; empty for a made-up hospital.",
    ),
    "dataset": Param(
        usual("dataset"),
        type=["null", "string"],
        pattern="^[a-z0-9-]*$",
        description="Name in the lake; empty: the source's.",
    ),
    "size": Param(
        usual("size") or "small",
        type="string",
        enum=["tiny", "small", "large"],
        description="Of a made-up hospital: 250, 6,000 or 40,000 patients.",
    ),
}
"""None has to be filled in: Airflow's form takes an empty text for a missing one."""

CONFIG_PARAM = {
    "config": Param(
        {},
        type="object",
        description='Per stage, parameters that are not the defaults: {"risk_model": {"rounds": 100}}.',
    )
}
CONFIG = ("--run-config", "{{ params.config | tojson }}")

DATASET_PARAM = Param(
    usual("dataset") or usual("source") or SYNTHETIC,
    type="string",
    pattern="^[a-z0-9][a-z0-9-]*$",
    description="Name in the lake.",
)


def alert(context: Mapping[str, Any]) -> None:
    """Tells which task of which run failed: names only, the stage's own sentence is in the task's log."""
    failed = context["task_instance"]
    message = {"dag": failed.dag_id, "task": failed.task_id, "run": failed.run_id, "try": failed.try_number}
    print(f"mediscale alert {json.dumps(message)}")
    if ALERT_URL:
        body = json.dumps(message).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(ALERT_URL, body, headers)  # noqa: S310 -- the deployment's own
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


def first_line(doc: str | None) -> str:
    """Of a DAG's documentation: what the list of DAGs shows."""
    return (doc or "").partition("\n")[0]


DEFAULTS = {
    "owner": "mediscale",
    "retries": 2,
    "retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(hours=4),
    "on_failure_callback": alert,
}


REFUSED = 4
"""How the program ends where a source lacks what a task needs: that task's steps are skipped, the others go on."""

BUSY = 5
"""How it ends where another process is at the same work: an earlier try, or a person's run."""
WAIT_SECONDS = 30.0


def start_when_free(arguments: list[str], log: Path) -> None:
    """``start``, again and again while another process is at the same work; the task's timeout ends that too."""
    while True:
        try:
            return start(arguments, log)
        except BusyError:
            print(f"Trying again in {WAIT_SECONDS:.0f} s.", flush=True)
            time.sleep(WAIT_SECONDS)


def start(arguments: list[str], log: Path) -> None:
    """Runs the program in a process group of its own, which is ended with the task, however the task ends.

    Raises:
        RefusedError: the source lacks what the task needs.
        BusyError: another process is at the same work.
        RuntimeError: it failed. The message is the last line that it printed, a stage's own sentence.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:  # an earlier try may still write to it
        begun = stream.tell()
        process = subprocess.Popen(
            [COMMAND, *arguments], stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = process.wait()
        except BaseException:  # a timeout, a person's click, the scheduler's end
            end(process)
            raise
    said = log.read_bytes()[begun:].decode(errors="replace")
    print(said, flush=True)
    if code:
        sentence = said.strip().rpartition("\n")[2] or f"ended with code {code} without a word"
        raise {REFUSED: RefusedError, BUSY: BusyError}.get(code, RuntimeError)(sentence)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Asks the whole group to end, then kills it."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class RefusedError(RuntimeError):
    """A source lacks what a task needs; the message says what."""


class BusyError(RuntimeError):
    """Another process is at the same work; the message names it."""


@task
def process(arguments: list[str], result: str, refusable: bool) -> str:
    """Leaves the result file and returns its path, which is all that Airflow sees.

    A refusal of a step that may be refused is left beside the result, and skips the steps that need the result.
    """
    for needed in arguments:
        if Path(f"{needed}.refused").exists():
            raise AirflowSkipException(Path(f"{needed}.refused").read_text())
    try:
        start_when_free([*arguments, "--result", result], Path(result).with_suffix(".log"))
    except RefusedError as refusal:
        if not refusable:
            raise
        Path(f"{result}.refused").write_text(str(refusal))
        raise AirflowSkipException(str(refusal)) from refusal
    return result


def step(name: str, arguments: list[str], refusable: bool = False) -> BaseOperator:
    """A task that runs ``mediscale`` with these (templated) arguments and leaves ``RESULTS/name.json``."""
    result = f"{RESULTS}/{name}.json"
    if POD_IMAGE:
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

        return KubernetesPodOperator(
            task_id=name,
            name=name.replace("_", "-"),
            image=POD_IMAGE,
            cmds=["mediscale"],
            arguments=[*arguments, "--result", result],
            env_vars={"MEDISCALE_HOME": HOME},
            skip_on_exit_code=REFUSED if refusable else None,
        )
    return process.override(task_id=name)(arguments, result, refusable).operator


def extract() -> BaseOperator:
    """What a run begins with, from the run's parameters."""
    made_up = f"params.source == '{SYNTHETIC}'"
    given = [
        f"--source={{{{ '' if {made_up} else params.source }}}}",
        "--path={{ params.path or '' }}",
        "--dataset={{ params.dataset or '' }}",
        f"--size={{{{ params.size if {made_up} else '' }}}}",
    ]
    return step(graph.EXTRACT, [graph.EXTRACT, *given, *CONFIG])


def stage(node: graph.Node, folders: Mapping[str, str], settings: Iterable[str] = ()) -> BaseOperator:
    """A stage on the results of others, which lie in ``folders`` (by name, else in this run's)."""
    arguments = [node.stage, "--resolve", *CONFIG]
    for name in node.upstream:
        arguments += ["--from", f"{folders.get(name, RESULTS)}/{name}.json"]
    for setting in [*([f"task={node.task}"] if node.task else []), *settings]:
        arguments += ["--set", setting]
    return step(node.name, arguments, refusable=bool(node.task))


def chain(
    steps: tuple[graph.Step, ...],
    before: Mapping[str, BaseOperator],
    folders: Mapping[str, str] | None = None,
    settings: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, BaseOperator]:
    """One task per node, after those tasks whose results it takes; ``settings`` are a stage's further parameters."""
    done = dict(before)
    for node in graph.nodes(steps):
        done[node.name] = stage(node, folders or {}, (settings or {}).get(node.stage, ()))
        for name in node.upstream:
            if name in done:
                done[name] >> done[node.name]
    return done
