"""A pipeline on this machine, by Kubeflow's own local runner: a process per step."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        with _own_temporary_folder():
            layout(pipeline)(**arguments, home=str(settings.home))
    except RuntimeError as error:  # names the step only; its own words are in what was printed
        print(error)
        return False
    return True


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Each step leaves its program in a folder that it makes in the temporary one; these go with the run."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="kfp-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before
