"""Files of an object store by the client that reads and writes Delta tables (deltalake's), for Arrow."""

import io
from typing import Any

import pyarrow as pa
from deltalake.fs import DeltaStorageHandler


class DeltaFiles(DeltaStorageHandler):
    """deltalake's handler, which does not take the buffers that Arrow hands it to write."""

    def open_output_stream(self, path: str, metadata: dict[str, str] | None = None) -> pa.PythonFile:
        return pa.PythonFile(_Bytes(self._handler.open_output_stream(path, metadata)))


class _Bytes(io.RawIOBase):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._stream.write(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
