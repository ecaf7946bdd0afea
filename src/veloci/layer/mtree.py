"""A tree's manifest in mtree(5), as go-mtree and umoci write and read it: what a bundle had when it was unpacked.

/set type=file nlink=1 mode=0664 uid=0 gid=0
. type=dir mode=0755 ...
    file size=5 mode=0644 nlink=1 tar_time=0.000000000 sha256digest=2cf2...
..
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from stat import S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG

from veloci.errors import InvalidInput
from veloci.layer.whiteout import OURS
from veloci.spec.digest import hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 1 << 20  # bytes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KEYWORDS = "size,type,uid,gid,mode,link,nlink,tar_time,sha256digest,xattr"
# Beside letters and digits, what go-mtree leaves as it is.
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!\"$%&'()+,-./:;<=>@]^_`{|}~")
_SEEN = {"type", "uid", "gid", "mode", "link", "size", "tar_time", "sha256digest"}  # whose change is a change


def manifest(root: int, hashes: dict[int, str] | None = None) -> Iterator[bytes]:
    """The manifest of the tree below `root`, a directory's descriptor, line by line. Raises OSError.

    hashes: the sha256 in hex of files by inode, as far as they are known.
    """
    yield b"#      keywords: " + KEYWORDS.encode() + b"\n\n# .\n"
    yield b"/set type=file nlink=1 mode=0664 uid=0 gid=0\n"
    yield from _directory(root, b".", b".", hashes or {})


def _directory(directory: int, name: bytes, path: bytes, hashes: dict[int, str]) -> Iterator[bytes]:
    yield escaped(name) + b" " + _words(directory, b".", hashes) + b"\n"
    inner = []
    for child in sorted(map(os.fsencode, os.listdir(directory))):
        if S_ISDIR(os.lstat(child, dir_fd=directory).st_mode):
            inner.append(child)
        else:
            yield b"    " + escaped(child) + b" " + _words(directory, child, hashes) + b"\n"
    for child in inner:
        below = child if path == b"." else path + b"/" + child
        yield b"\n# " + escaped(below) + b"\n"
        opened = os.open(child, _DIRECTORY, dir_fd=directory)
        try:
            yield from _directory(opened, child, below, hashes)
        finally:
            os.close(opened)
    yield b"..\n"


def _words(parent: int, name: bytes, hashes: dict[int, str]) -> bytes:
    values = keywords(parent, name, hashes)
    return b" ".join(b"%s=%s" % (key.encode(), value) for key, value in values.items())


def keywords(parent: int, name: bytes, hashes: dict[int, str] | None = None) -> dict[str, bytes]:
    """What the manifest says of `name` in the directory `parent`, values escaped. hashes: as for `manifest`."""
    status = os.lstat(name, dir_fd=parent)
    mode = status.st_mode
    kinds = ((S_ISDIR, b"dir"), (S_ISLNK, b"link"), (S_ISREG, b"file"), (S_ISFIFO, b"fifo"), (S_ISCHR, b"char"))
    kind = next((word for test, word in kinds if test(mode)), b"block" if S_ISBLK(mode) else b"socket")
    found = {
        "size": b"%d" % status.st_size,
        "type": kind,
        "uid": b"%d" % status.st_uid,
        "gid": b"%d" % status.st_gid,
        "mode": b"0%o" % (mode & 0o7777),
        "nlink": b"%d" % status.st_nlink,
    }
    if kind == b"link":
        found["link"] = escaped(os.readlink(name, dir_fd=parent))
    found["tar_time"] = b"%d.000000000" % (status.st_mtime_ns // 1_000_000_000)
    if kind == b"file":
        known = hashes.get(status.st_ino) if hashes else None
        found["sha256digest"] = known.encode() if known else _hash(parent, name)
    path = b"/proc/self/fd/%d/%s" % (parent, name)
    for key in sorted(os.listxattr(path, follow_symlinks=False)):
        if not key.encode().startswith((*OURS, b"security.selinux")):
            value = os.getxattr(path, key, follow_symlinks=False)
            found[f"xattr.{escaped(os.fsencode(key)).decode()}"] = b2a_base64(value, newline=False)
    return found


def _hash(parent: int, name: bytes) -> bytes:
    file = os.open(name, _FILE, dir_fd=parent)
    try:
        sum_ = hasher("sha256:")
        while piece := os.read(file, CHUNK):
            sum_.update(piece)
    finally:
        os.close(file)
    return sum_.hexdigest().encode()


def escaped(name: bytes) -> bytes:
    """A name without blanks and control characters, as vis(3) writes it in octal."""
    return b"".join(
        bytes((byte,)) if byte in _PLAIN else b"\\\\" if byte == 0x5C else b"\\%03o" % byte for byte in name
    )


def unescaped(text: bytes) -> bytes:
    """The reverse of `escaped`. Raises InvalidInput."""
    first, *rest = text.split(b"\\")
    out = [first]
    at = iter(rest)
    for part in at:
        if not part:  # a backslash for itself
            out.append(b"\\" + next(at, b""))
        elif part[:3].isdigit() and not part[:3].strip(b"01234567") and int(part[:3], 8) < 256:
            out.append(bytes((int(part[:3], 8),)) + part[3:])
        else:
            raise InvalidInput(f"{text!r:.100} is no mtree name", where="mtree")
    return b"".join(out)


def parse(lines: Iterable[bytes]) -> dict[bytes, dict[str, bytes]]:
    """A manifest's keywords by path; the root is b"". Values stay escaped. Raises InvalidInput."""
    found: dict[bytes, dict[str, bytes]] = {}
    defaults: dict[str, bytes] = {}
    here: list[bytes] = []
    for line in _joined(lines):
        words = line.split()
        if words[0] == b"/set":
            defaults.update(_values(words[1:]))
        elif words[0] == b"/unset":
            for word in words[1:]:
                defaults.pop(word.decode("ascii", "replace"), None)
        elif words[0] == b"..":
            if not here:
                raise InvalidInput("leaves a directory that it did not enter", where="mtree")
            here.pop()
        else:
            name = unescaped(words[0])
            if b"/" in name or name == b"..":
                raise InvalidInput(f"{name!r:.100} is no file's name", where="mtree")
            values = {**defaults, **_values(words[1:])}
            path = b"/".join((*here, name)[1:])
            found[path] = values
            if values.get("type") == b"dir":
                here.append(name)
    return found


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with those they continue on, without comments."""
    whole = b""
    for line in lines:
        text = line.strip()
        if text.startswith(b"#") and not whole:
            continue
        if text.endswith(b"\\") and not text.endswith(b"\\\\"):
            whole += text[:-1] + b" "
            continue
        if (whole + text).strip():
            yield whole + text
        whole = b""


def _values(words: list[bytes]) -> dict[str, bytes]:
    pairs = (word.partition(b"=") for word in words)
    return {key.decode("ascii", "replace"): value for key, _, value in pairs}


def changes(root: int, before: dict[bytes, dict[str, bytes]]) -> tuple[list[bytes], list[bytes]]:
    """What is new or changed in the tree `root` since a manifest, and what is gone: of a directory, itself alone."""
    now: dict[bytes, bytes] = {}  # path -> type
    changed: list[bytes] = []
    for path, values in walked(root, b""):
        now[path] = values["type"]
        old = before.get(path)
        if old is None or _differ(values, old):
            changed.append(path)
    # What was in a directory that is gone, or is none any more, goes with it.
    removed = [path for path in before if path not in now and now.get(path.rpartition(b"/")[0]) == b"dir"]
    return sorted(changed), sorted(removed)


def walked(directory: int, path: bytes) -> Iterator[tuple[bytes, dict[str, bytes]]]:
    """Every path of a tree, and its keywords."""
    yield path, keywords(directory, b".")
    for name in sorted(map(os.fsencode, os.listdir(directory))):
        below = path + b"/" + name if path else name
        if S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            opened = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                yield from walked(opened, below)
            finally:
                os.close(opened)
        else:
            yield below, keywords(directory, name)


def _differ(now: dict[str, bytes], then: dict[str, bytes]) -> bool:
    """Whether what two manifests say of a path differs, beyond what the change of something else explains."""
    seen = set(_SEEN)
    if now["type"] in (b"dir", b"link"):
        seen -= {"size"}
    if now["type"] == b"dir":
        seen -= {"tar_time"}  # something in it changed, and that is told itself
    attributes = {key for key in (*now, *then) if key.startswith("xattr.")}
    return any(key in then and _value(now, key) != _value(then, key) for key in seen) or any(
        now.get(key) != then.get(key) for key in attributes
    )


def _value(values: dict[str, bytes], key: str) -> bytes:
    value = values.get(key, b"")
    return value.partition(b".")[0] if key == "tar_time" else value
