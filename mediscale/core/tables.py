"""Every Delta table, declared once: to add one is to write one more ``Table`` here."""

from mediscale.core.rules import FACT_RULES, NOTE_RULES
from mediscale.core.table import SHARD, Column, Nullable, Table

_EVENT_COLUMNS = (
    Column("subject_id", "int64", "patient, pseudonymous within the dataset"),
    Column("time", "timestamp", "when it was true"),
    Column("code", "string", "what it is: LOINC//…, ICD10CM//…, HOSPITAL_ADMISSION//…, …"),
    Nullable("numeric_value", "float64", "value in the concept's unit, when there is one"),
    Nullable("text_value", "string", "value that is a word; < or > where numeric_value is only a bound"),
    Column("available_time", "timestamp", "when the hospital knew it, never before time"),
    Nullable("visit_id", "int64", "hospital visit, when known"),
    Nullable("unit", "string", "UCUM unit of numeric_value"),
    Column("source", "string", "table of the extract"),
    Column("event_id", "int64", "the same for an assertion and its corrections"),
    Column("retracted", "bool", "true when this assertion withdraws the event"),
)

_PROVENANCE = (
    Column("file", "string", "file of the extract, relative to its root"),
    Column("line", "int64", "record in that file, the header being 1: the line where no value spans lines"),
)

BRONZE = Table(
    name="bronze",
    description="A table of the extract as it came: its own columns follow, in lower case, each a string.",
    columns=_PROVENANCE,
    key=("file", "line"),
    open_ended=True,
)

FACTS = Table(
    name="facts",
    description="Candidate events as read from bronze, each with the rules that it breaks.",
    columns=(
        *_EVENT_COLUMNS,
        *_PROVENANCE,
        Nullable("broken", "string", "names of the rules that the row breaks, comma-separated; null: usable"),
    ),
    key=("event_id", "available_time", "line"),
    rules=FACT_RULES,
)

EVENTS = Table(
    name="events",
    description="Silver: MEDS events, bitemporal and append-only, in subject shards sorted by subject and time.",
    columns=(*_EVENT_COLUMNS, Column(SHARD, "int64", "subject_id mod the number of shards")),
    key=("event_id", "available_time"),
    partition_by=(SHARD,),
)

QUARANTINE = Table(
    name="quarantine",
    description="Rows that can't be used, with the reason and where they stand in the extract.",
    columns=(
        Column("source", "string", "table of the extract"),
        *_PROVENANCE,
        Nullable("code", "string", "what the row would have been"),
        Column("reason", "string", "names of the broken rules, comma-separated"),
    ),
    key=("file", "line", "code", "reason"),
)

LANDED_FILES = Table(
    name="landed_files",
    description="The files whose rows are in bronze: what the next extract's files are compared with.",
    columns=(
        Column("source", "string", "table of the extract"),
        Column("file", "string", "file of the extract, relative to its root"),
        Column("digest", "string", "SHA-256 of the file"),
        Column("rows", "int64", "records in it"),
    ),
    key=("source", "file"),
)

CHANGED_SUBJECTS = Table(
    name="changed_subjects",
    description="The patients whose facts an appended extract may have changed.",
    columns=(Column("subject_id", "int64", "patient, pseudonymous within the dataset"),),
    key=("subject_id",),
)

SUBJECTS = Table(
    name="subjects",
    description="The map from the source's patient identifiers to subject_id; erasing its row unlinks a patient.",
    columns=(
        Column("source_subject", "string", "the source's own patient identifier"),
        Column("subject_id", "int64", "patient, pseudonymous within the dataset"),
    ),
    key=("subject_id",),
)

_STAY = (
    Column("subject_id", "int64", "patient"),
    Column("stay_id", "int64", "merged stay: the visit_id of its first hospital visit"),
    Column("admission_time", "timestamp", "start of the merged stay"),
)

