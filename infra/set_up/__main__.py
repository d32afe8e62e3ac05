"""Builds what the project runs in: the locked environment, Java where it is missing, Spark's jars.

Run by make with the machine's own Python, so it uses the standard library only. Each step leaves a stamp with the
digest of what it was made from: finished work is recognised without a network, and a set-up that was killed goes on.
"""

import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.set_up import jars, places
from infra.set_up.check_tools import (
    AZURITE,
    MADE_BY_GO,
    SCHEMA_LOCK,
    fetch_azurite,
    fetch_programs,
    fetch_provider_schemas,
)
from infra.set_up.commands import fail, say
from infra.set_up.environments import install_project, make_environment, make_store, make_tools
from infra.set_up.java import SPARK_START, archive_classes, machine_java, make_java
from infra.set_up.stamps import alone, digest_of, finish, is_current

LOCKED_MACHINES = {("Linux", "x86_64"), ("Darwin", "arm64")}

Step = tuple[Path, str, Callable[[], None]]
"""Its stamp, the digest of what it is made from, and what makes it."""


def main(target: str) -> None:
    refuse_unlocked_machine()
    plans = {
        "checkout": lambda: platform_steps("platform.txt", "dev.txt"),
        "platform": lambda: platform_steps("platform.txt"),
        "airflow": airflow_steps,
        "broker": broker_steps,
        "checks": checks_steps,
        "tools": tools_steps,
        "jar-locks": jar_lock_steps,
    }
    steps = plans[target]()
    if all(is_current(stamp, digest) for stamp, digest, _ in steps):
        return
    with alone():
        started = time.monotonic()
        for stamp, digest, make in steps:
            if not is_current(stamp, digest):  # the set-up that this one waited for may have done it
                make()
                finish(stamp, digest)
        say(f"ready in {time.monotonic() - started:.0f} s")


def tools_steps() -> list[Step]:
    bootstrap = places.LOCKS / "bootstrap.txt"
    return [(places.TOOLS / "done-uv", digest_of(bootstrap), lambda: make_tools(bootstrap))]


def platform_steps(*names: str) -> list[Step]:
    """What an image has, and a checkout with what tests and checks need besides."""
    locks = [places.LOCKS / name for name in names]
    lock = locks[0]
    locked, java = digest_of(lock), machine_java()
    what = "Spark's jars, its way to S3 and the embedder's weights, 60 MB"
    return [
        *tools_steps(),
        (
            places.PLATFORM / "done-packages",
            digest_of(*locks),
            lambda: make_environment(places.PLATFORM, "9 GB", *locks),
        ),
        # filling the environment from any of the locks takes out what these do not name
        (
            places.PLATFORM / "done-project",
            digest_of(*locks, places.ROOT / "pyproject.toml"),
            install_project,
        ),
        (places.PLATFORM / "done-store", locked, make_store),
        (places.PLATFORM / "done-java", f"{locked} {java}", lambda: make_java(java)),
        jar_step(places.PLATFORM / "done-jars", what, "spark", "s3", "weights"),
        (
            places.PLATFORM / "done-classes",
            f"{digest_of(lock, jars.LOCKS['spark'], SPARK_START)} {java}",
            archive_classes,
        ),
    ]


def airflow_steps() -> list[Step]:
    lock = places.LOCKS / "airflow.txt"
    return [
        *tools_steps(),
        (
            places.AIRFLOW / "done-packages",
            digest_of(lock),
            lambda: make_environment(places.AIRFLOW, "420 MB", lock),
        ),
    ]


def broker_steps() -> list[Step]:
    """A Kafka broker, which the tests of streams start; nothing else needs one."""
    return [jar_step(places.PLATFORM / "done-broker", "a Kafka broker for the tests, 44 MB", "broker")]


def jar_step(stamp: Path, what: str, *configurations: str) -> Step:
    locks = {name: jars.LOCKS[name] for name in configurations}
    return stamp, digest_of(*locks.values()), lambda: jars.fetch_jars(what, locks)


def jar_lock_steps() -> list[Step]:
    return [(places.TOOLS / "done-jar-locks", digest_of(jars.IVY), jars.lock_jars)]


def checks_steps() -> list[Step]:
    """What `make check-infra` checks images, manifests, rules and workflows with, and the server's own environment."""
    lock, serving, scanner = (
        places.LOCKS / "infra.txt",
        places.LOCKS / "serving.txt",
        places.LOCKS / "checkov.txt",
    )
    lean, checkov = places.CHECKS / "serving", places.CHECKS / "checkov"
    return [
        *tools_steps(),
        (
            places.CHECKS / "done-packages",
            digest_of(lock),
            lambda: make_environment(places.CHECKS, "150 MB", lock),
        ),
        (places.CHECKS / "done-programs", f"{digest_of(lock)} {MADE_BY_GO}", fetch_programs),
        (places.CHECKS / "schemas" / "done-packages", digest_of(SCHEMA_LOCK), fetch_provider_schemas),
        (places.CHECKS / "azurite" / "done-packages", digest_of(*sorted(AZURITE.iterdir())), fetch_azurite),
        (lean / "done-packages", digest_of(serving), lambda: make_environment(lean, "490 MB", serving)),
        (checkov / "done-packages", digest_of(scanner), lambda: make_environment(checkov, "290 MB", scanner)),
    ]


def refuse_unlocked_machine() -> None:
    machine = (platform.system(), platform.machine())
    if machine not in LOCKED_MACHINES:
        fail(f"the locks are for Linux on x86_64 and macOS on arm64, this is {' on '.join(machine)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        fail("stopped; the same command goes on")
