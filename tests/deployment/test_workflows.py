"""GitHub's workflows: their syntax and expressions, and what an attacker could use in them."""

import re
from pathlib import Path

import yaml

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"


def test_actionlint_finds_nothing(tool) -> None:
    assert tool("actionlint") == ""


def test_zizmor_finds_nothing(tool) -> None:
    assert "No findings to report" in tool("zizmor", "--offline", "--no-progress", WORKFLOWS)


def test_zizmor_finds_an_action_that_is_not_pinned(tool, tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text(re.sub(r"checkout@\w{40} # v4.2.2", "checkout@v4", (WORKFLOWS / "ci.yml").read_text()))
    assert "unpinned-uses" in tool("zizmor", "--offline", "--no-progress", wrong, fails=True)


def test_every_job_ends_by_itself_and_starts_with_reading_alone() -> None:
    for file in WORKFLOWS.glob("*.yml"):
        workflow = yaml.safe_load(file.read_text())
        assert workflow["permissions"] == {"contents": "read"}, file.name
        for name, job in workflow["jobs"].items():
            assert "timeout-minutes" in job or "uses" in job, f"{name} of {file.name}"
