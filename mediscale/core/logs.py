"""Logging of our packages: every module logs to its own logger, and whoever starts a process says where that goes.

Records hold counts and references only, never a patient's identifier, value or note text.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGES = ("mediscale", "data_pipeline", "training", "serving", "monitoring", "kubeflow_pipelines")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """Sends what our packages log from INFO on to a handler while the block runs; other libraries stay as they are."""
    loggers = [logging.getLogger(package) for package in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def to_standard_error() -> logging.Handler:
    """A handler for a process that nobody watches: a line per record, with its time (UTC) and its module."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler
