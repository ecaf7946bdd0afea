"""A container in the shape of docker's API: what `inspect`, `ps` and `port` show."""

from __future__ import annotations

from veloci.engine.record import WORDS
from veloci.monitor import state
from veloci.monitor.logs import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.engine.record import Record
    from veloci.spec.image import ContainerConfig

    Json = dict[str, Any]

_NEVER = "0001-01-01T00:00:00Z"


def asked_config(image: ContainerConfig, options: Options, *, command: Sequence[str], health: Json) -> Json:
    """What the image and the user say, in the shape of docker's Config; what the record knows is not here.

    command: the user's words after the image's name. health: what of the image's Healthcheck is to be otherwise.
    """
    entrypoint = image.entrypoint if options.entrypoint is None else options.entrypoint
    words = list(command) or (image.cmd if options.entrypoint is None else None)
    names = {entry.partition("=")[0] for entry in options.env}
    health = {**(image.healthcheck.plain() if image.healthcheck else {}), **health}
    return {
        "Domainname": options.domainname,
        "User": options.user or image.user,
        "Env": [*options.env, *(entry for entry in image.env if entry.partition("=")[0] not in names)],
        "Cmd": None if words is None else list(words),
        **({"Healthcheck": health} if health else {}),
        "Volumes": {path: {} for path in image.volumes} or None,
        "WorkingDir": options.workdir or image.working_dir,
        "Entrypoint": list(entrypoint) if entrypoint else None,
        "OnBuild": list(image.on_build) or None,
        **({"Shell": list(image.shell)} if image.shell else {}),
    }


def asked_health(record: Record) -> Json | None:
    """How a container is asked whether it is well: its Healthcheck, with the image's Shell; None if it is not."""
    config = record.config or {}
    check = config.get("Healthcheck")
    return {**check, "Shell": config.get("Shell")} if check and check.get("Test") else None


def uses(record: Record, lease: Json | None) -> tuple[Json, ...]:
    """What events tell that the container takes and gives back, with each start and end: its network, its volumes."""
    found = []
    if lease or record.network in WORDS:
        kind, id = WORDS.get(record.network) or ("bridge", lease["network_id"] if lease else "")
        attributes = {"container": record.id, "name": lease["network"] if lease else record.network, "type": kind}
        found.append({"type": "network", "id": id, "attributes": attributes})
    for point in record.mounts:
        if point["type"] == "volume":
            attributes = {"container": record.id, "destination": point["destination"], "driver": "local"}
            writable = not {"ro", "rro"} & {*point.get("options", ())}
            attributes |= {"propagation": "", "read/write": "true" if writable else "false"}
            found.append({"type": "volume", "id": point["name"], "attributes": attributes})
    return tuple(found)


def asked_log(record: Record) -> Json:
    """How a container's log is kept: the fields of the monitor's task that begin with `log`."""
    log = record.log or {}
    options = log.get("Config") or {}
    if log.get("Type") == "none":
        return {"log": False}
    from veloci.bundle import values

    found: Json = {}
    if options.get("max-size"):
        found["log_size"] = values.size(options["max-size"], "max-size")
    if options.get("max-file"):
        found["log_files"] = int(options["max-file"])
    environment = dict(entry.partition("=")[::2] for entry in (record.config or {}).get("Env") or ())
    attributes = {
        key: known[key]
        for option, known in (("labels", record.labels), ("env", environment))
        for key in options.get(option, "").split(",")
        if key in known
    }
    return {**found, **({"log_attributes": dict(sorted(attributes.items()))} if attributes else {})}


