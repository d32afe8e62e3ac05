"""Every Delta table, declared once."""

from mediscale.core.table import SHARD, Column, Rule, Table

_EVENT_COLUMNS = (
    Column("subject_id", "int64", "patient, pseudonymous within the dataset", nullable=False),
    Column("time", "timestamp", "when it was true", nullable=False),
    Column("code", "string", "what it is: LOINC//…, ICD10CM//…, HOSPITAL_ADMISSION//…, …", nullable=False),
    Column("numeric_value", "float64", "value in the concept's unit, when there is one"),
    Column("text_value", "string", "value that is a word; < or > where numeric_value is only a bound"),
    Column("available_time", "timestamp", "when the hospital knew it, never before time", nullable=False),
    Column("visit_id", "int64", "hospital visit, when known"),
    Column("unit", "string", "UCUM unit of numeric_value"),
    Column("source", "string", "table of the extract", nullable=False),
    Column("event_id", "int64", "the same for an assertion and its corrections", nullable=False),
    Column("retracted", "bool", "true when this assertion withdraws the event", nullable=False),
)

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
    "no identifier in its row is written like 1.23E+11: a spreadsheet shortened it, and its last digits are lost",
)
"""Rules of facts and of notes alike."""

_PROVENANCE = (
    Column("file", "string", "file of the extract, relative to its root", nullable=False),
    Column(
        "line",
        "int64",
        "record in that file, the header being 1: the line where no value spans lines",
        nullable=False,
    ),
)

BRONZE = Table(
    name="bronze",
    description="A table of the extract as it came: its own columns follow, in lower case, each a string.",
    columns=_PROVENANCE,
    key=("file", "line"),
    privacy="phi",
    open_ended=True,
)

FACTS = Table(
    name="facts",
    description="Candidate events as read from bronze, each with the rules that it breaks.",
    columns=(
        *_EVENT_COLUMNS,
        *_PROVENANCE,
        Column("broken", "string", "names of the rules that the row breaks, comma-separated; null: usable"),
    ),
    key=("event_id", "available_time", "line"),
    privacy="phi",
    rules=(
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
        Rule(
            "not_marked_error", "numeric_value", "NOT marked_error", "the source does not mark it as an error"
        ),
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
    ),
)
"""Beside its columns a fact carries what its rules look at: ``low, high`` (double), ``unreadable, unit_unknown,
marked_error, voided, uninformative, between_steps, untimely, interval_inverted, visit_inverted, out_of_life,
visit_listed, miscoded, rounded, subject_listed, repeated, contradicted`` (boolean)."""

EVENTS = Table(
    name="events",
    description="Silver: MEDS events, bitemporal and append-only, in subject shards sorted by subject and time.",
    columns=(*_EVENT_COLUMNS, Column(SHARD, "int64", "subject_id mod the number of shards", nullable=False)),
    key=("event_id", "available_time"),
    privacy="phi",
    partition_by=(SHARD,),
)

QUARANTINE = Table(
    name="quarantine",
    description="Rows that can't be used, with the reason and where they stand in the extract.",
    columns=(
        Column("source", "string", "table of the extract", nullable=False),
        *_PROVENANCE,
        Column("code", "string", "what the row would have been"),
        Column("reason", "string", "names of the broken rules, comma-separated", nullable=False),
    ),
    key=("file", "line", "code", "reason"),
    privacy="pseudonymous",
)

LANDED_FILES = Table(
    name="landed_files",
    description="The files whose rows are in bronze: what the next extract's files are compared with.",
    columns=(
        Column("source", "string", "table of the extract", nullable=False),
        Column("file", "string", "file of the extract, relative to its root", nullable=False),
        Column("digest", "string", "SHA-256 of the file", nullable=False),
        Column("rows", "int64", "records in it", nullable=False),
    ),
    key=("source", "file"),
    privacy="pseudonymous",
)

CHANGED_SUBJECTS = Table(
    name="changed_subjects",
    description="The patients whose facts an appended extract may have changed.",
    columns=(Column("subject_id", "int64", "patient, pseudonymous within the dataset", nullable=False),),
    key=("subject_id",),
    privacy="pseudonymous",
)

