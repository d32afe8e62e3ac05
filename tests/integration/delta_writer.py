"""A process that writes a row for each table and number that it reads, and says the version that holds it."""

import sys
from pathlib import Path

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.storage import lake, spark


def by_spark(settings: Settings, table: str, writer: str, number: int) -> TableRef | None:
    """Replaces the table's rows, as every stage does."""
    frame = spark.session(settings).createDataFrame([(writer, number)], "file string, line bigint")
    return spark.write(settings, frame.coalesce(1), "hospital", table, f"{writer}-{number}")


def by_delta_rs(settings: Settings, table: str, writer: str, number: int) -> TableRef | None:
    """Appends, as the prediction log and the promotion history do."""
    import pyarrow as pa

    rows = pa.table({"file": [writer], "line": pa.array([number], pa.int64())})
    return lake.append(settings, table, rows, "hospital", writer, number)


WRITERS = {"spark": by_spark, "delta_rs": by_delta_rs}


def tell(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(kind: str, home: str, lake: str, writer: str) -> None:
    settings = Settings(home=Path(home), lake=lake, spark_master="local[1]", spark_memory="512m")
    if kind == "spark":
        spark.session(settings)
    tell("ready")
    for line in sys.stdin:
        table, number = line.split()
        ref = WRITERS[kind](settings, table, writer, int(number))
        assert ref is not None
        tell(ref.version)


if __name__ == "__main__":
    main(*sys.argv[1:])
