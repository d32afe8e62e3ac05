"""UCI-130's readmission model beside XGBoost on every column of the same rows, on patients that neither was fitted on.

    MEDISCALE_HOME=H mediscale run --source uci-diabetes-130 --path DIR --task encounter_readmission
    python benchmarks/uci_readmission.py H DIR/diabetic_data.csv.gz

XGBoost reads all columns but the two numbers and the outcome, words one-hot, among them the diagnoses that billing
codes after discharge, which ours may not know. The difference in AUROC is paired, its interval from resampled patients.
Above 0.72 either would be a leak.
"""

import argparse
import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xxhash
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mediscale.core.refs import ModelRef, TableRef
from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.storage import calls, lake

DATASET, TASK = "uci-diabetes-130", "encounter_readmission"
RESAMPLES = 1000
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home", type=Path)
    parser.add_argument("file", type=Path, help="diabetic_data.csv.gz")
    arguments = parser.parse_args()
    settings = Settings(home=arguments.home)
    fused = calls.of_stage(settings, "late_fusion")[-1]
    frozen = TableRef.model_validate(fused.params["training_set"])
    predictor = tabular.load(settings, ModelRef.model_validate(fused.result["model"]), TASK)
    rows = lake.read(settings, frozen).to_pandas().sort_values("stay_id").reset_index(drop=True)
    everything = _columns(arguments.file).loc[rows["stay_id"]].reset_index(drop=True)
    held_out = (rows["split"] == "held_out").to_numpy()
    outcome = rows["boolean_value"].to_numpy().astype(float)
    inputs = rows[list(predictor.spec.features)].to_numpy(np.float32)
    ours = predictor.risks(inputs[held_out])
    theirs = _xgboost(everything, outcome, (rows["split"] == "train").to_numpy(), held_out)
    print(f"rows {len(rows):,}, held out {held_out.sum():,} with {outcome[held_out].sum():,.0f} outcomes")
    subjects = rows["subject_id"].to_numpy()[held_out]
    for name, difference in (("ours", None), ("XGBoost on all columns", None), ("ours - XGBoost", True)):
        low, value, high = _interval(subjects, outcome[held_out], ours, theirs, name, bool(difference))
        print(f"AUROC {name:<24}{value:.4f} ({low:.4f} to {high:.4f})")


def _columns(file: Path) -> pd.DataFrame:
    """Every column of every encounter by its pseudonym in our tables."""
    with gzip.open(file, "rt", newline="") as stream:
        frame = pd.DataFrame(list(csv.DictReader(stream)))
    frame.index = pd.Index([_pseudonym(number) for number in frame["encounter_id"]])
    frame = frame.drop(columns=["encounter_id", "patient_nbr", "readmitted"])
    for column in ("diag_1", "diag_2", "diag_3"):
        frame[column] = frame[column].str.slice(0, 3)
    numbers = [column for column in map(str, frame.columns) if column.startswith(("num", "time"))]
    words = frame.drop(columns=numbers)
    common = {column: words[column].value_counts().loc[lambda n: n >= 50].index for column in words}
    kept = pd.DataFrame({c: words[c].where(words[c].isin(common[c]), "rare") for c in words})
    return pd.concat([frame[numbers].astype(float), pd.get_dummies(kept, dtype=np.float32)], axis=1)


def _pseudonym(number: str) -> int:
    """As Spark's xxhash64 gives it (``data_pipeline.ingest.extract_facts.pseudonym_sql``)."""
    return int(xxhash.xxh64(f"{DATASET}|{number}".encode(), seed=42).intdigest() & (2**53 - 1))


def _xgboost(columns: pd.DataFrame, outcome: Floats, train: Any, held_out: Any) -> Floats:
    import xgboost

    model = xgboost.XGBClassifier(
        n_estimators=300, learning_rate=0.05, max_depth=5, subsample=0.8, colsample_bytree=0.5, n_jobs=2
    )
    matrix = columns.to_numpy(np.float32)
    model.fit(matrix[train], outcome[train])
    return np.asarray(model.predict_proba(matrix[held_out])[:, 1], dtype=np.float64)


def _interval(
    subjects: Any, outcome: Floats, ours: Floats, theirs: Floats, name: str, paired: bool
) -> tuple[float, float, float]:
    def measure(chosen: Any) -> float:
        own, other = (roc_auc_score(outcome[chosen], risks[chosen]) for risks in (ours, theirs))
        return float(own - other if paired else own if name == "ours" else other)

    generator = np.random.default_rng(0)
    patients, group = np.unique(subjects, return_inverse=True)
    order = np.argsort(group, kind="stable")
    begin = np.searchsorted(group[order], np.arange(len(patients) + 1))
    samples = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(patients), size=len(patients))
        chosen = np.concatenate([order[begin[i] : begin[i + 1]] for i in drawn])
        samples.append(measure(chosen))
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), measure(slice(None)), float(high)


if __name__ == "__main__":
    main()
