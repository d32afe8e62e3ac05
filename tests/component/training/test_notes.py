"""The note model: what it may read, how it batches, and that a killed fit goes on where it was."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from mediscale.core.errors import UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import NOTE_TOKENS, TRAINING_SET
from mediscale.inference import collate
from mediscale.inference.collate import Special, windows
from mediscale.storage import lake
from training.notes import note_attribution, note_examples, note_network, note_training
from training.notes.note_checkpoint import Checkpoints, State
from training.notes.note_examples import Stays
from training.notes.note_network import Shape
from training.notes.note_training import Fit, FittedNoteModel, Job, Recipe, sample
from training.training_examples import Examples

WORDS, SIGN = 60, 7


def land(settings: Settings, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> TableRef:
    write_deltalake(settings.table_uri("h", table), pa.Table.from_pylist(rows, schema=schema))
    return lake.latest(settings, "h", table)


def at(hour: int) -> datetime:
    return datetime(2150, 1, 1 + hour // 24, hour % 24)


def test_only_notes_readable_in_time_are_read_and_the_newest_first(settings: Settings) -> None:
    def note(note_id: int, charted: int, known: int, token: int, **other: object) -> dict[str, Any]:
        times = {"time": at(charted), "available_time": at(known)}
        return {"note_id": note_id, "subject_id": 1, "visit_id": 1, **times, "note_type": "t",
                "tokenizer": "x", "tokens": [token] * 3, **other}  # fmt: skip

    notes = [
        note(1, 26, 27, 11),  # admission note
        note(2, 30, 31, 12),
        note(2, 30, 40, 13),  # its correction, read in time
        note(3, 40, 60, 14),  # stored after the prediction
        note(4, 60, 60, 15),  # written after it
        note(5, 0, 1, 16),  # before the stay
        note(6, 30, 31, 17, subject_id=2),
        note(7, 32, 33, 18, tokenizer="y"),  # to a model of x other words
    ]
    who = {"subject_id": 1, "stay_id": 1, "admission_time": at(25), "prediction_time": at(49)}
    told = {
        **who,
        "boolean_value": True,
        "split": "train",
        "sex": "female",
        "age_band": "80+",
        "ethnicity": "unknown",
    }
    tables = note_examples.Tables(
        land(settings, "training_set_mortality", [told], TRAINING_SET.arrow_schema()),
        land(settings, "note_tokens", notes, NOTE_TOKENS.arrow_schema()),
    )
    assert note_examples.tokenizers(settings, tables.note_tokens) == {"x", "y"}
    stays = note_examples.load(settings, tables, "train", "x", 8, 4)
    assert [piece.tolist() for piece in stays.windows[0]] == [[13] * 3, [11] * 3]


def test_long_notes_are_cut_evenly_and_no_notes_give_one_empty_window() -> None:
    long, short, empty = np.arange(100, dtype=np.int32), np.ones(1, np.int32), np.empty(0, np.int32)
    assert [len(piece) for piece in windows([long, short], 42, 4)] == [34, 34, 32, 1]
    assert [len(piece) for piece in windows([long, short], 42, 2)] == [40, 40]  # its beginning alone decides
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
    return Stays(Examples(subjects, times, outcomes, np.zeros((n, 0), np.float32), {}, times), pieces)


def test_batches_hold_every_stay_once_within_the_budget() -> None:
    lengths = made_up(300, 0).lengths()
    groups = list(collate.bucket_by_length(lengths, 256, 1))
    assert sorted(np.concatenate(groups).tolist()) == list(range(300))
    padded = [lengths[g, 0].sum() * lengths[g, 1].max() for g in groups]
    assert max(padded) <= 256
    assert sum(padded) < 1.35 * (lengths[:, 0] * lengths[:, 1]).sum()


def test_sampled_stays_stand_for_all() -> None:
    stays = made_up(400, 0)
    share = stays.rows.events / 400
    for most, cases in ((300, stays.rows.events), (100, 50), (400, stays.rows.events)):
        chosen, offset = sample(stays, most, 0)
        outcomes = stays.rows.outcomes[chosen]
        assert (len(chosen), outcomes.sum()) == (most, cases)
        assert len(set(chosen.tolist())) == most
        sampled = cases / most
        odds = sampled / (1 - sampled) / (share / (1 - share))
        assert offset == pytest.approx(np.log(odds))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(**shape, intermediate_size=64, max_position_embeddings=32)).save_pretrained(folder)
    return folder


def fit(encoder: Path, folder: Path, checkpoint_every: int = 2, rank: int = 0, workers: int = 1) -> Fit:
    import torch

    nowhere = TableRef(dataset="h", table="t", table_id="", version=0)
    recipe = Recipe(epochs=2, patience=2, learning_rate=5e-3, batch_tokens=256, gradient_accumulation_steps=2,
                    max_examples_per_epoch=100,
                    checkpoint_every=checkpoint_every, threads=1, seed=0)  # fmt: skip
    job = Job(home="", lake="", task="mortality", training_set=nowhere, note_tokens=nowhere,
              tokenizer="x", encoder=str(encoder), special=Special(start=1, end=2, padding=0), window=18,
              most_windows=3, shape=Shape(layers=2, trained_layers=2, seed=0), recipe=recipe,
              checkpoints=str(folder))  # fmt: skip
    return Fit(note_network.build(encoder, job.shape), torch.device("cpu"), job, rank, workers)


class KilledError(Exception):
    pass


def killed(fit: Fit, method: str, call: int, train: Stays, tuning: Stays) -> None:
    """Runs a fit that dies when ``method`` is called for that time, before it does anything."""
    calls, whole = 0, getattr(fit, method)

    def counted(*told: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return whole(*told)

    setattr(fit, method, counted)
    with pytest.raises(KilledError):
        fit.run(train, tuning, lambda _: None)


def same(found: FittedNoteModel, expected: FittedNoteModel) -> bool:
    return found.state == expected.state and np.array_equal(found.logits_by_epoch, expected.logits_by_epoch)


@pytest.mark.parametrize("checkpoint_every", [1, 2])
def test_a_fit_killed_at_any_moment_ends_as_an_undisturbed_one(
    encoder: Path, tmp_path: Path, checkpoint_every: int
) -> None:
    train, tuning = made_up(120, 1), made_up(40, 2)
    whole = fit(encoder, tmp_path / "whole", checkpoint_every).run(train, tuning, lambda _: None)
    assert all(np.isfinite(whole.state.train_losses))
    moments = [("_step", k + 1) for k in range(whole.state.step)] + [("_judge", 1), ("_judge", 2)]
    for moment in moments:
        folder = tmp_path / f"{moment}"
        killed(fit(encoder, folder, checkpoint_every), *moment, train, tuning)
        again = fit(encoder, folder, checkpoint_every).run(train, tuning, lambda _: None)
        assert same(again, whole), moment


def test_of_torn_or_unreadable_checkpoints_the_one_before_is_used(encoder: Path, tmp_path: Path) -> None:
    import torch

    train, tuning = made_up(120, 1), made_up(40, 2)
    whole = fit(encoder, tmp_path / "whole").run(train, tuning, lambda _: None)
    killed(fit(encoder, tmp_path / "killed"), "_step", 7, train, tuning)
    newest = sorted((tmp_path / "killed").glob("*.safetensors"))[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    found = Checkpoints(tmp_path / "killed").newest()
    assert found is not None
    assert found[0].step > 0
    newest.unlink()
    lost = State(epoch=9, loss=float("nan"))  # JSON has no such number
    Checkpoints(tmp_path / "killed").save(lost, {"weight": torch.zeros(1)})
    kept = Checkpoints(tmp_path / "killed").newest()
    assert kept is not None
    assert kept[0] == found[0]
    again = fit(encoder, tmp_path / "killed").run(train, tuning, lambda _: None)
    assert same(again, whole)


def test_every_worker_goes_on_with_the_masks_that_it_would_have_drawn(encoder: Path, tmp_path: Path) -> None:
    """What is dropped is seen as zeros, whatever the weights are."""
    train, tuning = made_up(120, 1), made_up(40, 2)

    def masks(fit: Fit) -> list[bytes]:
        drawn: list[bytes] = []

        def keep(module: Any, _inputs: Any, output: Any) -> None:
            if module.training:
                drawn.append((output == 0).numpy().tobytes())

        fit.network.dropout.register_forward_hook(keep)
        fit.run(train, tuning, lambda _: None)
        return drawn

    first, second = (masks(fit(encoder, tmp_path / "unused", rank=rank, workers=2)) for rank in (1, 0))
    assert len(first) == len(second)
    assert not set(first) & set(second)
    killed(fit(encoder, tmp_path / "killed", workers=2), "_step", 4, train, tuning)
    again = masks(fit(encoder, tmp_path / "killed", rank=1, workers=2))
    assert 0 < len(again) < len(first)
    assert again == first[-len(again) :]


def test_more_workers_than_batches_are_refused(encoder: Path, tmp_path: Path) -> None:
    train, tuning = made_up(20, 1), made_up(20, 2)
    one = fit(encoder, tmp_path, workers=40)
    with pytest.raises(UsageError, match=r"20 training stays make \d batches for 40 workers"):
        one.run(train, tuning, lambda _: None)
    with pytest.raises(UsageError, match="train with at most"):
        note_training.check(train, one.job.recipe, 40)
    note_training.check(train, one.job.recipe, 1)


def test_the_words_that_are_told_are_shared_and_no_names_known_or_unknown(encoder: Path) -> None:
    from tokenizers import BertWordPieceTokenizer

    vocabulary = [
        "[PAD]",
        "[CLS]",
        "[SEP]",
        "[UNK]",
        "pain",
        "long",
        "furosemide",
        "smith",
        "langley",
        "quillfeather",
    ]
    words = BertWordPieceTokenizer({word: i for i, word in enumerate([*vocabulary, "chest"])}, lowercase=True)
    shared = words.encode("pain long furosemide smith langley quillfeather", add_special_tokens=False).ids
    stays = made_up(12, 0)
    pieces = [[np.array(shared + ([10] if i < 3 else []), np.int32)] for i in range(12)]
    told = note_attribution.words(
        note_network.build(encoder, Shape(layers=2, trained_layers=2, seed=0)),
        Stays(stays.rows, pieces),
        words,
        Special(start=1, end=2, padding=0),
    )
    assert told.keys() == {"pain", "long", "furosemide"}


def test_what_is_told_of_each_word_adds_up_to_the_change_from_a_note_of_none(encoder: Path) -> None:
    """As the gradient at the note alone does not: of a word that decides it may have the wrong sign."""
    import torch

    network = note_network.build(encoder, Shape(layers=2, trained_layers=2, seed=0)).eval()
    note = [[np.array([5, 6, 7, 8], np.int32)], [np.array([9, 10], np.int32), np.array([11], np.int32)]]
    batch = collate.batch(note, Special(start=1, end=2, padding=0))
    with torch.no_grad():
        read = note_network.margins(network, batch, torch.device("cpu")).sum()
        words = network.bert.get_input_embeddings()
        words.weight.zero_()
        empty = note_network.margins(network, batch, torch.device("cpu")).sum()
    network = note_network.build(encoder, Shape(layers=2, trained_layers=2, seed=0)).eval()
    told = note_attribution.integrated_gradients(network, batch)
    assert told[batch.mask == 0].tolist() == [0.0] * int((batch.mask == 0).sum())
    assert told.sum() == pytest.approx(float(read - empty), rel=0.02)


@pytest.mark.parametrize(
    ("layers", "trained", "expected"), [(2, 1, [1]), (1, 2, [0]), (1, 12, [0]), (0, 12, [0, 1])]
)
def test_the_upper_layers_of_those_kept_are_trained(
    encoder: Path, layers: int, trained: int, expected: list[int]
) -> None:
    network = note_network.build(encoder, Shape(layers=layers, trained_layers=trained, seed=0))
    learns = [all(p.requires_grad for p in layer.parameters()) for layer in network.bert.encoder.layer]
    assert [i for i, one in enumerate(learns) if one] == expected


def test_layers_that_the_encoder_does_not_have_are_refused(encoder: Path) -> None:
    with pytest.raises(UsageError, match="has 2 layers where 3 are to be kept"):
        note_network.build(encoder, Shape(layers=3, trained_layers=1, seed=0))
