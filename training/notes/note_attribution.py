"""Note attribution: the words that moved the note model, over many stays, by integrated gradients.

A word is told where the notes of many patients share it, and where it is a word whatever else it is: a rare one may
say who somebody is, and many patients share a nurse whose name no list has.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.clinical_text import name_lexicon
from mediscale.inference import collate
from mediscale.inference.collate import Batch, Special
from training.notes import note_network

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from training.notes.note_examples import Stays

LEAST_PATIENTS = 10
MOST_STAYS = 200
_BATCH = 16
STEPS = 3
"""As near to what masking a word does as more are: ``benchmarks/note_words.py``."""


def words(network: Any, stays: "Stays", tokenizer: "Tokenizer", special: Special) -> dict[str, float]:
    """Mean change in log-odds by each shared word where it stands, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    patients: dict[str, set[int]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    some = range(0, len(stays), max(1, len(stays) // MOST_STAYS))
    chosen = sorted(some, key=lambda stay: sum(map(len, stays.windows[stay])))  # less padding to read
    for start in range(0, len(chosen), _BATCH):
        members = chosen[start : start + _BATCH]
        batch = collate.batch([stays.windows[k] for k in members], special)
        for ids, scores, owner in zip(
            batch.ids, integrated_gradients(network, batch), batch.owner, strict=True
        ):
            for word, score in _joined([tokenizer.id_to_token(int(i)) or "" for i in ids], scores):
                sums[word] += score
                count[word] += 1
                patients[word].add(int(stays.rows.subjects[members[owner]]))
    shared = {
        word: sums[word] / count[word]
        for word in sums
        if len(patients[word]) >= LEAST_PATIENTS and word.isalpha() and _no_name(word)
    }
    return dict(sorted(shared.items(), key=lambda item: (-abs(item[1]), item[0])))


def _no_name(word: str) -> bool:
    """Whether the lexicon has it as a frequent, a clinical or an ordinary word. A rarer one may be a name that no list
    has, and an eponym is one."""
    return name_lexicon.load().kind(word) == "word" or name_lexicon.plain(word) in name_lexicon.ORDINARY


def integrated_gradients(network: Any, batch: Batch) -> Any:
    """(w, length): integrated gradients of the stay's log-odds from a note whose words are all zero (Sundararajan et
    al. 2017, arXiv:1703.01365), by the midpoints of ``STEPS`` parts of the way.

    The gradient at the note itself is no substitute: where one word decides, its effect is saturated there, and its
    sign may be the wrong one.
    """
    import torch

    device = torch.device("cpu")
    table = network.bert.get_input_embeddings()
    total: Any = 0.0
    for step in range(STEPS):
        captured: list[torch.Tensor] = []

        def part_of_the_way(
            _module: Any, _inputs: Any, output: torch.Tensor, captured: Any = captured, step: int = step
        ) -> torch.Tensor:
            captured += [output.detach(), (output.detach() * (step + 0.5) / STEPS).requires_grad_()]
            return captured[1]

        hook = table.register_forward_hook(part_of_the_way)
        try:
            with note_network.precision(device):
                margin = note_network.margins(network, batch, device).sum()
        finally:
            hook.remove()
        words, there = captured
        total = total + (torch.autograd.grad(margin, there)[0] * words).sum(-1) / STEPS
    return np.where(batch.mask == 1, total.numpy(), 0.0)


def _joined(tokens: list[str], scores: Any) -> list[tuple[str, float]]:
    """Word pieces put together again."""
    whole: list[tuple[str, float]] = []
    for token, score in zip(tokens, scores, strict=True):
        if token.startswith("##") and whole:
            word, sum_ = whole[-1]
            whole[-1] = (word + token[2:], sum_ + float(score))
        else:
            whole.append((token, float(score)))
    return whole
