"""Data-quality verdict: what bronze and validation said of the extract that a version was trained and judged on.

It is read from the records of their calls, which the reference to the quarantine table leads to; rows are not read.
"""

from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import FACTS
from mediscale.storage import calls
from mediscale.storage.calls import Call
from training.evaluation.evaluation_report import DataQuality

_LIMITED = frozenset(rule.name for rule in FACTS.all_rules if rule.limited)
"""Rules that a sound extract seldom breaks."""


def read(settings: Settings, quarantine: TableRef | None) -> DataQuality | None:
    """The verdict about the extract whose quarantine this is; None where no record tells of it."""
    if quarantine is None:
        return None
    validated = _newest_call(settings, "validate", "quarantine", quarantine.model_dump(mode="json"))
    landed = validated and _newest_call(settings, "bronze", "bronze", validated.params["bronze"])
    if validated is None or landed is None:
        return None
    rows = {output.ref.table.removeprefix("bronze_"): output.rows for output in landed.outputs}
    unlisted = landed.result["unlisted_words"]
    return DataQuality(
        validated_by=validated.key,
        judged=validated.result["judged"],
        quarantined=validated.result["quarantined"],
        broken={rule: n for rule, n in sorted(validated.result["reasons"].items()) if rule in _LIMITED},
        unlisted=dict(sorted(unlisted.items())),
        records={column: rows[column.partition(".")[0]] for column in sorted(unlisted)},
    )


def _newest_call(settings: Settings, stage: str, field: str, value: object) -> Call | None:
    """The newest call of a stage whose result has this value."""
    newest_first = (call for call in reversed(calls.of_stage(settings, stage)) if call.result[field] == value)
    return next(newest_first, None)
