"""A laboratory analyser that reads high from some day on: planted data drift that monitoring should detect."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from data_pipeline.ingest import source

if TYPE_CHECKING:
    import polars as pl

READS_HIGH: Mapping[str, float] = {"creatinine": 1.6, "urea_nitrogen": 1.4, "potassium": 1.25}
"""The factor of each affected concept."""


def read_high(labevents: "pl.DataFrame", since: datetime) -> "pl.DataFrame":
    """MIMIC-IV's labevents with the analyser's readings from ``since`` on; rows without a number stay as they are."""
    import polars as pl

    measures = source.load("mimic-iv").concepts
    factors = {
        int(item): factor
        for concept, factor in READS_HIGH.items()
        for measure in measures[concept]
        for item in measure.items
    }
    factor = pl.col("itemid").replace_strict(factors, default=1.0, return_dtype=pl.Float64)
    high = (pl.col("charttime") >= since) & (factor != 1.0) & pl.col("valuenum").is_not_null()
    reading = (pl.col("valuenum") * factor).round(2)
    return labevents.with_columns(
        valuenum=pl.when(high).then(reading).otherwise("valuenum"),
        value=pl.when(high).then(reading.cast(pl.String)).otherwise("value"),
    )
