"""What a user asks of a container, as one frozen value."""

from __future__ import annotations

from veloci.spec.document import Document, Json


class Options(Document):
    """Everything that `configure` may change of the image's own configuration; JSON-able by `plain()`.

    Mounts, devices and rlimits are in the form of config.json; `veloci.bundle.values` reads them from
    docker's spelling.
    """

    args: tuple[str, ...] | None = None  # None: the image's CMD
    entrypoint: tuple[str, ...] | None = None  # None: the image's; () resets it; any value drops the image's CMD
    env: tuple[str, ...] = ()  # KEY=VALUE, a later one wins
    user: str = ""  # name, uid, name:group or uid:gid; "" is the image's
    groups: tuple[str, ...] = ()  # supplementary, by name or number
    workdir: str = ""
    hostname: str = ""  # "" is the first 12 characters of the ID
    domainname: str = ""
    tty: bool = False
    mounts: tuple[Json, ...] = ()  # after the default ones; one on the same destination replaces it
    shm_size: int = 64 << 20  # bytes
    shm: bool = True  # False: --ipc none
    init: str = ""  # the path in the container of an init that runs the command
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: Json = None  # None: the default profile; "unconfined"; or a profile as in config.json
    apparmor: str = ""  # a profile of the host's; "" is none
    selinux: str = ""  # a label; "" is none
    masked: bool = True  # False: --security-opt systempaths=unconfined
    devices: tuple[Json, ...] = ()  # of linux.devices, each with an extra "access"
    device_rules: tuple[Json, ...] = ()  # of linux.resources.devices
    rlimits: tuple[Json, ...] = ()
    memory: int | None = None  # bytes
    memory_reservation: int | None = None
    memory_swap: int | None = None  # bytes, memory and swap together; -1 is no limit; None is not set
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    throttles: dict[str, Json] = {}  # of linux.resources.blockIO: throttleReadBpsDevice -> [{major, minor, rate}]
    namespaces: dict[str, str] = {}  # "network": "host" or a path, "pid": …; the others are new
    uid_mappings: tuple[Json, ...] = ()  # of linux.uidMappings; its user namespace is new unless `namespaces` has one
    gid_mappings: tuple[Json, ...] = ()
    sysctls: dict[str, str] = {}
    annotations: dict[str, str] = {}
    cgroup_parent: str = ""
