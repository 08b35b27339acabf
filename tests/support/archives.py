"""The archives of fixtures/archives/: member lists that people can read, made into the bytes of a tar or a zip.

A file holds many archives, each a paragraph: `== its name`, `refused: what the refusal says`, then a line for each part, in which
`\\s` is a space, `\\n`, `\\0`, `\\xHH` and `\\\\` are what they are elsewhere, and `{TEXT*N}` is N times TEXT.
fixtures/README.md lists the words.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Tuple

from tests.support import tarblocks, zipblocks

FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "archives")

_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[sn0\\])")
_ESCAPED = {b"s": b" ", b"n": b"\n", b"0": b"\0", b"\\": b"\\"}
_REPEATED = re.compile(r"\{(.+?)\*(\d+)\}")
_OPTION = re.compile(r"([a-z_0-9]+)=(.*)", re.DOTALL)
_KINDS = {"file": b"0", "folder": b"5", "symlink": b"2", "hardlink": b"1"}
_MAGICS = {b"gnu": tarblocks.GNU, b"v7": tarblocks.V7}
_ATTRIBUTES = {"file": zipblocks.FILE, "folder": zipblocks.FOLDER, "symlink": zipblocks.LINK, "fifo": zipblocks.FIFO}
_NUMBERS = ("attributes", "flags", "method", "made_by", "crc", "size", "stored", "offset", "disk", "count", "shift")
_COMPRESSIONS: Dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0), "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """One archive, with the file it is from, and a piece of what its refusal says."""

    file: str
    name: str
    refused: str
    lines: Tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def data(self) -> bytes:
        """Its bytes."""
        return (_zip if self.file == "zip" else _tar)(self.lines)


def every() -> List[Archive]:
    """All of them."""
    found: List[Archive] = []
    for name in sorted(os.listdir(FOLDER)):
        with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
            found += _archives(name[: -len(".txt")], file.read())
    return found


def _archives(file: str, text: str) -> Iterator[Archive]:
    _, *paragraphs = re.split(r"^== ", text, flags=re.MULTILINE)
    for paragraph in paragraphs:
        name, refused, *lines = paragraph.strip("\n").splitlines()
        assert refused.startswith("refused: "), name
        yield Archive(file, name, refused[len("refused: ") :], tuple(lines))


def _words(line: str) -> Tuple[str, List[bytes], Dict[str, bytes]]:
    """The first word, the plain ones and the options of a line."""
    first, *rest = line.split()
    plain, options = [], {}
    for word in rest:
        option = _OPTION.fullmatch(word)
        if option is not None and first not in ("pax", "globalpax", "rawpax", "bytes", "longname", "longlink"):
            options[option[1]] = _bytes(option[2])
        else:
            plain.append(_bytes(word))
    return first, plain, options


def _bytes(word: str) -> bytes:
    pieces = _REPEATED.split(word)  # text, what is repeated, how often, text, …
    found = _plain(pieces[0])
    for repeated, times, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
        found += _plain(repeated) * int(times) + _plain(text)
    return found


def _plain(text: str) -> bytes:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1]) or bytes([int(match[1][1:], 16)]), text.encode())


def _tar(lines: Tuple[str, ...]) -> bytes:
    data = b""
    for line in lines:
        word, plain, options = _words(line)
        if word in _KINDS:
            data += _tar_member(word, plain, options)
        elif word in ("pax", "globalpax"):
            pairs = [record.partition(b"=")[::2] for record in plain]
            data += tarblocks.pax(*pairs, kind=b"x" if word == "pax" else b"g")
        elif word == "rawpax":
            data += tarblocks.member(b"PaxHeaders/x", b"x", b"".join(plain))
        elif word in ("longname", "longlink"):
            kind = b"L" if word == "longname" else b"K"
            data += tarblocks.member(b"././@LongLink", kind, b"".join(plain) + b"\0", magic=tarblocks.GNU)
        else:
            data = _tail(word, plain, data)
    return data


def _tar_member(word: str, plain: List[bytes], options: Dict[str, bytes]) -> bytes:
    name, other = (*plain, b"", b"")[:2]
    content = options.pop("content", b"" if word.endswith("link") else other)
    fields: Dict[str, Any] = {"link": other if word.endswith("link") else b"", "mode": b"0000755\0" if word == "folder" else None}
    patches = {int(key[2:]): options.pop(key) for key in list(options) if key.startswith("at")}
    fields.update(options)
    if "size" in fields:
        fields["size_field"] = fields.pop("size")
    if "magic" in fields:
        fields["magic"] = _MAGICS.get(fields["magic"], fields["magic"])
    kind = fields.pop("kind", _KINDS[word])
    made = tarblocks.member(name, kind, content, **{key: value for key, value in fields.items() if value is not None})
    return tarblocks.patched(made, patches) if patches else made


def _zip(lines: Tuple[str, ...]) -> bytes:
    members: List[zipblocks.Member] = []
    data = b""
    for line in lines:
        word, plain, texts = _words(line)
        options: Dict[str, Any] = {name: int(text, 0) if name in _NUMBERS else text for name, text in texts.items()}
        if word in _ATTRIBUTES:
            name, content = (*plain, b"", b"")[:2]
            if "local" in options:
                options["local_fields"] = tuple(int(number, 0) for number in options.pop("local").split(b","))
            options.setdefault("attributes", _ATTRIBUTES[word])
            members.append(zipblocks.Member(name, content, **options))
        elif word == "zip":
            data = zipblocks.make(*members, **options)
        else:
            data = _tail(word, plain, data)
    return data


def _tail(word: str, plain: List[bytes], data: bytes) -> bytes:
    if word == "end":
        return data + tarblocks.END
    if word == "bytes":
        return data + b"".join(plain)
    if word == "cut":
        assert abs(int(plain[0])) < len(data), "a cut that cuts nothing"
        return data[: int(plain[0])]
    return _COMPRESSIONS[word](data)
