"""How far two layouts of workers are apart: a version of a home, rebuilt with one and with two Ray workers, twice each.

    .venv/bin/python -m benchmarks.reproduce [MODEL/VERSION]

Reads the home of MEDISCALE_HOME (``make run`` makes one; by default its newest risk model) and writes nothing there. On
one layout the trees are the same to the bit. Two workers sample their own rows, so the trees are others: the figure is
how much of a risk that moves on the tuning split.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mediscale.core.errors import NotFoundError
from mediscale.core.refs import parse_version
from mediscale.core.settings import Settings
from mediscale.inference import model_files, tabular
from mediscale.storage.calls import Call
from mediscale.storage.lineage import Lineage
from training import training_examples
from training.statistics import metrics
from training.tabular import risk_model

LAYOUTS = (1, 1, 2, 2)


def rebuilt(
    settings: Settings, record: Call, workers: int
) -> tuple[str, training_examples.Examples, NDArray[np.float64]]:
    """Digest of the files that answer, and risks (n) on the tuning rows."""
    params = risk_model.Params.model_validate({**record.params, "workers": workers})
    with tempfile.TemporaryDirectory(prefix="mediscale-reproduce-") as scratch:
        elsewhere = {"home": Path(scratch) / "home", "tracking_uri": f"sqlite:///{scratch}/mlflow.db"}
        folder = Path(scratch) / "model"
        risk_model.fit(params, settings.model_copy(update=elsewhere), record.key).save(folder)
        digest = model_files.digest(folder)
        model = risk_model.Result.model_validate(record.result).model
        made = model.model_copy(update={"uri": str(folder), "digest": digest})
        predictor = tabular.load(settings, made, params.task)
        rows = training_examples.load(settings, params.training_set, "tuning", predictor.spec.features)
        return digest, rows, predictor.risks(rows.inputs)


def newest(lineage: Lineage) -> Call:
    records = [call for call in lineage.calls if call.stage == "risk_model"]
    if not records:
        raise NotFoundError("This home has no risk model yet; run `make run` first.")
    return records[-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", nargs="?", default="")
    version = parse_version(parser.parse_args().version)
    settings = Settings()
    lineage = Lineage(settings)
    record = lineage.maker(*version) if version else newest(lineage)
    results = [rebuilt(settings, record, workers) for workers in LAYOUTS]
    first, rows, risks = results[0]
    table = Table(
        "workers", "files", "AUROC on tuning rows", "largest difference of a risk", "mean difference"
    )
    for workers, (digest, _, other) in zip(LAYOUTS, results, strict=True):
        apart = np.abs(other - risks)
        auroc = metrics.point_estimate(metrics.auroc, rows.outcomes, other)
        same = "identical to the first" if digest == first else digest[:12]
        table.add_row(str(workers), same, f"{auroc:.4f}", f"{apart.max():.4f}", f"{apart.mean():.4f}")
    console = Console()
    console.print(
        f"{record.result['model']['name']}/{record.result['model']['version']}, {len(rows)} tuning rows"
    )
    console.print(table)


if __name__ == "__main__":
    main()
