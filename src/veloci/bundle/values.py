"""Docker's spelling of sizes, volumes, mounts, limits and devices, as values. Pure.

Every function takes the text after a flag, and raises InvalidInput with that flag in `where`.
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable")


def size(text: str, where: str) -> int:
    """`512m`, `2g`, `1.5gb`, `100` as bytes; -1 passes, as docker's "no limit"."""
    lowered = text.strip().lower()
    if lowered == "-1":
        return -1
    number = lowered
    for suffix in ("ib", "b"):
        if number.endswith(suffix):
            number = number.removesuffix(suffix)
            break
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        value = float(number.removesuffix(unit)) * _UNITS[unit]
    except (KeyError, ValueError):
        value = -1.0
    if not 0 <= value < float(1 << 63):
        raise InvalidInput(f"{text!r} is not a size", where=where, hint="a number with b, k, m or g: 512m")
    return int(value)


def ulimit(text: str, where: str = "--ulimit") -> dict[str, Any]:
    """`nofile=1024:2048` (soft, hard) as an entry of process.rlimits; -1 and `unlimited` are no limit."""
    name, equals, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    names = "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
    if not equals or name not in names:
        raise InvalidInput(
            f"{text!r} is not a limit", where=where, hint="type=soft[:hard], with type one of " + " ".join(names)
        )
    low, high = _limit(soft, text, where), _limit(hard or soft, text, where)
    if low > high:
        raise InvalidInput(f"{text!r}: the soft limit is above the hard one", where=where)
    return {"type": "RLIMIT_" + name.upper(), "soft": low, "hard": high}


def _limit(word: str, text: str, where: str) -> int:
    if word in ("-1", "unlimited"):
        return (1 << 64) - 1
    if not (word.isascii() and word.isdigit()):
        raise InvalidInput(f"{text!r}: {word!r} is not a number", where=where)
    return int(word)


def volume(text: str, where: str = "--volume") -> dict[str, Any]:
    """`SOURCE:DESTINATION[:OPTIONS]` or `DESTINATION`.

    Gives {"type": "bind"|"volume", "source", "destination", "options"}: the source of a bind as written, of
    a volume its name, "" for an anonymous one. options: of config.json's mounts, `nocopy` besides.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidInput(f"{text!r} is not a volume", where=where, hint="[SOURCE:]DESTINATION[:ro]")
    source, destination = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    _check_destination(destination, text, where)
    words = parts[2].split(",") if len(parts) == 3 else []
    bind = source.startswith(("/", ".", "~"))
    known = ("ro", "rw", "nocopy", *_PROPAGATION)
    for word in words:
        if word not in known:
            raise InvalidInput(f"{text!r}: unknown option {word!r}", where=where, hint=" ".join(known))
    if source and not bind and not all(c.isalnum() or c in "_.-" for c in source):
        raise InvalidInput(f"{source!r} is not a volume's name", where=where, hint="for a directory write /… or ./…")
    options = ["rbind"] if bind else []
    options += [word for word in words if word != "rw"]
    if bind and not any(word in _PROPAGATION for word in words):
        options.append("rprivate")
    return {"type": "bind" if bind else "volume", "source": source, "destination": destination, "options": options}


def tmpfs(text: str, where: str = "--tmpfs") -> dict[str, Any]:
    """`/path[:size=64m,mode=1777]` as a mount of config.json; rw,noexec,nosuid,nodev unless told otherwise."""
    destination, _, given = text.partition(":")
    _check_destination(destination, text, where)
    words = [word for word in given.split(",") if word]
    opposites = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}
    options = [word for word, opposite in opposites.items() if opposite not in words and word not in words]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options + words}


def mount(text: str, where: str = "--mount") -> dict[str, Any]:
    """`type=bind,source=…,target=…[,readonly]` as `volume` gives it, or with type "tmpfs" a mount of config.json."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        fields[{"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(key, key)] = value
    kind, source, target = (fields.pop(key, "") for key in ("type", "source", "target"))
    kind = kind or "volume"
    readonly = fields.pop("readonly", "false") in ("", "true", "1")
    propagation = fields.pop("bind-propagation", "rprivate")
    limits = [f"{name}={fields.pop('tmpfs-' + name)}" for name in ("size", "mode") if "tmpfs-" + name in fields]
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidInput(f"{text!r}: unknown type {kind!r}", where=where, hint="bind, volume or tmpfs")
    if fields or propagation not in _PROPAGATION or (limits and kind != "tmpfs"):
        word = next(iter(fields), "bind-propagation" if propagation not in _PROPAGATION else "tmpfs-size")
        raise InvalidInput(f"{text!r}: {word!r} does not fit a mount of type {kind}", where=where)
    _check_destination(target, text, where)
    if kind == "tmpfs":
        return tmpfs(f"{target}:{','.join(limits + (['ro'] if readonly else []))}", where)
    if kind == "bind" and not source.startswith("/"):
        raise InvalidInput(f"{text!r}: the source of a bind must be an absolute path", where=where)
    options = ["rbind", propagation] if kind == "bind" else []
    options += ["ro"] if readonly else []
    return {"type": kind, "source": source, "destination": target, "options": options}


def _check_destination(path: str, text: str, where: str) -> None:
    if not path.startswith("/"):
        raise InvalidInput(f"{text!r}: the path in the container must be absolute", where=where)
    if not path.strip("/"):
        raise InvalidInput(f"{text!r}: the destination cannot be /", where=where)


def annotation(text: str, where: str) -> tuple[str, str]:
    """`KEY=VALUE`, as for --label, --annotation, --sysctl; a missing value is empty."""
    key, _, value = text.partition("=")
    if not key.strip():
        raise InvalidInput(f"{text!r} has no name", where=where, hint="KEY=VALUE")
    return key, value
