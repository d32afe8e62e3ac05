"""Pipelines as values: every parameter that a stage needs comes from a result, a task or a look-up."""

import pytest
from pydantic import BaseModel

from data_pipeline.documents import question_set
from data_pipeline.ingest import bronze
from mediscale.core.stage import is_configurable
from mediscale.pipeline import call, steps

LOOKED_UP = {
    "deidentify": {"pseudonym_secret", "deidentifier"},
    "promotion": {"sequence", "actor", "moved_at"},
    "document_index": {"documents_digest"},
    "language_model": {"base_model"},
    "promote_language": {"sequence", "actor", "moved_at"},
}
"""What hooks look up and no stage leaves."""

NODES = [
    pytest.param(node, pipeline, id=node.name)
    for pipeline, steps_of_it in steps.PIPELINES.items()
    for node in steps.nodes(steps_of_it)
]


def leaves(name: str, pipeline: str) -> list[type[BaseModel]]:
    """What a step may leave; a run begins with the synthetic stage's result, a hospital's own files or questions."""
    if name == steps.PREPARE_SOURCE:
        if pipeline == "language":
            return [question_set.QuestionSource]
        return [call.load("synthetic").Result, bronze.Extract]
    return [call.load(next(n.stage for n in steps.nodes(steps.PIPELINES[pipeline]) if n.name == name)).Result]


@pytest.mark.parametrize(("node", "pipeline"), NODES)
def test_every_required_parameter_is_given(node: steps.Node, pipeline: str) -> None:
    fields = call.load(node.stage).Params.model_fields
    needed = {name for name, field in fields.items() if field.is_required()}
    given = {field for name in node.upstream for field in leaves(name, pipeline)[-1].model_fields}
    assert needed - given <= LOOKED_UP.get(node.stage, set()) | ({"task"} if node.task else set())


@pytest.mark.parametrize(("node", "pipeline"), NODES)
def test_results_of_one_name_are_of_one_kind(node: steps.Node, pipeline: str) -> None:
    fields = call.load(node.stage).Params.model_fields
    kinds: dict[str, set[str]] = {}
    for model in (model for name in node.upstream for model in leaves(name, pipeline)):
        for field in model.model_fields.keys() & fields.keys():
            kinds.setdefault(field, set()).add(str(model.model_fields[field].annotation))
    assert {field: kind for field, kind in kinds.items() if len(kind) > 1} == {}


@pytest.mark.parametrize("pipeline", steps.PIPELINES)
def test_upstream_comes_first(pipeline: str) -> None:
    seen = {steps.PREPARE_SOURCE}
    for node in steps.nodes(steps.PIPELINES[pipeline]):
        assert set(node.upstream) <= seen
        seen.add(node.name)


def test_every_stage_is_one_value_named_as_its_module() -> None:
    for name, module in steps.STAGES.items():
        assert module.rpartition(".")[2] == name
        assert call.load(name).display_name


@pytest.mark.parametrize(("node", "pipeline"), NODES)
def test_what_upstream_fills_is_marked_as_given_by_the_run(node: steps.Node, pipeline: str) -> None:
    fields = call.load(node.stage).Params.model_fields
    filled = {
        field for name in node.upstream for model in leaves(name, pipeline) for field in model.model_fields
    }
    assert [field for field in fields.keys() & filled if is_configurable(fields[field])] == []