SUBJECTS = Table(
    name="subjects",
    description="The map from the source's patient identifiers to subject_id; erasing its row unlinks a patient.",
    columns=(
        Column("source_subject", "string", "the source's own patient identifier", nullable=False),
        Column("subject_id", "int64", "patient, pseudonymous within the dataset", nullable=False),
    ),
    key=("subject_id",),
    privacy="phi",
)

LABELS = Table(
    name="labels",
    description="Cohort of one task in MEDS label columns: who is at risk, when it is predicted, what happened.",
    columns=(
        Column("subject_id", "int64", "patient", nullable=False),
        Column("stay_id", "int64", "merged stay: the visit_id of its first hospital visit", nullable=False),
        Column("admission_time", "timestamp", "start of the merged stay", nullable=False),
        Column("discharge_time", "timestamp", "end of the merged stay", nullable=False),
        Column(
            "prediction_time", "timestamp", "data may be used up to and including this time", nullable=False
        ),
        Column("boolean_value", "bool", "whether the outcome happened", nullable=False),
        Column("outcome_time", "timestamp", "when it happened; null when it did not"),
        Column(
            "known_time",
            "timestamp",
            "when the label was certain, the same time after the stay whatever the outcome",
            nullable=False,
        ),
        Column(
            "split", "string", "train, tuning or held_out; fixed salted hash of the subject", nullable=False
        ),
        Column("shard", "int64", "shard of the subject in events", nullable=False),
    ),
    key=("subject_id", "stay_id", "prediction_time"),
    privacy="pseudonymous",
)

FEATURES = Table(
    name="features",
    description="Gold: one row per label, its features as known at prediction_time.",
    columns=(
        Column("subject_id", "int64", "patient", nullable=False),
        Column("stay_id", "int64", "merged stay: the visit_id of its first hospital visit", nullable=False),
        Column("admission_time", "timestamp", "start of the merged stay", nullable=False),
        Column("prediction_time", "timestamp", "data was used up to and including this time", nullable=False),
    ),
    key=("subject_id", "stay_id", "prediction_time"),
    privacy="phi",
    open_ended=True,
)

TRAINING_SET = Table(
    name="training_set",
    description="Labels and features joined and frozen; what a model was trained, tuned and judged on.",
    columns=(
        Column("subject_id", "int64", "patient", nullable=False),
        Column("stay_id", "int64", "merged stay: the visit_id of its first hospital visit", nullable=False),
        Column("admission_time", "timestamp", "start of the merged stay", nullable=False),
        Column(
            "discharge_time", "timestamp", "end of the merged stay: to judge, never a feature", nullable=False
        ),
        Column("prediction_time", "timestamp", "data was used up to and including this time", nullable=False),
        Column("boolean_value", "bool", "whether the outcome happened", nullable=False),
        Column("outcome_time", "timestamp", "when it happened, null when not: to judge, never a feature"),
        Column("split", "string", "train, tuning or held_out", nullable=False),
        Column("sex", "string", "female, male or unknown: for subgroups", nullable=False),
        Column("age_band", "string", "18-44, 45-64, 65-79, 80+ or unknown: for subgroups", nullable=False),
        Column(
            "ethnicity",
            "string",
            "source's group, or unknown: for subgroups, never a feature",
            nullable=False,
        ),
    ),
    key=("subject_id", "stay_id", "prediction_time"),
    privacy="phi",
    open_ended=True,
)

