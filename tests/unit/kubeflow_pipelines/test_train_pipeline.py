"""The compiled pipeline is the source's, follows the loop's order, and leaves every decision to the stages' keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeflow_pipelines import steps, submit, train_pipeline
from mediscale.core.settings import Settings
from mediscale.core.task_names import TASKS
from mediscale.pipeline import steps as graph


def spec(pipeline: str) -> dict[str, Any]:
    parsed: dict[str, Any] = next(yaml.safe_load_all(train_pipeline.COMPILED[pipeline].read_text()))
    return parsed


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    return spec("risk")


@pytest.fixture(scope="module")
def tasks(compiled: dict[str, Any]) -> dict[str, Any]:
    return tasks_of(compiled)


def tasks_of(compiled: dict[str, Any]) -> dict[str, Any]:
    return {task["taskInfo"]["name"]: task for task in compiled["root"]["dag"]["tasks"].values()}


@pytest.mark.parametrize("pipeline", graph.PIPELINES)
def test_the_compiled_file_is_of_this_source(pipeline: str, tmp_path: Path) -> None:
    again = submit.compiled(tmp_path / "new" / "pipeline.yaml", Settings(), pipeline)
    kept = train_pipeline.COMPILED[pipeline]
    assert again.read_bytes() == kept.read_bytes(), f"run: mediscale kubeflow compile --pipeline {pipeline}"


@pytest.mark.parametrize("pipeline", graph.PIPELINES)
def test_every_step_takes_the_results_that_the_loop_names(pipeline: str) -> None:
    tasks = tasks_of(spec(pipeline))
    names = {task["componentRef"]["name"].removeprefix("comp-"): name for name, task in tasks.items()}
    for node in graph.nodes(graph.PIPELINES[pipeline]):
        given = tasks[node.name]["inputs"]["parameters"]
        sources = [given[place] for place in steps.INPUTS if place in given]
        assert [names[s["taskOutputParameter"]["producerTask"]] for s in sources] == list(node.upstream)
        assert given["name"]["runtimeValue"]["constant"] == node.stage
        assert given["task"]["runtimeValue"]["constant"] == node.task


def test_kubeflow_neither_caches_nor_gives_up_at_once(tasks: dict[str, Any]) -> None:
    for task in tasks.values():
        assert "enableCache" not in task["cachingOptions"]
        assert task["retryPolicy"]["maxRetryCount"] == 2


def test_every_step_names_its_image_and_its_resources(compiled: dict[str, Any]) -> None:
    for executor in compiled["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == steps.IMAGE
        assert executor["container"]["resources"]["memoryLimit"] >= 3
        assert "pip install" not in " ".join(executor["container"]["command"])


def accelerators(compiled: dict[str, Any]) -> dict[str, Any]:
    """What each step asks for, by its name; steps that ask for none are not there."""
    executors = compiled["deploymentSpec"]["executors"]
    asked = {}
    for task in compiled["root"]["dag"]["tasks"].values():
        component = compiled["components"][task["componentRef"]["name"]]
        resources = executors[component["executorLabel"]]["container"]["resources"]
        if "accelerator" in resources:
            asked[task["taskInfo"]["name"]] = resources["accelerator"]["resourceType"]
    return asked


def test_on_a_cluster_every_step_has_what_the_steps_share(compiled: dict[str, Any], tmp_path: Path) -> None:
    assert accelerators(compiled) == {}
    cluster = Settings(
        kfp_accelerator="example.com/gpu",
        kfp_claim="shared",
        kfp_secret="settings",
        kfp_image="r.example/m:1",
    )
    written = submit.compiled(tmp_path / "pipeline.yaml", cluster)
    spec, platform = yaml.safe_load_all(written.read_text())
    assert accelerators(spec) == dict.fromkeys((f"note_model_{task}" for task in TASKS), "example.com/gpu")
    executors = spec["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"r.example/m:1"}
    trust = {"name": "MEDISCALE_TRUST", "value": f"{steps.HOME}/trust"}
    assert [e["container"]["env"] for e in executors.values()] == [[trust]] * len(executors)
    on_pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert on_pods.keys() == executors.keys()
    for pod in on_pods.values():
        assert [mount["mountPath"] for mount in pod["pvcMount"]] == [steps.HOME]
        given = [each["keyToEnv"][0]["envVar"] for each in pod["secretAsEnv"]]
        assert {"MEDISCALE_LAKE", "MEDISCALE_TRACKING_URI"} <= set(given)
        assert "MEDISCALE_TRUST" not in given  # twice is once too often
        assert int(pod["activeDeadlineSeconds"]) == 4 * 3600
