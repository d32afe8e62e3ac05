"""The stage contract: wiring by field name, keys, locks, resumption, readable failures."""

import errno
import sqlite3
import sys
from dataclasses import replace
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

from mediscale.core.errors import BusyError, StorageError, UsageError
from mediscale.core.refs import Frozen
from mediscale.core.settings import Settings
from mediscale.core.stage import Stage
from mediscale.pipeline import call, steps
from mediscale.storage import calls, last_calls
from mediscale.storage.locks import exclusive

RUN = "cli-1"


class Params(Frozen):
    dataset: str = "hospital"
    depth: int
    rows: int = 0


class Result(Frozen):
    rows: int


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[Params]:
    """A stage of our own that notes each run; our seam, so a fake is right here."""
    runs: list[Params] = []
    module: Any = ModuleType("counting_stage")

    def run(params: Params, _settings: Settings, _key: str) -> Result:
        runs.append(params)
        return Result(rows=params.rows + params.depth)

    module.STAGE = Stage(Params, Result, run, display_name="count", summary=lambda r: f"{r.rows} rows")
    monkeypatch.setitem(sys.modules, "counting_stage", module)
    monkeypatch.setitem(steps.STAGES, "counting", "counting_stage")
    monkeypatch.setattr(calls, "code_digest", lambda _module: "code")
    return runs


def test_finished_work_is_recognised_by_its_key(counting: list[Params], settings: Settings) -> None:
    first = call.call("counting", {"depth": 3}, settings, RUN)
    again = call.call("counting", {"depth": 3}, settings, RUN)
    call.call("counting", {"depth": 4}, settings, RUN)
    assert first.result == again.result == Result(rows=3)
    assert (first.cached, again.cached) == (False, False)  # the same run made it
    assert call.call("counting", {"depth": 3}, settings, "another run").cached
    assert [params.depth for params in counting] == [3, 4]