LABELS = Table(
    name="labels",
    description="Cohort of one task in MEDS label columns: who is at risk, when it is predicted, what happened.",
    columns=(
        *_STAY,
        Column("discharge_time", "timestamp", "end of the merged stay"),
        Column("prediction_time", "timestamp", "data may be used up to and including this time"),
        Column("boolean_value", "bool", "whether the outcome happened"),
        Nullable("outcome_time", "timestamp", "when it happened; null when it did not"),
        Column(
            "known_time",
            "timestamp",
            "when the label was certain, the same time after the stay whatever the outcome",
        ),
        Column("split", "string", "train, tuning or held_out; fixed salted hash of the subject"),
        Column("shard", "int64", "shard of the subject in events"),
    ),
    key=("subject_id", "stay_id", "prediction_time"),
)

FEATURES = Table(
    name="features",
    description="Gold: one row per label, its features as known at prediction_time.",
    columns=(*_STAY, Column("prediction_time", "timestamp", "data was used up to and including this time")),
    key=("subject_id", "stay_id", "prediction_time"),
    open_ended=True,
)

TRAINING_SET = Table(
    name="training_set",
    description="Labels and features joined and frozen; what a model was trained, tuned and judged on.",
    columns=(
        *_STAY,
        Column("discharge_time", "timestamp", "end of the merged stay: to judge, never a feature"),
        Column("prediction_time", "timestamp", "data was used up to and including this time"),
        Column("boolean_value", "bool", "whether the outcome happened"),
        Nullable("outcome_time", "timestamp", "when it happened, null when not: to judge, never a feature"),
        Column("split", "string", "train, tuning or held_out"),
        Column("sex", "string", "female, male or unknown: for subgroups"),
        Column("age_band", "string", "18-44, 45-64, 65-79, 80+ or unknown: for subgroups"),
        Column("ethnicity", "string", "source's group, or unknown: for subgroups, never a feature"),
    ),
    key=("subject_id", "stay_id", "prediction_time"),
    open_ended=True,
)

NOTES = Table(
    name="notes",
    description="Clinical notes with surrogates in place of identifiers; each an assertion known at its own time.",
    columns=(
        Column("note_id", "int64", "the same for a note and its later versions"),
        Column("subject_id", "int64", "patient, pseudonymous within the dataset"),
        Nullable("visit_id", "int64", "hospital visit, when the note names one"),
        Column("time", "timestamp", "when it was charted"),
        Column("available_time", "timestamp", "when it could be read, never before time"),
        Column("note_type", "string", "table of the extract that it is from"),
        Column("text", "string", "the note, de-identified, UTF-8"),
        Column("replaced", "int64", "how many identifiers were replaced"),
        *_PROVENANCE,
    ),
    key=("note_id", "available_time", "line"),
    rules=NOTE_RULES,
)

_NOTE = (
    Column("note_id", "int64", "note"),
    Column("subject_id", "int64", "patient"),
    Nullable("visit_id", "int64", "hospital visit, when the note names one"),
    Column("time", "timestamp", "when the note was charted"),
    Column("available_time", "timestamp", "when it could be read"),
    Column("note_type", "string", "table of the extract that it is from"),
)
"""Of tables that are made of each note alone."""

NOTE_TOKENS = Table(
    name="note_tokens",
    description="The notes as numbers of one tokenizer, made once for every model that reads with it.",
    columns=(
        *_NOTE,
        Column("tokenizer", "string", "SHA-256 of the tokenizer's file"),
        Column("tokens", "list<int32>", "the whole note, without special tokens"),
    ),
    key=("note_id", "available_time", "tokenizer"),
)

NOTE_FIELDS = Table(
    name="note_fields",
    description="What the rules of /analyze read from the notes: one row for each field, with what supports it.",
    columns=(
        *_NOTE,
        Column("rules_version", "int64", "of the rules that read it"),
        Column(
            "field",
            "string",
            "symptom, condition, medication, vital sign, recommendation, summary, urgency, risk, or a factor of these; "
            "language alone, where it is not English and nothing else was read",
        ),
        Nullable(
            "name", "string", "usual name of the finding or drug, kind of vital sign, level, or language"
        ),
        Nullable("value", "string", "of a vital sign, as written, with sign and unit"),
        Nullable(
            "status", "string", "a finding: present, absent, family; a drug: taken, stopped, held, considered"
        ),
        Nullable("is_history", "bool", "of a finding: whether the note puts it into the past"),
        Nullable("dose", "string", "of a drug, as written"),
        Nullable("route", "string", "of a drug, as written"),
        Nullable("frequency", "string", "of a drug, as written"),
        Nullable("text", "string", "the note's own words; none of a level"),
        Nullable("start", "int64", "characters start to before end of the note support it; none of a level"),
        Nullable("end", "int64", "see start"),
    ),
    key=("note_id", "available_time", "field", "name", "start"),
)

