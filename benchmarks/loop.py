"""`make run` without downloads: seconds, peak memory, an unchanged rerun, and the models beside the oracle.

.venv/bin/python benchmarks/loop.py [--size small]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

MEDISCALE = Path(sys.executable).with_name("mediscale")


def run(home: Path, size: str) -> tuple[float, float]:
    """Wall seconds and peak proportional memory (PSS, shared pages counted once) in GiB of one run."""
    around = {**os.environ, "MEDISCALE_HOME": str(home)}
    started = time.perf_counter()
    process = subprocess.Popen([str(MEDISCALE), "run", "--size", size], env=around, stdout=subprocess.DEVNULL)
    peak = [0]
    watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid), peak))
    watcher.start()
    if process.wait() != 0:
        sys.exit(f"the run failed with exit code {process.returncode}")
    watcher.join()
    return time.perf_counter() - started, peak[0] / 2**30


def watch(process: psutil.Process, peak: list[int]) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        peak[0] = max(peak[0], sum(map(pss, [process, *process.children(recursive=True)])))
        time.sleep(0.5)


def pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def beside_oracle(home: Path) -> None:
    for path in sorted(home.glob("evidence/*/evidence.json")):
        evidence = json.loads(path.read_text())
        ours, best = evidence["metrics"]["auroc"], evidence["oracle"]["auroc"]
        n = evidence["counts"]["n"]
        print(f"{evidence['task']:<12} AUROC {interval(ours)}, oracle {interval(best)}, {n:,} held-out stays")


def interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "small", "large"), default="small")
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seconds, memory = run(home, size)
        again, _ = run(home, size)
        print(f"{size}: first run {seconds:.0f} s, peak {memory:.1f} GiB; unchanged rerun {again:.1f} s")
        beside_oracle(home)


if __name__ == "__main__":
    main()