def described(engine: Engine, record: Record) -> Json:
    """The whole of `docker inspect`; times in RFC 3339, UTC."""
    records = engine.containers.records
    now = records.current(record.id)
    data, run = records.data(record.id), records.run(record.id)
    config = state.read(f"{data}/bundle/config.json") or {}
    names = data if "network" not in record.joined else records.data(record.joined["network"])
    return {
        "Id": record.id,
        "Created": timestamp(record.created),
        "Path": record.command[0],
        "Args": list(record.command[1:]),
        "State": {**_state(now), **_health(record, data)},
        "Image": record.image_id,
        "ResolvConfPath": f"{names}/resolv.conf",
        "HostnamePath": f"{names}/hostname",
        "HostsPath": f"{names}/hosts",
        "LogPath": f"{data}/log",
        "Name": f"/{record.name}",
        "RestartCount": now.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": config.get("linux", {}).get("mountLabel", ""),
        "ProcessLabel": config.get("process", {}).get("selinuxLabel", ""),
        "AppArmorProfile": config.get("process", {}).get("apparmorProfile", ""),
        "ExecIDs": None,
        "HostConfig": _host_config(record, config),
        "GraphDriver": {"Data": _directories(engine, record, now), "Name": "overlay"},
        "Mounts": [_mount(each) for each in record.mounts if each["type"] != "tmpfs"],
        "Config": _config(record),
        "NetworkSettings": _network(engine, record, now, state.read(f"{run}/lease.json")),
    }


def ports(record: Record, lease: Json | None) -> Json:
    """Its ports as docker has them: 80/tcp -> where on the host, or None for one that is exposed alone."""
    found: dict[str, Any] = dict.fromkeys(record.exposed)
    for port in (lease or {}).get("ports", ()):
        name = f"{port['containerPort']}/{port['protocol']}"
        place = {"HostIp": port["hostAddress"], "HostPort": str(port["hostPort"])}
        found[name] = [*(found.get(name) or ()), place]
    return found


def _state(now: state.State) -> Json:
    return {
        "Status": now.status,
        "Running": now.status in state.LIVE,
        "Paused": now.status == "paused",
        "Restarting": now.status == "restarting",
        "OOMKilled": now.oom_killed,
        "Dead": False,
        "Pid": now.pid,
        "ExitCode": now.exit_code,
        "Error": now.error,
        "StartedAt": timestamp(now.started_at) if now.started_at else _NEVER,
        "FinishedAt": timestamp(now.finished_at) if now.finished_at else _NEVER,
    }


def _health(record: Record, data: str) -> Json:
    """State.Health of a container that is asked how it is; nothing of another."""
    check = (record.config or {}).get("Healthcheck") or {}
    if (check.get("Test") or ["NONE"])[0] == "NONE":
        return {}
    return {"Health": state.read(f"{data}/health.json") or {"Status": "starting", "FailingStreak": 0, "Log": []}}


def _config(record: Record) -> Json:
    asked: Json = dict(record.config or {"Cmd": list(record.command)})
    attached = record.stdin_once
    exposed = [*record.exposed, *(f"{port['containerPort']}/{port.get('protocol', 'tcp')}" for port in record.ports)]
    return {
        "Hostname": record.hostname,
        "Domainname": asked.pop("Domainname", ""),
        "User": asked.pop("User", ""),
        "AttachStdin": attached and record.stdin,
        "AttachStdout": attached,
        "AttachStderr": attached,
        **({"ExposedPorts": {name: {} for name in exposed}} if exposed else {}),
        "Tty": record.tty,
        "OpenStdin": record.stdin,
        "StdinOnce": attached and record.stdin,
        "Env": asked.pop("Env", []),
        "Cmd": asked.pop("Cmd", None),
        "Image": record.image,
        **asked,
        "Labels": dict(record.labels),
        "StopSignal": record.stop_signal,
        "StopTimeout": record.stop_timeout,
    }


