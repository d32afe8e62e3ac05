"""From an extract to silver: source declarations, bronze, validation, MEDS events."""
