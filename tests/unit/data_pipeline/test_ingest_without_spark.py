"""On one machine an extract comes to silver without a JVM."""

from pathlib import Path

import pyarrow as pa
import pytest
from fixtures import drawn_hospitals

from data_pipeline.ingest import engine, facts, placing
from data_pipeline.ingest import source as sources
from mediscale.core.errors import InputError, StorageError
from mediscale.core.settings import Settings
from mediscale.core.tables import FACTS
from mediscale.storage import lake, spark

ORDER = [(name, "ascending") for name in ("source", "line", "code", "event_id")]


def test_no_stage_of_ingest_starts_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(_settings: Settings) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(spark, "session", started)
    hospital = drawn_hospitals.through(tmp_path, "mimic-iv", drawn_hospitals.MIMIC_IV)
    assert hospital.silver.event_count == len(hospital.rows(hospital.silver.events)) > 20
    assert hospital.reasons("labevents") == {6: "not_repeated"}
    local = hospital.settings.home / "spark" / "local"
    assert [path.suffix for path in local.iterdir()] == [".lock"], "no row is left between steps"


def test_new_rows_give_their_facts_without_a_lake(iv: drawn_hospitals.Hospital) -> None:
    """What a stream does: some rows of some tables, as texts, in memory."""
    source = sources.load("mimic-iv")
    rows = {name: lake.read(iv.settings, ref) for name, ref in iv.bronze.bronze.items()}
    tables = {name: table.to_batches for name, table in rows.items()}
    with engine.connection(iv.settings) as database:
        sql = facts.judged(database, source, tables, "mimic-iv")
        columns = ", ".join(FACTS.column_names)
        found = pa.Table.from_batches(engine.batches(database, f"select {columns} from ({sql})"))
        database.register("found", found)
        events = pa.Table.from_batches(placing.placed_events(database, source, "mimic-iv", "found", 2))
    written = lake.read(iv.settings, iv.quality.facts)
    assert sorted(found.to_pylist(), key=str) == sorted(
        written.select(found.column_names).to_pylist(), key=str
    )
    assert events.num_rows == iv.silver.event_count


def test_facts_of_many_pieces_are_those_of_one(
    iv: drawn_hospitals.Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables are typed, and patients judged, a few at a time; what comes is in order for silver."""
    source = sources.load("mimic-iv")
    monkeypatch.setattr(facts, "BATCH_ROWS", 4)
    tables = facts.of_bronze(iv.settings, source, iv.bronze.bronze)
    single = {
        name: lambda read=read: (b.slice(i, 1) for b in read() for i in range(len(b)))
        for name, read in tables.items()
    }
    with engine.connection(iv.settings) as database:
        batches = facts.judged_rows(database, source, single, "mimic-iv", pieces=3)
        judged = pa.Table.from_batches(batches).cast(FACTS.arrow_schema())
        assert list(engine.scratch(database).glob("*.arrow")) == []
    whole = lake.read(iv.settings, iv.quality.facts).select(judged.column_names)
    assert judged.sort_by(ORDER).to_pylist() == whole.sort_by(ORDER).to_pylist()
    assert "not_repeated" in judged["broken"].to_pylist()
    subjects = judged["subject_id"].to_pylist()
    assert len(set(subjects)) > 1
    assert subjects == sorted(subjects)


def test_silver_refuses_facts_that_are_not_in_the_order_of_patients() -> None:
    rows = [{"subject_id": 2, "time": 5}, {"subject_id": 2, "time": 4}]
    batches = [pa.RecordBatch.from_pylist([row]) for row in rows]
    assert list(placing.check_order(reversed(batches))) == batches[::-1]
    with pytest.raises(StorageError, match="run the stage validate again"):
        list(placing.check_order(batches))


@pytest.mark.parametrize("raised", [InputError("labs.csv is torn"), KeyboardInterrupt()])
def test_what_reading_raises_is_raised_as_it_is(tmp_path: Path, raised: BaseException) -> None:
    def torn() -> object:
        raise raised
        yield

    with (
        engine.connection(Settings(home=tmp_path)) as database,
        pytest.raises(type(raised), match=f"^{raised}$"),
    ):
        engine.create_table(database, "t", pa.schema([("a", pa.string())]), torn())  # type: ignore[arg-type]
