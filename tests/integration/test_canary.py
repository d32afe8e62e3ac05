"""Canaries: the identifiers that the synthetic hospital plants in its notes, looked for in everything that is left."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from data_pipeline.clinical_text.name_lexicon import EPONYMS, ORDINARY, plain
from data_pipeline.ingest import source
from data_pipeline.notes import encoders
from data_pipeline.notes.deidentification import pseudonym_secret
from data_pipeline.synthetic import blocks, clinical_notes
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.pipeline import call, runtime_inputs
from mediscale.storage import lake


@pytest.fixture(scope="module")
def block() -> blocks.Block:
    return next(iter(blocks.generate(30, 7)))


@pytest.fixture
def bronze(settings: Settings, block: blocks.Block) -> dict[str, TableRef]:
    tables = {table.file: name for name, table in source.load("mimic-iv").tables.items()}
    landed = {}
    for file in ("hosp/patients", "hosp/admissions", *clinical_notes.TABLES.values()):
        frame = block.tables[file].to_arrow()
        columns = {name: frame[name].cast(pa.string()) for name in frame.column_names}
        places = {"file": [f"{file}.csv.gz"] * frame.num_rows, "line": list(range(2, frame.num_rows + 2))}
        name = f"bronze_{tables[file]}"
        write_deltalake(settings.table_uri("h", name), pa.table({**columns, **places}))
        landed[tables[file]] = lake.latest(settings, "h", name)
    return landed


def planted(block: blocks.Block, *kinds: str) -> set[str]:
    return {note.text[s.start : s.end] for note in block.notes for s in note.spans if s.kind in kinds}


def test_no_planted_identifier_is_left_anywhere_but_in_bronze(
    settings: Settings, block: blocks.Block, bronze: dict[str, TableRef], capfd: pytest.CaptureFixture[str]
) -> None:
    config = {
        "source": "mimic-iv",
        "dataset": "h",
        "bronze": bronze,
        "pseudonym_secret": pseudonym_secret.PUBLISHED,
        "deidentifier": "rules",
    }
    cleaned = call.call("deidentify", config, settings, "run").result
    with_encoder = {"dataset": "h", "encoder": encoders.PACKAGED}
    tokens = runtime_inputs.call("note_tokens", with_encoder, [cleaned.model_dump()], settings, "run").result
    texts = lake.read(settings, cleaned.notes)["text"].to_pylist()
    assert len(texts) == len(block.notes)
    left = "\n".join(texts)
    unique = planted(block, "record", "phone", "email", "url", "address")
    assert len(unique) > 60
    assert not [canary for canary in unique if canary in left]
    whole = [
        name for name in planted(block, "name") if " " in name and re.search(rf"\b{re.escape(name)}\b", left)
    ]
    assert len(whole) <= 0.01 * len(planted(block, "name"))
    said = capfd.readouterr()
    told = (
        said.out
        + said.err
        + "".join(call.load(s).summary(r) for s, r in (("deidentify", cleaned), ("note_tokens", tokens)))
    )
    told += "".join(path.read_text() for path in Path(settings.lake).rglob("_records/**/*.json"))
    told += json.dumps(lake.read(settings, cleaned.note_quarantine).to_pylist())
    words = {word for name in planted(block, "name") for word in re.findall(r"\w{3,}", name)}
    names = {word for word in words if plain(word) not in ORDINARY | EPONYMS}
    assert not [canary for canary in unique | names if re.search(rf"\b{re.escape(canary)}\b", told)]
