"""What two commits call the same thing, and what of it is not compared."""

import re
from collections.abc import Iterable

STAGES = {
    "quality": "validate",
    "combination": "late_fusion",
    "retrain": "retrain_decision",
    "rehearsal": "held_out_replay",
    "rounds": "daily_predictions",
}
TABLES: dict[str, str] = {}
"""By their declared name: ``labels`` is ``labels_mortality`` too."""
COLUMNS: dict[str, dict[str, str]] = {
    "labels": {"visit_id": "stay_id"},
    "features": {"visit_id": "stay_id"},
    "training_set": {"visit_id": "stay_id"},
    "scores": {"visit_id": "stay_id"},
}
"""By declared table, or ``scores`` for the file of ``mediscale score``."""
FIELDS = {
    "alarms.found": "sensitivity",
    "alarms.right": "ppv",
    "alarms.flagged": "flag_rate",
    "looks": "prior_evaluations",
    "by_values": "n_ad_hoc",
    "least_per_class": "min_events_per_class",
    "draws": "n_resamples",
    "false_alarms": "family_wise_error_rate",
    "monitored": "max_features",
    "most_stays": "max_examples_per_epoch",
    "accumulate": "gradient_accumulation_steps",
    "notes.usual": "reference_mean",
    "surrogate_key": "pseudonym_secret",
}
"""Of calls, evidence and specs. With a dot: only inside the field before it, which goes by its new name."""
TEXTS: dict[str, str] = {
    r"-(rehearsal|held_out_replay)-[0-9a-f]{8}$": "-held_out_replay",  # a dataset, with the key of its call
}
"""Regular expressions and what is put in their place in every text of a file: for sentences worded anew."""
MODELS: dict[str, str] = {}
"""Registered models' names."""
CALL_FOLDERS = ("_manifests", "_calls", "_records")
TREE_FILES = ("model.ubj", "model.json")
PREDICTOR_FILES = ("predictor.json",)
NOTE_SPEC_FILES = ("notes.json",)
EVIDENCE_FILES = ("evidence.json",)
NOTE_FOLDERS = ("notes",)
"""Of files and folders: every name that one may have, old ones first."""

DROPPED = frozenset(
    {
        "gold.leaks",
        "risk_model.source",
        "late_fusion.source",
        "prior_evaluations",  # counted when the report is made
        "run.files.note_words.json",  # lies in the model's folder
    }
)
"""Fields (``stage.field``, ``evidence.field`` or just ``field``) and columns (``table.column``) only A has."""


IGNORED_COLUMNS: dict[str, frozenset[str]] = {
    "promotions": frozenset(
        {
            "moved_at",  # the clock
            "evidence_digest",  # of a file that holds keys
            "model_uri",  # MLflow's random folder
            "model_digest",  # over files that hold keys
            "key",  # depends on the code
        }
    ),
    "history": frozenset(
        {
            "at",  # the clock
            "body",  # names files
            "key",  # depends on the code
            "previous",
            "digest",
            "signer",
            "signature",
        }
    ),
    "predictions": frozenset(
        {
            "worker",  # a process
            "sequence",  # which of several workers answered, and when it was started anew
            "prediction_id",  # random
            "predicted_at",  # the clock
            "events_version",  # counts commits, not rows
        }
    ),
}
IGNORED_FIELDS = frozenset(
    {
        # identities that depend on the code, or are random
        "key", "run_id", "digest", "model_digest", "incumbent_digest", "evidence_digest", "rows_digest",
        "extract_digest", "certificate_digest",
        # where files lie: under keys, or in MLflow's random folders
        "uri", "model_uri", "incumbent_uri", "evidence", "certificate", "docs", "report", "path",
        "model_file",
        # the clock of a run, from which the made-up days of a replay follow
        "moved_at", "start", "end", "since", "until", "at", "as_of",
    }
)  # fmt: skip
"""Of calls, evidence and specs, by old and new names. References lose ``table_id`` and ``version`` too."""

IGNORED_METRICS = frozenset({"tokens_per_cpu_second"})
"""Of runs: how busy the machine was. Nothing else differs between two runs of one commit."""

MAPS = frozenset(
    {
        "reasons",
        "flow",
        "outcomes",
        "counts",
        "importance",
        "thresholds",
        "tuning_log_loss",
        "bronze",
        "metrics",
    }
)
"""Fields whose keys are data: a key that only B has is a difference too."""

KEYS: dict[str, tuple[str, ...]] = {
    "bronze": ("file", "line"),
    "facts": ("event_id", "available_time", "line"),
    "events": ("event_id", "available_time"),
    "quarantine": ("file", "line", "code", "reason"),
    "subjects": ("subject_id",),
    "labels": ("subject_id", "stay_id", "prediction_time"),
    "features": ("subject_id", "stay_id", "prediction_time"),
    "training_set": ("subject_id", "stay_id", "prediction_time"),
    "notes": ("note_id", "available_time", "line"),
    "note_tokens": ("note_id", "available_time", "tokenizer"),
    "note_margins": ("subject_id", "prediction_time"),
    "predictions": ("task", "model", "model_version", "subject_id", "prediction_time"),
    "promotions": ("sequence",),
    "history": ("sequence",),
    "scores": ("subject_id", "prediction_time"),
}
"""What rows are matched by, in new names. Rows that share a key are matched in the order of their other
cells, and so are all rows of a table that isn't listed."""

Names = tuple[str, ...]


def table_base(table: str) -> str:
    """The declared name of a table of a task or a source: ``labels`` of ``labels_mortality``."""
    bases = [base for base in KEYS if table == base or table.startswith(f"{base}_")]
    return max(bases, key=len, default=table)


def new_table(table: str) -> str:
    for old, new in TABLES.items():
        if table == old or table.startswith(f"{old}_"):
            return new + table[len(old) :]
    return table


def new_text(text: str) -> str:
    for old, new in TEXTS.items():
        text = re.sub(old, new, text)
    return text


def new_model(name: str) -> str:
    return MODELS.get(name, new_text(name))


def listed(name: str, names: Iterable[str]) -> bool:
    """Whether a dotted name, or its end, is one of ``names``."""
    return any(name == one or name.endswith(f".{one}") for one in names)
