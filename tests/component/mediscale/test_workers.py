"""Pieces of work in this process, in processes of this machine and in the tasks of Spark come to the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import psutil
import pytest

from mediscale.core.errors import LeakError, MediscaleError
from mediscale.core.settings import Settings
from mediscale.storage import spark as lake_spark
from mediscale.storage import workers

Work = Callable[..., Iterator[int]]


def doubled(number: int) -> int:
    return 2 * number


def leak(number: int) -> int:
    if number == 2:
        raise LeakError("1 of 8 audited predictions changed.")
    return number


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.fixture(scope="module", autouse=True)
def no_processes_left() -> Iterator[None]:
    yield
    workers._pool(2).shutdown()
    workers._pool.cache_clear()


@pytest.fixture(params=["here", "processes", "cluster"])
def work(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A cluster's tasks are here those of this machine's session."""
    if request.param == "here":
        return partial(workers.map_pieces, settings, processes=1)
    if request.param == "processes":
        return partial(workers.map_pieces, settings, processes=2)
    session = request.getfixturevalue("spark")
    monkeypatch.setattr(lake_spark, "session", lambda _: session)
    cluster = settings.model_copy(update={"spark_master": "spark://a-cluster:7077"})
    return partial(workers.map_pieces, cluster, processes=1)


def test_what_comes_of_each_piece_comes_in_the_order_of_the_pieces(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_IN_ONE_JOB", 3)
    n = 8
    assert list(work(doubled, iter(range(n)))) == [2 * number for number in range(n)]


def test_an_error_of_ours_in_a_worker_is_the_same_here(work: Work) -> None:
    with pytest.raises(LeakError, match=r"^1 of 8 audited predictions changed\.$"):
        list(work(leak, range(3)))


def test_an_error_of_someone_else_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), workers.unwrap_spark_errors():
        _ = 1 / 0


def test_a_worker_that_is_killed_is_a_sentence_and_the_next_ones_work(settings: Settings) -> None:
    with pytest.raises(MediscaleError, match=r"^A worker process was killed or ended") as caught:
        list(workers.map_pieces(settings, die, range(3), 2))
    assert isinstance(caught.value.__cause__, BrokenProcessPool)
    assert list(workers.map_pieces(settings, doubled, [1], 2)) == [2]


def test_no_worker_outlives_a_process_that_is_killed(settings: Settings) -> None:
    program = (
        "import os, sys; from mediscale.core.settings import Settings; from mediscale.storage import workers\n"
        "for _ in workers.map_pieces(Settings(home=sys.argv[1]), abs, range(4), 2): pass\n"
        "print('ready', flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(settings.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) > 1
        process.kill()
        gone, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert gone


def test_one_core_is_stated_and_every_core_is_not(settings: Settings) -> None:
    assert workers.cores(settings.model_copy(update={"spark_master": "local[3]"})) == 3
    assert workers.cores(settings.model_copy(update={"spark_master": "local[*]"})) == os.cpu_count()


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1), ("6400001 100000", 64)],
)
def test_a_containers_limit_is_what_it_has_of_a_large_machine(
    limit: str, cores: int, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(workers, "_CONTAINER", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert workers.cores(settings.model_copy(update={"spark_master": "local[*]"})) == cores
