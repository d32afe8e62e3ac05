"""A Spark standalone cluster, a Ray cluster of two nodes and a lake in an S3 server leave the cells of a laptop."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from component.mediscale import cluster_program
from fixtures import clusters
from fixtures.drawn_hospitals import Hospital
from fixtures.monitored_hospital import Hospital as Trained

from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from training import ray_session
from training.tabular import tree_training

pytestmark = pytest.mark.timeout(900)

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(
    iv: Hospital,
    hospital: Trained,
    s3: dict[str, str],
    spark_cluster: str,
    ray_cluster: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What the program says that ran on the cluster."""
    environment = {
        **s3,
        **clusters.SHORT_LIVED_JAVA,
        "MEDISCALE_LAKE": "s3://hospital/lake",
        "MEDISCALE_ARTIFACT_ROOT": "s3://hospital/models",
        "MEDISCALE_SPARK_MASTER": spark_cluster,
        "MEDISCALE_SPARK_MEMORY": "1g",
        "MEDISCALE_RAY_ADDRESS": ray_cluster,
        "RAY_AUTH_MODE": "token",
        "PYTHONPATH": str(TESTS),
    }
    home = str(tmp_path_factory.mktemp("cluster"))
    work = [
        *(iv.settings.lake, iv.silver.events.model_dump_json()),
        *(hospital.settings.lake, hospital.training_set.model_dump_json()),
    ]
    command = [sys.executable, str(Path(cluster_program.__file__)), home, *work]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr[-5000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_what_spark_s_workers_find_in_the_shards_is_what_a_laptop_finds(
    cluster: dict[str, Any], iv: Hospital
) -> None:
    rows, digest = cluster_program.at_risk(iv.settings, iv.silver.events)
    assert rows > 0
    assert cluster["labels"] == [rows, digest]


def test_trees_that_a_node_of_the_cluster_grew_are_those_of_a_laptop(
    cluster: dict[str, Any], hospital: Trained
) -> None:
    job = cluster_program.job(hospital.settings, hospital.training_set)
    booster, _ = tree_training.on_ray(hospital.settings, job, 1, "here")
    assert cluster["trees"] == bytes(booster.save_raw("ubj")).hex()
    assert cluster["nodes"] == ["127.0.0.2", "127.0.0.3"]
    assert cluster["rounds of two"] == 20


def test_nothing_of_a_laptop_is_fixed_on_a_cluster(cluster: dict[str, Any]) -> None:
    said = cluster["configuration"]
    assert said["spark.sql.shuffle.partitions"] == ""  # Spark's own, which it fits to the data
    assert "TieredStopAtLevel" not in said["spark.driver.extraJavaOptions"]
    assert "-Duser.timezone=UTC" in said["spark.executor.extraJavaOptions"]


def test_a_cluster_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    start = (
        "import sys; from mediscale.storage import spark; from mediscale.core.settings import Settings\n"
        "spark.session(Settings(home=sys.argv[1], spark_master='spark://127.0.0.1:1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr.splitlines()[-1] == (
        "mediscale.core.errors.UsageError: The Spark master at spark://127.0.0.1:1 does not answer; start it, or unset "
        "MEDISCALE_SPARK_MASTER to work on this machine alone."
    )
    with (
        pytest.raises(UsageError, match=r"Ray cluster at 127\.0\.0\.1:1 does not answer"),
        ray_session.cluster(Settings(home=tmp_path, ray_address="127.0.0.1:1"), 1),
    ):
        pass


def test_a_cluster_without_a_free_core_is_a_sentence_and_no_hang(spark_cluster: str, tmp_path: Path) -> None:
    """Its workers have less memory than this session's executors ask for."""
    start = (
        "import sys; from mediscale.storage import spark; from mediscale.core.settings import Settings\n"
        "spark._EXECUTOR_WITHIN = 3.0\n"
        "spark.session(Settings(home=sys.argv[1], spark_master=sys.argv[2], spark_memory='512m'))"
    )
    (tmp_path / "spark-defaults.conf").write_text("spark.executor.memory 100g\n")
    around = {
        **os.environ,
        **clusters.SHORT_LIVED_JAVA,
        "SPARK_CONF_DIR": str(tmp_path),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [sys.executable, "-c", start, str(tmp_path / "home"), spark_cluster]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False, timeout=300)
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        f"mediscale.core.errors.BusyError: The Spark cluster at {spark_cluster} gave no executor"
    )
