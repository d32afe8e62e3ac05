"""A fit on a machine that is no node of the Ray cluster of its settings, as a pod or a container is: it joins for as
long as the fit lasts. The machines are namespaces of this one: networks that a cable joins, and processes and a /tmp of
their own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fixtures.clusters import background, said, wait_for

pytestmark = [
    pytest.mark.soak,
    pytest.mark.only_soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can join two network namespaces"),
]

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 3, "RAY_USAGE_STATS_ENABLED": "0"}
FIT = """
import json, sys, tempfile
from pathlib import Path
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from training import ray_session

def loop(config):
    import ray, ray.train
    ray.train.report({"loss": 1.0})
    return {"node": ray.util.get_node_ip_address(), "twice": config["number"] * 2}

home = Path(tempfile.mkdtemp())
settings = Settings(home=home, artifact_root=str(home / "artifacts"), ray_address=sys.argv[1])
try:
    print(json.dumps(ray_session.fit_torch(settings, 1, "key", loop, {"number": 21})))
except UsageError as error:
    print(json.dumps(str(error)))
"""


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[str, str]]:
    """Names of two network namespaces, 10.88.0.1 and 10.88.0.2."""
    first, second = names = f"ray-{os.getpid()}-a", f"ray-{os.getpid()}-b"
    with ExitStack() as stack:
        for name in names:
            ip(f"netns add {name}")
            stack.callback(ip, f"netns del {name}")
        ip(f"link add cable netns {first} type veth peer name cable netns {second}")
        for number, name in enumerate(names, start=1):
            ip(f"-n {name} addr add 10.88.0.{number}/24 dev cable")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} link set cable up")
        yield names


@pytest.fixture(scope="module")
def cluster(machines: tuple[str, str]) -> Iterator[str]:
    """The address of a head on the first machine."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            "--block",
            "--port=6379",
            "--num-cpus=2",
        ]
        options = ["--include-dashboard=false", "--node-ip-address=10.88.0.1", f"--temp-dir={folder}"]
        log = Path(folder) / "head.log"
        with background(["ip", "netns", "exec", machines[0], *ray, *options], log, TOKEN) as process:
            wait_for(said(log, "(Ray runtime started)"), process, log)
            yield "10.88.0.1:6379"


def fit(machine: str, address: str, **environment: str) -> object:
    """What a fit says that starts on a machine."""
    inside = 'mount -t tmpfs tmpfs /tmp && exec "$@"'  # no socket of another machine's node is there
    alone = [
        "ip",
        "netns",
        "exec",
        machine,
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        inside,
        "sh",
    ]
    command = [*alone, sys.executable, "-c", FIT, address]
    around = {**os.environ, **TOKEN, **environment}
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_fit_that_starts_on_another_machine_runs_on_the_clusters_node(
    machines: tuple[str, str], cluster: str
) -> None:
    assert fit(machines[1], cluster) == {"node": "10.88.0.1", "twice": 42}


def test_a_wrong_token_is_a_sentence(machines: tuple[str, str], cluster: str) -> None:
    sentence = fit(machines[1], cluster, RAY_AUTH_TOKEN="f" * 48)
    assert str(sentence).startswith(
        "The Ray cluster at 10.88.0.1:6379 asks for its token; set RAY_AUTH_MODE=token"
    )
