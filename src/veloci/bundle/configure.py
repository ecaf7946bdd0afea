"""Image configuration + options -> config.json. Pure: no file, no system call, the same answer every time.

https://github.com/opencontainers/image-spec/blob/v1.1.1/conversion.md
"""

from __future__ import annotations

from veloci.bundle import defaults
from veloci.bundle.options import Options
from veloci.bundle.users import resolve
from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from veloci.bundle.users import Account
    from veloci.spec.image import ContainerConfig, ImageConfig

    Json = dict[str, Any]

_PERIOD = 100_000  # microseconds of the CPU quota that --cpus sets


def configure(
    image: ImageConfig, options: Options | None = None, *, id: str = "", passwd: bytes = b"", group: bytes = b""
) -> Json:
    """config.json as builtins, for a bundle whose root file system is its directory `rootfs`.

    image: what the image says. options: what the user says, which wins. id: the container's.
    passwd, group: the bytes of these files in the root file system.
    Raises InvalidInput for no command, an unknown user, an unknown capability.
    """
    options = options or Options()
    account = resolve(options.user or image.config.user, passwd, group)
    config: Json = {
        "ociVersion": defaults.VERSION,
        "process": _process(image.config, options, account, id, group),
        "root": {"path": "rootfs", "readonly": options.read_only},
        "mounts": _mounts(options),
        "linux": _linux(options, id),
    }
    if not options.namespaces.get("uts"):
        config["hostname"] = options.hostname or id[:12] or "veloci"
        if options.domainname:
            config["domainname"] = options.domainname
    if options.annotations:
        config["annotations"] = dict(options.annotations)
    return config


def process(config: Json, args: Sequence[str], options: Options, *, passwd: bytes = b"", group: bytes = b"") -> Json:
    """The process that `exec` adds to a container: that of its config.json, with what the user asked for changed.

    options: args, env, user, workdir, tty, privileged are read. Raises InvalidInput.
    """
    base: Json = {key: value for key, value in config["process"].items() if key not in ("consoleSize", "oomScoreAdj")}
    if options.user:
        account = resolve(options.user, passwd, group)
        base["user"] = _user(account, options, group)
        base["env"] = _environment([e for e in base["env"] if not e.startswith("HOME=")], [f"HOME={account.home}"])
        if account.uid != 0:
            base["capabilities"] = _capabilities(base["capabilities"]["bounding"], root=False)
    base["args"] = list(args)
    base["env"] = _environment(base["env"], ["TERM=xterm"] if options.tty else [], options.env)
    base["cwd"] = options.workdir or base["cwd"]
    base["terminal"] = options.tty
    if options.privileged:
        base["capabilities"] = _capabilities(defaults.ALL_CAPABILITIES, root=True)
    return base


def _process(image: ContainerConfig, options: Options, account: Account, id: str, group: bytes) -> Json:
    entrypoint = image.entrypoint if options.entrypoint is None else options.entrypoint
    command = options.args
    if command is None:
        command = image.cmd if options.entrypoint is None else ()
    args = [*(entrypoint or ()), *(command or ())]
    if not args:
        raise InvalidInput("no command specified", hint="the image has none; name one after the image")
    workdir = options.workdir or image.working_dir or "/"
    if not workdir.startswith("/"):
        raise InvalidInput(f"the working directory {workdir!r} is invalid, it needs to be absolute", where="--workdir")
    hostname = options.hostname or id[:12]
    usual = [defaults.PATH, *([f"HOSTNAME={hostname}"] if hostname else []), *(["TERM=xterm"] if options.tty else [])]
    names = _granted(options)
    found: Json = {
        "terminal": options.tty,
        "user": _user(account, options, group),
        "args": [options.init, "--", *args] if options.init else args,
        "env": _environment(usual, [f"HOME={account.home}"], _from_image(image.env), options.env),
        "cwd": workdir,
        "capabilities": _capabilities(names, root=account.uid == 0),
        "noNewPrivileges": options.no_new_privileges,
    }
    if options.rlimits:
        found["rlimits"] = list(options.rlimits)
    if options.oom_score_adj is not None:
        found["oomScoreAdj"] = options.oom_score_adj
    if options.apparmor:
        found["apparmorProfile"] = options.apparmor
    if options.selinux:
        found["selinuxLabel"] = options.selinux
    return found


def _from_image(env: Iterable[str]) -> Iterable[str]:
    """An image may not name a variable without a value: podman took the host's (CVE-2026-57231)."""
    for entry in env:
        if "=" not in entry[1:]:
            raise InvalidInput(f"the image's environment has {entry!r}, which is not KEY=VALUE", where="config.Env")
        yield entry


def _environment(*parts: Iterable[str]) -> list[str]:
    """KEY=VALUE entries, each key once, where it came first, with its last value."""
    found: dict[str, str] = {}
    for part in parts:
        for entry in part:
            found[entry.partition("=")[0]] = entry
    return list(found.values())


def _user(account: Account, options: Options, group: bytes) -> Json:
    groups = [*account.groups, *(resolve(f"0:{name}", b"", group).gid for name in options.groups)]
    # Its own group among them: one that gives that up may not escape what the group is denied (CVE-2022-36109).
    return {"uid": account.uid, "gid": account.gid, "additionalGids": sorted({account.gid, *groups})}


