"""Drafts of sources against the shipped ones: how many facts a draft states that was made without seeing them.

    .venv/bin/python benchmarks/source_draft.py [mimic-iv=DIR] [synthea=DIR] …

Both files are compiled and run over the same extract. A shipped fact is recovered where one fact of the draft states at
least ``AGREE`` of its usable events: of the same file and line, at the same time, with the same code and the same
number. How somebody spells codes of their own, which no cohort and no concept reads, is theirs: those agree by the
rest. Beside it stands the share of what the draft states in codes that cohorts and features read and the shipped file
does not, and the share of recovered facts whose rows are also known at the same time. Without arguments, the extract is
the synthetic hospital's. What a draft goes by (data_pipeline/source_draft/names.yaml) was written by somebody who knows
both layouts; a third one shows more, and docs/onboarding.md tells how one went.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from data_pipeline import source_draft, synthetic
from data_pipeline.ingest import engine, extract_files, extract_parts, facts
from data_pipeline.ingest import source as sources
from data_pipeline.ingest.source import Source
from mediscale.core.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Database

AGREE = 0.9
"""Share of a fact's events."""
SHARED = r"^(MEDS_|GENDER//|HOSPITAL_|ICU_|LOINC//|TREATMENT//|ICD|ED_REG)"
"""Codes that cohorts, concepts and comorbidities read: a draft has to have them as they are."""
HIDDEN = {"mimic-iv": ("mimic-iv", "mimic-iii"), "synthea": ("synthea",)}
"""What a draft is made without: of MIMIC-IV also the sister database, whose items have the same numbers."""


@dataclass(frozen=True)
class Recovered:
    """A comparison of a draft with the shipped source."""

    facts: dict[str, float]
    """By fact of the shipped source, the share of its events that one fact of the draft states."""
    same_knowledge: dict[str, bool]
    """By recovered fact, whether its rows are also known at the same time."""
    unshared: float
    """Share of the draft's events in shared codes that the shipped source does not state."""
    seconds: float

    @property
    def recovered(self) -> list[str]:
        return [name for name, share in self.facts.items() if share >= AGREE]


def compare(settings: Settings, name: str, root: Path, hidden: tuple[str, ...]) -> Recovered:
    """Drafts a source for an extract and compares it, fact by fact, with the shipped one."""
    began = time.perf_counter()
    text = source_draft.draft(settings, root, hidden)
    seconds = time.perf_counter() - began
    with engine.connection(settings) as database:
        for table, source in (("shipped", sources.load(name)), ("drafted", sources.parse("draft", text))):
            _events(settings, database, source, root, table)
        shares = _shares(database)
        knowledge = {
            fact: share >= AGREE
            for fact, share in _shares(database, "and s.available_time = d.available_time").items()
        }
        unshared = database.execute(
            "select avg((not exists (select 1 from shipped s where s.file = d.file and s.line = d.line and "
            f"s.time = d.time and s.code = d.code))::int) from drafted d where regexp_matches(d.code, '{SHARED}')"
        ).fetchall()[0][0]
    recovered = {fact for fact, share in shares.items() if share >= AGREE}
    return Recovered(shares, {f: knowledge.get(f, False) for f in recovered}, unshared or 0.0, seconds)


def _events(settings: Settings, kept: "Database", source: Source, root: Path, table: str) -> None:
    """Keeps the usable facts of a source as a table, with the name of each; own codes are emptied."""
    files = extract_files.locate(source, root)
    parts = {
        n: tuple(extract_parts.part_of(source, n, file, root) for file in own) for n, own in files.items()
    }
    readers = {name: partial(_rows, own) for name, own in parts.items()}
    with engine.connection(settings) as database:
        judged = facts.judged(database, source, readers, "draft", named=True)
        rows = database.sql(
            "select source || '.' || fact as fact, file, line, time, available_time, numeric_value, "
            f"case when regexp_matches(code, '{SHARED}') then code else '' end as code "
            f"from ({judged}) where broken is null"
        ).to_arrow_table()
    kept.register("rows_of_a_source", rows)
    kept.execute(f"create table {table} as select * from rows_of_a_source")


def _rows(parts: tuple[extract_parts.Part, ...]) -> Iterator[pa.RecordBatch]:
    columns = extract_parts.columns_of(parts)
    return chain.from_iterable(part.landed(columns) for part in parts)


def _shares(database: "Database", also: str = "") -> dict[str, float]:
    """Per shipped fact, the highest share of its events that one fact of the draft states; ``also`` is a condition."""
    rows = database.execute(
        f"""
        with numbered as (select *, row_number() over () as n from shipped),
        met as (
          select s.fact, d.fact as drafted, count(distinct s.n) as n
          from numbered s join drafted d on s.file = d.file and s.line = d.line and s.time = d.time
            and s.code = d.code and (s.numeric_value is null
              or abs(s.numeric_value - d.numeric_value) <= 1e-6 * greatest(1, abs(s.numeric_value))) {also}
          group by all)
        select s.fact, coalesce(max(met.n), 0) / s.n
        from (select fact, count(*) as n from shipped group by fact) s left join met using (fact)
        group by s.fact, s.n order by 1
        """
    ).fetchall()
    return {fact: float(share) for fact, share in rows}


def main(arguments: list[str]) -> None:
    """Prints the comparison of each source that is given."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Settings(home=Path(scratch))
        for argument in arguments or [f"mimic-iv={home.home / _synthetic(home)}"]:
            name, _, path = argument.partition("=")
            hidden = HIDDEN.get(name, (name,))
            found = compare(home, name, Path(path).resolve(), hidden)
            print(f"{name}: drafted in {found.seconds:.1f} s without {' and '.join(hidden)}")
            for fact, share in found.facts.items():
                known = "known then, too" if found.same_knowledge.get(fact) else "known at another time"
                print(f"  {fact:<40}{share:>8.1%}  {known if share >= AGREE else ''}")
            same = sum(found.same_knowledge.values()) / max(1, len(found.recovered))
            figures = {
                f"facts of {name}": len(found.facts),
                f"facts of {name} recovered, of 100": round(100 * len(found.recovered) / len(found.facts)),
                f"recovered facts of {name} that are known at the same time, of 100": round(100 * same),
                f"events of the draft that {name} does not state, of 100": round(100 * found.unshared, 2),
            }
            for what, value in figures.items():
                print(f"figure: {what} = {value}")


def _synthetic(home: Settings) -> str:
    """The extract of a synthetic hospital, where none is given."""
    return synthetic.run(synthetic.Params(size="tiny"), home, "draft").path


if __name__ == "__main__":
    main(sys.argv[1:])
