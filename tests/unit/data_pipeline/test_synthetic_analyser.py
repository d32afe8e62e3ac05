"""The analyser that reads high from a day on."""

from datetime import datetime

import polars as pl

from data_pipeline.synthetic.analyser import read_high

LABS = pl.DataFrame({
    "itemid": [50912, 50912, 51222, 50912, 50971],
    "charttime": [datetime(2022, 3, 1, 6), datetime(2022, 3, 2, 6), datetime(2022, 3, 2, 6), datetime(2022, 3, 2, 7),
                  datetime(2022, 3, 2, 8)],
    "value": ["1.0", "1.0", "12.1", "HEMOLYZED", "4.0"],
    "valuenum": [1.0, 1.0, 12.1, None, 4.0],
})  # fmt: skip


def test_only_its_own_results_and_only_since_then() -> None:
    read = read_high(LABS, datetime(2022, 3, 2))
    assert read["valuenum"].to_list() == [1.0, 1.6, 12.1, None, 5.0]
    assert read["value"].to_list() == ["1.0", "1.6", "12.1", "HEMOLYZED", "5.0"]
    assert read.columns == LABS.columns
