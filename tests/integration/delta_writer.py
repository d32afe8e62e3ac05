"""A process that writes a row for each table and number that it reads, and says the version that holds it."""

import sys
from pathlib import Path

import pyarrow as pa

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import commits, table_files


def replacing(settings: Settings, table: str, writer: str, number: int) -> TableRef | None:
    """As every stage does."""
    rows = pa.RecordBatch.from_pydict({"file": [writer], "line": pa.array([number], pa.int64())})
    key, schema = f"{writer}-{number}", rows.schema
    file = table_files.write_file(settings, "hospital", table, [rows], schema)
    return table_files.commit(settings, "hospital", table, key, [file], schema)


def appending(settings: Settings, table: str, writer: str, number: int) -> TableRef | None:
    """As the prediction log and the promotion history do."""
    rows = pa.table({"file": [writer], "line": pa.array([number], pa.int64())})
    return commits.append(settings, table, rows, "hospital", writer, number)


WRITERS = {"replacing": replacing, "appending": appending}


def tell(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(kind: str, home: str, lake: str, writer: str) -> None:
    settings = Settings(home=Path(home), lake=lake)
    tell("ready")
    for line in sys.stdin:
        table, number = line.split()
        ref = WRITERS[kind](settings, table, writer, int(number))
        assert ref is not None
        tell(ref.version)


if __name__ == "__main__":
    main(*sys.argv[1:])
