"""Language model inference: the log-likelihoods and the answers of a network with its tokenizer.

Evaluation judges by this code, and so does whatever serves.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mediscale.core.errors import BusyError, InputError
from mediscale.inference import collate
from mediscale.inference.chat_template import ChatTemplate, conversation
from mediscale.inference.language_spec import INSTRUCTION
from mediscale.inference.sampling import Sampling, Token

if TYPE_CHECKING:
    import torch

_BUDGET = 2048
"""Padded tokens that are read at once."""
_WRITTEN_AT_ONCE = 8
"""Answers."""
_READ_AT_ONCE = 512
"""Tokens of a prompt; between two such pieces the deadline is looked at."""
_AS_MANY_BEFORE = 4096
"""Tokens before a piece with which it is half as long on a processor, which takes the longer for a piece the more it
has read: the last of 8,192 tokens then take it two seconds and not five, for a seventh more of work in all."""
_MULTIPLE = 64
"""Of tokens in such a shorter piece."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a text is as the answer to a question."""

    total: float
    """Natural logarithm, summed over the answer's tokens."""
    tokens: int

    @property
    def per_token(self) -> float:
        return self.total / max(self.tokens, 1)


class LanguageModel:
    """A network with its tokenizer, ready to answer."""

    def __init__(self, network: Any, tokenizer: Any, instruction: str = INSTRUCTION) -> None:
        self.network, self.tokenizer, self.instruction = network.eval(), tokenizer, instruction
        self._device = next(network.parameters()).device

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate.of(self.tokenizer)

    @contextmanager
    def base(self) -> Iterator[None]:
        """Answers by the base alone while the block runs."""
        with self.network.disable_adapter():
            yield

    def log_likelihoods(self, questions: Sequence[tuple[str, str, str]]) -> list[Likelihood]:
        """How likely each answer is, for triples of question, context and answer. Long prompts lose their beginning.

        A prompt that several answers are compared on is read once, and its keys and values are kept for all of them.

        Raises:
            InputError: an answer alone is longer than the model's window.
        """
        pairs = [self._tokens(*each) for each in questions]
        by_prompt: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, (before, _) in enumerate(pairs):
            by_prompt[tuple(before)].append(i)
        prompts = list(by_prompt)
        read = [
            len(each) + len(by_prompt[each]) * max(len(pairs[i][1]) for i in by_prompt[each])
            for each in prompts
        ]
        sizes = np.array([[1, tokens] for tokens in read], dtype=np.int64).reshape(-1, 2)
        likelihoods: list[Likelihood] = [Likelihood(0.0, 0)] * len(pairs)
        for members in collate.bucket_by_length(sizes, _BUDGET, 0):
            some = [prompts[i] for i in members]
            answers = [[pairs[i][1] for i in by_prompt[each]] for each in some]
            places = [i for each in some for i in by_prompt[each]]
            for i, likelihood in zip(places, self._batch(some, answers), strict=True):
                likelihoods[i] = likelihood
        return likelihoods

    def answers(self, questions: Sequence[tuple[str, str]], max_tokens: int) -> list[str]:
        """Greedy answers to pairs of question and context, some at a time, each of at most ``max_tokens`` tokens."""
        prompts = [self._prompt_tokens(question, context, max_tokens) for question, context in questions]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        written = [""] * len(prompts)
        for start in range(0, len(order), _WRITTEN_AT_ONCE):
            some = order[start : start + _WRITTEN_AT_ONCE]
            for i, text in zip(some, self._write([prompts[i] for i in some], max_tokens), strict=True):
                written[i] = text
        return written

    def _write(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
        """Greedy decoding of prompts together; what an ended answer would go on with is dropped."""
        import torch

        ids, mask = self._padded_before(prompts)
        positions, past, ends = (mask.cumsum(1) - 1).clamp(min=0), None, torch.tensor(sorted(self._ends()))
        written: list[torch.Tensor] = []
        ended = torch.zeros(len(prompts), dtype=torch.bool)
        with torch.inference_mode():
            while len(written) < max_tokens and not ended.all():
                logits, past = self._read(ids, mask, positions, past)
                ids = logits[:, -1:].argmax(-1).cpu()
                ended |= torch.isin(ids[:, 0], ends)
                written.append(ids[:, 0].masked_fill(ended, self.tokenizer.pad_token_id))
                mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
                positions = positions[:, -1:] + 1
        texts = self.tokenizer.batch_decode(torch.stack(written, dim=1), skip_special_tokens=True)
        return [text.strip() for text in texts]

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The tokens of a text; ``special`` puts those before it with which the model's texts begin."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def stream(self, ids: Sequence[int], sampling: Sampling) -> Iterator[Token]:
        """The tokens that follow a prompt's, each as soon as it is chosen, up to the model's end of an answer or to the
        deadline.

        Raises:
            InputError: prompt and answer together are longer than the model's window.
            BusyError: the deadline was over before the prompt was read.
        """
        import torch
        from tokenizers.decoders import DecodeStream

        self._check_window(len(ids), sampling.max_tokens)
        tokenizer, decoder = self.tokenizer.backend_tokenizer, DecodeStream(skip_special_tokens=True)
        draws, ends = torch.Generator().manual_seed(sampling.seed), self._ends()
        *before, read = self._pieces(ids)
        past = None
        for piece in before:
            self._check_deadline(ids, sampling)
            past = self._read_on(piece, past).past_key_values
        self._check_deadline(ids, sampling)
        for _ in range(sampling.max_tokens):
            output = self._read_on(read, past)
            likelihoods = output.logits[0, -1].float().log_softmax(-1).cpu()
            chosen = _chosen(likelihoods, sampling.temperature, draws)
            if chosen in ends:
                return
            past, read = output.past_key_values, [chosen]
            text = decoder.step(tokenizer, chosen) or ""
            yield Token(text, float(likelihoods[chosen]), self._likeliest(likelihoods))
            if sampling.is_late:
                return

    def scores(self, ids: Sequence[int], sampling: Sampling) -> list[Token]:
        """A text's own tokens with their log-probabilities, of which the first has none; ``sampling`` has the deadline.

        Raises:
            InputError: the text is longer than the model's window, or empty.
            BusyError: the deadline was over before the text was read.
        """
        self._check_window(len(ids), 0)
        tokens, past, following = [Token(self.tokenizer.decode([ids[0]]), None)], None, iter(ids[1:])
        for piece in self._pieces(ids):
            self._check_deadline(ids, sampling)
            output = self._read_on(piece, past, every=True)
            past = output.past_key_values
            rows = output.logits[0].float().log_softmax(-1).cpu()
            for row, each in zip(rows, following, strict=False):
                tokens.append(Token(self.tokenizer.decode([each]), float(row[each]), self._likeliest(row)))
        return tokens

    def _pieces(self, ids: Sequence[int]) -> Iterator[list[int]]:
        start, size = 0, _READ_AT_ONCE
        while start < len(ids):
            yield list(ids[start : start + size])
            start += size
            if self._device.type == "cpu":
                shorter = _READ_AT_ONCE * _AS_MANY_BEFORE // (_AS_MANY_BEFORE + start)
                size = max(shorter // _MULTIPLE * _MULTIPLE, min(_MULTIPLE, _READ_AT_ONCE))

    def _read_on(self, piece: Sequence[int], past: Any, every: bool = False) -> Any:
        """The network's output after the last token of a piece, or after each."""
        import torch

        with torch.inference_mode():
            return self.network(
                input_ids=torch.tensor([piece], device=self._device),
                past_key_values=past,
                use_cache=True,
                logits_to_keep=0 if every else 1,
            )

    def _check_deadline(self, prompt: Sequence[int], sampling: Sampling) -> None:
        if sampling.is_late:
            raise BusyError(
                f"The prompt of {len(prompt)} tokens was not read in the time that an answer may take; ask again in a "
                "moment, or something shorter."
            )

    @property
    def window(self) -> int:
        """Tokens that the network can read at once."""
        return int(self.network.config.get_text_config().max_position_embeddings)

    def _check_window(self, prompt: int, answer: int) -> None:
        if prompt + answer > self.window:
            raise InputError(
                f"A prompt of {prompt} tokens and an answer of {answer} do not fit into the model's window of "
                f"{self.window}; shorten one of them."
            )
        if prompt == 0:
            raise InputError("The prompt is empty; a model writes on only after a text.")

    def _ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ends = self.network.generation_config.eos_token_id
        return frozenset([ends] if isinstance(ends, int) else ends or []) | {self.tokenizer.eos_token_id}

    def _likeliest(self, likelihoods: "torch.Tensor") -> tuple[str, float]:
        first = int(likelihoods.argmax())
        return self.tokenizer.decode([first]), float(likelihoods[first])

    def prompt(self, question: str, context: str = "") -> str:
        """The text after which the answer to a question begins."""
        return self._template.render(conversation(question, context, self.instruction))

    def _prompt_tokens(self, question: str, context: str, reserved: int) -> list[int]:
        ids = self.encode(self.prompt(question, context), special=self.tokenizer.chat_template is None)
        if reserved >= self.window:
            raise InputError(
                f"An answer of {reserved} tokens does not fit into the model's window of {self.window}."
            )
        return ids[-(self.window - reserved) :]

    def _tokens(self, question: str, context: str, answer: str) -> tuple[list[int], list[int]]:
        text = answer if self.tokenizer.chat_template is not None else f" {answer}"
        ids = self.encode(text)
        return self._prompt_tokens(question, context, len(ids)), ids

    def _batch(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]
    ) -> list[Likelihood]:
        """The likelihood of every answer to every prompt, in order."""
        import torch

        ids, mask = self._padded_before(prompts)
        owner = torch.tensor([i for i, some in enumerate(answers) for _ in some])
        flat = [torch.tensor(answer) for some in answers for answer in some]
        targets = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True)
        steps = torch.arange(targets.shape[1])
        there = steps < torch.tensor([len(answer) for answer in flat]).unsqueeze(1)
        with torch.inference_mode():
            logits, past = self._read(ids, mask, (mask.cumsum(1) - 1).clamp(min=0))
            first = logits[:, -1:][owner]
            rest = first[:, :0]
            if targets.shape[1] > 1:
                past.batch_select_indices(owner.to(self._device))
                mask = torch.cat([mask[owner], there[:, :-1].long()], dim=1)
                positions = mask[:, : ids.shape[1]].sum(1, keepdim=True) + steps[:-1]
                rest, _ = self._read(targets[:, :-1], mask, positions, past)
            # An answer at a time: probabilities of the vocabulary at every place of all take gigabytes.
            return [
                _likelihood(torch.cat([first[i], rest[i, : len(answer) - 1]]), answer)
                for i, answer in enumerate(flat)
            ]

    def _read(
        self, ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor", past: Any = None
    ) -> tuple["torch.Tensor", Any]:
        """Logits, after the last token alone where nothing was read before, and the keys and values of all."""
        output = self.network(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=positions.to(self._device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1 if past is None else 0,
        )
        return output.logits, output.past_key_values

    def _padded_before(self, prompts: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Tokens and their mask, padded in front, so that the prompts end together."""
        import torch

        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(prompts), longest), dtype=torch.int64)
        for row, prompt_ids in enumerate(prompts):
            ids[row, longest - len(prompt_ids) :] = torch.tensor(prompt_ids)
            mask[row, longest - len(prompt_ids) :] = 1
        return ids, mask


def _likelihood(logits: "torch.Tensor", answer: "torch.Tensor") -> Likelihood:
    """How likely the tokens of an answer are (n) by the logits of the vocabulary (n, tokens) at their places."""
    chosen = logits.float().log_softmax(-1).cpu().gather(1, answer.unsqueeze(1))
    return Likelihood(float(chosen.sum()), len(answer))


def _chosen(likelihoods: "torch.Tensor", temperature: float, draws: "torch.Generator") -> int:
    import torch

    if temperature == 0:
        return int(likelihoods.argmax())
    return int(torch.multinomial((likelihoods / temperature).softmax(-1), 1, generator=draws))
