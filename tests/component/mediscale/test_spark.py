"""The one Spark session and what it writes: once per key, with a digest that only the rows decide."""

import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any

import psutil

from mediscale.core.settings import Settings
from mediscale.storage import spark as lake_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_classes_are_mapped_from_the_archive_of_the_set_up(spark: "SparkSession") -> None:
    jvm: Any = spark.sparkContext._jvm  # beside it other Java may run, such as a broker's
    java = psutil.Process(jvm.java.lang.ProcessHandle.current().pid())
    mapped = [region.path for region in java.memory_maps()] if sys.platform == "linux" else java.cmdline()
    made = (Path(sys.prefix) / "classes" / "spark.jsa").exists()  # not every Java makes one
    assert any(text.endswith("/classes/spark.jsa") for text in mapped) == made


def test_what_java_keeps_for_a_while_is_in_the_home(spark: "SparkSession") -> None:
    """There it is deleted when the process was killed."""
    jvm: Any = spark.sparkContext._jvm
    places = {jvm.System.getProperty("java.io.tmpdir"), spark.conf.get("spark.local.dir")}
    assert {Path(place).parts[-3:-1] for place in places} == {("spark", "local")}


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


def test_a_java_that_is_killed_is_a_sentence(settings: Settings) -> None:
    """By -9, as a machine without memory does."""
    work = (
        "import os, sys; from mediscale.pipeline import call; from mediscale.storage import spark\n"
        "from mediscale.core.settings import Settings\n"
        "session = spark.session(Settings(home=sys.argv[1], spark_memory='1g'))\n"
        "os.kill(session.sparkContext._gateway.proc.pid, 9)\n"
        "with call._readable_failures('risk_model'): session.range(1).count()\n"
    )
    command = [sys.executable, "-c", work, str(settings.home)]
    with Popen(command, stderr=PIPE, text=True) as process:
        said = process.communicate()[1]
    assert said.splitlines()[-1] == (
        "mediscale.core.errors.MediscaleError: Stage risk_model: Spark's Java process was killed or ended; finished "
        "stages are kept, the same command goes on. If it lacked memory, set MEDISCALE_SPARK_MEMORY."
    )
