"""A watched hospital: its answers go through drift and the retrain decision, day after day."""

from mediscale.inference import tabular
from mediscale.simulation import watched_hospital, watched_outcome
from mediscale.simulation.planted_changes import Change, Drawn
from mediscale.simulation.watched_hospital import Hospital
from mediscale.storage import lake
from training import training_examples

CALENDAR = {"PLANTED_DAY": 2, "DAYS": 5, "WINDOW": 2, "FOLLOW_UP": 7}
"""Too short for an outcome to mature."""


def _higher(day: Drawn) -> None:
    lactate = [
        i for i, name in enumerate(day.features) if name.startswith("lactate_") and "_count_" not in name
    ]
    day.inputs[:, lactate] += 3


def test_a_planted_change_is_noticed_by_drift_on_its_first_day(world, monkeypatch) -> None:
    for module in (watched_hospital, watched_outcome):
        for name, days in CALENDAR.items():
            monkeypatch.setattr(module, name, days)
    predictor = tabular.load(world.settings, world.model, "mortality")
    held_out = training_examples.load(
        world.settings, world.training.training_set, "held_out", predictor.spec.features
    )
    evidence = {"evidence": world.judged.evidence, "evidence_digest": world.judged.evidence_digest}
    hospital = Hospital(
        world.settings,
        "watched",
        "mortality",
        world.model,
        world.training.training_set,
        predictor,
        held_out,
        evidence,
    )
    said: list[str] = []
    outcome = hospital.live(Change("lactate reads high", _higher, "inputs"), said.append)
    assert len(said) == 5
    assert outcome.drifted_before == ()
    assert outcome.drifted_after == (2, 3)
    assert outcome.columns
    assert all(column.startswith(("lactate_", "risk")) for column in outcome.columns)
    answers = lake.read(
        world.settings, lake.latest(world.settings, "watched", "predictions"), ["predicted_at"]
    )
    assert answers.num_rows == 5 * watched_hospital.PER_DAY
