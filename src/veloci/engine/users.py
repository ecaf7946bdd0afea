"""User namespaces: which users of the host a container's users are, as docker's and podman's options say it.

The files of a container stay as the image has them: its root file system is mounted with owners that are mapped, each
layer and what is written above, so that `diff`, `commit` and `cp` see the numbers that the container sees.
"""

from __future__ import annotations

import os

from veloci.errors import Conflict, InvalidInput, Unsupported
from veloci.spec.document import Document, Json, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

    from veloci.engine.engine import Engine
    from veloci.engine.record import Records
    from veloci.engine.run_options import RunOptions

    Json_ = dict[str, Any]

SIZE = 65536  # users of one container
_FIRST, _END = 524288, 1879048192  # where the ranges lie that a host gives to containers, as systemd has it
_OWNER = "containers"  # whose lines of subuid(5) and subgid(5) are used when there are any, as podman does
_NOBODY = 2**31 - 2  # whom overlayfs's own files belong to on the disk: its whiteouts
_LAST = 2**32 - 2


class Users(Document):
    """What was asked for."""

    uids: tuple[Json, ...] = ()  # as linux.uidMappings
    gids: tuple[Json, ...] = ()
    size: int = 0  # not 0: so many, where nobody else has any
    container: str = ""  # the word for a container whose namespace it joins
    path: str = ""  # of a namespace that it joins

    @classmethod
    def asked(cls, wanted: RunOptions) -> Self | None:
        """What the options say; None: the host's. Raises InvalidInput, Unsupported."""
        kind, _, rest = wanted.userns.partition(":")
        given = wanted.uidmap or wanted.gidmap or wanted.subuidname or wanted.subgidname
        if kind == "keep-id" or wanted.userns == "nomap":  # podman's words; making a container needs root here
            raise InvalidInput(f"{kind} is only supported in rootless mode", where="--userns")
        if kind in ("", "host") and not rest:
            if not given:
                return None
            if kind:
                raise InvalidInput("the host's user namespace has no mapping", where="--userns")
            kind = "private"
        if kind == "container" and rest and not given:
            found = cls(container=rest)
        elif kind == "ns" and not given:
            if not rest:
                raise InvalidInput(
                    "namespace mode path requires a value", where="--userns", hint="ns:/proc/PID/ns/user"
                )
            found = cls(path=os.path.abspath(rest))
        elif kind == "auto" and not given:
            found = cls(size=_size(rest))
        elif kind == "private" and not rest:
            found = cls._mapped(wanted) if given else cls(size=SIZE)
        else:
            hint = "host, private, auto, auto:size=N, container:NAME, ns:PATH"
            raise Unsupported(f"no user namespace {wanted.userns!r}", where="--userns", hint=hint)
        found._check(wanted)
        return found

    @classmethod
    def _mapped(cls, wanted: RunOptions) -> Self:
        uids, gids = _entries(wanted.uidmap, "--uidmap"), _entries(wanted.gidmap, "--gidmap")
        names = (wanted.subuidname or wanted.subgidname, wanted.subgidname or wanted.subuidname)
        if names[0]:
            if uids or gids:
                raise InvalidInput("cannot stand beside --subuidname or --subgidname", where="--uidmap")
            uids, gids = _named(names[0], "/etc/subuid"), _named(names[1], "/etc/subgid")
        return cls(uids=uids or gids, gids=gids or uids)

    def _check(self, wanted: RunOptions) -> None:
        """Refuse what a process of other users may not have, in docker's words."""
        if wanted.runtime not in ("", "veloci"):
            raise Unsupported("user namespaces need the runtime veloci", where="--runtime")
        for flag, text in (("pid", wanted.pid), ("ipc", wanted.ipc)):
            if text == "host":
                raise InvalidInput(
                    f"cannot share the host's {flag.upper()} namespace when user namespaces are enabled",
                    where=f"--{flag}",
                )
            if text.startswith("container:") and text != wanted.userns:
                raise InvalidInput(
                    f"cannot join a {flag.upper()} namespace that belongs to another user namespace",
                    where=f"--{flag}",
                    hint=f"--userns {text}",
                )


def _size(text: str) -> int:
    """The number in `size=N`; SIZE for ""."""
    if not text:
        return SIZE
    key, _, number = text.partition("=")
    if key != "size" or not (number.isascii() and number.isdecimal()) or not 0 < int(number) <= _END - _FIRST:
        raise InvalidInput(f"unknown option of an automatic user namespace: {text!r}", where="--userns", hint="size=N")
    return int(number)


def _entries(texts: Sequence[str], where: str) -> tuple[Json_, ...]:
    """CONTAINER:HOST[:SIZE], each."""
    found = []
    for text in texts:
        parts = text.split(":")
        if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdecimal() for part in parts):
            raise InvalidInput(f"{text!r} is no mapping", where=where, hint="CONTAINER:HOST:SIZE, as 0:100000:65536")
        inside, outside, size = (*map(int, parts), 1)[:3]
        if not size or max(inside, outside) + size - 1 > _LAST:
            raise InvalidInput(f"{text!r} names users that there are not", where=where)
        found.append(_entry(inside, outside, size))
    if found and not any(entry["containerID"] == 0 for entry in found):
        raise InvalidInput("there must be a root: 0 is not mapped", where=where)
    return tuple(found)


