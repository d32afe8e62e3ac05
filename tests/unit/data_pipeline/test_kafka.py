"""Kafka's client settings are read as its own tools write them."""

from pathlib import Path

import pytest

from data_pipeline.ingest import kafka
from mediscale.core.errors import InputError, UsageError


def test_client_settings_reach_kafka(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "# of the ward\n\nsecurity.protocol = SASL_SSL\nbootstrap.servers=elsewhere:1\n"
        'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="a=b";\n'
    )
    client = kafka.Topic("ehr", "kafka-1:9092", kafka.client_options(file)).client
    assert client["kafka.security.protocol"] == "SASL_SSL"
    assert client["kafka.sasl.jaas.config"].endswith('username="a=b";')
    assert client["kafka.bootstrap.servers"] == "kafka-1:9092", "the option of the command says which brokers"


def test_a_line_that_is_no_setting_is_named_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("security.protocol=SSL\nssl.key.password secret\n")
    with pytest.raises(UsageError, match=r"line 2 is no NAME=VALUE") as refused:
        kafka.client_options(file)
    assert "secret" not in str(refused.value)
    with pytest.raises(InputError, match="can't be read"):
        kafka.client_options(tmp_path / "nowhere")
