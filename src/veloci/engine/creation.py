"""A container being made: image, volumes, names and configuration come together; nothing runs yet."""

from __future__ import annotations

import os
from time import time_ns

from veloci.bundle import values
from veloci.bundle.configure import configure
from veloci.engine import asked
from veloci.engine.description import asked_config
from veloci.engine.mount_points import Wanted
from veloci.engine.record import Record
from veloci.engine.users import Choice, Users
from veloci.errors import Conflict, Denied, InvalidInput, NotFound, VelociError
from veloci.monitor.policy import Restart
from veloci.monitor.state import LIVE
from veloci.network import ports as published
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from veloci.bundle.options import Options
    from veloci.engine.engine import Engine
    from veloci.engine.mount_points import Point
    from veloci.engine.run_options import RunOptions
    from veloci.image.image import Image
    from veloci.network.ports import Port
    from veloci.transport.place import Progress

_PASSWD = 1 << 20  # bytes read at most of the image's passwd and group
_HOST_FILES = ("hosts", "hostname", "resolv.conf")


class Creation:
    """One container to be. What the user asked for is read at once, so that a mistake costs no pull."""

    def __init__(
        self, engine: Engine, image: str, command: Sequence[str], wanted: RunOptions, *, stdin_once: bool = True
    ) -> None:
        """stdin_once: its input ends with its first client. Raises InvalidInput, Unsupported, NotFound, Denied."""
        from veloci.engine.stopping import signal_number
        from veloci.monitor.runtimes import find

        if os.geteuid() != 0:
            raise Denied("making a container needs root", hint="sudo veloci …")
        asked.check(wanted)
        self._engine, self._name, self._wanted, self._stdin_once = engine, image, wanted, stdin_once
        self.records = engine.containers.records
        self.restart = Restart.parse(wanted.restart)
        self.ports = [port for text in wanted.publish for port in published.parse(text)]
        self.exposed = [port for text in wanted.expose for port in _exposed(text)]
        self.hosts = tuple(":".join(values.host(text)) for text in wanted.add_host)
        self.labels = asked.labels(wanted)
        self.mounts = Wanted(wanted)
        self.users = Users.asked(wanted)
        self.joined = {kind: self.records.find(word) for kind, word in asked.joined(wanted).items()}
        if "ipc" in self.joined:
            self._shareable(self.joined["ipc"])
        self.options, self._command = asked.bundled(wanted, command), command
        self._health, self._log = asked.healthcheck(wanted), asked.logging(wanted)
        self.named = asked.named_devices(wanted)
        if wanted.stop_signal:
            signal_number(wanted.stop_signal, "--stop-signal")
        if wanted.runtime not in ("", "veloci"):
            find(wanted.runtime)
        for address in wanted.dns:
            values.address(address, "--dns")

    def _shareable(self, id: str) -> None:
        """Refuse to share the memory of a container that was not made for it."""
        record = self.records.load(id)
        if record.host_config.get("IpcMode") != "shareable":
            raise Conflict(
                f"container {record.name} does not share its IPC namespace", hint="make it with --ipc shareable"
            )

    def make(self, progress: Progress | None = None) -> str:
        """Make it. Returns its ID; on failure nothing of it is left. Raises NotFound, Conflict, HostError."""
        self._clear()
        wanted, snapshots = self._wanted, self._engine.snapshots
        found = self._engine.images.get(
            self._name, pull=wanted.pull, platform=wanted.platform or None, progress=progress
        )
        chain_id = self._engine.images.unpacked(found)
        id, name = self.records.claim(wanted.name)
        points = self.mounts.points
        try:
            snapshots.prepare(id, chain_id)
            root = snapshots.mount(id)
            try:
                self._mounts(id, found, root)
                with Choice(self._engine, self.users or Users()) as mappings:
                    config = self._config(id, found, points, root, mappings)
                    self._write(id, config)
            finally:
                os.close(root)
            self.records.save(self._record(id, name, chain_id, found, points, config))
        except BaseException:
            self.records.forget(id, name, lambda: snapshots.remove(id))
            for point in points:
                if point.type == "volume":
                    self._engine.volumes.release(point.name, id, remove=point.anonymous)
            raise
        return id

    def _clear(self) -> None:
        """Take away what killed commands left half made, and addresses of containers that a boot has ended."""
        if not os.path.isdir(self.records.run_root) and os.path.isdir(f"{self._engine.root}/networks"):
            self._engine.networks.reclaim(self._lives)
        for id, name in self.records.abandoned():
            self._engine.snapshots.remove(id)
            self.records.forget(id, name)

    def _lives(self, id: str) -> bool:
        """Whether an address is to be kept for it: what is no container, as a build's step, is left alone."""
        try:
            return not os.path.isdir(self.records.data(id)) or self.records.current(id).status in LIVE
        except VelociError:  # a damaged file
            return True

    def _mounts(self, id: str, found: Image, root: int) -> None:
        """What is mounted, each volume filled from the image."""
        self.mounts.make(id, found.config.config.volumes, self._engine)
        for point in self.mounts.points:
            if point.copy:
                volumes = self._engine.volumes
                volumes.fill(volumes.get(point.name), root, point.destination)

    def _config(
        self,
        id: str,
        found: Image,
        points: Iterable[Point],
        root: int,
        mappings: tuple[tuple[dict[str, Any], ...], ...],
    ) -> dict[str, Any]:
        options, data = self.options, self.records.data(id)
        shared = self.joined.get("network")
        files = [_file(self.records.data(shared) if shared else data, name) for name in _HOST_FILES]
        if options.init:
            files.append(self._init(data, options.init))
        paths = dict.fromkeys(self.joined, "/proc/self/ns/…")  # the monitor knows them when it starts the container
        if self.users and self.users.path:
            paths["user"] = self.users.path
        if self.users:
            files = [_owned(file) for file in files]
        if "ipc" in self.joined:
            files.append(_shared_memory(data))
        if shared and not options.hostname:
            options = options.replace(hostname=self.records.load(shared).hostname)
        options = options.replace(
            mounts=(*files, *map(self._configured, points)),
            namespaces={**options.namespaces, **paths},
            uid_mappings=mappings[0],
            gid_mappings=mappings[1],
        )
        passwd, group = read_account_file(root, "passwd"), read_account_file(root, "group")
        config = configure(found.config, options, id=id, passwd=passwd, group=group)
        if self.named:
            from veloci.engine.device_names import edited

            edited(config, self.named)
        return config

    def _configured(self, point: Point) -> dict[str, Any]:
        """It in config.json; files of a volume, but of no directory of the host, are the container's users'."""
        mount = point.configured()
        ours = point.type == "volume" and not self._engine.volumes.get(point.name).options.get("device")
        return _owned(mount) if self.users and ours else mount

    def _init(self, data: str, place: str) -> dict[str, Any]:
        """The init, as a file of this container alone."""
        from veloci.kernel import init

        with open(f"{data}/init", "wb") as file:
            file.write(init.image(os.uname().machine))
        os.chmod(f"{data}/init", 0o755)  # noqa: S103 -- any user of the container starts it
        return {"destination": place, "type": "bind", "source": f"{data}/init", "options": ["bind", "rprivate", "ro"]}

    def _write(self, id: str, config: dict[str, Any]) -> None:
        data = self.records.data(id)
        with open(f"{data}/bundle/config.json", "wb") as file:
            file.write(dumps(config))
        for name in _HOST_FILES:
            with open(f"{data}/{name}", "wb"):
                pass

    def _record(
        self, id: str, name: str, chain_id: str, found: Image, points: Iterable[Point], config: dict[str, Any]
    ) -> Record:
        wanted, image = self._wanted, found.config.config
        exposed = {**dict.fromkeys(image.exposed_ports), **dict.fromkeys(map(_text, self.exposed))}
        args = config["process"]["args"]
        return Record(
            id=id,
            name=name,
            image=self._name,
            image_id=found.id,
            chain_id=chain_id,
            created=time_ns(),
            runtime=wanted.runtime or "veloci",
            network=self._network(),
            joined=self.joined,
            aliases=wanted.network_alias,
            address=wanted.ip,
            mac=wanted.mac_address,
            ports=tuple(port.plain() for port in self._ports(exposed)),
            mounts=tuple(point.plain() for point in points),
            restart=self.restart,
            auto_remove=wanted.rm,
            stdin=wanted.interactive,
            stdin_once=self._stdin_once,
            tty=wanted.tty,
            stop_signal=wanted.stop_signal or image.stop_signal or "SIGTERM",
            stop_timeout=wanted.stop_timeout,
            labels={**image.labels, **self.labels},
            hostname=str(config.get("hostname") or os.uname().nodename),
            hosts=self.hosts,
            dns=wanted.dns,
            dns_search=wanted.dns_search,
            dns_options=wanted.dns_option,
            command=tuple(args[2:] if self.options.init else args),
            exposed=tuple(exposed),
            log=self._log,
            config=asked_config(image, self.options, command=self._command, health=self._health),
            host_config=asked_for(wanted, self.options),
        )

    def _network(self) -> str:
        network = self._wanted.network
        if "network" in self.joined:
            return f"container:{self.joined['network']}"
        if network in ("none", "host") or network.startswith("ns:"):
            return network
        try:
            return self._engine.networks.get("bridge" if network == "default" else network).name
        except NotFound:
            raise NotFound(f"network {network} not found", hint=f"veloci network create {network}") from None

    def _ports(self, exposed: Iterable[str]) -> list[Port]:
        """The published ports; with --publish-all the exposed ones besides, each on a free port."""
        found = list(self.ports)
        if self._wanted.publish_all:
            have = {_text(port) for port in found}
            found += [port for text in exposed for port in _exposed(text) if _text(port) not in have]
        if found and self._network().partition(":")[0] in ("host", "none", "ns"):
            self._engine.warn(f"--publish: network {self._network()} publishes no ports")
            return []
        return found