def _named(name: str, path: str) -> tuple[Json_, ...]:
    """The ranges of a user in subuid(5) or subgid(5), from 0 on. Raises InvalidInput if there are none."""
    found, inside = [], 0
    for owner, first, size in _ranges(path):
        if owner == name:
            found.append(_entry(inside, first, size))
            inside += size
    if not found:
        raise InvalidInput(f"{path} has no range of {name}", where="--subuidname")
    return tuple(found)


def _ranges(path: str) -> Iterator[tuple[str, int, int]]:
    """The lines NAME:FIRST:SIZE of a file."""
    try:
        with open(path, errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, *numbers = line.strip().split(":")
        if len(numbers) == 2 and all(number.isascii() and number.isdecimal() for number in numbers):
            yield name, int(numbers[0]), int(numbers[1])


class Choice:
    """With `with`: the mappings of a container to be; until its end no other command takes the same users."""

    def __init__(self, engine: Engine, asked: Users) -> None:
        self._engine, self._asked, self._lock = engine, asked, -1

    def __enter__(self) -> tuple[tuple[Json_, ...], tuple[Json_, ...]]:
        """Of users, of groups. Raises InvalidInput, NotFound, Conflict when there are no more users."""
        asked = self._asked
        if asked.container:
            records = self._engine.containers.records
            linux = configured(records, records.find(asked.container))
            if not linux.get("uidMappings"):
                raise InvalidInput(f"container {asked.container} has no user namespace", where="--userns")
            return tuple(linux["uidMappings"]), tuple(linux["gidMappings"])
        if asked.path:
            return _mappings(asked.path)
        if asked.size:
            from fcntl import LOCK_EX, flock

            self._lock = os.open(f"{self._engine.root}/containers/.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            flock(self._lock, LOCK_EX)
            first = _free(self._engine.containers.records, asked.size)
            one = (_entry(0, first, asked.size),)
            return one, one
        return asked.uids, asked.gids

    def __exit__(self, *_: object) -> None:
        if self._lock >= 0:
            os.close(self._lock)


def _mappings(path: str) -> tuple[tuple[Json_, ...], tuple[Json_, ...]]:
    """Of users and groups, of the namespace with this path. Raises InvalidInput, with podman's exit statuses."""
    from veloci.kernel.process import user_maps

    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidInput(f"cannot find specified user namespace path: {path}: {reason}", where="--userns") from None
    try:
        texts = user_maps(namespace)
    except OSError as error:  # it is ours, of another kind, or no namespace at all
        text = f"cannot enter the user namespace {path}: {error.strerror}"
        raise InvalidInput(text, where="--userns", exit_status=126) from None
    finally:
        os.close(namespace)
    uids, gids = (tuple(_entry(*map(int, line.split())) for line in text.splitlines()) for text in texts)
    if not any(each["containerID"] == 0 for each in uids) or not any(each["containerID"] == 0 for each in gids):
        raise InvalidInput(f"there must be a root: 0 is not mapped in {path}", where="--userns")
    return uids, gids


def _entry(inside: int, outside: int, size: int) -> Json_:
    return {"containerID": inside, "hostID": outside, "size": size}


def _free(records: Records, size: int) -> int:
    """The first of so many users and groups that no container of ours has, nor anybody else's lines of subuid(5)."""
    taken = [
        (entry["hostID"], entry["hostID"] + entry["size"])
        for id in records.ids()
        for key in ("uidMappings", "gidMappings")
        for entry in configured(records, id).get(key) or ()
    ]
    lines = [line for file in ("/etc/subuid", "/etc/subgid") for line in _ranges(file)]
    own = [(first, first + count) for owner, first, count in _ranges("/etc/subuid") if owner == _OWNER]
    taken += [(first, first + count) for owner, first, count in lines if owner != _OWNER]
    for begin, end in own or [(_FIRST, _END)]:
        first = begin
        for low, high in [*sorted(taken), (end, end)]:
            if first + size <= min(low, end):
                return first
            first = max(first, high)
    raise Conflict(
        f"there are no {size} users left for a container", hint="veloci container prune, or --userns auto:size=N"
    )


def configured(records: Records, id: str) -> Json_:
    """`linux` of a container's config.json; {} if that is gone."""
    try:
        with open(f"{records.data(id)}/bundle/config.json", "rb") as file:
            return dict(loads(file.read())["linux"])
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def namespace(linux: Json_) -> int:
    """A descriptor of a user namespace to mount its root file system by; -1 if its users are the host's.

    The host's root, who mounts, is somebody there too: overlayfs makes whiteouts and directories of its own as him.
    """
    if not linux.get("uidMappings"):
        return -1
    from veloci.kernel.process import user_namespace

    return user_namespace(*(_text(linux[key]) for key in ("uidMappings", "gidMappings")))


def _text(entries: Sequence[Json_]) -> str:
    """As user_namespaces(7) reads it."""
    lines = [f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in entries]
    if not any(entry["hostID"] == 0 for entry in entries):
        lines.append(f"{_NOBODY} 0 1\n")
    return "".join(lines)
