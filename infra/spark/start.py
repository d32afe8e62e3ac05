"""Starts Spark and writes and reads one small table, as a stage does: python infra/spark/start.py SCRATCH.

Set-up runs it with the platform's Python while Java notes which classes that takes.
"""

import sys
import tempfile
from pathlib import Path

from mediscale.core.settings import Settings
from mediscale.storage import spark


def main(scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as home:
        session = spark.session(Settings(home=Path(home)))
        table = f"{home}/table"
        session.range(100).selectExpr("id", "id % 7 as part").write.format("delta").save(table)
        session.read.format("delta").load(table).groupBy("part").sum("id").orderBy("part").collect()
        gateway = session.sparkContext._gateway
        session.stop()
        assert gateway is not None  # nothing stopped it before
        gateway.proc.stdin.close()  # which ends Java
        gateway.proc.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
