"""A pipeline on this machine, by Kubeflow's own local runner: a process per step."""

from collections.abc import Mapping
from typing import Any

from kubeflow_pipelines.submit import need_kfp
from mediscale.core.settings import Settings


def run(settings: Settings, pipeline: str, arguments: Mapping[str, Any]) -> bool:
    """Runs every step, printing what the runner and the steps say; whether all succeeded.

    Raises:
        UsageError: kfp is not installed.
    """
    need_kfp()
    from kfp import local

    from kubeflow_pipelines.train_pipeline import layout

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(settings.home / "kubeflow"))
    try:
        layout(pipeline)(**arguments, home=str(settings.home))
    except RuntimeError as error:  # names the step only; its own words are in what was printed
        print(error)
        return False
    return True
