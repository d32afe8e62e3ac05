"""Tokenization: the de-identified notes as token ids, made once for every model with the same tokenizer."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.notes import encoders, notes_files
from data_pipeline.notes.encoders import Encoder
from mediscale.core.annotations import Digest, RuntimeInput
from mediscale.core.refs import Frozen, TableRef
from mediscale.core.settings import Settings
from mediscale.core.stage import SPARK, Context, Stage
from mediscale.core.tables import NOTE_TOKENS
from mediscale.storage import lake


class Params(Frozen):
    dataset: RuntimeInput[str]
    notes: RuntimeInput[TableRef | None]
    """None where the extract has no notes."""
    encoder: RuntimeInput[Encoder] = Encoder()


class Result(Frozen):
    note_tokens: TableRef | None
    encoder: Encoder
    tokenizer: Digest
    """The SHA-256 digest of the tokenizer; empty where the extract has no notes."""
    token_count: int


def run(params: Params, settings: Settings, key: str) -> Result:
    """Writes ``note_tokens``, with the tokens of whole notes and without special tokens.

    Raises:
        UsageError: the encoder's files are not available.
    """
    if params.notes is None:
        return Result(note_tokens=None, encoder=params.encoder, tokenizer="", token_count=0)
    tokenizer = encoders.tokenizer(encoders.folder(settings, params.encoder))
    revision = encoders.digest(tokenizer)
    tokenize = partial(_tokenize, tokenizer=tokenizer.to_str(), revision=revision)
    written = notes_files.write_per_note(
        settings, params.notes, NOTE_TOKENS, params.dataset, key, tokenize, processes=1
    )
    read = lake.dataset(settings, written).to_batches(columns=["tokens"])
    n_tokens = sum(pc.sum(pc.list_value_length(batch["tokens"])).as_py() or 0 for batch in read)
    return Result(note_tokens=written, encoder=params.encoder, tokenizer=revision, token_count=n_tokens)


def _tokenize(batches: Iterable[pa.RecordBatch], tokenizer: str, revision: str) -> Iterator[pa.RecordBatch]:
    """The tokens of notes; the tokenizer itself uses every core."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_str(tokenizer)
    schema = NOTE_TOKENS.arrow_schema()
    for batch in batches:
        encoded = loaded.encode_batch(batch["text"].to_pylist(), add_special_tokens=False)
        columns = {
            "tokenizer": pa.repeat(pa.scalar(revision), batch.num_rows),
            "tokens": pa.array([note.ids for note in encoded], pa.list_(pa.int32())),
        }
        yield pa.RecordBatch.from_arrays(
            [columns[name] if name in columns else batch[name] for name in schema.names], schema=schema
        )


def runtime_inputs(params: Mapping[str, Any], settings: Settings) -> Iterator[Context]:
    """Gives the encoder of the settings where the caller gives none."""
    if "encoder" not in params:
        yield Context({"encoder": encoders.configured(settings)})


STAGE = Stage(
    Params,
    Result,
    run,
    display_name="tokenize the notes",
    summary=lambda r: f"{r.token_count:,} tokens for {r.encoder.name}" if r.note_tokens else "no notes",
    resources=SPARK,
    runtime_inputs=runtime_inputs,
)
