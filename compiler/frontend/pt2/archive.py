"""The zip around a program. Nothing is extracted or decompressed; weights stay in the file until they are read."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadArchive, no_such_file

SUFFIX = ".pt2"
MAX_DIRECTORY = 8 << 20  # bytes of the zip's own table of contents
MAX_MEMBERS = 50_000
MAX_JSON = 128 << 20  # bytes of one JSON text
MAX_JSON_PARTS = 6_000_000  # commas and brackets: bounds the objects that parsing makes
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a member: signature, lengths of its name and its extra field
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,255}(/[A-Za-z0-9_.\-]{1,255}){0,15}")
TRUST = "if you trust its author, --trust reads it with torch's own loader, which can run code from the file"


class Archive:
    """The members of an archive by their names below its root folder. Raises NoSuchSource or BadArchive."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise no_such_file(path, f"*{SUFFIX}")
        self.path = path
        self._size = path.stat().st_size
        self._bytes: Any = None
        try:
            with _Bounded(path) as file, zipfile.ZipFile(file) as zipped:
                infos = zipped.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, EOFError) as error:
            raise self.bad(f"it is no zip archive, or it is cut off ({str(error) or type(error).__name__})") from None
        self._members = self._checked(infos)

    def bad(self, what: str) -> BadArchive:
        return BadArchive(f"{self.path} cannot be read: {what}")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member; BadArchive where there is none."""
        return self._member(name).file_size

    def json(self, name: str) -> bytes:
        """The bytes of a member that holds JSON, within the limits that make it safe to parse."""
        if self.size(name) > MAX_JSON:
            raise self.bad(f"{name} has {self.size(name):,} bytes; the limit is {MAX_JSON:,}. {TRUST}")
        data = self.data(name, check=True).tobytes()
        parts = sum(data.count(mark) for mark in (b",", b"[", b"{"))
        if parts > MAX_JSON_PARTS:
            raise self.bad(f"{name} holds {parts:,} JSON values; the limit is {MAX_JSON_PARTS:,}. {TRUST}")
        return data

    def data(self, name: str, *, check: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A member's bytes, in the file: what is written to them stays in this process. `check` compares its CRC."""
        info = self._member(name)
        if self._bytes is None:
            self._bytes = np.memmap(self.path, np.uint8, mode="c")
        start = self._start(info)
        data = self._bytes[start : start + info.file_size]
        if check and zlib.crc32(data) != info.CRC:
            raise self.bad(f"the checksum of {name} is wrong: the file is damaged")
        return data

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise self.bad(f"{name} is missing: it is no archive that torch.export.save wrote, or it is cut off")
        return self._members[name]

    def _start(self, info: zipfile.ZipInfo) -> int:
        """The offset of a member's bytes, behind its header."""
        header = bytes(self._bytes[info.header_offset : info.header_offset + LOCAL_HEADER.size])
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise self.bad(f"{info.filename} is not where the table of contents says")
        _, name, extra = LOCAL_HEADER.unpack(header)
        start = info.header_offset + LOCAL_HEADER.size + name + extra
        if start + info.file_size > self._size:
            raise self.bad(f"{info.filename} ends behind the end of the file")
        return start

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """By name without the root folder. Members of other sizes than their bytes in the file are refused."""
        if len(infos) > MAX_MEMBERS:
            raise self.bad(f"it has {len(infos):,} members; the limit is {MAX_MEMBERS:,}")
        members: dict[str, zipfile.ZipInfo] = {}
        roots = {i.filename.partition("/")[0] for i in infos}
        if len(roots) != 1 or not all("/" in i.filename for i in infos):
            raise self.bad("its members are not in one folder: it is no archive that torch.export.save wrote")
        for info in infos:
            name = info.filename.partition("/")[2]
            if not _NAME.fullmatch(name) or ".." in name.split("/"):
                raise self.bad(f"the name {shown(info.filename)} of a member is not allowed")
            if name in members:
                raise self.bad(f"it holds {name} twice")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise self.bad(f"{name} is compressed or encrypted, which torch.export.save does not do")
            if info.file_size != info.compress_size:
                raise self.bad(f"{name} claims {info.file_size:,} bytes, but {info.compress_size:,} are stored")
            members[name] = info
        if sum(i.file_size for i in infos) > self._size:
            raise self.bad("its members claim more bytes than the file has")
        return members


class _Bounded(io.FileIO):
    """A file that zipfile cannot be talked into reading a huge table of contents from."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a table of contents of {size:,} bytes; the limit is {MAX_DIRECTORY:,}")
        return super().read(-1 if size is None else size)


def printable(text: object, limit: int = 300) -> str:
    """The first line of a message that may quote a file, without anything that a terminal would act on."""
    line = next(iter(str(text).strip().splitlines()), "")[:limit]
    return "".join(c if c.isprintable() else "?" for c in line)


def shown(text: object, limit: int = 80) -> str:
    """Text from a file as it is safe to print: quoted, escaped and short."""
    quoted = ascii(str(text)[: limit + 1])
    return quoted if len(quoted) <= limit else f"{quoted[:limit]}...'"
