"""Virtual environments from the hashed locks, and what lies in the platform's besides packages."""

import shutil
from pathlib import Path

from infra.set_up import places
from infra.set_up.commands import PACKAGES, run, uv
from infra.set_up.stamps import digest_of, finish, is_current


def make_tools(bootstrap: Path) -> None:
    home = places.TOOLS / "uv"
    venv = [places.BASE_PYTHON, "-m", "venv", "--clear", str(home)]
    run("preparing uv", venv, "Python's venv module (Debian: apt install python3-venv)")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    run("fetching uv", [*pip, "--require-hashes", "--requirement", str(bootstrap)], PACKAGES)


def make_environment(home: Path, size: str, *locks: Path) -> None:
    """Makes a virtual environment of its locks. One without a stamp, as a killed set-up leaves it, is made anew.

    pyspark comes as source only: what builds it is held to digests as well. Bytecode is not compiled here: Python keeps
    that of what is imported, and more than half of these files never are.
    """
    stamp, place = home / "done-packages", home / "done-venv"
    if not (stamp.exists() and is_current(place, digest_of())):
        venv = [*uv("venv"), "--clear", "--python", places.BASE_PYTHON, str(home)]
        run(f"creating {home.name}", venv, "a usable Python")
        finish(place, digest_of())
    stamp.unlink(missing_ok=True)
    sync = [*uv("pip", "sync"), "--require-hashes", "--build-constraints", str(places.LOCKS / "build.txt")]
    into = ["--python", str(home / "bin" / "python"), *map(str, locks)]
    names = " and ".join(lock.name for lock in locks)
    run(f"filling {home.name} from requirements/{names}, {size} on disk", [*sync, *into], PACKAGES)


def install_project() -> None:
    """Installs this checkout, editable, with the build backend that the lock holds: nothing is fetched."""
    install = [*uv("pip", "install"), "--offline", "--no-deps", "--no-build-isolation"]
    into = ["--python", str(places.PLATFORM / "bin" / "python"), "--editable", str(places.ROOT)]
    run("installing mediscale itself", [*install, *into], "the locked build backend")


def make_store() -> None:
    """Makes MLflow's store, empty but for its tables: ``mediscale.storage.registry`` begins a home with it."""
    partial, home = places.PLATFORM / "store.partial", places.PLATFORM / "store"
    for old in (partial, home):  # of another MLflow
        shutil.rmtree(old, ignore_errors=True)
    make = (
        "import sys; from pathlib import Path; from mediscale.core.settings import Settings\n"
        "from mediscale.storage import registry; registry.client(Settings(home=Path(sys.argv[1])))"
    )
    run(
        "making an empty MLflow store",
        [str(places.PLATFORM / "bin" / "python"), "-c", make, str(partial)],
        "MLflow",
    )
    partial.replace(home)
