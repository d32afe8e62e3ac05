"""Folders of a checkout that the set-up reads and fills."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements"
TOOLS = ROOT / ".tools"
PLATFORM = ROOT / ".venv"
AIRFLOW = ROOT / ".venv-airflow"
CHECKS = ROOT / ".venv-infra"

BASE_PYTHON = os.path.realpath(sys.executable)
"""Not the one of an activated .venv, which a rebuild deletes."""
