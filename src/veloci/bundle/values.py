"""Docker's spelling of sizes, volumes, mounts, limits and devices, as values. Pure.

Every function takes the text after a flag, and raises InvalidInput with that flag in `where`.
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_TMPFS = (
    "rw ro exec noexec suid nosuid dev nodev sync async dirsync atime noatime diratime nodiratime relatime norelatime "
    "strictatime nostrictatime size mode uid gid nr_inodes nr_blocks mpol huge"
).split()
_PROC = tuple(
    "/proc/" + name
    for name in (
        "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid "
        "sys/crypto/fips_enabled"
    ).split()
)
_SPELLINGS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
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
    a volume its name, "" for an anonymous one. options: of config.json's mounts, besides `nocopy` of a volume,
    `z` and `Z`.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidInput(f"{text!r} is not a volume", where=where, hint="[SOURCE:]DESTINATION[:ro]")
    source, destination = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    words = parts[2].split(",") if len(parts) == 3 else []
    bind = source.startswith(("/", ".", "~"))
    known = ("ro", "rw", "z", "Z", *(_PROPAGATION if bind else ("nocopy",)))
    for word in words:
        if word not in known:
            raise InvalidInput(f"{text!r}: unknown option {word!r}", where=where, hint=" ".join(known))
    if len({"ro", "rw"} & {*words}) == 2 or sum(word in _PROPAGATION for word in words) > 1:
        raise InvalidInput(f"{text!r}: the options contradict each other", where=where)
    if source and not bind:
        volume_name(source, where)
    options = ["rbind"] if bind else []
    options += [word for word in words if word != "rw"]
    if bind and not any(word in _PROPAGATION for word in words):
        options.append("rprivate")
    place = _destination(destination, text, where)
    return {"type": "bind" if bind else "volume", "source": source, "destination": place, "options": options}


def volume_name(text: str, where: str = "") -> str:
    """`text`, if it can name a volume."""
    if not 0 < len(text) < 256 or text[0] in "_.-" or not _NAME.issuperset(text):
        raise InvalidInput(
            f"{text!r} is not a volume's name",
            where=where,
            hint="a letter or digit, then letters, digits, _ . -; for a directory write /… or ./…",
        )
    return text


def tmpfs(text: str, where: str = "--tmpfs") -> dict[str, Any]:
    """`/path[:size=64m,mode=1777]` as a mount of config.json; rw,noexec,nosuid,nodev unless told otherwise."""
    destination, _, given = text.partition(":")
    words = [word for word in given.split(",") if word]
    for word in words:
        if word.partition("=")[0] not in _TMPFS:
            raise InvalidInput(f"{text!r}: unknown option {word!r}", where=where, hint=" ".join(_TMPFS))
    opposites = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}
    options = [word for word, opposite in opposites.items() if opposite not in words and word not in words]
    place = _destination(destination, text, where)
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options + words}


def mount(text: str, where: str = "--mount") -> dict[str, Any]:
    """`type=bind,source=…,target=…[,readonly]` as `volume` gives it, or with type "tmpfs" a mount of config.json.

    A volume's may have "labels" and "driver_options", both dicts, besides.
    """
    fields: dict[str, list[str]] = {}
    for part in _fields(text, where):
        key, equals, value = part.partition("=")
        key = _SPELLINGS.get(key, key)
        fields.setdefault(key, []).append(value if equals else "true")
    taken = _Taken(fields, text, where)
    kind = taken.one("type") or "volume"
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidInput(f"{text!r}: unknown type {kind!r}", where=where, hint="bind, volume or tmpfs")
    taken.kind = kind
    target, readonly = taken.one("target"), taken.truth("readonly")
    found = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}[kind](taken, target, readonly=readonly)
    taken.end()
    found["destination"] = _destination(target, text, where)
    return found


class _Taken:
    """The fields of a --mount, taken one by one; what is left over does not fit."""

    def __init__(self, fields: dict[str, list[str]], text: str, where: str) -> None:
        self.fields, self.text, self.where, self.kind = fields, text, where, ""

    def one(self, name: str) -> str:
        """The last value of a field, "" if it is not there."""
        return self.fields.pop(name, [""])[-1]

    def truth(self, name: str) -> bool:
        """A field that is true or false."""
        value = self.one(name)
        if value.lower() not in ("", "0", "1", "true", "false"):
            raise self.wrong(f"{name}={value} is neither true nor false")
        return value.lower() in ("1", "true")

    def pairs(self, name: str) -> dict[str, str]:
        """A field of KEY=VALUE that may be repeated."""
        return dict(annotation(value, self.where) for value in self.fields.pop(name, []))

    def wrong(self, what: str) -> InvalidInput:
        """The error."""
        return InvalidInput(f"{self.text!r}: {what}", where=self.where)

    def end(self) -> None:
        """Raises InvalidInput if a field is left."""
        for name in self.fields:
            raise self.wrong(f"{name!r} does not fit a mount of type {self.kind}")


def _bind(taken: _Taken, _target: str, *, readonly: bool) -> dict[str, Any]:
    source, propagation = taken.one("source"), taken.one("bind-propagation") or "rprivate"
    flat = taken.truth("bind-nonrecursive")
    recursion = taken.one("bind-recursive") or ("disabled" if flat else "enabled")
    if not source.startswith("/"):
        raise taken.wrong("the source of a bind must be an absolute path")
    if propagation not in _PROPAGATION:
        raise taken.wrong(f"no propagation {propagation!r}")
    if recursion not in ("enabled", "disabled", "writable", "readonly"):
        raise taken.wrong(f"bind-recursive={recursion} is none of enabled, disabled, writable, readonly")
    if recursion == "readonly" and not readonly:
        raise taken.wrong("bind-recursive=readonly needs readonly")
    options = ["bind" if recursion == "disabled" else "rbind", propagation]
    options += ["rro" if recursion == "readonly" else "ro"] if readonly else []
    return {"type": "bind", "source": source, "options": options}


def _volume(taken: _Taken, _target: str, *, readonly: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "volume", "source": taken.one("source"), "options": ["ro"] if readonly else []}
    if found["source"]:
        volume_name(found["source"], taken.where)
    if taken.truth("volume-nocopy"):
        found["options"].append("nocopy")
    driver = taken.one("volume-driver")
    if driver not in ("", "local"):
        raise taken.wrong(f"no volume driver {driver!r}")
    more = {"labels": taken.pairs("volume-label"), "driver_options": taken.pairs("volume-opt")}
    return found | {key: value for key, value in more.items() if value}


def _tmpfs(taken: _Taken, target: str, *, readonly: bool) -> dict[str, Any]:
    if taken.one("source"):
        raise taken.wrong("a mount of type tmpfs has no source")
    limits = [f"{name}={taken.one('tmpfs-' + name)}" for name in ("size", "mode") if "tmpfs-" + name in taken.fields]
    return tmpfs(f"{target or '/-'}:{','.join(limits + (['ro'] if readonly else []))}", taken.where)


def _fields(text: str, where: str) -> list[str]:
    """A line of comma-separated values; a field in double quotes may hold commas."""
    found, rest = [], text
    while True:
        if rest.startswith('"'):
            field = ""
            rest = rest[1:]
            while True:
                part, quote, rest = rest.partition('"')
                field += part
                if not quote:
                    raise InvalidInput(f"{text!r}: a quote is not closed", where=where)
                if not rest.startswith('"'):
                    break
                field, rest = field + '"', rest[1:]
        else:
            field, comma, after = rest.partition(",")
            rest = comma + after
        found.append(field)
        if not rest:
            return found
        if not rest.startswith(","):
            raise InvalidInput(f"{text!r}: text after a quoted field", where=where)
        rest = rest[1:]


def device(text: str, where: str = "--device") -> tuple[str, str, str]:
    """`SOURCE[:DESTINATION][:rwm]` as the path here, the path in the container, and what it may do."""
    parts = text.split(":")
    source, destination, access = parts[0], "", ""
    if len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) in (2, 3):
        destination, access = parts[1], "".join(parts[2:])
    if len(parts) > 3 or not source.startswith("/") or (access and not _is_access(access)):
        raise InvalidInput(f"{text!r} is not a device", where=where, hint="/dev/X[:/dev/Y][:rwm]")
    return source, _destination(destination or source, text, where), access or "rwm"


def _is_access(text: str) -> bool:
    return bool(text) and {*text} <= {*"rwm"} and len({*text}) == len(text)


def device_rule(text: str, where: str = "--device-cgroup-rule") -> dict[str, Any]:
    """`c 1:3 rwm` as an entry of linux.resources.devices; `*` is any number, `a` any device."""
    words = text.split()
    numbers = words[1].split(":") if len(words) == 3 else []
    whole = all(number == "*" or (number.isascii() and number.isdigit()) for number in numbers)
    if len(numbers) != 2 or words[0] not in ("a", "b", "c") or not whole or not _is_access(words[2]):
        raise InvalidInput(f"{text!r} is not a device rule", where=where, hint="'c 1:3 rwm'")
    found: dict[str, Any] = {"allow": True, "type": words[0], "access": words[2]}
    return found | {key: int(n) for key, n in zip(("major", "minor"), numbers, strict=True) if n != "*"}


def rate(text: str, where: str, *, bytes: bool) -> tuple[str, int]:
    """`/dev/sda:1mb` (bytes) or `/dev/sda:1000` as a device and a number a second."""
    path, colon, number = text.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise InvalidInput(f"{text!r} is not a device and a rate", where=where, hint="/dev/sda:1mb")
    if bytes:
        return path, size(number, where)
    if not (number.isascii() and number.isdigit()):
        raise InvalidInput(f"{text!r}: {number!r} is not a number", where=where)
    return path, int(number)


def address(text: str, where: str) -> str:
    """`text`, if it is an IP address."""
    import _socket

    try:
        _socket.inet_pton(_socket.AF_INET6 if ":" in text else _socket.AF_INET, text)
    except OSError:
        raise InvalidInput(f"{text!r} is not an address", where=where) from None
    return text


def host(text: str, where: str = "--add-host") -> tuple[str, str]:
    """`NAME:ADDRESS` or `NAME=ADDRESS` as a name and an address; `host-gateway` passes."""
    equals, colon = text.find("="), text.find(":")
    separator = "=" if equals > 0 and (colon < 0 or equals < colon) else ":"
    name, found, place = text.partition(separator)
    place = place.removeprefix("[").removesuffix("]")
    if not found or not name or not place:
        raise InvalidInput(f"{text!r} is not a host", where=where, hint="NAME:ADDRESS")
    return name, place if place == "host-gateway" else address(place, where)


def security(texts: Iterable[str], where: str = "--security-opt") -> dict[str, str]:
    """docker's --security-opt as a table: no-new-privileges ("true"), seccomp, apparmor, systempaths, label.KEY."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            key, _, value = text.partition(":")
        if key == "no-new-privileges" and value in ("", "true", "false"):
            found[key] = value or "true"
        elif key == "label" and value == "disable":
            found["label.disable"] = "true"
        elif key == "label" and value.partition(":")[0] in ("user", "role", "type", "level") and ":" in value:
            found[f"label.{value.partition(':')[0]}"] = value.partition(":")[2]
        elif (key in ("seccomp", "apparmor") and value) or (key, value) == ("systempaths", "unconfined"):
            found[key] = value
        else:
            known = "no-new-privileges seccomp=… apparmor=… label=… systempaths=unconfined"
            raise InvalidInput(f"invalid security option {text!r}", where=where, hint=known)
    return found


def place(path: str, where: str) -> str:
    """A mount's place in the container in its shortest form; inside /proc only what a file system like lxcfs offers.

    What stands there is read and written for security's sake by whoever enters the container (CVE-2019-19921).
    """
    found = _destination(path, path, where)
    if found == "/proc" or (found.startswith("/proc/") and found not in _PROC):
        raise InvalidInput(f"{found} cannot be mounted because it is inside /proc", where=where)
    return found


def _destination(path: str, text: str, where: str) -> str:
    """`path` in its shortest form."""
    if not path.startswith("/"):
        raise InvalidInput(f"{text!r}: the path in the container must be absolute", where=where)
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise InvalidInput(f"{text!r}: the destination cannot be /", where=where)
    return "/" + "/".join(parts)


def annotation(text: str, where: str) -> tuple[str, str]:
    """`KEY=VALUE`, as for --label, --annotation, --sysctl; a missing value is empty."""
    key, _, value = text.partition("=")
    if not key.strip():
        raise InvalidInput(f"{text!r} has no name", where=where, hint="KEY=VALUE")
    return key, value
