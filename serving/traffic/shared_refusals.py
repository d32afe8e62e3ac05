"""Shared refusals: that a server does not load the version of an alias, kept where every server of the dataset sees it.

Each server judges for itself: a mount that one of them lost must not take the version from the others. They say it in
``/health``, for two versions answer until somebody who holds a key rolls back, or the server is mended.
"""

from collections.abc import Mapping

from mediscale.core import caller
from mediscale.core.settings import Settings
from mediscale.storage import fallbacks
from mediscale.storage.fallbacks import Fallback
from mediscale.storage.history_entries import Entry


class SharedRefusals:
    """One server's refusals as others see them, and those of others."""

    def __init__(self, settings: Settings, dataset: str) -> None:
        self._settings, self._dataset = settings, dataset
        self._kept: dict[str, Entry] = {}
        """The entries that this server said it does not follow, by digest."""

    def share(self, newest: Mapping[str, Entry], refused: Mapping[str, str]) -> dict[str, str]:
        """A sentence, by task, on each version that answers here and that another server refuses.

        ``newest`` has the entry that each task's alias follows, ``refused`` why this server does not follow it. What it
        said of entries that it follows again, or that are no longer the newest, is withdrawn.

        Raises:
            StorageError: the lake can't be read or written.
        """
        followed = {entry.digest for task, entry in newest.items() if task not in refused}
        for digest, entry in list(self._kept.items()):
            if digest in followed or entry not in newest.values():
                fallbacks.withdraw(self._settings, self._dataset, entry)
                del self._kept[digest]
        elsewhere = {}
        for task, entry in newest.items():
            fallback = fallbacks.read(self._settings, self._dataset, entry)
            if task in refused:
                self._kept[entry.digest] = entry
                if fallback is None:
                    fallback = Fallback(reason=refused[task], at=caller.now())
                    fallbacks.keep(self._settings, self._dataset, entry, fallback)
            elif fallback is not None:
                elsewhere[task] = (
                    f"Another server refused this version at {fallback.at:%Y-%m-%d %H:%M}: {fallback.reason}"
                )
        return elsewhere
