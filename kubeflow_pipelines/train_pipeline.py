"""The training pipeline: records → validation → features → per task: training, evaluation, promotion."""

from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl.graph_component import GraphComponent

from kubeflow_pipelines import steps
from mediscale.pipeline import steps as graph

COMPILED = Path(__file__).with_name("train_pipeline.yaml")


def layout(cluster: steps.Cluster = steps.NONE) -> GraphComponent:
    """The pipeline, for this machine's runner or for a cluster."""

    @dsl.pipeline(name="mediscale-train", description="From an extract to a promotion decision per task.")
    def train(
        source: str = "",
        path: str = "",
        dataset: str = "",
        size: str = "",
        home: str = "",
        config: dict[str, Any] = {},  # noqa: B006 -- Kubeflow reads the default, nothing changes it
    ) -> None:
        """The loop's steps, each on the results of those that ``mediscale.pipeline.steps`` names.

        Args:
            source: What the extract is (a file of data_pipeline/ingest/sources/), or empty for a synthetic hospital.
            path: Folder of the extract, as the pods see it.
            dataset: Name in the lake.
            size: Of the synthetic hospital: tiny, small or large.
            home: MEDISCALE_HOME, as the pods see it; empty takes it from their environment.
            config: Per stage, parameters that are not the defaults: {"risk_model": {"rounds": 100}}.
        """
        which = {"source": source, "path": path, "dataset": dataset, "size": size}
        begin = steps.extract(**which, home=home, config=config)
        done = {graph.EXTRACT: steps.place(begin, steps.SPARK, cluster)}
        for node in graph.nodes(graph.LOOP):
            upstream = [done[name].outputs["Output"] for name in node.upstream]
            results = dict(zip(steps.INPUTS, upstream, strict=False))
            task = steps.stage(name=node.stage, task=node.task, home=home, config=config, **results)
            task.set_display_name(node.name)
            done[node.name] = steps.place(task, steps.wanted_by(node.stage, cluster.accelerator), cluster)

    return train


def compile_to(path: Path, cluster: steps.Cluster = steps.NONE) -> None:
    """Writes the pipeline as YAML; the same source gives the same bytes."""
    compiler.Compiler().compile(layout(cluster), str(path))
