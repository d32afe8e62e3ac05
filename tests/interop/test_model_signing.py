"""A stranger verifies a version with OpenSSF's own tool: no code of ours, only folder, bundle and public key."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files, model_signature
from mediscale.storage import signing

TOOL = Path(__file__).parents[2] / ".venv-interop" / "model-signing" / "bin" / "model_signing"
EVIDENCE = hashlib.sha256(b"evidence").hexdigest()


@pytest.fixture
def version(tmp_path: Path, trained: dict[Any, Path]) -> Path:
    folder = tmp_path / "home" / "artifacts" / "m-1"
    shutil.copytree(trained["mortality", 1], folder)
    (folder / "MLmodel").write_text("what MLflow keeps beside it\n")
    return folder


def verify(version: Path, bundle: str, key: Path) -> subprocess.CompletedProcess[str]:
    command = [str(TOOL), "verify", "key", str(version), "--signature", bundle, "--public_key", str(key)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_stranger_verifies_a_version_and_sees_one_changed_byte(version: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    uri = str(version.relative_to(settings.home))
    model = ModelRef(name="synthetic-mortality", version=1, uri=uri, digest=model_files.digest(version))
    model_signature.sign(settings, model, EVIDENCE)
    bundle = model_signature.place(settings, model, EVIDENCE)
    (key,) = settings.public_keys.glob("*.pem")
    (version / model_files.MLFLOW_META).write_text("MLflow drops this whenever somebody loads the model\n")
    verified = verify(version, bundle, key)
    assert (verified.returncode, verified.stdout.strip()) == (0, "Verification succeeded"), verified.stderr
    signing.make_key(tmp_path / "other.key", tmp_path / "other.pem")
    assert verify(version, bundle, tmp_path / "other.pem").returncode != 0
    with (version / "MLmodel").open("a") as file:
        file.write(" ")
    changed = verify(version, bundle, key)
    assert changed.returncode != 0
    assert "Hash mismatch for 'MLmodel'" in changed.stderr
