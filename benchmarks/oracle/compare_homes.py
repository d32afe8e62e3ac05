"""Two homes that two commits made from the same extract, held against each other: nothing may have changed.

    compare_homes.py HOME_A HOME_B [--tolerance 0] [--show 10] [--scores A.parquet B.parquet]

A is the older commit's. Compared are every cell of every table's newest version, every registered model (its
trees, its answers and SHAP values on all rows of its training set, its spec, its note model's weights), what
its run measured, the evidence, and of every stage call its parameters and its result. Floats must be equal
bit for bit (NaN equals NaN) if no tolerance is given. The exit code is 1 where anything differs, and where
nothing was found to compare. Differences are told with their values, so of patients too.

Only raw files are read and nothing of the project is imported, so that homes of any commit can be compared.
What a commit renamed is said in renames.py, and both homes are read in the new names; what it dropped on
purpose, in its DROPPED.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.oracle.calls import compare_evidence, compare_params, compare_results
from benchmarks.oracle.findings import Findings
from benchmarks.oracle.models import compare_models
from benchmarks.oracle.tables import compare_scores, compare_tables
from benchmarks.oracle.versions import compare_runs

KINDS: dict[str, Callable[[Findings, Path, Path], None]] = {
    "tables": compare_tables,
    "models": compare_models,
    "runs": compare_runs,
    "evidence": compare_evidence,
    "results": compare_results,
    "parameters": compare_params,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home_a", type=Path, help="of the older commit")
    parser.add_argument("home_b", type=Path, help="of the newer one")
    parser.add_argument("--tolerance", type=float, default=0.0, help="how far numbers may be apart")
    parser.add_argument("--show", type=int, default=10, help="differences that are printed of each kind")
    parser.add_argument("--scores", type=Path, nargs=2, metavar=("A", "B"), help="files of `mediscale score`")
    arguments = parser.parse_args()
    work = [(kind, compare, arguments.home_a, arguments.home_b) for kind, compare in KINDS.items()]
    if arguments.scores:
        work.append(("scores", compare_scores, *arguments.scores))
    print(f"A {arguments.home_a}\nB {arguments.home_b}")
    all_findings = []
    for kind, compare, a, b in work:
        findings = Findings(kind, arguments.tolerance)
        compare(findings, a, b)
        findings.print(arguments.show)
        all_findings.append(findings)
    nothing = not any(findings.compared.total() for findings in all_findings)
    failed = [findings.kind for findings in all_findings if findings.failed]
    differing = f"DIFFERENT: {', '.join(failed)}" if failed else "no difference"
    print("\nNOTHING to compare in either home" if nothing else f"\n{differing}")
    sys.exit(bool(nothing or failed))


if __name__ == "__main__":
    main()
