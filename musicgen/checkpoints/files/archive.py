"""The zip archive of a PyTorch file: its pickle as bytes, and where each storage lies in the file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from .opened import OpenedFile

MAX_PICKLE_BYTES = 1 << 22
_LEGACY = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"\x80\x02}", b"\x80\x02c", b"\x80\x04\x95")


class RefusedError(ValueError):
    """A whole file of a kind that is not read; the message says why."""


def refuse_others(path: Path, start: bytes) -> None:
    """Raise RefusedError where the first bytes of a file are those of another format."""
    if start.startswith(_LEGACY):
        raise RefusedError(
            f"{path} is in PyTorch's format from before version 1.6, which cannot be read safely; "
            "fetch the model's safetensors file, or save it again with a newer PyTorch where you trust it."
        )
    if start.startswith(b"version https://git-lfs"):
        raise RefusedError(f"{path} is a Git LFS pointer, not the weights; fetch the file itself.")


class BoundedFile(io.RawIOBase):
    """An open file that gives out at most as much at once as an honest archive's directory needs."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__()
        self._raw = raw

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek as the file does."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """The file's place."""
        return self._raw.tell()

    def read(self, size: int | None = -1) -> bytes:
        """Read as the file does; ValueError on more than a pickle may have."""
        if size is not None and size > MAX_PICKLE_BYTES:
            raise ValueError(f"a part of it claims {size} bytes")
        return self._raw.read(size)


class Members:
    """The members of the archive: the pickle, and where each storage lies."""

    def __init__(self, opened: OpenedFile, archive: zipfile.ZipFile) -> None:
        self.opened, self.file, self.archive = opened, opened.raw, archive
        self.path, self.size = opened.path, opened.size
        pickles = [name for name in archive.NameToInfo if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl, or several")
        self.prefix = pickles[0].removesuffix("data.pkl")

    def pickle(self) -> bytes:
        """The pickle's bytes; zipfile holds them against their checksum."""
        order = self.archive.NameToInfo.get(f"{self.prefix}byteorder")
        if order is not None and self._small(order, 16) != b"little":
            raise RefusedError(f"{self.path} was written on a big-endian machine; save it again on a common one.")
        return self._small(self.archive.NameToInfo[f"{self.prefix}data.pkl"], MAX_PICKLE_BYTES)

    def offset(self, key: str, nbytes: int) -> int:
        """Where the storage `key`, which has `nbytes` bytes, begins in the file."""
        info = self.archive.NameToInfo[f"{self.prefix}data/{key}"]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise RefusedError(f"{self.path} is compressed; save it again with torch.save, which does not compress.")
        self.file.seek(info.header_offset)
        header = self.file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise ValueError(f"storage {key} is not where the directory says")
        offset = info.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        if nbytes > info.file_size or offset + nbytes > self.size:
            raise ValueError(f"storage {key} should have {nbytes} bytes and has fewer")
        return offset

    def _small(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.compress_type != zipfile.ZIP_STORED or not info.file_size <= limit:
            raise ValueError(f"{info.filename} is compressed, or larger than {limit} bytes")
        return self.archive.read(info)
