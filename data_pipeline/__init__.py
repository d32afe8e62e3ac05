"""Data pipeline: from an EHR extract to a frozen training set, by landing, validation, events, labels and features."""