def _host_config(record: Record, config: Json) -> Json:
    linux = config.get("linux", {})
    bindings: dict[str, Any] = {}
    for port in record.ports:
        place = {"HostIp": port.get("hostAddress", ""), "HostPort": str(port.get("hostPort") or "")}
        bindings.setdefault(f"{port['containerPort']}/{port.get('protocol', 'tcp')}", []).append(place)
    asked = record.host_config or {}
    return {
        **_HOST_CONFIG,
        **asked,
        "CapAdd": _capabilities(asked.get("CapAdd")),
        "CapDrop": _capabilities(asked.get("CapDrop")),
        "LogConfig": record.log or _HOST_CONFIG["LogConfig"],
        "NetworkMode": record.network,
        "PortBindings": bindings,
        "RestartPolicy": {"Name": record.restart.policy, "MaximumRetryCount": record.restart.maximum},
        "AutoRemove": record.auto_remove,
        "Runtime": record.runtime,
        "MaskedPaths": linux.get("maskedPaths"),
        "ReadonlyPaths": linux.get("readonlyPaths"),
    }


def _capabilities(names: Sequence[str] | None) -> list[str] | None:
    """As docker shows them: CAP_NET_ADMIN, ALL."""
    upper = [name.upper().removeprefix("CAP_") for name in names or ()]
    return [name if name == "ALL" else f"CAP_{name}" for name in upper] or None


# What docker shows for a container of which nothing was asked.
_HOST_CONFIG: Json = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "Cgroup": "",
    "Links": None,
    "Isolation": "",
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "DeviceRequests": None,
    "KernelMemory": 0,
    "KernelMemoryTCP": 0,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}


def _mount(point: Json) -> Json:
    """One of the container's mounts, from mount_points.Point."""
    from veloci.engine.mount_points import Point

    known = Point.convert(point)
    volume = {"Name": known.name, "Driver": "local"} if known.type == "volume" else {}
    return {
        "Type": known.type,
        **({"Name": known.name} if volume else {}),
        "Source": known.source,
        "Destination": known.destination,
        **({"Driver": "local"} if volume else {}),
        "Mode": known.mode,
        "RW": known.writable,
        "Propagation": known.propagation,
    }


def _directories(engine: Engine, record: Record, now: state.State) -> Json:
    """The directories of its root file system. It is mounted for the container alone: MergedDir leads through it."""
    upper, lower = engine.snapshots.directories(record.id)
    return {
        "LowerDir": ":".join(lower),
        "MergedDir": f"/proc/{now.pid}/root" if now.pid else "",
        "UpperDir": f"{upper}/fs",
        "WorkDir": f"{upper}/work",
    }


def _network(engine: Engine, record: Record, now: state.State, lease: Json | None) -> Json:
    connected = lease if lease and now.status in state.LIVE else None
    endpoint = _endpoint(connected)
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": f"/proc/{now.pid}/ns/net" if now.pid else "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "Ports": ports(record, connected) if now.status in state.LIVE else {},
        **endpoint,
        "Networks": _networks(engine, record, endpoint),
    }


def _endpoint(lease: Json | None) -> Json:
    """What a container is in its network; empty where it is in none, or does not run."""
    known = lease or {}
    return {
        "EndpointID": "",
        "Gateway": known.get("gateway", ""),
        "IPAddress": known.get("address", ""),
        "IPPrefixLen": known.get("prefix", 0),
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": known.get("mac", ""),
    }


def _networks(engine: Engine, record: Record, endpoint: Json) -> Json:
    from veloci.engine.networks import find
    from veloci.errors import NotFound

    if ":" in record.network:
        return {}
    try:
        known = find(engine.networks, record.network)
    except NotFound:  # it was removed after the container had ended
        known = {"Id": "", "Containers": {}}
    identity = known["Containers"].get(record.id, {}).get("EndpointID", "")
    asked = {"IPv4Address": record.address} if record.address else None
    return {
        record.network: {
            "IPAMConfig": asked,
            "Links": None,
            "Aliases": None,
            "NetworkID": known["Id"],
            **endpoint,
            "EndpointID": identity,
            "DriverOpts": None,
        }
    }
