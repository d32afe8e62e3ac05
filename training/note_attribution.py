"""Which words moved the note model, over many stays: gradient times embedding, by word.

A word is told where the notes of many patients share it, and where it is a word whatever else it is: a rare one may
say who somebody is, and many patients share a nurse whose name no list has.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline import names
from mediscale import note_batches
from mediscale.note_batches import Batch, Special
from training import note_network

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from training.note_examples import Stays

LEAST_PATIENTS = 10
MOST_STAYS = 200
_BATCH = 16


def words(network: Any, stays: "Stays", tokenizer: "Tokenizer", special: Special) -> dict[str, float]:
    """Mean change in log-odds by each shared word where it stands, the largest first (Sundararajan et al. 2017,
    arXiv:1703.01365, with a single step)."""
    sums: dict[str, float] = defaultdict(float)
    seen: dict[str, set[int]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    chosen = range(0, len(stays), max(1, len(stays) // MOST_STAYS))
    for start in range(0, len(chosen), _BATCH):
        members = list(chosen[start : start + _BATCH])
        batch = note_batches.batch([stays.windows[k] for k in members], special)
        for ids, scores, owner in zip(batch.ids, _scores(network, batch), batch.owner, strict=True):
            for word, score in _joined([tokenizer.id_to_token(int(i)) or "" for i in ids], scores):
                sums[word] += score
                count[word] += 1
                seen[word].add(int(stays.rows.subjects[members[owner]]))
    shared = {
        word: sums[word] / count[word]
        for word in sums
        if len(seen[word]) >= LEAST_PATIENTS and word.isalpha() and _no_name(word)
    }
    return dict(sorted(shared.items(), key=lambda item: (-abs(item[1]), item[0])))


def _no_name(word: str) -> bool:
    """Whether the lexicon has it as a frequent, a clinical or an ordinary word. A rarer one may be a name that no list
    has, and an eponym is one."""
    return names.load().kind(word) == "word" or names.plain(word) in names.ORDINARY


def _scores(network: Any, batch: Batch) -> Any:
    """(w, length): gradient of the stay's log-odds times the word embedding."""
    import torch

    table = network.bert.get_input_embeddings()
    held: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        held.append(output.detach().requires_grad_(True))
        return held[0]

    hook = table.register_forward_hook(keep)
    try:
        note_network.margins(network, batch, torch.device("cpu")).sum().backward()
    finally:
        hook.remove()
        network.zero_grad(set_to_none=True)
    gradient = held[0].grad
    assert gradient is not None
    return np.where(batch.mask == 1, (gradient * held[0]).sum(-1).detach().numpy(), 0.0)


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