NOTES = Table(
    name="notes",
    description="Clinical notes with surrogates in place of identifiers; each an assertion known at its own time.",
    columns=(
        Column("note_id", "int64", "the same for a note and its later versions", nullable=False),
        Column("subject_id", "int64", "patient, pseudonymous within the dataset", nullable=False),
        Column("visit_id", "int64", "hospital visit, when the note names one"),
        Column("time", "timestamp", "when it was charted", nullable=False),
        Column("available_time", "timestamp", "when it could be read, never before time", nullable=False),
        Column("note_type", "string", "table of the extract that it is from", nullable=False),
        Column("text", "string", "the note, de-identified, UTF-8", nullable=False),
        Column("replaced", "int64", "how many identifiers were replaced", nullable=False),
        *_PROVENANCE,
    ),
    key=("note_id", "available_time", "line"),
    privacy="phi",
    rules=(
        _SUBJECT_LISTED,
        _VISIT_LISTED,
        _TIME_READABLE,
        _IDENTIFIER_WHOLE,
        Rule("not_blank", "text", "NOT blank", "the note holds at least one letter or digit"),
        Rule("text_size", "text", "size <= 1048576", "the note is no longer than 1 MiB in UTF-8"),
        Rule(
            "text_readable", "text", "NOT unreadable", "the text was decoded without loss and is not binary"
        ),
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
    ),
)
"""Beside its columns a candidate note carries what its rules look at: ``size`` (bytes), ``subject_listed, visit_listed,
untimely, rounded, blank, unreadable, future, marked_error, repeated`` (boolean)."""

NOTE_TOKENS = Table(
    name="note_tokens",
    description="The notes as numbers of one tokenizer, made once for every model that reads with it.",
    columns=(
        Column("note_id", "int64", "note", nullable=False),
        Column("subject_id", "int64", "patient", nullable=False),
        Column("visit_id", "int64", "hospital visit, when the note names one"),
        Column("time", "timestamp", "when the note was charted", nullable=False),
        Column("available_time", "timestamp", "when it could be read", nullable=False),
        Column("note_type", "string", "table of the extract that it is from", nullable=False),
        Column("tokenizer", "string", "SHA-256 of the tokenizer's file", nullable=False),
        Column("tokens", "list<int32>", "the whole note, without special tokens", nullable=False),
    ),
    key=("note_id", "available_time", "tokenizer"),
    privacy="phi",
)

NOTE_FIELDS = Table(
    name="note_fields",
    description="What the rules of /analyze read from the notes: one row for each field, with what supports it.",
    columns=(
        Column("note_id", "int64", "note", nullable=False),
        Column("subject_id", "int64", "patient", nullable=False),
        Column("visit_id", "int64", "hospital visit, when the note names one"),
        Column("time", "timestamp", "when the note was charted", nullable=False),
        Column("available_time", "timestamp", "when it could be read", nullable=False),
        Column("note_type", "string", "table of the extract that it is from", nullable=False),
        Column("rules_version", "int64", "of the rules that read it", nullable=False),
        Column(
            "field",
            "string",
            "symptom, condition, medication, vital sign, recommendation, summary, urgency, risk, or a factor of these",
            nullable=False,
        ),
        Column("name", "string", "usual name of the finding or drug, kind of vital sign, or level"),
        Column("value", "string", "of a vital sign, as written"),
        Column("status", "string", "of a finding: present, absent or family"),
        Column("is_history", "bool", "of a finding: whether the note puts it into the past"),
        Column("dose", "string", "of a drug, as written"),
        Column("route", "string", "of a drug, as written"),
        Column("frequency", "string", "of a drug, as written"),
        Column("text", "string", "the note's own words; none of a level"),
        Column("start", "int64", "characters start to before end of the note support it; none of a level"),
        Column("end", "int64", "see start"),
    ),
    key=("note_id", "available_time", "field", "name", "start"),
    privacy="phi",
)

NOTE_MARGINS = Table(
    name="note_margins",
    description="What a note model answered for the stays of its tuning split: what a combination is fitted on.",
    columns=(
        Column("subject_id", "int64", "patient", nullable=False),
        Column(
            "prediction_time", "timestamp", "notes were read up to and including this time", nullable=False
        ),
        Column("tokens", "int64", "tokens that were read; 0 where there was no note", nullable=False),
        Column("margin", "float64", "uncalibrated log-odds", nullable=False),
    ),
    key=("subject_id", "prediction_time"),
    privacy="phi",
)

