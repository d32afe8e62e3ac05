"""The pipelines for Kubeflow: records to risk models, and questions to a language model."""

from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl.graph_component import GraphComponent

from kubeflow_pipelines import steps as components
from mediscale.pipeline import call, steps

COMPILED = {
    "risk": Path(__file__).with_name("train_pipeline.yaml"),
    "language": Path(__file__).with_name("language_pipeline.yaml"),
}
_DESCRIBED = {
    "risk": ("mediscale-train", "From an extract to a promotion decision per task."),
    "language": ("mediscale-language", "From questions to a promotion decision about a language model."),
}


def layout(pipeline: str, cluster: components.Cluster = components.NONE) -> GraphComponent:
    """A pipeline of ``steps.PIPELINES``, for this machine's runner or for a cluster."""
    name, description = _DESCRIBED[pipeline]

    @dsl.pipeline(name=name, description=description)
    def train(
        source: str = "",
        path: str = "",
        dataset: str = "",
        size: str = "",
        home: str = "",
        run_id: str = "",
        config: dict[str, Any] = {},  # noqa: B006 -- Kubeflow reads the default, nothing changes it
    ) -> None:
        """The loop's steps, each on the results of those that ``mediscale.pipeline.steps`` names.

        Args:
            source: What the extract is (a file of data_pipeline/ingest/sources/), or empty for a synthetic hospital;
                of the language pipeline which question set, or empty for the project's own.
            path: Folder of the extract, or file of the questions, as the pods see it.
            dataset: Name in the lake.
            size: Of the synthetic hospital: tiny, small or large.
            home: MEDISCALE_HOME, as the pods see it; empty takes it from their environment.
            run_id: What the run is to be called in the lake; empty takes Kubeflow's own id.
            config: Per stage, parameters that are not the defaults: {"risk_model": {"rounds": 100}}.
        """
        which = {"pipeline": pipeline, "source": source, "path": path, "dataset": dataset, "size": size}
        run = {"home": home, "config": config, "run_id": run_id, "job": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        begin = components.prepare_source(**which, **run).set_display_name(steps.PREPARE_SOURCE)
        synthetic = call.load(steps.SYNTHETIC.stage)
        done = {steps.PREPARE_SOURCE: components.place(begin, synthetic, cluster)}
        for node in steps.nodes(steps.PIPELINES[pipeline]):
            upstream = [done[name].outputs["Output"] for name in node.upstream]
            results = dict(zip(components.INPUTS[: len(upstream)], upstream, strict=True))
            task = components.stage(name=node.stage, task=node.task, **run, **results)
            task.set_display_name(node.name)
            done[node.name] = components.place(task, call.load(node.stage), cluster)

    return train


def compile_to(path: Path, pipeline: str, cluster: components.Cluster) -> None:
    """Writes a pipeline as YAML; the same source gives the same bytes."""
    compiler.Compiler().compile(layout(pipeline, cluster), str(path))
