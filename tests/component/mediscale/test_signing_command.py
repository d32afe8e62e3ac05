"""A command that signs in the place of a key that lies in a file."""

import sys
from datetime import datetime
from pathlib import Path

import pytest

from mediscale.core import caller
from mediscale.core.errors import UsageError
from mediscale.core.settings import Settings
from mediscale.storage import history, signing
from mediscale.storage.history_entries import Draft, Export


@pytest.mark.parametrize(
    "printed", ["sys.stdout.buffer.write(signature)", "print(base64.b64encode(signature).decode())"]
)
def test_a_command_signs_in_the_keys_place(tmp_path: Path, printed: str) -> None:
    """As a KMS or an HSM does, whose key no process reads."""
    settings = Settings(home=tmp_path / "home", trust=tmp_path / "trust")
    entry = Draft(
        Export(what="w", purpose="p", rows=1, digest=""), caller.account(), datetime(2026, 1, 1), "k"
    )
    signing.signer(settings)
    script = tmp_path / "sign.py"
    script.write_text(
        "import base64, sys\n"
        "from cryptography.hazmat.primitives import hashes, serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ec\n"
        f"key = serialization.load_pem_private_key(open({str(settings.signing_key)!r}, 'rb').read(), None)\n"
        "signature = key.sign(sys.stdin.buffer.read(), ec.ECDSA(hashes.SHA256()))\n"
        f"{printed}\n"
    )
    hsm = Settings(
        home=settings.home,
        trust=settings.trust,
        signing_key=tmp_path / "none",
        signing_command=f"{sys.executable} {script}",
    )
    assert history.append(hsm, "h", entry).sequence == 1
    assert [e.signer for e in history.entries(settings, "h")] == [signing.signer(settings).key.fingerprint]
    with pytest.raises(UsageError, match=r"MEDISCALE_SIGNING_COMMAND .* failed"):
        signing.signer(hsm.model_copy(update={"signing_command": "false"}))
