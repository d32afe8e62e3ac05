"""The one Spark session (Delta, UTC): of a cluster, whose tasks workers are, of streams and of Spark ML."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlparse

from mediscale.core import network
from mediscale.core.errors import BusyError, MediscaleError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import commits, locks

if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_LOGGING = Path(__file__).with_name("log4j2.properties")
_EVERY_JAVA = ("-Duser.timezone=UTC", f"-Dlog4j2.configurationFile={_LOGGING}")
_SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m", "-XX:+UseSerialGC")
"""In minutes on a few cores the second compiler and a parallel collector cost more than they give."""

_LAPTOP = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
}
"""Driver and executors are one process of a few cores, which listens to this machine alone."""

_CLUSTER = {"spark.executor.extraJavaOptions": shlex.join(_EVERY_JAVA)}
"""How many partitions and what heap is the cluster's own to say; Spark's adaptive execution fits them to the data."""

_EXECUTOR_WITHIN = 300.0
"""Seconds that a cluster has to give the first executor: as long as adding a machine takes."""


def session(settings: Settings) -> "SparkSession":
    """Starts Spark with Delta, or returns the running session, to whichever thread comes first and to the others.

    Raises:
        UsageError: Spark's jars are missing, the lake is where it has none to reach it with, or the cluster of the
            settings does not answer.
        BusyError: the cluster gives no executor.
        MediscaleError: Java does not start, or Spark in it.
    """
    with _STARTING:
        return _session(settings)


_STARTING = threading.Lock()


@cache
def _session(settings: Settings) -> "SparkSession":
    _prepare_environment(settings)
    log.info("Spark starts on %s", settings.spark_master)
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    logging.getLogger().addFilter(_is_not_py4j_s)
    logging.getLogger(
        "SQLQueryContextLogger"
    ).disabled = True  # prints the whole plan of a query that Spark refuses
    conf = SparkConf().setAppName("mediscale").setMaster(settings.spark_master)
    conf.setAll(list(_configuration(settings).items()))
    if SparkContext._gateway is None:
        _start(settings, conf)
    return SparkSession.builder.config(conf=conf).getOrCreate()


def _start(settings: Settings, conf: "SparkConf") -> None:
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    _check_master(settings)
    try:
        context = SparkContext(conf=conf, gateway=_java(settings, conf))
    except Py4JError as error:
        raise MediscaleError(
            f"Spark does not start on {settings.spark_master}; {_java_log(settings)} says why."
        ) from error
    if not is_local(settings):
        _wait_for_executor(settings, context)


def _check_master(settings: Settings) -> None:
    """Spark itself tries for a minute, and says what it tried in a traceback."""
    scheme, _, masters = settings.spark_master.partition("://")
    if scheme != "spark":
        return
    answering = [master for master in masters.split(",") if network.is_listening(master)]
    if not answering:
        raise UsageError(
            f"The Spark master at {settings.spark_master} does not answer; start it, or unset MEDISCALE_SPARK_MASTER "
            "to work on this machine alone."
        )
    # Executors call back, and the name of a pod or container is in no directory.
    if "SPARK_LOCAL_IP" not in os.environ:
        os.environ.setdefault("SPARK_LOCAL_HOSTNAME", network.own_address(answering[0]))


def _wait_for_executor(settings: Settings, context: "SparkContext") -> None:
    """Waits for the cluster's first executor. Without one Spark would wait for ever at the first rows.

    Raises:
        MediscaleError: the cluster ended the session.
        BusyError: no executor came in time.
    """
    scala: Any = context._jsc.sc()
    end = time.monotonic() + _EXECUTOR_WITHIN
    while scala.isStopped() or scala.getExecutorMemoryStatus().size() < 2:  # one is the driver
        if scala.isStopped():
            raise MediscaleError(
                f"The Spark cluster at {settings.spark_master} ended the session as it began, for no executor of it "
                f"starts; {_java_log(settings)} and the logs of its workers say why."
            )
        if time.monotonic() > end:
            context.stop()
            raise BusyError(
                f"The Spark cluster at {settings.spark_master} gave no executor within {_EXECUTOR_WITHIN:.0f} s: its "
                "cores are taken, or no worker has the memory that an executor asks for (spark.executor.memory)."
            )
        time.sleep(0.1)


def _is_not_py4j_s(record: logging.LogRecord) -> bool:
    """Whether a record of the root logger is anybody's but py4j's, which prints the traceback of what it raises."""
    return record.module != "java_gateway"


def _java_log(settings: Settings) -> Path:
    return settings.home / "spark" / "java.log"


def _java(settings: Settings, conf: "SparkConf") -> Any:
    """Starts Java, which warns of what nobody can change; its words go to a log."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway

    log = _java_log(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream:
        try:
            return launch_gateway(conf, {"stdout": stream, "stderr": stream})  # type: ignore[no-untyped-call]
        except PySparkRuntimeError as error:
            raise MediscaleError(f"Java ended as it started; {log} says why.") from error


def java_ended() -> bool:
    """Whether Spark's Java is gone, as one that was killed or that lacked memory."""
    pyspark = sys.modules.get("pyspark")
    gateway = pyspark.SparkContext._gateway if pyspark else None
    if gateway is None:
        return False
    with suppress(subprocess.TimeoutExpired):  # its connections break a moment before it has ended
        gateway.proc.wait(1)
    return gateway.proc.poll() is not None


def _prepare_environment(settings: Settings) -> None:
    prefix = Path(sys.prefix)
    if not os.environ.get("JAVA_HOME") and (prefix / "java").exists():
        os.environ["JAVA_HOME"] = str(prefix / "java")
    if not _jars(settings):
        raise UsageError(
            "Spark's jars are not in this environment; run `make run` or `make test` once to set it up."
        )
    scheme = urlparse(settings.lake).scheme
    connector = _CONNECTORS.get(scheme, "")
    if not any(jar.name.startswith(connector) for jar in _jars(settings)):
        raise UsageError(
            f"Spark can't reach a lake on {scheme}:// here; put {connector}'s jars beside its own, in "
            f"{_JARS / 'spark'}."
        )
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else workers use whatever python3 is on PATH
    if is_local(settings):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")


_JARS = Path(sys.prefix) / "jars"
_CONNECTORS = {"s3": "hadoop-aws", "gs": "gcs-connector", "abfss": "hadoop-azure"}
"""What Spark needs for a lake elsewhere. Set-up fetches that of S3 into a folder of its own; an image for a cluster in
another cloud adds the other."""


def _jars(settings: Settings) -> list[Path]:
    folders = ("spark", "s3") if settings.lake.startswith("s3://") else ("spark",)
    return [jar for folder in folders for jar in sorted((_JARS / folder).glob("*.jar"))]


def is_local(settings: Settings) -> bool:
    """Whether driver and executors are one process of this machine."""
    return settings.spark_master.startswith("local")


def _archived_classes() -> list[str]:
    """Classes that set-up archived (JEP 310, JEP 350): without them a third of a short stage's CPU goes into loading
    Spark's. A Java that the archive is not of says nothing and loads them."""
    archives = [Path(sys.prefix) / "classes" / name for name in ("java.jsa", "spark.jsa")]
    if not all(archive.exists() for archive in archives):
        return []
    return [f"-XX:SharedArchiveFile={':'.join(map(str, archives))}", "-Xlog:cds=off"]


def _configuration(settings: Settings) -> dict[str, str]:
    """What is the platform's to say. The rest of a cluster's Spark (executors, their memory and image) is the
    cluster's: Spark reads it from the ``spark-defaults.conf`` of the folder that SPARK_CONF_DIR names."""
    jars = ":".join(str(jar) for jar in _jars(settings))
    scratch, shuffle = settings.home / "spark", shuffle_folder(settings)
    options = [
        f"-Djava.io.tmpdir={shuffle}",
        f"-Dderby.system.home={scratch}",
        f"-XX:ErrorFile={scratch}/java-%p.log",  # not where the command was typed
        *_EVERY_JAVA,
        *((*_SHORT_LIVED, *_archived_classes()) if is_local(settings) else ()),
    ]
    return {
        **(_LAPTOP if is_local(settings) else _CLUSTER),
        "spark.driver.extraClassPath": jars,
        "spark.executor.extraClassPath": jars,
        "spark.driver.extraJavaOptions": shlex.join(options),
        "spark.driver.memory": settings.spark_memory,
        **_s3(),
        "spark.hadoop.fs.permissions.umask-mode": "077",  # Hadoop sets modes itself, whatever the process's umask is
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.local.dir": str(shuffle),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        **{
            f"spark.databricks.delta.properties.defaults.{name}": kept
            for name, kept in commits.RETENTION.items()
        },
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _s3() -> dict[str, str]:
    """Amazon's own variables (AWS_ENDPOINT_URL, AWS_REGION, keys or a workload's role) say where a lake on s3:// is and
    who asks, to Spark as to deltalake, Arrow and MLflow. Executors have their own: no secret is sent to them."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",  # one spelling for all of them
        "spark.hadoop.fs.s3a.aws.credentials.provider": _AMAZON_S_OWN,
        "spark.delta.logStore.s3.impl": "io.delta.storage.S3SingleDriverLogStore",
        **(
            {"spark.hadoop.fs.s3a.endpoint": endpoint, "spark.hadoop.fs.s3a.path.style.access": "true"}
            if endpoint
            else {}
        ),
    }


_AMAZON_S_OWN = "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"


def shuffle_folder(settings: Settings) -> Path:
    """Where this process alone keeps rows between steps of its work. What killed ones left there is deleted."""
    folder = delete_stale_shuffles(settings)
    slot, lock = locks.claim(folder)
    _HELD.append(lock)
    return folder / str(slot)


def delete_stale_shuffles(settings: Settings) -> Path:
    """Deletes the rows that killed processes left between steps of their work; the folder in which they do."""
    folder = settings.home / "spark" / "local"
    for file in folder.glob("*.lock"):
        with locks.try_lock(file) as free:
            if free:
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)
    return folder


_HELD: list[TextIO] = []
"""Locks of this process's folders; its end frees them."""
