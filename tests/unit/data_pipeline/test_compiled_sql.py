"""A query is compiled once for a home, until the code that compiles it is another."""

import pytest

from data_pipeline.ingest import compiled_sql, engine
from mediscale.core.settings import Settings
from mediscale.storage import calls


def test_a_query_is_compiled_once_until_the_code_is_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_query(query: str) -> str:
        compiled.append(query)
        return f"{query} in the engine's words, {len(compiled)}"

    def texts() -> list[str]:
        with compiled_sql.cached_in(settings, "data_pipeline.ingest.engine"):
            return [compiled_sql.compiled_text(query, compile_query) for query in ("select ä", "select 2")]

    first = texts()
    assert texts() == first
    assert compiled == ["select ä", "select 2"]
    monkeypatch.setattr(calls, "code_digest", lambda module: f"other code of {module}")
    assert texts() != first
    assert len(list((settings.home / "sql").iterdir())) == 1, "what other code compiled is deleted"
    compiled_sql.compiled_text("select 2", compile_query)
    assert compiled == ["select ä", "select 2"] * 2 + ["select 2"], "without a home nothing is kept"


def test_a_later_process_does_not_parse_what_an_earlier_one_did(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "select xxhash64('kept between runs', cast(1 as string)) as n"
    results = []
    for _ in range(2):
        engine.transpile.cache_clear()
        with engine.connection(settings) as database:
            results.append(database.execute(engine.transpile(sql)).fetchall())
        monkeypatch.setattr(engine, "_transpile", None)
    assert results[0] == results[1]
