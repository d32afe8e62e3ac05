"""Addresses of other machines: who does not answer is a sentence, before a client tries for minutes."""

import socket
from pathlib import Path

import pytest

from data_pipeline.documents import index_versions
from mediscale.core import network
from mediscale.core.errors import StorageError, UsageError
from mediscale.core.settings import Settings
from mediscale.storage import object_store, registry, spark


def test_somebody_listens_or_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert network.is_listening(address)
    assert not network.is_listening(address)


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "127.0.0.1:99999"])
def test_what_is_no_address_does_not_listen(text: str) -> None:
    assert not network.is_listening(text)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql://user:secret@127.0.0.1:1/mlflow"])
def test_a_tracking_store_that_does_not_answer_is_a_sentence_without_its_password(
    tmp_path: Path, uri: str
) -> None:
    with pytest.raises(StorageError) as raised:
        registry.client(Settings(home=tmp_path, tracking_uri=uri))
    assert str(raised.value) == (
        "MLflow's store at 127.0.0.1:1 does not answer; start it, or set MEDISCALE_TRACKING_URI to where it is."
    )


def test_a_spark_master_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^The Spark master at spark://127.0.0.1:1 does not answer; start it"
    ):
        spark._check_master(Settings(home=tmp_path, spark_master="spark://127.0.0.1:1"))


def test_what_a_store_says_of_a_clock_is_a_sentence() -> None:
    said = "403 Forbidden: <Code>RequestTimeTooSkewed</Code>"
    assert object_store._sentence("s3://hospital", said) == (
        "The store of s3://hospital refuses this machine's requests, for its clock is wrong; set it (NTP)."
    )


def test_models_in_an_object_store_have_no_index_beside_them(tmp_path: Path) -> None:
    """So that a server that answers without documents says nothing of them."""
    away = Settings(home=tmp_path, artifact_root="s3://hospital/models")
    assert index_versions.versions(away, index_versions.DEFAULT) == []