@pytest.mark.usefixtures("counting")
def test_how_the_last_call_of_a_stage_ended_is_noted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is found counts as one that ended well, for its night did its work."""

    def noted() -> tuple[bool, datetime]:
        note = last_calls.read(f"{last_calls.folder(settings, 'hospital')}/counting.json")
        assert note
        assert note.succeeded_at
        return note.failed, note.succeeded_at

    call.call("counting", {"depth": 3}, settings, RUN)
    first = noted()
    call.call("counting", {"depth": 3}, settings, "the next night")
    again = noted()
    assert (first[0], again[0], first[1] < again[1]) == (False, False, True)
    broken = replace(call.load("counting"), run=full_disk)
    monkeypatch.setattr(sys.modules["counting_stage"], "STAGE", broken)
    with pytest.raises(StorageError, match="disk is full"):
        call.call("counting", {"depth": 4}, settings, RUN)
    assert noted() == (True, again[1])


def full_disk(*_: Any) -> Result:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_changed_code_runs_again(
    counting: list[Params], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    call.call("counting", {"depth": 3}, settings, RUN)
    monkeypatch.setattr(calls, "code_digest", lambda _module: "other code")
    call.call("counting", {"depth": 3}, settings, RUN)
    assert len(counting) == 2


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "depth: is missing"),
        ({"depth": 1, "dept": 2}, "there is no parameter dept; did you mean depth"),
        ({"depth": "x"}, "depth: "),
    ],
)
@pytest.mark.usefixtures("counting")
def test_bad_parameters_are_one_sentence(settings: Settings, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        call.call("counting", config, settings, RUN)


def test_a_float_from_kubeflow_is_an_integer(counting: list[Params], settings: Settings) -> None:
    call.call("counting", {"depth": 3.0}, settings, RUN)
    call.call("counting", {"depth": 3}, settings, RUN)
    assert len(counting) == 1


def test_the_same_stage_does_not_run_twice_at_once(counting: list[Params], settings: Settings) -> None:
    with exclusive(settings, "counting-hospital", "It"), pytest.raises(BusyError, match="already running"):
        call.call("counting", {"depth": 1}, settings, RUN)
    call.call("counting", {"depth": 1}, settings, RUN)
    assert len(counting) == 1


@pytest.mark.parametrize(
    ("failure", "error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "disk is full"),
        (sqlite3.OperationalError("database is locked"), BusyError, "registry is locked"),
        (FileNotFoundError(errno.ENOENT, "gone", "events/part-1.parquet"), StorageError, "reclaimed it, or"),
        (
            ValueError("[PATH_NOT_FOUND] Path does not exist: part-1.parquet"),
            StorageError,
            "reclaimed it, or",
        ),
    ],
)
@pytest.mark.usefixtures("counting")
def test_what_the_machine_refuses_becomes_a_sentence(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    error: type[Exception],
    sentence: str,
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("wrapped by a library") from failure

    failing = replace(sys.modules["counting_stage"].STAGE, run=fail)
    monkeypatch.setattr(sys.modules["counting_stage"], "STAGE", failing)
    with pytest.raises(error, match=sentence):
        call.call("counting", {"depth": 1}, settings, RUN)
    assert calls.of_stage(settings, "counting") == []


def test_unknown_stage_names_those_that_exist(settings: Settings) -> None:
    with pytest.raises(UsageError, match="bronze, validate, silver"):
        call.call("gild", {}, settings, RUN)


@pytest.mark.usefixtures("counting")
def test_a_damaged_record_says_what_to_do(settings: Settings) -> None:
    call.call("counting", {"depth": 3}, settings, RUN)
    (path,) = (settings.home / "lake" / "_records" / "counting").glob("*.json")
    path.write_text('{"stage": "coun')
    with pytest.raises(StorageError, match="delete it and run again"):
        call.call("counting", {"depth": 3}, settings, RUN)


@pytest.mark.usefixtures("counting")
def test_a_record_under_another_calls_name_stands_for_neither(settings: Settings) -> None:
    """Who adds one would else put it in the place of a record that the history signed."""
    call.call("counting", {"depth": 3}, settings, RUN)
    (path,) = (settings.home / "lake" / "_records" / "counting").glob("*.json")
    path.with_name("other.json").write_bytes(path.read_bytes())
    with pytest.raises(StorageError, match=r"The record counting/other\.json in the lake is damaged"):
        calls.all_calls(settings)


def test_what_a_run_was_configured_with_is_told_from_what_it_was_given() -> None:
    params = {"dataset": "h", "task": "mortality", "rounds": 60, "depth": 3, "training_set": {"version": 1}}
    assert call.configured("risk_model", params) == {"rounds": 60}


@pytest.mark.parametrize(
    ("stage", "name", "value"),
    [
        ("risk_model", "dataset", "other"),
        ("promotion", "actor", "the board"),
        ("promotion", "incumbent", None),
        ("evaluate", "oracle", "file"),
        ("evaluate", "note_tokens", None),
        ("labels", "absent", []),
        ("synthetic", "size", "large"),
    ],
)
def test_what_a_run_gives_itself_can_t_be_configured(stage: str, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"Stage {stage}: {name} can't be configured"):
        call.check({stage: {name: value}})


@pytest.mark.parametrize(
    ("stage", "name"), [("labels", "as_of"), ("gold", "as_of"), ("deidentify", "misdated_after")]
)
def test_a_time_is_named_in_utc_without_a_zone(stage: str, name: str) -> None:
    """As the lake's own times are; a night with a zone ended in a TypeError after all shards were read."""
    call.check({stage: {name: "2150-01-01T00:00:00"}})
    with pytest.raises(UsageError, match=f"Stage {stage}: {name}"):
        call.check({stage: {name: "2150-01-01T00:00:00+01:00"}})


def test_a_home_of_an_older_version_is_refused_in_one_sentence(settings: Settings) -> None:
    (settings.home / "lake" / "_manifests").mkdir(parents=True)
    with pytest.raises(StorageError, match="older version of MediScale"):
        calls.check_layout(settings)
