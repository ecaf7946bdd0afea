"""JSON as the Go values that it stands for in docker's and skopeo's templates.

A field that JSON leaves out is there in Go, with its zero value: `{{.Config.Healthcheck}}` is `<nil>`, no error.
"""

from __future__ import annotations

from veloci.cli.template_print import NIL, Duration, NilList, NilMap, Record, Time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Go maps in docker's objects: a key that they lack is `<no value>`, where a struct's missing field is an error.
_MAPS = frozenset(
    "Annotations Data ExposedPorts Labels LogOpts Networks Options PortBindings Ports Sysctls Tmpfs Volumes "
    "Containers StorageOpt DriverOpts annotations".split()
)
_LISTS = frozenset(
    "Aliases Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps "
    "BlkioWeightDevice CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices DiffIDs Dns DnsOptions DnsSearch "
    "Entrypoint Env ExecIDs ExtraHosts GroupAdd Layers Links MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests "
    "RepoTags SecurityOpt Shell Ulimits VolumesFrom".split()
)
_SPANS = frozenset(("Interval", "Timeout", "StartPeriod", "StartInterval"))  # time.Duration
_TIMES = frozenset(("LastTagTime",))  # time.Time; docker's other times are strings
_ABSENT: dict[str, dict[str, Any]] = {
    "Config": {
        "User": "", "ExposedPorts": NilMap(), "Env": NilList(), "Entrypoint": NilList(), "Cmd": NilList(),
        "Volumes": NilMap(), "WorkingDir": "", "Labels": NilMap(), "StopSignal": "", "ArgsEscaped": False,
        "Healthcheck": NIL, "OnBuild": NilList(), "Shell": NilList(), "StopTimeout": NIL,
    },
    "Healthcheck": {"Test": NilList(), **dict.fromkeys(_SPANS, Duration(0)), "Retries": 0},
    "RootFS": {"Type": "", "Layers": NilList()},
    "State": {"Health": NIL},
    "image": {"Variant": "", "OsVersion": "", "Author": "", "Comment": ""},
    "container": {"SizeRw": NIL, "SizeRootFs": NIL},
}  # fmt: skip


def typed(value: Any, key: str = "") -> Any:
    """A JSON value as the Go value that it stands for: objects are structs but those that docker has maps for."""
    if isinstance(value, Record):
        return value
    if isinstance(value, dict):
        if key in _MAPS:
            return {name: typed(item, name) for name, item in value.items()}
        return struct({name: _field(item, name) for name, item in value.items()}, _ABSENT.get(key or _what(value), {}))
    if isinstance(value, list):
        return [typed(item) for item in value]
    return value


def struct(fields: Mapping[str, Any], absent: Mapping[str, Any], shown: Any = None) -> Record:
    """A Go struct. absent: its further fields, which JSON leaves out. shown: its JSON, where that differs."""
    found = Record(fields)
    found.absent, found.shown = absent, shown
    return found


def _field(value: Any, name: str) -> Any:
    if value is None:
        return NilMap() if name in _MAPS else NilList() if name in _LISTS else NIL
    if name in _SPANS and type(value) is int:
        return Duration(value)
    if name in _TIMES and type(value) is str:
        return Time(value)
    return typed(value, name)


def _what(value: Mapping[str, Any]) -> str:
    return "container" if "HostConfig" in value else "image" if "RootFS" in value else ""
