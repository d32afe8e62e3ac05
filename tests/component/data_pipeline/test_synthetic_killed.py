"""The synthetic hospital's stage in a process that is killed: nothing half-made is taken for an extract."""

import signal
import subprocess
import sys
from pathlib import Path

from data_pipeline import synthetic
from mediscale.core.settings import Settings

KEY = "the-key-of-this-call"


def run(home: Path) -> dict[str, bytes]:
    synthetic.run(synthetic.Params(size="tiny", seed=3), Settings(home=home), KEY)
    files = sorted((home / "extracts").rglob("*.csv.gz"))
    return {str(file.relative_to(home)): file.read_bytes() for file in files}


def test_a_killed_run_leaves_no_extract_and_the_next_one_is_whole(tmp_path: Path) -> None:
    home = tmp_path / "killed"
    code = f"""
import os, signal
from pathlib import Path
from data_pipeline import synthetic
from mediscale.core.settings import Settings

append = synthetic.append_table

def append_and_die(streams, fresh, name, draw):
    append(streams, fresh, name, draw)
    if name == "icu/chartevents":
        os.kill(os.getpid(), signal.SIGKILL)

synthetic.append_table = append_and_die
synthetic.run(synthetic.Params(size="tiny", seed=3), Settings(home=Path({str(home)!r})), {KEY!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(synthetic.__file__).parents[1], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.suffix for path in (home / "extracts").iterdir()} == {".partial"}
    assert run(home) == run(tmp_path / "undisturbed")
    assert not list((home / "extracts").glob(".*"))