QUESTIONS = Table(
    name="questions",
    description="Medical questions with their answers, what a language model is trained, tuned and judged on.",
    columns=(
        Column("id", "string", "question", nullable=False),
        Column("family", "string", "the fact that it is about; never divided between splits", nullable=False),
        Column(
            "split", "string", "train, tuning or held_out; fixed salted hash of the family", nullable=False
        ),
        Column("kind", "string", "short_answer or multiple_choice", nullable=False),
        Column("question", "string", "what is asked", nullable=False),
        Column("answer", "string", "reference answer; of multiple choice the right option", nullable=False),
        Column("options", "list<string>", "of multiple choice; empty otherwise", nullable=False),
        Column("letter", "string", "of the right option"),
        Column("specialty", "string", "such as neurology; empty where its set names none", nullable=False),
        Column(
            "context", "string", "text that the question is about; empty where there is none", nullable=False
        ),
        Column("references", "list<string>", "where the answer stands", nullable=False),
    ),
    key=("id",),
    privacy="none",
)

PREDICTIONS = Table(
    name="predictions",
    description="Every answered prediction: what was asked, which version answered what, and feedback on it.",
    columns=(
        Column("worker", "string", "process that answered", nullable=False),
        Column("sequence", "int64", "number within the worker's log", nullable=False),
        Column("prediction_id", "string", "returned to the caller", nullable=False),
        Column("predicted_at", "timestamp", "when it was answered", nullable=False),
        Column("task", "string", "name of the prediction task", nullable=False),
        Column("model", "string", "registered model's name", nullable=False),
        Column("model_version", "int64", "its version", nullable=False),
        Column(
            "subject_id", "int64", "patient, when asked for one known to the lake, or whose note is quoted"
        ),
        Column("prediction_time", "timestamp", "the moment whose knowledge was used, for such a patient"),
        Column("events_version", "int64", "version of the events table that was read, for such a patient"),
        Column("risk", "float64", "calibrated probability answered; none of a language model"),
        Column("note_margin", "float64", "uncalibrated log-odds of the note, where one was read"),
        Column(
            "features", "list<float64>", "the model's inputs in its order, NaN where missing", nullable=False
        ),
        Column("asked_by", "string", "who asked, and what proved it; none before it was kept"),
        Column("purpose", "string", "purpose of use: treatment, operations, research or quality"),
        Column(
            "question", "string", "asked of a language model, identifiers replaced; in an answer's first row"
        ),
        Column(
            "answer",
            "string",
            "of a language model, one row for each part that left; of feedback the corrected one; identifiers replaced",
        ),
        Column(
            "safety", "string", "risk level that the safety layers found, or off where an engineer said so"
        ),
        Column(
            "arm",
            "string",
            "control, canary, shadow (answered to nobody) or direct, while another version answers beside production",
        ),
        Column("about", "string", "of feedback: the prediction_id of the answer that it is about"),
        Column("verdict", "string", "of feedback: helpful, wrong or unsafe"),
        Column("cited", "string", "of a language answer: the passage that it quotes, as INDEX/VERSION#ROW"),
        Column(
            "cited_dataset",
            "string",
            "where that passage is from a patient's note: the dataset whose patient subject_id is",
        ),
    ),
    key=("worker", "sequence", "task"),
    privacy="phi",
)

REVIEWED_FEEDBACK = Table(
    name="reviewed_feedback",
    description="Feedback that a person reviewed; accepted pairs of question and answer join the next training part.",
    columns=(
        Column("feedback_id", "string", "the feedback's prediction_id in the log", nullable=False),
        Column("reviewed_at", "timestamp", "when; of several reviews the newest counts", nullable=False),
        Column("reviewed_by", "string", "the approver who reviewed it", nullable=False),
        Column("decision", "string", "accepted or rejected", nullable=False),
        Column("reason", "string", "one sentence of the reviewer", nullable=False),
        Column("verdict", "string", "helpful, wrong or unsafe", nullable=False),
        Column("model", "string", "registered model's name", nullable=False),
        Column("model_version", "int64", "its version", nullable=False),
        Column("subject_id", "int64", "patient, where the answer was a risk of one known to the lake"),
        Column("question", "string", "of a language answer, identifiers replaced; none of a risk"),
        Column(
            "answer", "string", "the corrected one, else the one found helpful; none where neither is there"
        ),
        Column(
            "salt", "string", "of the digest that the history's signed entry has of this row", nullable=False
        ),
    ),
    key=("feedback_id", "reviewed_at"),
    privacy="phi",
)

