"""Rows of a CSV file by the names of its columns; commas part them, or semicolons or tabs as some spreadsheets do."""

import csv
import io

DELIMITERS = ",;\t"


def reader(text: str) -> "csv.DictReader[str]":
    """Reads a text whose first line names the columns: parted by what stands there most often.

    >>> [dict(row) for row in reader("drug;dose\\naspirin;0,5 g")]
    [{'drug': 'aspirin', 'dose': '0,5 g'}]
    """
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    return csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
