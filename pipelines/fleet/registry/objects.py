"""Files by what is in them: `objects/ab/cdef…` under the name of their SHA-256, whole or not there."""

import hashlib
from pathlib import Path
from typing import Any

from sim2real.errors import Sim2RealError, UserError
from sim2real.files import write_bytes


class Objects:
    """A folder, or any place that fsspec knows ("s3://bucket/fleet").

    Raises UserError where the place cannot be opened.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place).rstrip("/")
        self._remote: Any = None
        if "://" in self.place:
            try:
                from fsspec.core import url_to_fs

                self._remote, self.place = url_to_fs(self.place)
            except (ImportError, ValueError, OSError) as error:
                raise UserError(f"cannot open {place}: {error}") from None

    def path(self, digest: str) -> str:
        return f"{self.place}/{digest[:2]}/{digest[2:]}"

    def put(self, content: bytes) -> str:
        """Keep a file; its digest. Raises Sim2RealError when it could not be written: nothing half is left."""
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        try:
            if self._remote is not None:
                self._remote.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._remote.pipe_file(path, content)
            elif not Path(path).exists():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content)
        except OSError as error:
            raise Sim2RealError(f"cannot write {path}: {error}") from None
        return digest

    def get(self, digest: str) -> bytes:
        """Its content. Raises Sim2RealError when it is not there, or is no longer what it was."""
        path = self.path(digest)
        try:
            content: bytes = Path(path).read_bytes() if self._remote is None else self._remote.cat_file(path)
        except OSError as error:
            raise Sim2RealError(f"the file {digest[:12]} cannot be read from the store: {error}") from None
        if (found := hashlib.sha256(content).hexdigest()) != digest:
            raise Sim2RealError(
                f"{path} is damaged: its content has the digest {found[:12]}; publish the file again from its source"
            )
        return content
