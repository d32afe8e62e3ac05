"""Whether the note network can be pruned before it is fine-tuned: what that saves, and what it costs in reading.

    .venv/bin/python -m benchmarks.note_pruning [--seeds 3] [--neurons 384]

Of the inner neurons of each feed-forward network those are kept whose weights, as the encoder came, have the largest
norms (into the neuron times out of it), and the rest is trained afterwards: whole units by their weights, as Li et al.
(2017, arXiv:1608.08710) prune filters and McCarley et al. (2019, arXiv:1910.06360) narrow a BERT.

Each seed is a synthetic hospital of 6,000 patients, whose notes of the first day are read for death in hospital as the
stage ``note_model`` reads them, with its parameters. In each, the whole and the pruned network are fine-tuned on the
same training patients, exported, and judged on the same tuning patients, in one process on one thread; the held-out
patients are not read. AUROC and log loss are expected ones, over outcomes drawn with the generator's own probabilities:
a hospital has some 70 deaths among its tuning stays, whose luck the comparison does not need. The differences have 95 %
intervals over the hospitals, by Student's t. Identifiers in the notes were not replaced.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.note_training import cpu
from benchmarks.possible_lift import expected_auroc, interval
from data_pipeline.notes import encoders
from data_pipeline.synthetic import SUBJECTS
from data_pipeline.synthetic.blocks import BLOCK
from data_pipeline.synthetic.clinical_notes import DISCHARGE, SyntheticNote, generate_notes
from data_pipeline.synthetic.frames import HOUR, stream
from data_pipeline.synthetic.hospital import draw_encounters
from data_pipeline.synthetic.patients import DAYS, draw_subjects, simulate
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split
from mediscale.inference import collate, notes
from mediscale.inference.collate import Tokens
from training.notes import note_export, note_network, note_training
from training.notes.allocator import keep_freed_memory
from training.notes.note_checkpoint import State
from training.notes.note_examples import Stays
from training.notes.note_model import Params
from training.notes.note_network import Shape
from training.notes.note_training import Fit, Job, Recipe
from training.statistics import metrics
from training.training_examples import Examples

FIRST_SEED = 1
"""No hospital of another benchmark, nor that of ``make run``."""
NOTHING = TableRef(dataset="", table="", table_id="", version=0)


@dataclass(frozen=True)
class Hospital:
    """Stays at risk with what was written on their first day; of the tuning stays also the generator's risk (n)."""

    train: Stays
    tuning: Stays
    risk: np.ndarray


@dataclass(frozen=True)
class Read:
    """One network in one hospital."""

    auroc: float
    log_loss: float
    """Both expected over outcomes drawn with the generator's probabilities."""
    training: float
    """Seconds of CPU of the fit."""
    reading: float
    """Of the exported graph in single precision, on the tuning stays one by one."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (3)")
    parser.add_argument("--neurons", type=int, default=384, help="that are kept (384)")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    reads: dict[int, list[Read]] = {0: [], options.neurons: []}
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        hospital = of_seed(seed)
        for neurons, of_all in reads.items():
            network, training = fitted(hospital, neurons)
            graph = note_export.single_precision(network, default("window"))
            of_all.append(read(hospital, graph, training))
        print(f"seed {seed}: {' and '.join(str(of_all[-1]) for of_all in reads.values())}", flush=True)
    for what in ("auroc", "log_loss"):
        whole, pruned = (np.array([getattr(one, what) for one in of_all]) for of_all in reads.values())
        print(
            f"{what}: {whole.mean():.4f} whole, {pruned.mean():.4f} pruned, {interval(pruned - whole, 4)} more"
        )
        print(f"figure: difference of {what} by pruning = {(pruned - whole).mean():.4f}")
    for what in ("training", "reading"):
        spent = [sum(getattr(one, what) for one in of_all) for of_all in reads.values()]
        print(f"figure: CPU of {what} with the pruned network over the whole = {spent[1] / spent[0]:.2f}")


def default(name: str) -> Any:
    return Params.model_fields[name].default


def files() -> Path:
    return encoders.folder(Settings(), encoders.PACKAGED)


def of_seed(seed: int) -> Hospital:
    """The stays at risk of a hospital's training and tuning patients."""
    tokenizer, found = encoders.tokenizer(files()), list(at_risk(seed))
    subjects, died, risk = (np.array(column) for column in list(zip(*found, strict=True))[:3])
    pieces = []
    for *_, texts in found:
        read = tokenizer.encode_batch(texts, add_special_tokens=False)
        notes: list[Tokens] = [np.array(one.ids, dtype=np.int32) for one in read]
        pieces.append(collate.windows(notes, default("window"), default("most_windows")))
    of = np.array([assign_split(int(subject)) for subject in subjects])

    def split(name: str) -> Stays:
        chosen = np.flatnonzero(of == name)
        times, none = np.zeros(len(chosen), "datetime64[us]"), np.zeros((len(chosen), 0), np.float32)
        rows = Examples(subjects[chosen], times, died[chosen].astype(np.float64), none, {}, times)
        return Stays(rows, [pieces[i] for i in chosen])

    return Hospital(split("train"), split("tuning"), risk[of == "tuning"])


