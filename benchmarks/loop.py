"""`make run` without downloads: seconds, memory, CPU by stage, an unchanged rerun, and the models beside the oracle.

.venv/bin/python benchmarks/loop.py [--size small] [--beside COMMIT]

``--beside`` runs another commit first, in the same environment, and prints the CPU of its stages beside ours. A stage's
CPU is that of the whole process tree between two lines of progress; its page faults are those that needed no disk.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.rollback import ROOT, extract

_ENDED = re.compile(r"^ {2,}\d+\.\ds  (\w+)")
"""A line of progress of a stage that has ended."""


@dataclass
class Usage:
    """CPU seconds and minor page faults."""

    cpu: float = 0.0
    faults: int = 0


@dataclass
class Loop:
    """What one run of the loop cost."""

    seconds: float = 0.0
    peak: int = 0
    """Bytes of proportional memory (PSS): shared pages are counted once."""
    stages: dict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))


def run(checkout: Path, home: Path, size: str) -> Loop:
    """``mediscale run`` of a checkout."""
    module, function = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"][
        "mediscale"
    ].split(":")
    start = (
        f"import sys; from {module} import {function} as main; sys.exit(main(['run', '--size', '{size}']))"
    )
    loop, started = Loop(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=checkout,
        env={**os.environ, "MEDISCALE_HOME": str(home), "PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    tree = psutil.Process(process.pid)
    watcher = threading.Thread(target=watch, args=(tree, loop))
    watcher.start()
    assert process.stderr is not None
    before, said = Usage(), list[str]()
    for line in process.stderr:
        said.append(line)
        if stage := _ENDED.match(line):
            now = usage(tree)
            loop.stages[stage[1]].cpu += now.cpu - before.cpu
            loop.stages[stage[1]].faults += now.faults - before.faults
            before = now
    if process.wait() != 0:
        sys.exit(f"the run failed with exit code {process.returncode}: {''.join(said[-3:])}")
    watcher.join()
    loop.seconds = time.perf_counter() - started
    return loop


def usage(process: psutil.Process) -> Usage:
    """Of the process, of all that it started, and of all that these have waited for."""
    total = Usage()
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
            stat = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        except (psutil.Error, OSError):
            continue
        total.cpu += times.user + times.system + times.children_user + times.children_system
        total.faults += int(stat[7]) + int(stat[8])
    return total


def watch(process: psutil.Process, loop: Loop) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            loop.peak = max(loop.peak, sum(map(pss, [process, *process.children(recursive=True)])))
        except psutil.Error:
            return
        time.sleep(0.5)


def pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def show_stages(ours: Loop, other: Loop | None) -> None:
    for stage, now in sorted(ours.stages.items(), key=lambda item: -item[1].cpu)[:10]:
        line = f"  {stage:<18} {now.cpu:7.1f} CPU s  {now.faults / 1e6:6.2f} million page faults"
        if other is not None and (then := other.stages.get(stage)):
            line += f"    before {then.cpu:7.1f}  {then.faults / 1e6:6.2f}    {now.cpu / then.cpu:.2f} of it"
        print(line)
    total = sum(stage.cpu for stage in ours.stages.values())
    print(f"  {'all stages':<18} {total:7.1f} CPU s")


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
    parser.add_argument("--beside", metavar="COMMIT", help="another commit, which is run first")
    options = parser.parse_args()
    other = None
    with tempfile.TemporaryDirectory() as folder:
        if options.beside:
            home = Path(folder) / "other"
            extract(options.beside, Path(folder) / "checkout")
            other = run(Path(folder) / "checkout", home, options.size)
            print(f"{options.beside}: {other.seconds:.0f} s")
            beside_oracle(home)
        home = Path(folder) / "ours"
        ours = run(ROOT, home, options.size)
        again = run(ROOT, home, options.size)
        print(
            f"{options.size}: first run {ours.seconds:.0f} s, peak {ours.peak / 2**30:.1f} GiB; "
            f"unchanged rerun {again.seconds:.1f} s"
        )
        show_stages(ours, other)
        beside_oracle(home)


if __name__ == "__main__":
    main()
