"""The one Spark session and what it writes: once per key, with a digest that only the rows decide."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any

import psutil
from fixtures import drawn_hospitals

from mediscale.core.settings import Settings
from mediscale.storage import duckdb_tables, lake
from mediscale.storage import spark as lake_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SCHEMA = "file string, line bigint, a string, b bigint"


Row = tuple[str | None, int | None]


def digest(settings: Settings, spark: "SparkSession", rows: list[Row], key: str) -> str:
    """Of the rows in a table that keeps every column."""
    frame = spark.createDataFrame([("f", 1, *row) for row in rows], SCHEMA)
    ref = lake_spark.write(settings, frame, "h", "bronze_labs", key)
    assert lake.latest(settings, "h", "bronze_labs") == ref
    return duckdb_tables.digest(settings, ref)[1]


def test_a_digest_is_of_the_rows_and_not_of_their_order(settings: Settings, spark: "SparkSession") -> None:
    rows: list[Row] = [("a", 1), ("b", None), (None, 2)]
    one = digest(settings, spark, rows, "one")
    assert digest(settings, spark, rows[::-1], "two") == one
    assert digest(settings, spark, [("a", 1), ("b", 2), (None, None)], "a null moved") != one
    assert digest(settings, spark, [*rows, ("a", 1)], "a row twice") != one


def test_a_key_is_written_once(settings: Settings, spark: "SparkSession") -> None:
    one = digest(settings, spark, [("a", 1)], "key")
    assert digest(settings, spark, [("b", 2)], "key") == one


def test_classes_are_mapped_from_the_archive_of_the_set_up(spark: "SparkSession") -> None:
    jvm: Any = spark.sparkContext._jvm  # beside it other Java may run, such as a broker's
    java = psutil.Process(jvm.java.lang.ProcessHandle.current().pid())
    mapped = [region.path for region in java.memory_maps()] if sys.platform == "linux" else java.cmdline()
    made = (Path(sys.prefix) / "classes" / "spark.jsa").exists()  # not every Java makes one
    assert any(text.endswith("/classes/spark.jsa") for text in mapped) == made


def test_a_java_that_does_not_start_is_a_sentence(settings: Settings) -> None:
    start = (
        "import sys; from mediscale.storage import spark; from mediscale.core.settings import Settings\n"
        "spark.session(Settings(home=sys.argv[1], spark_memory='99999999g'))"
    )
    with Popen(
        [sys.executable, "-c", start, str(settings.home)], stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        said = process.communicate()[1].splitlines()
    assert said[-1].endswith(
        f"MediscaleError: Java ended as it started; {settings.home}/spark/java.log says why."
    )
    assert "heap" in (settings.home / "spark" / "java.log").read_text()


def test_rows_that_a_killed_process_left_between_steps_are_deleted(settings: Settings) -> None:
    claim = (
        "import sys; from mediscale.storage import spark; from mediscale.core.settings import Settings\n"
        "print(spark.shuffle_folder(Settings(home=sys.argv[1])), flush=True); input()"
    )
    command = [sys.executable, "-c", claim, str(settings.home)]
    with ExitStack() as stack:
        others = [stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True)) for _ in range(2)]
        theirs = [Path(other.stdout.readline().strip()) for other in others if other.stdout]
        left = [folder / "blockmgr" / "shuffle_0.data" for folder in theirs]
        for file in left:
            assert file.is_relative_to(settings.home)
            file.parent.mkdir(parents=True)
            file.touch()
        assert lake_spark.shuffle_folder(settings) not in theirs  # they are held
        assert all(file.exists() for file in left)
        for other in others:
            other.kill()
    assert lake_spark.shuffle_folder(settings) in theirs
    assert not any(file.exists() for file in left)


def test_threads_that_come_first_together_share_the_session(settings: Settings) -> None:
    start = (
        "import sys; from concurrent.futures import ThreadPoolExecutor\n"
        "from mediscale.storage import spark; from mediscale.core.settings import Settings\n"
        "settings = Settings(home=sys.argv[1], spark_memory='1g')\n"
        "with ThreadPoolExecutor(2) as pool: one, two = pool.map(spark.session, [settings] * 2)\n"
        "assert one is two\n"
    )
    with Popen([sys.executable, "-c", start, str(settings.home)], stderr=PIPE, text=True) as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said
    assert len(list((settings.home / "spark" / "local").glob("*.lock"))) == 1


def test_a_java_that_is_killed_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """It is killed as soon as the stage has it, by -9, as a machine without memory does."""
    work = (
        "import os, sys; from mediscale.cli.main import main; from mediscale.storage import spark\n"
        "start = spark.session\n"
        "def killed(settings):\n"
        "    session = start(settings)\n"
        "    os.kill(session.sparkContext._gateway.proc.pid, 9)\n"
        "    return session\n"
        "spark.session = killed\n"
        "found, landed = (f'{sys.argv[2]}/{name}.json' for name in ('found', 'landed'))\n"
        "main(['prepare-source', '--source', 'mimic-iv', '--path', sys.argv[1], '--result', found])\n"
        "main(['bronze', '--from', found, '--result', landed])  # without Spark\n"
        "notes = ['deidentify', '--fill-runtime-inputs', '--from', found, '--from', landed]\n"
        "sys.exit(main(notes))"
    )
    extract = drawn_hospitals.write_extract(tmp_path / "extract", drawn_hospitals.MIMIC_IV)
    command = [sys.executable, "-c", work, str(extract), str(settings.home)]
    settings.home.mkdir()
    around = {**os.environ, "MEDISCALE_HOME": str(settings.home)}
    with Popen(command, env=around, stderr=PIPE, text=True) as process:
        said = process.communicate()[1]
    assert process.returncode == 1, said
    assert said.splitlines()[-1] == (
        "mediscale: Stage deidentify: Spark's Java process was killed or ended; finished stages are kept, the same "
        "command goes on. If it lacked memory, set MEDISCALE_SPARK_MEMORY."
    )
    assert "Traceback" not in said
