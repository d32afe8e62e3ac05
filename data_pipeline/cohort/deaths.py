"""Death in hospital: one fact that several columns of a source tell, and about which they may disagree.

A time decides where there is one: a death is in hospital when it precedes the discharge, with a day of tolerance for
the clerk who wrote the time down. A word or a flag ("died", 1) that no time goes with, or that comes with a later time,
tells too little for a label.
"""

from dataclasses import dataclass
from datetime import timedelta

from data_pipeline.cohort.bitemporal import BitemporalTime

CLERK_TOLERANCE = timedelta(days=1)
"""Between a discharge and the time of a death that is still one in hospital. In the MIMIC demos 5 of 55 deaths in
hospital were written down as later than the discharge, none by more than a day."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class DeathColumns:
    """What the columns of a source say of a patient's death, about one stay that has ended."""

    recorded: BitemporalTime | None = None
    """The time of death in the row of one of the stay's visits."""
    left_dead: BitemporalTime | None = None
    """The discharge whose destination is ``DIED``."""
    left_elsewhere: bool = False
    """The destination at the end of the stay says something else, as it may where one visit lies inside another."""
    flag: bool | None = None
    """Whether the row's flag says that the patient died in hospital."""
    elsewhere: BitemporalTime | None = None
    """After the stay's admission: a date of death, at the end of its day, or in the row of another visit a time, or a
    discharge whose destination is ``DIED``."""


@dataclass(frozen=True)
class DeathInStay:
    """Whether the stay ended in death, as the columns tell it together."""

    death: BitemporalTime | None = None
    """None where the patient left alive, and where that is unclear."""
    unclear: bool = False
    """The words say that the patient died in hospital, and no time fits."""
    contradiction: bool = False
    """Two of the columns disagree, whether or not a time decides between them."""


def in_stay(columns: DeathColumns, discharged: BitemporalTime) -> DeathInStay:
    """The death in a stay that ended at ``discharged``, from all that the columns say."""
    recorded, noted = columns.recorded, columns.elsewhere
    contradiction = len(_statements(columns, discharged)) > 1
    if recorded and recorded.time <= discharged.time + CLERK_TOLERANCE:
        return DeathInStay(recorded, contradiction=contradiction)
    if noted and noted.time <= discharged.time:
        return DeathInStay(noted, contradiction=contradiction)
    if not columns.left_dead and not columns.flag:
        return DeathInStay(contradiction=contradiction)
    if not recorded and noted and not _later(noted, discharged):
        return DeathInStay(columns.left_dead or discharged, contradiction=contradiction)
    only_destination = columns.left_dead and not columns.left_elsewhere and columns.flag is not False
    if not recorded and not noted and only_destination:
        return DeathInStay(columns.left_dead, contradiction=contradiction)
    return DeathInStay(unclear=True, contradiction=contradiction)


def _statements(columns: DeathColumns, discharged: BitemporalTime) -> set[bool]:
    """Whether the patient died in hospital, by each column that says it; two answers are a contradiction.

    A time of death in a visit's row says both where it is later than the discharge: the row is about this stay.
    """
    recorded, noted = columns.recorded, columns.elsewhere
    statements = set()
    if recorded:
        statements |= {True, recorded.time <= discharged.time + CLERK_TOLERANCE}
    if columns.left_dead:
        statements.add(True)
    if columns.left_elsewhere:
        statements.add(False)
    if columns.flag is not None:
        statements.add(columns.flag)
    if noted and (noted.time <= discharged.time or _later(noted, discharged)):
        statements.add(noted.time <= discharged.time)
    return statements


def _later(noted: BitemporalTime, discharged: BitemporalTime) -> bool:
    """Whether all of the day of a death's date lies after the clerk's tolerance."""
    return noted.time - _DAY > discharged.time + CLERK_TOLERANCE
