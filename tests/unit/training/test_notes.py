"""The note model: what it may read, how it batches, and that a killed fit goes on where it was."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mediscale import lake, note_batches
from mediscale.note_batches import Special, windows
from mediscale.refs import TableRef
from mediscale.settings import Settings
from mediscale.tables import LABELS, NOTE_TOKENS, TRAINING_SET
from training import note_examples, note_network
from training.examples import Examples
from training.note_checkpoint import Checkpoints
from training.note_examples import Stays
from training.note_network import Shape
from training.note_training import Fit, Job, Recipe, sample

WORDS, SIGN = 60, 7


def land(settings: Settings, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> TableRef:
    write_deltalake(settings.table_uri("h", table), pa.Table.from_pylist(rows, schema=schema))
    return lake.latest(settings, "h", table)


def at(hour: int) -> datetime:
    return datetime(2150, 1, 1 + hour // 24, hour % 24)


def test_only_notes_readable_in_time_are_read_and_the_newest_first(settings: Settings) -> None:
    def note(note_id: int, charted: int, known: int, token: int, subject: int = 1) -> dict[str, Any]:
        times = {"time": at(charted), "available_time": at(known)}
        return {"note_id": note_id, "subject_id": subject, "visit_id": 1, **times, "note_type": "t",
                "tokenizer": "x", "tokens": [token] * 3}  # fmt: skip

    notes = [
        note(1, 26, 27, 11),  # admission note
        note(2, 30, 31, 12),
        note(2, 30, 40, 13),  # its correction, read in time
        note(3, 40, 60, 14),  # stored after the prediction
        note(4, 60, 60, 15),  # written after it
        note(5, 0, 1, 16),  # before the stay
        note(6, 30, 31, 17, subject=2),
    ]
    who = {"subject_id": 1, "visit_id": 1, "prediction_time": at(49)}
    told = {
        **who,
        "boolean_value": True,
        "split": "train",
        "sex": "female",
        "age_band": "80+",
        "ethnicity": "unknown",
    }
    label = {**told, "admission_time": at(25), "known_time": at(90), "shard": 0}
    tables = note_examples.Tables(
        land(settings, "training_set_mortality", [told], TRAINING_SET.arrow_schema()),
        land(settings, "labels_mortality", [label], LABELS.arrow_schema()),
        land(settings, "note_tokens", notes, NOTE_TOKENS.arrow_schema()),
    )
    stays = note_examples.load(settings, tables, "train", 8, 4)
    assert [piece.tolist() for piece in stays.windows[0]] == [[13] * 3, [11] * 3]


def test_long_notes_are_cut_evenly_and_no_notes_give_one_empty_window() -> None:
    long, short, empty = np.arange(100, dtype=np.int32), np.ones(1, np.int32), np.empty(0, np.int32)
    assert [len(piece) for piece in windows([long, short], 42, 4)] == [34, 34, 32, 1]
    assert [len(piece) for piece in windows([long, short], 42, 2)] == [34, 34]
    assert [piece.tolist() for piece in windows([], 42, 2)] == [[]]
    assert [piece.tolist() for piece in windows([empty], 42, 2)] == [[]]


def made_up(n: int, seed: int) -> Stays:
    """Stays of which those with the sign among their words mostly have the outcome."""
    rng = np.random.default_rng(seed)
    outcomes = (rng.random(n) < 0.3).astype(np.float64)
    pieces = []
    for outcome in outcomes:
        words = rng.integers(SIGN + 1, WORDS, size=rng.integers(3, 30)).astype(np.int32)
        if rng.random() < (0.95 if outcome else 0.05):
            words[rng.integers(len(words))] = SIGN
        pieces.append(list(windows([words], 18, 3)))
    times = np.full(n, np.datetime64("2150-01-01", "us"))
    subjects = np.arange(n, dtype=np.int64) << 20
    return Stays(Examples(subjects, times, outcomes, np.zeros((n, 0), np.float32), {}), pieces)


def test_batches_hold_every_stay_once_within_the_budget() -> None:
    lengths = made_up(300, 0).lengths()
    groups = list(note_batches.grouped(lengths, 256, 1))
    assert sorted(np.concatenate(groups).tolist()) == list(range(300))
    padded = [lengths[g, 0].sum() * lengths[g, 1].max() for g in groups]
    assert max(padded) <= 256
    assert sum(padded) < 1.35 * (lengths[:, 0] * lengths[:, 1]).sum()


def test_sampled_stays_stand_for_all() -> None:
    stays = made_up(400, 0)
    for most, cases in ((300, stays.rows.events), (100, 50)):
        chosen, weights = sample(stays, most, 0)
        outcomes = stays.rows.outcomes[chosen]
        assert (len(chosen), outcomes.sum()) == (most, cases)
        assert len(set(chosen.tolist())) == most
        assert weights[outcomes == 1].sum() == pytest.approx(stays.rows.events)
        assert weights[outcomes == 0].sum() == pytest.approx(400 - stays.rows.events)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(**shape, intermediate_size=64, max_position_embeddings=32)).save_pretrained(folder)
    return folder


def fit(encoder: Path, folder: Path) -> Fit:
    import torch

    nowhere = TableRef(dataset="h", table="t", table_id="", version=0)
    recipe = Recipe(epochs=2, patience=2, learning_rate=5e-3, batch_tokens=256, accumulate=2, most_stays=100,
                    checkpoint_every=2, threads=1, seed=0)  # fmt: skip
    job = Job(home="", lake="", task="mortality", training_set=nowhere, labels=nowhere, note_tokens=nowhere,
              encoder=str(encoder), special=Special(start=1, end=2, padding=0), window=18, most_windows=3,
              shape=Shape(layers=2, trained_layers=2, seed=0), recipe=recipe, checkpoints=str(folder))  # fmt: skip
    return Fit(note_network.build(encoder, job.shape), torch.device("cpu"), job)


class KilledError(Exception):
    pass


def test_a_killed_fit_ends_as_an_undisturbed_one(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, tuning = made_up(120, 1), made_up(40, 2)
    whole = fit(encoder, tmp_path / "whole").run(train, tuning, lambda _: None)
    steps = 0
    step = Fit._step

    def killed_at_seven(self: Fit, *told: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 7:
            raise KilledError
        return step(self, *told)

    monkeypatch.setattr(Fit, "_step", killed_at_seven)
    with pytest.raises(KilledError):
        fit(encoder, tmp_path / "killed").run(train, tuning, lambda _: None)
    monkeypatch.undo()
    newest = sorted((tmp_path / "killed").glob("*.safetensors"))[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])  # torn: the one before it is used
    found = Checkpoints(tmp_path / "killed").newest()
    assert found is not None
    assert found[0].step > 0
    again = fit(encoder, tmp_path / "killed").run(train, tuning, lambda _: None)
    assert np.abs(again.staged - whole.staged).max() < 1e-3
    assert again.state.step == whole.state.step