HISTORY = Table(
    name="history",
    description="Append-only, hash-chained, signed: who moved, approved, reviewed, erased or exported what, and when.",
    columns=(
        Column("sequence", "int64", "1, 2, 3, …: one winner per number", nullable=False),
        Column("kind", "string", "what was done: move, approval, …", nullable=False),
        Column("actor", "string", "person or scheduler that did it", nullable=False),
        Column("at", "timestamp", "when", nullable=False),
        Column("body", "string", "canonical JSON of what was done, by its kind", nullable=False),
        Column("key", "string", "idempotency key: what it recorded is not written again", nullable=False),
        Column("previous", "string", "digest of the entry before; zeros for the first", nullable=False),
        Column("digest", "string", "SHA-256 of the entry without its signature", nullable=False),
        Column("signer", "string", "SHA-256 fingerprint of the signing key's public half", nullable=False),
        Column(
            "signature", "string", "ECDSA P-256 over the entry without its digest, base64", nullable=False
        ),
    ),
    key=("sequence",),
    privacy="none",
)

PERFORMANCE = Table(
    name="performance",
    description="How good a version's answers are, window after window, and whether its inputs have drifted.",
    columns=(
        Column("model_version", "int64", "version of the task's model", nullable=False),
        Column("window_start", "timestamp", "of when it was answered, included", nullable=False),
        Column("window_end", "timestamp", "excluded", nullable=False),
        Column(
            "basis",
            "string",
            "measured: by outcomes, all of which have matured; estimated: by the risks alone; inputs: drift",
            nullable=False,
        ),
        Column("attribute", "string", "sex, age_band or ethnicity; empty of all patients", nullable=False),
        Column("value", "string", "of the attribute; empty of all patients", nullable=False),
        Column(
            "metric",
            "string",
            "auroc, log_loss, …; of inputs drifted_columns, of questions drifted_figures",
            nullable=False,
        ),
        Column("n", "int64", "predictions; null where fewer than ten"),
        Column("events", "int64", "of these, with the outcome; null where few have it, or have not"),
        Column("estimate", "float64", "null where not estimable"),
        Column("low", "float64", "lower end of the 95 % interval, for subgroups of all of them together"),
        Column("high", "float64", "upper end"),
        Column(
            "limit_low", "float64", "what the interval must reach from above, where something was promised"
        ),
        Column("limit_high", "float64", "what it must reach from below"),
        Column("alarm", "bool", "whether the whole interval lies beyond a limit", nullable=False),
        Column("as_of", "timestamp", "when this was known", nullable=False),
    ),
    key=("model_version", "window_start", "basis", "attribute", "value", "metric"),
    privacy="none",
    partition_by=("model_version",),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        BRONZE, LANDED_FILES, FACTS, CHANGED_SUBJECTS, EVENTS, QUARANTINE, SUBJECTS, LABELS, FEATURES, TRAINING_SET,
        NOTES, NOTE_TOKENS, NOTE_FIELDS, NOTE_MARGINS, QUESTIONS, PREDICTIONS, REVIEWED_FEEDBACK, HISTORY, PERFORMANCE
    )
}  # fmt: skip


def declaration_of(table: str) -> Table:
    """The declaration of a table by its name in the lake; a task's table is ``<name>_<task>``."""
    base = next((name for name in sorted(TABLES, key=len, reverse=True) if table == name
                 or table.startswith(f"{name}_")), None)  # fmt: skip
    if base is None:
        raise KeyError(f"table {table!r} is not declared in mediscale/core/tables.py")
    return TABLES[base]
