"""Devices of the host, as config.json wants them: looked at here, made in the container by the runtime."""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISBLK, S_ISCHR, S_ISDIR

from veloci.bundle import values
from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_NOT_OURS = ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx")  # below /dev


def asked(texts: Iterable[str]) -> list[dict[str, Any]]:
    """The devices of `--device`: entries of linux.devices, each with its "access". Raises InvalidInput."""
    found: list[dict[str, Any]] = []
    for text in texts:
        source, destination, access = values.device(text)
        try:
            directory = S_ISDIR(os.stat(source).st_mode)
        except OSError as error:
            raise InvalidInput(f"{source}: {error.strerror}", where="--device") from None
        some = list(_below(os.path.realpath(source), destination, access)) if directory else []
        if not directory and (device := _device(source, destination, access)) is not None:
            some.append(device)
        if not some:
            raise InvalidInput(f"{source} is not a device", where="--device")
        found += some
    return found


def everything() -> list[dict[str, Any]]:
    """Every device of the host, for a privileged container."""
    return list(_below("/dev", "/dev", "rwm", _NOT_OURS))


def number(path: str, where: str) -> tuple[int, int]:
    """The major and minor number of the block device `path`. Raises InvalidInput."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", where=where) from None
    if not S_ISBLK(status.st_mode):
        raise InvalidInput(f"{path} is not a block device", where=where)
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def described(path: str) -> dict[str, Any] | None:
    """The device at `path` of the host as an entry of linux.devices; None if there is none."""
    return _device(path, path, "rwm")


def _below(source: str, destination: str, access: str, without: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The devices in a directory and those below it."""
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in without:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{destination}/{entry.name}", access)
            elif not entry.is_symlink():
                device = _device(entry.path, f"{destination}/{entry.name}", access)
                if device is not None:
                    yield device


def _device(source: str, destination: str, access: str) -> dict[str, Any] | None:
    """One device; None if `source` is none."""
    try:
        status = os.stat(source)
    except FileNotFoundError:
        return None
    kind = "c" if S_ISCHR(status.st_mode) else "b" if S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return {
        "path": destination,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "access": access,
    }
