"""What each safety layer finds of cases that were written before its rules, and the CPU time of each layer.

    .venv/bin/python -m benchmarks.safety_layers

Prints figures only: n, hits and the 95 % interval (Wilson 1927) per group of ``tests/blind/safety_cases.yaml``. A case
names what a layer is to say of it; nothing is expected where it must stay silent.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from math import sqrt
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from data_pipeline.retrieval import embedders
from data_pipeline.safety import SafetyReport, check_request
from data_pipeline.safety.check import REQUEST_LAYERS, read
from data_pipeline.safety.layer import CheckedText
from data_pipeline.safety.report import PatientContext
from mediscale.core.settings import Settings

CASES = Path("tests/blind/safety_cases.yaml")
CORPUS_WORDS = 300


def main() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    embedder = embedders.load(Settings())
    by_rules = [check_request(case["text"]) for case in cases]
    reports = [check_request(case["text"], embedding=embedder.question(case["text"])) for case in cases]
    table = Table("what", "n", "right", "share", "95 % interval", "without embedding")
    for name, group, expected, is_right in MEASURES:
        chosen = [i for i, c in enumerate(cases) if c["group"] == group and tuple(c["expected"]) in expected]
        right, alone = (sum(is_right(each[i]) for i in chosen) for each in (reports, by_rules))
        table.add_row(name, *figures(right, len(chosen)), figures(alone, len(chosen))[2])
        for how, hits in (("", right), (", without embedding", alone)):
            print(
                f"figure: {name}{how} = {100 * hits / max(len(chosen), 1):.1f}\nfigure: cases of {name} = {len(chosen)}"
            )
    Console().print(table)
    Console().print(cpu_times())


def says(layer: str, *codes: str) -> Callable[[SafetyReport], bool]:
    """Whether a layer speaks, with one of the codes as its first finding where some are given."""

    def check(report: SafetyReport) -> bool:
        findings = [finding for found in report.layers if found.layer == layer for finding in found.findings]
        return bool(findings) and (not codes or findings[0].code in codes)

    return check


def silent(layer: str) -> Callable[[SafetyReport], bool]:
    """Whether a layer says nothing."""
    return lambda report: not says(layer)(report)


def made_safe(report: SafetyReport) -> bool:
    """Whether a request is refused, or an emergency's sentence precedes the answer."""
    return report.blocks or report.risk_level == "emergency"


def not_refused(report: SafetyReport) -> bool:
    """Whether a request is answered."""
    return not report.blocks


_NOTHING: Sequence[tuple[str, ...]] = [()]
MEASURES: tuple[tuple[str, str, Sequence[tuple[str, ...]], Callable[[SafetyReport], bool]], ...] = (
    ("harmful requests refused or made safe", "harmful", [("harmful",)], made_safe),
    ("benign medical questions answered", "benign", _NOTHING, not_refused),
    ("benign questions without an emergency", "benign", _NOTHING, silent("emergency")),
    ("benign questions not called personalised", "benign", _NOTHING, silent("personalised")),
    ("emergencies found", "emergency", [("emergency",)], says("emergency")),
    ("no emergency: silent", "emergency", _NOTHING, silent("emergency")),
    ("personalised requests found", "personalised", [("personalised",)], says("personalised")),
    ("general questions: silent", "personalised", _NOTHING, silent("personalised")),
    ("prompt injections found", "injection", [("prompt_injection",)], says("prompt_injection")),
    ("no injection: silent", "injection", _NOTHING, silent("prompt_injection")),
    (
        "interactions found",
        "interaction",
        [("moderate",), ("major",), ("contraindicated",)],
        says("interaction"),
    ),
    ("major: of that severity", "interaction", [("major",)], says("interaction", "major")),
    (
        "contraindicated: of that severity",
        "interaction",
        [("contraindicated",)],
        says("interaction", "contraindicated"),
    ),
    ("moderate: of that severity", "interaction", [("moderate",)], says("interaction", "moderate")),
    ("no interaction: silent", "interaction", _NOTHING, silent("interaction")),
    ("doses above the range found", "dose", [("above",)], says("dose", "above")),
    ("doses below the range found", "dose", [("below",)], says("dose", "below")),
    ("doses in the range: silent", "dose", _NOTHING, silent("dose")),
)


def figures(hits: int, n: int) -> tuple[str, str, str, str]:
    """n, hits, share and the 95 % interval, as text."""
    if not n:
        return "0", "0", "not estimable", ""
    share, z = hits / n, 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return str(n), str(hits), f"{share:.1%}", f"{middle - half:.1%} to {middle + half:.1%}"


def cpu_times() -> Table:
    """Milliseconds of one core for texts of 300 words: the median and the 95th percentile of each layer."""
    from data_pipeline.documents import corpus

    words = " ".join(passage.text for passage in corpus.passages()).split()
    texts = [
        " ".join(words[i : i + CORPUS_WORDS])
        for i in range(0, min(len(words), 60 * CORPUS_WORDS), CORPUS_WORDS)
    ]
    check_request(texts[0])
    table = Table("layer", "median ms", "95th percentile ms", title=f"CPU time of {CORPUS_WORDS} words")
    table.add_row("reading", *milliseconds([cpu(partial(read, text)) for text in texts]))
    for name, layer in REQUEST_LAYERS.items():
        fresh = [CheckedText(read(text), PatientContext()) for text in texts]
        table.add_row(name, *milliseconds([cpu(partial(layer, checked)) for checked in fresh]))
    table.add_row("all together", *milliseconds([cpu(partial(check_request, text)) for text in texts]))
    return table


def cpu(work: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / 1e6


def milliseconds(times: list[float]) -> tuple[str, str]:
    """Median and 95th percentile."""
    ordered = sorted(times)
    return f"{ordered[len(ordered) // 2]:.2f}", f"{ordered[int(len(ordered) * 0.95)]:.2f}"


if __name__ == "__main__":
    main()
