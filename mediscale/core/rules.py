"""The rules of usable rows: a fact or a note that breaks one is quarantined under the rule's name."""

from mediscale.core.table import Rule

# Of facts and of notes alike:
_VISIT_LISTED = Rule(
    "visit_listed",
    "visit_id",
    "visit_listed",
    "the visit that it names is listed, as this patient's and nobody else's",
    of_row=False,
)
_SUBJECT_LISTED = Rule(
    "subject_listed",
    "subject_id",
    "subject_listed",
    "the patient is in the source's patient table",
    of_row=False,
)
_TIME_READABLE = Rule(
    "time_readable",
    "time",
    "NOT untimely",
    "every time in its row is a whole time that the source's clock shows, every date a whole date",
)
_IDENTIFIER_WHOLE = Rule(
    "identifier_whole",
    "subject_id",
    "NOT rounded",
    "no identifier in its row lost digits to a spreadsheet (1.23E+11), or letters to a wrong encoding",
)

FACT_RULES = (
    Rule(
        "value_readable",
        "numeric_value",
        "NOT unreadable",
        "a value that should be a number can be read as one, and two columns do not tell two",
    ),
    Rule("unit_known", "unit", "NOT unit_unknown", "the unit is one that the source's YAML converts"),
    Rule(
        "value_plausible",
        "numeric_value",
        "isnan(numeric_value) = false AND numeric_value BETWEEN low AND high",
        "the value is within the concept's plausible range (mediscale/core/concepts.py)",
    ),
    Rule(
        "value_whole",
        "numeric_value",
        "NOT between_steps",
        "a flag is 0 or 1, and a score such as that of a coma scale a whole number",
    ),
    Rule("not_marked_error", "numeric_value", "NOT marked_error", "the source does not mark it as an error"),
    Rule(
        "measured",
        "numeric_value",
        "NOT voided",
        "its row does not say itself that nothing was measured or given",
        limited=False,
    ),
    Rule(
        "bound_informative",
        "numeric_value",
        "NOT uninformative",
        "a bound such as <10 stands beyond the normal range, so that the value is surely low or surely high",
    ),
    _TIME_READABLE,
    Rule(
        "interval_ordered",
        "time",
        "NOT interval_inverted",
        "nothing in its row ends before it begins, or over ten years later",
    ),
    Rule(
        "visit_ordered",
        "time",
        "NOT visit_inverted",
        "its visit does not end before it begins, or over ten years later, and its times can be read",
        of_row=False,
    ),
    Rule(
        "near_visit",
        "time",
        "NOT far_from_visit",
        "a measurement is dated within a year of the visit that it names",
        of_row=False,
    ),
    Rule(
        "in_lifetime",
        "time",
        "NOT out_of_life",
        "it is dated after the patient's birth, of which a source may know the year alone, and not centuries later",
        of_row=False,
    ),
    _VISIT_LISTED,
    Rule(
        "code_spelled",
        "code",
        "NOT miscoded",
        "the ICD's version is 9 or 10, and the code is one of its spelling",
    ),
    _SUBJECT_LISTED,
    _IDENTIFIER_WHOLE,
    Rule(
        "not_repeated",
        "event_id",
        "NOT repeated",
        "the same row does not stand in the extract twice",
        of_row=False,
    ),
    Rule(
        "not_contradicted",
        "event_id",
        "NOT contradicted",
        "no row says something else of the patient's birth or sex, nor of the visit's admission or discharge, and "
        "none before it something else of the same event at the same moment",
        of_row=False,
    ),
)
"""Beside its columns a fact carries what these look at: ``low, high`` (double), ``unreadable, unit_unknown,
marked_error, voided, uninformative, between_steps, untimely, interval_inverted, visit_inverted, far_from_visit,
out_of_life, visit_listed, miscoded, rounded, subject_listed, repeated, contradicted`` (boolean)."""

NOTE_RULES = (
    _SUBJECT_LISTED,
    _VISIT_LISTED,
    _TIME_READABLE,
    _IDENTIFIER_WHOLE,
    Rule("not_blank", "text", "NOT blank", "the note holds at least one letter or digit"),
    Rule("text_size", "text", "size <= 1048576", "the note is no longer than 1 MiB in UTF-8"),
    Rule("text_readable", "text", "NOT unreadable", "the text was decoded without loss and is not binary"),
    Rule(
        "not_future",
        "time",
        "NOT future",
        "it is not dated more than a day after it was stored, nor after the asked time",
    ),
    Rule(
        "year_plausible",
        "time",
        "year(time) BETWEEN 1900 AND 2299 AND year(available_time) BETWEEN 1900 AND 2299",
        "it is dated in the years 1900 to 2299, which shifted extracts stay in too, and so is when it was known",
    ),
    Rule("not_error", "text", "NOT marked_error", "the hospital did not mark the note as an error"),
    Rule("not_repeated", "note_id", "NOT repeated", "the same note does not stand in the extract twice"),
)
"""Beside its columns a candidate note carries what these look at: ``size`` (bytes), ``subject_listed, visit_listed,
untimely, rounded, blank, unreadable, future, marked_error, repeated`` (boolean)."""