NOTE_MARGINS = Table(
    name="note_margins",
    description="What a note model answered for the stays of its tuning split: what a combination is fitted on.",
    columns=(
        Column("subject_id", "int64", "patient"),
        Column("prediction_time", "timestamp", "notes were read up to and including this time"),
        Column("tokens", "int64", "tokens that were read; 0 where there was no note"),
        Column("margin", "float64", "uncalibrated log-odds"),
    ),
    key=("subject_id", "prediction_time"),
)

QUESTIONS = Table(
    name="questions",
    description="Medical questions with their answers, what a language model is trained, tuned and judged on.",
    columns=(
        Column("id", "string", "question"),
        Column("family", "string", "the fact that it is about; never divided between splits"),
        Column("split", "string", "train, tuning or held_out; fixed salted hash of the family"),
        Column("kind", "string", "short_answer or multiple_choice"),
        Column("question", "string", "what is asked"),
        Column("answer", "string", "reference answer; of multiple choice the right option"),
        Column("options", "list<string>", "of multiple choice; empty otherwise"),
        Nullable("letter", "string", "of the right option"),
        Column("specialty", "string", "such as neurology; empty where its set names none"),
        Column("context", "string", "text that the question is about; empty where there is none"),
        Column("references", "list<string>", "where the answer stands"),
    ),
    key=("id",),
)

PREDICTIONS = Table(
    name="predictions",
    description="Every answered prediction: what was asked, which version answered what, and feedback on it.",
    columns=(
        Column("worker", "string", "process that answered"),
        Column("sequence", "int64", "number within the worker's log"),
        Column("prediction_id", "string", "returned to the caller"),
        Column("predicted_at", "timestamp", "when it was answered"),
        Column("task", "string", "name of the prediction task"),
        Column("model", "string", "registered model's name"),
        Column("model_version", "int64", "its version"),
        Nullable(
            "subject_id", "int64", "patient, when asked about one known to the lake, or whose note is quoted"
        ),
        Nullable("prediction_time", "timestamp", "the moment whose knowledge was used, for such a patient"),
        Nullable(
            "events_version",
            "int64",
            "version of the events table that was read, where the request did not bring them",
        ),
        Nullable("risk", "float64", "calibrated probability answered; none of a language model"),
        Nullable("note_margin", "float64", "uncalibrated log-odds of the note, where one was read"),
        Column("features", "list<float64>", "the model's inputs in its order, NaN where missing"),
        Nullable("asked_by", "string", "who asked, and what proved it; none before it was kept"),
        Nullable("purpose", "string", "purpose of use: treatment, operations, research or quality"),
        Nullable(
            "question", "string", "asked of a language model, identifiers replaced; in an answer's first row"
        ),
        Nullable(
            "answer",
            "string",
            "of a language model, one row for each part that left; of feedback the corrected one; identifiers replaced",
        ),
        Nullable(
            "safety", "string", "risk level that the safety layers found, or off where an engineer said so"
        ),
        Nullable(
            "arm",
            "string",
            "control, canary, shadow (answered to nobody) or direct, while another version answers beside production",
        ),
        Nullable("about", "string", "of feedback: the prediction_id of the answer that it is about"),
        Nullable("verdict", "string", "of feedback: helpful, wrong or unsafe"),
        Nullable("cited", "string", "of a language answer: the passage that it quotes, as INDEX/VERSION#ROW"),
        Nullable(
            "cited_dataset",
            "string",
            "where that passage is from a patient's note: the dataset whose patient subject_id is",
        ),
    ),
    key=("worker", "sequence", "task"),
)

