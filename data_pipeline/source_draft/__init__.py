"""Source draft: a first YAML for an extract that nobody has mapped, from the headers and values of its files.

What can be seen is written with its evidence as a comment; what a person must say is a ``TODO``. Counts of patients
below ``privacy.SMALL_COUNT``, words of so few, and every identifier stay out of it.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from data_pipeline.ingest import engine
from data_pipeline.ingest.source_tables import RESERVED_COLUMNS
from data_pipeline.source_draft import keys, knowledge, people, profiles, rows, writer
from data_pipeline.source_draft.builder import Draft, Stanza
from data_pipeline.source_draft.knowledge import is_called
from data_pipeline.source_draft.profiles import Table, identifier
from data_pipeline.source_draft.writer import todos
from mediscale.core.errors import InputError
from mediscale.core.privacy import count
from mediscale.core.settings import Settings

_FIRST = (
    "Drafted by mediscale source draft: what was seen stands as a comment beside what follows from it. What is marked "
    "as open is for somebody who knows the hospital; docs/onboarding.md takes you through it."
)

_NOBODYS = "no column says whose they are, as in a list of codes"


def draft(settings: Settings, root: Path, hidden: Collection[str] = ()) -> str:
    """The YAML of a source for the extract in a folder.

    ``hidden`` are shipped sources of which nothing is taken, neither layout nor codes: a benchmark's.

    Raises:
        InputError: there is no such folder, nothing in it can be read, or no column numbers its patients.
    """
    with engine.connection(settings) as database:
        tables = profiles.read(database, root)
        who = keys.find(database, tables)
        if who is None:
            raise InputError(
                f"No column of the {len(tables)} tables in {root} numbers their rows and recurs in other tables, so "
                "nobody can say whose a row is; add the table that lists the patients or the visits."
            )
        shipped = knowledge.shipped(hidden)
        names = [_canonical(own, ("patient", "visit")[i]) for i, own in enumerate((who.patient, who.visit))]
        relative = not any(c.kind in ("time", "date") for t in tables for c in t.columns.values())
        drafted = Draft(database, tables, who, shipped, names[0], names[1], relative)
        written, listed = _stanzas(drafted, {table.name: table for table in tables})
        return writer.text(
            drafted, listed, written, [_FIRST, *_recognised(tables, hidden), *_unread(drafted, written)]
        )


def _stanzas(drafted: Draft, by_name: dict[str, Table]) -> tuple[list[Stanza], dict[str, str]]:
    who = drafted.keys
    visit, listed = people.visits(drafted, by_name[who.visits])
    first = [] if who.subjects == who.visits else [people.patients(drafted, by_name[who.subjects])]
    rest = (
        rows.draft_stanza(drafted, table)
        for name, table in by_name.items()
        if name not in (who.subjects, who.visits)
    )
    return [*first, visit, *(stanza for stanza in rest if stanza is not None)], listed


def _canonical(columns: dict[str, str], otherwise: str) -> str:
    """The name that a key has in all stanzas: the commonest of its headers that says what it is."""
    common = Counter(identifier(h) for h in columns.values() if h.lower() not in RESERVED_COLUMNS | {"id"})
    return common.most_common(1)[0][0] if common else otherwise


def _recognised(tables: Sequence[Table], hidden: Collection[str]) -> list[str]:
    """Sentences of the shipped sources that the extract's headers fit."""
    sentences = []
    for name, lacking in knowledge.recognised({t.file: set(t.columns) for t in tables}, hidden).items():
        if lacking:
            words = "; ".join(f"{table} lacks {', '.join(columns)}" for table, columns in lacking.items())
            sentences.append(f"Nearly the shipped source {name}: {words}.")
        else:
            sentences.append(
                f"The headers are those of the shipped source {name}: run it with --source {name}."
            )
    return sentences


def _unread(drafted: Draft, written: Sequence[Stanza]) -> list[str]:
    """Sentences of the tables that no stanza reads."""
    read = {stanza.table.name for stanza in written}
    owned = drafted.keys.patient.keys() | drafted.keys.visit.keys()
    sentences = []
    for table in drafted.tables:
        if table.name not in read:
            why = "nothing says when something was so, or what" if table.name in owned else _NOBODYS
            outcomes = [c.header for c in table.columns.values() if is_called("outcome", c.name)]
            question = f"; TODO: is {outcomes[0]} of {table.file} an outcome to predict?" if outcomes else "."
            sentences.append(f"Not read: {table.file}, {count(table.rows)} rows; {why}{question}")
    return sentences


__all__ = ["draft", "todos"]
