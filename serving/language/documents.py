"""The indexed documents that answers are quoted from: the newest version of the index, followed without a restart."""

import logging

from data_pipeline.documents import index_versions
from data_pipeline.retrieval import Index
from mediscale.core.errors import StorageError
from mediscale.core.settings import Settings

log = logging.getLogger("mediscale.serving")


class Documents:
    """What ``mediscale index`` made, else the index of the dataset's newest run of the language pipeline.

    ``current`` is replaced as a whole: an answer that began with an index ends with it.
    """

    def __init__(self, settings: Settings, dataset: str) -> None:
        self._settings = settings
        self._names = (index_versions.DEFAULT, dataset)
        self.current: Index | None = None
        """None where no documents are indexed: the language model then answers by itself."""

    def refresh(self) -> None:
        """Opens the newest version, if it is not open, and lets go of an index that was erased or deleted.

        Raises:
            MediscaleError: it can't be opened, or the place of all indexes is gone. The one that is open stays.
        """
        names = [name for name in self._names if index_versions.versions(self._settings, name)]
        if not names:
            self._let_go()
            return
        newest = index_versions.latest(self._settings, names[0])
        if self.current is None or self.current.folder != newest:
            opened = Index.open(newest)
            _ = opened.abstention  # one that does not say when it abstains answers nobody
            self.current = opened
            log.info("Answers are quoted from the index %s", f"{newest.parent.name}/{newest.name}")

    def _let_go(self) -> None:
        """Closes an index that was erased or deleted: what was erased may be a patient's."""
        if self.current is None:
            return
        if not index_versions.folder(self._settings, self._names[0]).parent.is_dir():
            raise StorageError(
                "The folder of the indexes is gone, so answers are quoted from the one in memory; mount it again."
            )
        log.warning("There is no index any more; the language model answers by itself.")
        self.current = None
