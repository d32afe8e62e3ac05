"""Leak check of a source's times: what tells how a visit ended can't have been known before it ended.

Where a source's file dates such a fact too early, no feature can be blamed: all that is computed from it is right as
far as the lake knows.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_pipeline.cohort.bitemporal import Bools, microseconds
from data_pipeline.ingest.source import Source
from mediscale.core.outcomes import OUTCOME
from mediscale.core.privacy import count
from training.leakage.certificate import Check, check
from training.leakage.sample import Sample

_TELLING = ("HOSPITAL_EXPIRE_FLAG", OUTCOME)


def known_at_the_end(sample: Sample, source: Source) -> Check:
    """Check that what is decided at the end of a stay is not known before: flags of death, declared outcomes, and codes
    for which the extract has no time of their own (billing codes, given after discharge)."""
    events, untimed = sample.events, _tables_of_untimed_codes(source)
    head = np.array([code.partition("//")[0] for code in events["code"].to_pylist()], dtype=np.str_)
    coded = np.isin(head, ("ICD9CM", "ICD10CM")) & np.isin(np.array(events["source"].to_pylist()), untimed)
    ended = _first_times(events, head == "HOSPITAL_DISCHARGE")
    flags, codes = (_known_before(events, chosen, ended) for chosen in (np.isin(head, _TELLING), coded))
    problems = [
        f"{count(int(early.sum()))} of {count(len(early))} {words} are known before their visit ends"
        for words, early in (
            ("flags of an outcome", flags),
            ("diagnosis codes without a time of their own", codes),
        )
        if early.any()
    ]
    return check(
        "known_at_the_end",
        "flags of an outcome, and codes for which the extract has no time, are known when their visit has ended",
        problems,
        f"{count(len(flags))} flags, {count(len(codes))} codes",
    )


def _tables_of_untimed_codes(source: Source) -> list[str]:
    return [
        name
        for name, table in source.tables.items()
        if table.icd and not {"date", "timestamp"} & set(table.columns.values())
    ]


def _first_times(events: pa.Table, chosen: Bools) -> dict[int, int]:
    """The earliest time by visit: where a correction moved it, nothing is suspected for that."""
    rows = events.filter(pa.array(chosen)).sort_by([("time", "descending")])
    return dict(zip(rows["visit_id"].to_pylist(), microseconds(rows["time"]).tolist(), strict=True))


def _known_before(events: pa.Table, chosen: Bools, ended: dict[int, int]) -> Bools:
    """Whether each chosen event of an ended visit was known before the visit ended."""
    rows, never = events.filter(pa.array(chosen)), np.iinfo(np.int64).min
    times: npt.NDArray[np.int64] = np.array(
        [ended.get(visit, never) for visit in rows["visit_id"].to_pylist()], dtype=np.int64
    )
    early = microseconds(rows["available_time"]) < times
    return np.asarray(early[times > never])
