"""Datasets that are deleted on purpose: synthetic ones and rehearsals, never a hospital's."""

from mediscale.core.settings import Settings
from mediscale.storage import accepted_heads, lake, seen_tables


def delete(settings: Settings, dataset: str) -> None:
    """Deletes all tables of a dataset, and what this home and this machine remember of them."""
    seen_tables.forget(settings, dataset)
    accepted_heads.forget(settings, dataset)
    lake.delete_tables(settings, dataset)