REVIEWED_FEEDBACK = Table(
    name="reviewed_feedback",
    description="Feedback that a person reviewed; accepted pairs of question and answer join the next training part.",
    columns=(
        Column("feedback_id", "string", "the feedback's prediction_id in the log"),
        Column("reviewed_at", "timestamp", "when; of several reviews the newest counts"),
        Column("reviewed_by", "string", "the approver who reviewed it"),
        Column("decision", "string", "accepted or rejected"),
        Column("reason", "string", "one sentence of the reviewer"),
        Column("verdict", "string", "helpful, wrong or unsafe"),
        Column("model", "string", "registered model's name"),
        Column("model_version", "int64", "its version"),
        Nullable("subject_id", "int64", "patient, where the answer was a risk of one known to the lake"),
        Nullable("question", "string", "of a language answer, identifiers replaced; none of a risk"),
        Nullable(
            "answer", "string", "the corrected one, else the one found helpful; none where neither is there"
        ),
        Column("salt", "string", "of the digest that the history's signed entry has of this row"),
    ),
    key=("feedback_id", "reviewed_at"),
)

HISTORY = Table(
    name="history",
    description="Append-only, hash-chained, signed: who moved, approved, reviewed, erased or exported what, and when.",
    columns=(
        Column("sequence", "int64", "1, 2, 3, …: one winner per number"),
        Column("kind", "string", "what was done: move, approval, …"),
        Column("actor", "string", "person or scheduler that did it"),
        Column("at", "timestamp", "when"),
        Column("body", "string", "canonical JSON of what was done, by its kind"),
        Column("key", "string", "idempotency key: what it recorded is not written again"),
        Column("previous", "string", "digest of the entry before; zeros for the first"),
        Column("digest", "string", "SHA-256 of the entry without its signature"),
        Column("signer", "string", "SHA-256 fingerprint of the signing key's public half"),
        Column("signature", "string", "ECDSA P-256 over the entry without its digest, base64"),
    ),
    key=("sequence",),
)

PERFORMANCE = Table(
    name="performance",
    description="How good a version's answers are, window after window, and whether its inputs have drifted.",
    columns=(
        Column("model_version", "int64", "version of the task's model"),
        Column("window_start", "timestamp", "of when it was answered, included"),
        Column("window_end", "timestamp", "excluded"),
        Column(
            "basis",
            "string",
            "measured: by outcomes, all of which have matured; estimated: by the risks alone; inputs: drift",
        ),
        Column("attribute", "string", "sex, age_band or ethnicity; empty of all patients"),
        Column("value", "string", "of the attribute; empty of all patients"),
        Column(
            "metric", "string", "auroc, log_loss, …; of inputs drifted_columns, of questions drifted_figures"
        ),
        Nullable("n", "int64", "predictions; null where fewer than ten"),
        Nullable("events", "int64", "of these, with the outcome; null where few have it, or have not"),
        Nullable("estimate", "float64", "null where not estimable"),
        Nullable("low", "float64", "lower end of the 95 % interval, for subgroups of all of them together"),
        Nullable("high", "float64", "upper end"),
        Nullable(
            "limit_low", "float64", "what the interval must reach from above, where something was promised"
        ),
        Nullable("limit_high", "float64", "what it must reach from below"),
        Column("alarm", "bool", "whether the whole interval lies beyond a limit"),
        Column("as_of", "timestamp", "when this was known"),
    ),
    key=("model_version", "window_start", "basis", "attribute", "value", "metric"),
    partition_by=("model_version",),
)

TABLES: dict[str, Table] = {table.name: table for table in list(vars().values()) if isinstance(table, Table)}
"""Every table that is declared above, by name."""


def declaration_of(table: str) -> Table:
    """The declaration of a table by its name in the lake; a task's table is ``<name>_<task>``."""
    names = (name for name in TABLES if table == name or table.startswith(f"{name}_"))
    base = max(names, key=len, default=None)
    if base is None:
        raise KeyError(f"table {table!r} is not declared in mediscale/core/tables.py")
    return TABLES[base]
