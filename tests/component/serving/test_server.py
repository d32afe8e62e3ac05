"""The real server process: what a person types gets, and what survives kill -9."""

import re
import signal
import socket
import threading
from typing import Any

import pytest
from fixtures.server_process import Start

from mediscale.core.errors import BusyError, NotFoundError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import lake
from serving import main
from serving.log.prediction_log import flush_orphaned_logs


def in_lake(settings: Settings) -> list[str]:
    rows = lake.read(settings, lake.latest(settings, "synthetic", "predictions"))
    return rows["prediction_id"].to_pylist()


def test_answers_survive_kill_9_and_are_in_the_lake_once(
    settings: Settings, promote: Any, start: Start
) -> None:
    promote("mortality")
    first = start()
    answered = [first.ask(age=age, blood_pressure=140).json()["prediction_id"] for age in range(40, 60)]
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = start()
    answered.append(second.ask(age=67).json()["prediction_id"])
    second.end(signal.SIGTERM)
    assert sorted(in_lake(settings)) == sorted(answered)
    assert not any("Traceback" in line for line in second.lines)


def test_requests_leave_no_line_in_the_log(promote: Any, start: Start) -> None:
    promote("mortality")
    server = start()
    server.ask(age=67.125)
    assert server.ask(age="Canary").status_code == 422  # type: ignore[arg-type]
    server.end(signal.SIGTERM)
    text = "".join(server.lines)
    assert "67.125" not in text
    assert "Canary" not in text
    assert "/predict" not in text
    assert re.search(
        r"\d{4}-\d\d-\d\dT[0-9:]{8}Z INFO [a-z.]+: synthetic-mortality v1 is served as production\n", text
    )


def test_several_workers_share_the_port_and_their_logs_end_in_one_table(
    settings: Settings, promote: Any, start: Start
) -> None:
    promote("mortality")
    server = start(workers=2)
    answered: list[str] = []
    asking = [
        threading.Thread(
            target=lambda: answered.extend(server.ask(age=a).json()["prediction_id"] for a in range(20, 40))
        )
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    counted = re.search(r"mediscale_predictions_total\{.*\} ([\d.]+)", server.client.get("/metrics").text)
    assert counted
    assert float(counted[1]) == 80
    server.end(signal.SIGTERM)
    flush_orphaned_logs(settings, "synthetic")
    assert len(answered) == len(set(answered)) == 80
    assert sorted(in_lake(settings)) == sorted(answered)


def serve(settings: Settings, dataset: str | None = None, **options: Any) -> None:
    main.serve(settings, [dataset] if dataset else [], options.pop("alias", "production"), **options)


def test_a_port_in_use_is_one_sentence(settings: Settings, promote: Any) -> None:
    promote("mortality")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} of 127.0.0.1 is in use"):
            serve(settings, port=port)


def test_no_model_says_what_to_run(settings: Settings, promote: Any) -> None:
    with pytest.raises(NotFoundError, match=r"no model as production; train one with `mediscale run`"):
        serve(settings)
    promote("mortality", alias="staging")
    for dataset in (None, "synthetic"):
        with pytest.raises(
            NotFoundError, match="synthetic has one as staging: `mediscale serve --alias staging`"
        ):
            serve(settings, dataset)


def test_several_datasets_are_listed(settings: Settings, promote: Any) -> None:
    promote("mortality")
    promote("mortality", dataset="mimic-iii")
    with pytest.raises(UsageError, match="mimic-iii, synthetic; name one with --dataset"):
        serve(settings)


@pytest.mark.parametrize("options", [{"host": "192.0.2.1", "port": 0}, {"port": 70000}, {"port": -1}])
def test_an_impossible_address_is_one_sentence(
    settings: Settings, promote: Any, options: dict[str, Any]
) -> None:
    promote("mortality")
    with pytest.raises(UsageError, match="Port"):
        serve(settings, **options)
