"""The compiled pipeline is the source's, follows the loop's order, and leaves every decision to the stages' keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeflow_pipelines import steps, submit, train_pipeline
from mediscale import graph


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    spec: dict[str, Any] = next(yaml.safe_load_all(train_pipeline.COMPILED.read_text()))
    return spec


@pytest.fixture(scope="module")
def tasks(compiled: dict[str, Any]) -> dict[str, Any]:
    return {task["taskInfo"]["name"]: task for task in compiled["root"]["dag"]["tasks"].values()}


def test_the_compiled_file_is_of_this_source(tmp_path: Path) -> None:
    again = submit.compiled(tmp_path / "new" / "pipeline.yaml")
    assert again.read_bytes() == train_pipeline.COMPILED.read_bytes(), "run: mediscale pipeline compile"


def test_every_step_takes_the_results_that_the_loop_names(tasks: dict[str, Any]) -> None:
    names = {task["componentRef"]["name"].removeprefix("comp-"): name for name, task in tasks.items()}
    for node in graph.nodes(graph.LOOP):
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


def test_a_step_may_ask_for_accelerators(tmp_path: Path) -> None:
    from kfp import compiler, dsl

    def one() -> None:
        task = steps.extract(source="", path="", dataset="", size="tiny", home="")
        steps.place(task, steps.Resources(cpu="1", memory="1G", accelerators=2))

    compiler.Compiler().compile(dsl.pipeline(name="one")(one), str(tmp_path / "one.yaml"))
    spec = yaml.safe_load((tmp_path / "one.yaml").read_text())
    (executor,) = spec["deploymentSpec"]["executors"].values()
    assert executor["container"]["resources"]["accelerator"]["resourceCount"] == "2"
