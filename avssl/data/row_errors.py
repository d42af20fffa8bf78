"""One bad row, whatever went wrong while it was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avssl.core.errors import AvsslError
from avssl.core.memory_file import MEMORY_FOLDER
from avssl.data.shards.storage import StorageError
from avssl.media import MediaError
from avssl.media.errors import media_errors


@contextmanager
def row_errors(path: str) -> Iterator[None]:
    """Turn every exception that is raised while a row is read into :class:`~avssl.media.MediaError`.

    A row that cannot be read is counted and left out, with the exception's type and message; it does not end a run.
    What is wrong with the code fails for every row, and a run that loses too many rows ends with the reasons.

    Args:
        path: The row's file, for the message; it also stands for the name of a file in memory.
    """
    try:
        with media_errors(path, "container"):
            yield
    except MediaError as error:
        if not error.path.startswith(MEMORY_FOLDER):
            raise
        raise MediaError(path, error.stream, error.reason, error.found, error.advice, error.second) from error
    except StorageError as error:
        advice = "Put the file back, or make it readable."
        raise MediaError(error.path, "container", "unreadable", error.found, advice) from error
    except AvsslError as error:  # such as a window that the row's own numbers make empty
        raise MediaError(path, "container", "unreadable", str(error), "Correct the row, or leave it out.") from error