def at_risk(seed: int) -> Iterator[tuple[int, bool, float, list[str]]]:
    """Of each stay that lasted a day its patient, whether they died, how probable that was, and the first day's notes,
    newest first."""
    for block, first in enumerate(range(0, SUBJECTS["small"], BLOCK)):
        subjects = draw_subjects(stream(seed, block, "subjects"), BLOCK, 10_000_000 + 3 * first, DAYS)
        visits = simulate(stream(seed, block, "visits"), subjects, DAYS)
        encounters = draw_encounters(stream(seed, block, "encounters"), subjects, visits, block)
        written: dict[int, list[SyntheticNote]] = {
            visit: list(notes)
            for visit, notes in itertools.groupby(
                generate_notes(seed, block, subjects, visits, encounters), key=lambda note: note.hadm_id
            )
        }
        for visit in np.flatnonzero(visits.at_risk):
            until = int(visits.admit[visit]) + 24 * HOUR
            notes = [
                note
                for note in written.get(int(encounters.hadm_id[visit]), [])
                if note.kind != DISCHARGE and max(note.charted, note.stored) <= until
            ]
            newest_first = sorted(notes, key=lambda note: note.charted, reverse=True)
            yield (
                int(subjects.subject_id[visits.subject[visit]]),
                bool(visits.died[visit]),
                float(visits.death_probability[visit]),
                [note.text for note in newest_first],
            )


@keep_freed_memory()
def fitted(hospital: Hospital, neurons: int) -> tuple[Any, float]:
    """A network that was fine-tuned on the training stays, and the seconds of CPU that it took."""
    import torch

    shape = Shape(layers=default("layers"), trained_layers=default("trained_layers"), seed=0)
    recipe = Recipe(
        **{name: default(name) for name in Recipe.model_fields} | {"threads": 1, "checkpoint_every": 10**6}
    )
    special = collate.special(encoders.tokenizer(files()))
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(home="", lake="", task="mortality", training_set=NOTHING, note_tokens=NOTHING, tokenizer="",
                  encoder=str(files()), special=special, window=default("window"),
                  most_windows=default("most_windows"), shape=shape, recipe=recipe, checkpoints=scratch)  # fmt: skip
        prior = float(metrics.logit(np.array([hospital.train.rows.outcomes.mean()]))[0])
        network = note_network.build(files(), shape, prior)
        if neurons:
            prune(network, neurons)
        fit = Fit(network, torch.device("cpu"), job)
        chosen, offset = note_training.sample(hospital.train, recipe.max_examples_per_epoch, recipe.seed)
        training = cpu(lambda: fit._epoch(State(), hospital.train, chosen, offset))
    return fit.network, training


def read(hospital: Hospital, graph: bytes, training: float) -> Read:
    """Reads the tuning stays, each alone and on one thread."""
    margins: list[float] = []
    network, special = notes.session(graph), collate.special(encoders.tokenizer(files()))
    reading = cpu(
        lambda: margins.extend(notes.margin(network, stay, special) for stay in hospital.tuning.windows)
    )
    log_odds, risk = np.array(margins), hospital.risk
    return Read(
        auroc=expected_auroc(log_odds, risk),
        log_loss=float((np.logaddexp(0, log_odds) - risk * log_odds).mean()),
        training=training,
        reading=reading,
    )


def prune(network: Any, neurons: int) -> None:
    """Keeps so many inner neurons of each layer's feed-forward network."""
    import torch

    for layer in network.bert.encoder.layer:
        inner, outer = layer.intermediate.dense, layer.output.dense
        norms = inner.weight.norm(dim=1) * outer.weight.norm(dim=0)
        kept = norms.topk(neurons).indices.sort().values
        inner.weight = torch.nn.Parameter(inner.weight[kept].detach())
        inner.bias = torch.nn.Parameter(inner.bias[kept].detach())
        outer.weight = torch.nn.Parameter(outer.weight[:, kept].detach())


if __name__ == "__main__":
    main()