def read_account_file(root: int, name: str) -> bytes:
    """/etc/passwd or /etc/group beneath the descriptor `root`."""
    from veloci.kernel.files import read_in_root

    return read_in_root(root, f"/etc/{name}", _PASSWD)


def asked_for(wanted: RunOptions, options: Options) -> dict[str, Any]:
    """What was asked for in the shape of docker's HostConfig, for `inspect`; what the record knows is not here."""
    cpus = options.cpus or 0
    return {
        "Binds": list(wanted.volume) or None,
        "CapAdd": list(wanted.cap_add) or None,
        "CapDrop": list(wanted.cap_drop) or None,
        "Privileged": wanted.privileged,
        "PublishAllPorts": wanted.publish_all,
        "ReadonlyRootfs": wanted.read_only,
        "Dns": list(wanted.dns),
        "DnsOptions": list(wanted.dns_option),
        "DnsSearch": list(wanted.dns_search),
        "ExtraHosts": list(wanted.add_host) or None,
        "GroupAdd": list(wanted.group_add) or None,
        "IpcMode": wanted.ipc or "private",
        "PidMode": wanted.pid,
        "UTSMode": wanted.uts,
        "UsernsMode": wanted.userns or ("private" if Users.asked(wanted) else ""),
        "CgroupnsMode": wanted.cgroupns or "private",
        "CgroupParent": wanted.cgroup_parent,
        "SecurityOpt": list(wanted.security_opt) or None,
        "Tmpfs": dict(text.partition(":")[::2] for text in wanted.tmpfs) or None,
        "VolumesFrom": list(wanted.volumes_from) or None,
        "ShmSize": options.shm_size,
        "Sysctls": dict(options.sysctls) or None,
        "Init": wanted.init or None,
        "Memory": options.memory or 0,
        "MemoryReservation": options.memory_reservation or 0,
        "MemorySwap": options.memory_swap or 0,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "OomScoreAdj": options.oom_score_adj or 0,
        "NanoCpus": round(cpus * 1_000_000_000),
        "CpuShares": options.cpu_shares or 0,
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpuRealtimePeriod": options.cpu_rt_period or 0,
        "CpuRealtimeRuntime": options.cpu_rt_runtime or 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "PidsLimit": options.pids_limit,
        "BlkioWeight": options.blkio_weight or 0,
        "Devices": [
            {"PathOnHost": source, "PathInContainer": place, "CgroupPermissions": access}
            for source, place, access in map(values.device, (text for text in wanted.device if text[:1] == "/"))
        ],
        "DeviceCgroupRules": list(wanted.device_cgroup_rule) or None,
        "Ulimits": [
            {"Name": limit["type"].removeprefix("RLIMIT_").lower(), "Hard": limit["hard"], "Soft": limit["soft"]}
            for limit in options.rlimits
        ],
        "Annotations": dict(options.annotations) or None,
    }


def _file(data: str, name: str) -> dict[str, Any]:
    return {"destination": f"/etc/{name}", "type": "bind", "source": f"{data}/{name}", "options": ["rbind", "rprivate"]}


def _owned(mount: dict[str, Any]) -> dict[str, Any]:
    """A mount of ours whose files belong to the users of the container's user namespace."""
    return {**mount, "options": [*mount["options"], "idmap"]}


def _shared_memory(data: str) -> dict[str, Any]:
    """What the monitor finds in another container, as /dev/shm."""
    from veloci.monitor.joined import shared

    place = shared(data)
    os.mkdir(place, 0o700)
    options = ["rbind", "nosuid", "noexec", "nodev"]
    return {"destination": "/dev/shm", "type": "bind", "source": place, "options": options}  # noqa: S108


def _exposed(text: str) -> list[Port]:
    """`80`, `80/udp`, `80-90`."""
    try:
        found = published.parse(text)
    except InvalidInput:
        found = []
    if not found or ":" in text:
        raise InvalidInput(f"invalid port {text!r}", where="--expose", hint="80, 80/udp, 80-90")
    return found


def _text(port: Port) -> str:
    return f"{port.container_port}/{port.protocol}"
