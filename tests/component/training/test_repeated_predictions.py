"""Acute kidney injury every six hours, from events to the gate's verdict: rows of a stay and a prediction time all the
way."""

from datetime import datetime

import numpy as np
import pyarrow.compute as pc
from fixtures import leaky_hospital

from mediscale.core.settings import Settings
from mediscale.inference import tabular
from mediscale.storage import lake
from training import evidence_files, training_examples
from training.evaluation import evaluate, transport
from training.evaluation.evaluation_report import Evidence
from training.promotion import promotion
from training.tabular import risk_model

TASK = "kidney_injury"
KEY = "ab" * 16


def test_a_task_that_predicts_again_and_again_is_trained_judged_and_decided_about(settings: Settings) -> None:
    recorded = leaky_hospital.with_steady_creatinine(leaky_hospital.record())
    certified = leaky_hospital.checked(settings, recorded, TASK)
    dataset = leaky_hospital.DATASET
    frozen = lake.latest(settings, dataset, f"training_set_{TASK}")
    given = {"dataset": dataset, "task": TASK, "training_set": frozen}
    model = risk_model.run(risk_model.Params(**given, rounds=20), settings, KEY).model
    judging = evaluate.Params(
        **given,
        model=model,
        certificate=certified.certificate,
        certificate_digest=certified.certificate_digest,
        bootstrap=50,
    )
    judged = evaluate.run(judging, settings, KEY)
    evidence = evidence_files.read_evidence(Evidence, settings, judged.evidence, judged.evidence_digest)

    rows = lake.read(settings, frozen)
    held_out = rows.filter(pc.equal(rows["split"], "held_out"))
    with_outcome = held_out.filter(held_out["boolean_value"])
    stays = pc.count_distinct(with_outcome["stay_id"]).as_py()
    assert evidence.counts.n == held_out.num_rows > 3 * pc.count_distinct(held_out["stay_id"]).as_py()
    assert evidence.counts.events == with_outcome.num_rows > stays == evidence.counts.independent_events
    assert evidence.alert_burden is not None
    days = held_out.group_by(["stay_id", "admission_time", "discharge_time"]).aggregate([])
    spans = pc.subtract(days["discharge_time"], days["admission_time"]).to_numpy() / np.timedelta64(1, "D")
    assert np.isclose(evidence.alert_burden.patient_days, spans.sum()), "a stay's days count once"
    assert {group.value for group in evidence.subgroups} == {"unknown"}

    decided = promotion.run(
        promotion.Params(
            dataset=dataset,
            task=TASK,
            model=model,
            evidence=judged.evidence,
            evidence_digest=judged.evidence_digest,
            sequence=1,
            actor="tests",
            moved_at=datetime(2026, 1, 1),
            target_alias="production",
        ),
        settings,
        KEY,
    )
    assert not decided.promoted, "so few patients are no evidence"
    assert "held-out patients where the policy needs 200" in decided.reason

    elsewhere = transport.run(settings, model, TASK, trained_on=frozen, other=frozen)
    assert elsewhere.counts.n == rows.num_rows, "all splits of the other dataset"
    assert {shift.difference for shift in elsewhere.inputs if shift.missing < 1} != {None}

    predictor = tabular.load(settings, model, TASK)
    examples = training_examples.load(settings, frozen, "held_out", predictor.spec.features)
    risks = predictor.risks(examples.inputs)
    assert len({round(risk, 6) for risk in risks[:20].tolist()}) > 5, (
        "a stay's risk changes from hour to hour"
    )
