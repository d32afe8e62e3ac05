"""What silver has taken in of the extracts before: what tonight's is compared with."""

from datetime import datetime

from mediscale.core.refs import Frozen, TableRef


class AbsorbedVersions(Frozen):
    """The tables of the extract before, by the versions that silver's newest call read."""

    bronze: dict[str, TableRef]
    landed: TableRef
    facts: TableRef
    quarantine: TableRef
    events: TableRef
    """What that call left."""
    docs: str
    seen_at: datetime
    same_rules: bool
    """Whether that call would be made by the same code and the same YAML today."""
