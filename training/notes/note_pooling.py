"""Attention pooling over a BERT encoder: per head each token has a weight and a value; their weighted mean answers.

Ilse et al. 2018, arXiv:1802.04712, over all tokens of a stay. The encoder's first token, which
sentence classifiers read, says little when only the lowest layers are used; and the mean of some hundred tokens drowns
the few words that matter.
"""

import torch
from transformers import BertModel

HEADS = 8
_DROPOUT = 0.1
_LARGEST = 20.0
"""Bound of a weight's logarithm: sums over windows stay finite without knowing the largest of them all."""


class NoteNetwork(torch.nn.Module):  # type: ignore[misc]  # torch's types are not read
    """The network: ``bert`` and a head of two linear layers."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert, self.config = bert, bert.config
        self.dropout = torch.nn.Dropout(_DROPOUT)
        self.weight = torch.nn.Linear(self.config.hidden_size, HEADS)
        self.value = torch.nn.Linear(self.config.hidden_size, HEADS)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over the tokens of each window (w, heads): of weight times value, and of weight.

        ``input_ids`` and ``attention_mask`` are (w, length).
        """
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = self.dropout(tokens.float())
            logarithm = self.weight(tokens).clamp(-_LARGEST, _LARGEST)
            weight = logarithm.exp() * attention_mask[:, :, None]
            return (weight * self.value(tokens)).sum(1), weight.sum(1)
