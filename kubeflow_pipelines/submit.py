"""The compiled training pipeline, written to a file or handed to a Kubeflow cluster."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mediscale.core.errors import MediscaleError, UsageError
from mediscale.core.settings import Settings


def compiled(output: Path | None, settings: Settings, pipeline: str = "risk") -> Path:
    """Compiles a pipeline for the cluster of the settings into ``output``, or for none over the repository's own
    file.

    Raises:
        UsageError: the output is no YAML file, or kfp is absent.
    """
    need_kfp()
    from kubeflow_pipelines import steps, train_pipeline

    path = output or train_pipeline.COMPILED[pipeline]
    if path.suffix != ".yaml" or path.is_dir():
        raise UsageError(f"{path} is no file that ends with .yaml; choose another --output.")
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {name: getattr(settings, f"kfp_{name}") for name in steps.Cluster._fields}
    train_pipeline.compile_to(path, pipeline, steps.Cluster(**named) if output else steps.NONE)
    return path


def submit(settings: Settings, arguments: Mapping[str, Any], pipeline: str = "risk") -> str:
    """Starts a run of a pipeline on the cluster; returns its address.

    Raises:
        UsageError: no host, or nothing that the steps share, is set; kfp is absent; a stage would refuse its
            configuration; or the cluster refuses the token.
        MediscaleError: the cluster does not answer.
    """
    if not settings.kfp_host:
        raise UsageError(
            "No Kubeflow cluster is named; set MEDISCALE_KFP_HOST (and MEDISCALE_KFP_TOKEN where it asks for one)."
        )
    if not settings.kfp_claim and not settings.kfp_secret:
        raise UsageError(
            "The steps would share nothing: name the cluster's volume claim for their home in MEDISCALE_KFP_CLAIM, or "
            "a secret with MEDISCALE_LAKE and the other settings in MEDISCALE_KFP_SECRET."
        )
    need_kfp()
    import kfp
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    host, token = settings.kfp_host, settings.kfp_token.get_secret_value()
    warnings.simplefilter("ignore", FutureWarning)
    try:
        _greet(host, token)
        client = kfp.Client(host=host, existing_token=token or None)
        run = client.create_run_from_pipeline_package(
            str(compiled(settings.home / "kubeflow" / f"{pipeline}_pipeline.yaml", settings, pipeline)),
            arguments=_with_home(settings, arguments),
            run_name=f"mediscale-{pipeline}",
            enable_caching=False,
        )
    except ApiException as error:
        raise UsageError(_refusal(host, error.status)) from error
    except (HTTPError, OSError) as error:
        raise MediscaleError(
            f"The Kubeflow cluster {host} does not answer; check MEDISCALE_KFP_HOST."
        ) from error
    return f"{host.rstrip('/')}/#/runs/details/{run.run_id}"


def _with_home(settings: Settings, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from kubeflow_pipelines import steps

    return {**arguments, "home": steps.HOME if settings.kfp_claim else ""}


def _greet(host: str, token: str) -> None:
    """Asks once whether the cluster answers us: the client would try for half a minute and print each failure."""
    import kfp_server_api

    address = kfp_server_api.Configuration(host=host.rstrip("/"))
    address.retries = False
    if token:
        address.api_key, address.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    kfp_server_api.HealthzServiceApi(kfp_server_api.ApiClient(address)).healthz_service_get_healthz()


def _refusal(host: str, status: int | None) -> str:
    if status in (401, 403):
        return f"The Kubeflow cluster {host} refuses the token; set MEDISCALE_KFP_TOKEN to a valid one."
    if status == 404:
        return f"There is no Kubeflow Pipelines API at {host}; check MEDISCALE_KFP_HOST."
    return f"The Kubeflow cluster {host} refuses the run with status {status}; its own log says why."


def need_kfp() -> None:
    """Refuses, in a sentence, an environment without Kubeflow's package."""
    try:
        import kfp  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError("Kubeflow's package kfp is not in this environment; run `make setup`.") from None
