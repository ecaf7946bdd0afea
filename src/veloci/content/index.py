"""index.json as bytes: an entry is put, taken out or found without decoding ten thousand others.

Entries begin with their media type, as every descriptor of ours, and within a text of JSON's no quote stands bare: so
what looks like a beginning is one.
"""

from __future__ import annotations

from veloci.spec.document import dumps, loads
from veloci.spec.image import REF_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor

_HEAD, _TAIL = b'{"schemaVersion":2,"manifests":[', b"]}"
_START = b'{"mediaType":'


def index(named: Iterable[tuple[str, Descriptor]]) -> bytes:
    """The whole file."""
    return _HEAD + b",".join(_entry(name, descriptor) for name, descriptor in named) + _TAIL


def is_ours(raw: bytes) -> bool:
    """Whether the file is one that we have written, as far as its ends tell."""
    return raw.startswith((_HEAD + _START, _HEAD + _TAIL)) and raw.endswith(_TAIL)


def changed(raw: bytes, name: str, descriptor: Descriptor | None) -> bytes:
    """The file with another entry for a name, or none for None. raw: one of ours."""
    mark = dumps({REF_NAME: name})[1:-1]
    while (at := raw.find(mark)) >= 0:
        start, end = _bounds(raw, at)
        if raw[end : end + 1] == b",":
            end += 1
        elif raw[start - 1 : start] == b",":
            start -= 1
        raw = raw[:start] + raw[end:]
    if descriptor is None:
        return raw
    comma = b"" if raw.endswith(b"[" + _TAIL) else b","
    return raw[: -len(_TAIL)] + comma + _entry(name, descriptor) + _TAIL


def names(raw: bytes, digest: Digest) -> list[str]:
    """The names that stand for a manifest, in no order. raw: one of ours."""
    found = []
    mark = dumps({"digest": digest})[1:-1]
    end = 0
    while (at := raw.find(mark, end)) >= 0:
        start, end = _bounds(raw, at)
        found.append(str(loads(raw[start:end])["annotations"][REF_NAME]))
    return found


def _bounds(raw: bytes, at: int) -> tuple[int, int]:
    """Where the entry that is around byte `at` begins and ends."""
    end = raw.find(b"," + _START, at)
    return raw.rfind(_START, 0, at), end if end >= 0 else len(raw) - len(_TAIL)


def _entry(name: str, descriptor: Descriptor) -> bytes:
    return dumps(descriptor.replace(annotations={**descriptor.annotations, REF_NAME: name}).plain())
