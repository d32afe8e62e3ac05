"""Ingestion: source declarations, the bronze layer, validation, and the silver layer of MEDS events."""
