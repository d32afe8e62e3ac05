"""Jars of Spark, of its way to S3, of a Kafka broker, and the embedder's weights: locked, fetched by Ivy, checked."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from infra.set_up import places
from infra.set_up.commands import fail, run
from infra.set_up.java import java_command, site_packages, trusted_authorities

IVY = places.ROOT / "infra" / "spark" / "ivy.xml"
LOCKS = {name: IVY.with_name(f"{name}.lock") for name in ("spark", "s3", "weights", "broker")}
"""By configuration of ivy.xml: a line for each jar, with its coordinates and its SHA-256."""

Coordinates = tuple[str, str, str]
"""Organisation, name, revision."""


def fetch_jars(what: str, locks: Mapping[str, Path]) -> None:
    """Fetches jars by Ivy, for each configuration into a folder that appears whole and checked, or not at all.

    Ivy is told each jar and to ask for nothing else: what depends on what was resolved when the locks were written,
    and took it two thirds of its time.
    """
    partial, home = places.PLATFORM / "jars.partial", places.PLATFORM / "jars"
    locked = {name: locked_jars(lock) for name, lock in locks.items()}
    module, settings = places.TOOLS / "ivy.xml", places.TOOLS / "ivysettings.xml"
    module.write_text(ivy_module(locked))
    settings.write_text(
        '<ivysettings><settings defaultResolver="public"/><resolvers><ibiblio name="public" m2compatible="true" '
        'usepoms="false" useMavenMetadata="false"/></resolvers></ivysettings>'
    )
    retrieve_jars(f"fetching {what}", partial, "-settings", settings, "-ivy", module, "-confs", *locks)
    home.mkdir(exist_ok=True)
    for name, jars in locked.items():
        check_jars(partial / name, jars)
        shutil.rmtree(home / name, ignore_errors=True)
        (partial / name).replace(home / name)
    partial.rmdir()


def locked_jars(lock: Path) -> dict[Coordinates, str]:
    """The SHA-256 of each jar of a lock."""
    digests = {}
    for line in lock.read_text().splitlines():
        coordinates, digest = line.split()
        organisation, name, revision = coordinates.split(":")
        digests[organisation, name, revision] = digest
    return digests


def ivy_module(locked: Mapping[str, Mapping[Coordinates, str]]) -> str:
    configurations = "".join(f'<conf name="{name}"/>' for name in locked)
    dependencies = "".join(
        f'<dependency org="{organisation}" name="{name}" rev="{revision}" conf="{configuration}->default" '
        'transitive="false"/>'
        for configuration, jars in locked.items()
        for organisation, name, revision in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="mediscale" module="jars"/>'
        f"<configurations>{configurations}</configurations>"
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )


def retrieve_jars(title: str, partial: Path, *arguments: str | Path) -> None:
    """Retrieves jars with the Ivy that pyspark ships, as ``CONFIGURATION/ORGANISATION:NAME:REVISION.jar``."""
    shutil.rmtree(partial, ignore_errors=True)
    (ivy,) = (site_packages() / "pyspark" / "jars").glob("ivy-*.jar")
    java = [java_command(), *trusted_authorities(), "-cp", str(ivy), "org.apache.ivy.Main"]
    pattern = f"{partial}/[conf]/[organisation]:[module]:[revision].[ext]"
    cache = ["-cache", str(places.TOOLS / "ivy"), "-retrieve", pattern]
    run(title, [*java, *map(str, arguments), *cache], "Maven Central")


def lock_jars() -> None:
    """Writes the locks: resolves ivy.xml with all that its jars depend on."""
    partial = places.TOOLS / "jars.partial"
    # it says of locked jars that they depend on nothing
    shutil.rmtree(places.TOOLS / "ivy", ignore_errors=True)
    retrieve_jars("resolving infra/spark/ivy.xml", partial, "-ivy", IVY, "-confs", *LOCKS)
    for name, lock in LOCKS.items():
        jars = sorted((partial / name).glob("*.jar"))
        lock.write_text("".join(f"{jar.stem} {sha256(jar)}\n" for jar in jars))
    shutil.rmtree(partial)


def check_jars(folder: Path, locked: Mapping[Coordinates, str]) -> None:
    """Compares fetched jars with their lock, and renames them as class paths have them; one difference refuses all."""
    expected = {":".join(coordinates): digest for coordinates, digest in locked.items()}
    digests = {jar.stem: sha256(jar) for jar in folder.glob("*.jar")}
    wrong = sorted(
        name for name in expected.keys() | digests.keys() if expected.get(name) != digests.get(name)
    )
    if wrong:
        shutil.rmtree(places.TOOLS / "ivy", ignore_errors=True)
        fail(
            f"{len(wrong)} jars are not those of infra/spark/{folder.name}.lock ({', '.join(wrong)}); run it again"
        )
    for coordinates in locked:
        _, name, revision = coordinates
        (folder / f"{':'.join(coordinates)}.jar").rename(folder / f"{name}-{revision}.jar")


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