def _granted(options: Options) -> Sequence[str]:
    """The capabilities of --cap-add and --cap-drop over the default ones, in the kernel's order."""
    added, dropped = ({_capability(name) for name in names} for names in (options.cap_add, options.cap_drop))
    everything = set(defaults.ALL_CAPABILITIES)
    names = everything if options.privileged else set(defaults.CAPABILITIES)
    if "CAP_ALL" in dropped:
        names = set()
    if "CAP_ALL" in added:
        names = set(everything)
    names = (names - dropped) | (added - {"CAP_ALL"})
    return [name for name in defaults.ALL_CAPABILITIES if name in names]


def _capability(name: str) -> str:
    whole = name.upper() if name.upper().startswith("CAP_") else "CAP_" + name.upper()
    if whole != "CAP_ALL" and whole not in defaults.ALL_CAPABILITIES:
        raise InvalidInput(f"unknown capability {name!r}", where="--cap-add", hint="man 7 capabilities lists them")
    return whole


def _capabilities(names: Sequence[str], *, root: bool) -> Json:
    """Bounding for all; permitted and effective for root only; inheritable never (CVE-2022-29162 and its like)."""
    own = list(names) if root else []
    return {"bounding": list(names), "effective": own, "permitted": list(own)}


def _mounts(options: Options) -> list[Json]:
    usual = defaults.mounts(options.shm_size)
    if options.privileged:
        for mount in usual[5:]:
            mount["options"].remove("ro")
    network = options.namespaces.get("network", "")
    foreign = options.uid_mappings and network and not options.namespaces.get("user")
    if network == "host" or foreign:  # a new sysfs belongs to a network namespace of this user namespace
        bind = ["rbind", "nosuid", "noexec", "nodev", *([] if options.privileged else ["ro"])]
        usual[5] = {"destination": "/sys", "type": "bind", "source": "/sys", "options": bind}
    replaced = {mount["destination"].rstrip("/") for mount in options.mounts}
    if not options.shm:
        replaced.add("/dev/shm")  # noqa: S108
    if options.namespaces.get("ipc") == "host":  # the memory that the host's processes share
        shared = ["rbind", "nosuid", "noexec", "nodev"]
        usual[3] = {**usual[3], "type": "bind", "source": usual[3]["destination"], "options": shared}
    # Parents before children, whatever the order they were asked in.
    wanted = sorted(options.mounts, key=lambda mount: str(mount["destination"]).rstrip("/").count("/"))
    return [mount for mount in usual if mount["destination"] not in replaced] + wanted


def _linux(options: Options, id: str) -> Json:
    namespaces = []
    for kind in (*defaults.NAMESPACES, "cgroup", *(["user"] if options.uid_mappings else [])):
        chosen = options.namespaces.get(kind, "")
        if chosen != "host":
            namespaces.append({"type": kind, **({"path": chosen} if chosen else {})})
    linux: Json = {"namespaces": namespaces, "resources": resources(options)}
    if options.uid_mappings:
        linux |= {"uidMappings": list(options.uid_mappings), "gidMappings": list(options.gid_mappings)}
    if id:
        linux["cgroupsPath"] = f"{options.cgroup_parent.rstrip('/')}/veloci-{id}"
    if options.devices:
        linux["devices"] = [{k: v for k, v in device.items() if k != "access"} for device in options.devices]
    sysctls = dict(options.sysctls)
    if not options.namespaces.get("network"):
        sysctls = {
            "net.ipv4.ip_unprivileged_port_start": "0",
            "net.ipv4.ping_group_range": f"0 {_last_group(options)}",
            **sysctls,
        }
    if sysctls:
        linux["sysctl"] = sysctls
    if not options.privileged:
        linux |= (
            {"maskedPaths": list(defaults.MASKED), "readonlyPaths": list(defaults.READONLY)} if options.masked else {}
        )
        if options.seccomp is None:
            from veloci.bundle.seccomp import profile

            linux["seccomp"] = profile(_granted(options))
        elif options.seccomp != "unconfined":
            from veloci.bundle.seccomp_profile import translated

            if filtered := translated(options.seccomp, _granted(options)):
                linux["seccomp"] = filtered
    return linux


def _last_group(options: Options) -> int:
    """The last of the groups from 0 on that there are in its user namespace."""
    return next((each["size"] - 1 for each in options.gid_mappings if each["containerID"] == 0), 2**31 - 1)


def resources(options: Options) -> Json:
    """The limits and device rules that `options` ask for, as linux.resources of config.json."""
    rules: list[Json] = [{"allow": options.privileged, "access": "rwm"}]
    for device in options.devices:
        rules.append({"allow": True, "access": device.get("access", "rwm"), "type": device["type"]})
        rules[-1] |= {key: device[key] for key in ("major", "minor")}
    quota, period = options.cpu_quota, options.cpu_period
    if options.cpus is not None:
        quota, period = int(options.cpus * _PERIOD), _PERIOD
    memory = {
        "limit": options.memory,
        "reservation": options.memory_reservation,
        "swap": options.memory_swap,
        "swappiness": options.memory_swappiness,
        "disableOOMKiller": options.oom_kill_disable or None,
    }
    cpu = {
        "shares": options.cpu_shares,
        "quota": quota,
        "period": period,
        "realtimePeriod": options.cpu_rt_period,
        "realtimeRuntime": options.cpu_rt_runtime,
        "cpus": options.cpuset_cpus or None,
        "mems": options.cpuset_mems or None,
    }
    found: Json = {"devices": rules + list(options.device_rules)}
    groups: dict[str, Json] = {
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": -1 if options.pids_limit == 0 else options.pids_limit},
        "blockIO": {"weight": options.blkio_weight, **options.throttles},
    }
    for name, group in groups.items():
        if chosen := {key: value for key, value in group.items() if value is not None}:
            found[name] = chosen
    return found
