"""What a user asked of a container, read: docker's spelling to the bundle's options, before any image is looked at."""

from __future__ import annotations

import os

from veloci.bundle import values
from veloci.bundle.options import Options
from veloci.errors import InvalidInput, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from veloci.engine.run_options import RunOptions

INIT = "/sbin/docker-init"  # where docker has it
_MILLISECOND = 10**6  # nanoseconds
_SHM = 64 << 20  # bytes of /dev/shm
_LEAST = 6 << 20  # bytes of memory that a container needs to start


def bundled(wanted: RunOptions, command: Sequence[str]) -> Options:
    """The part of `wanted` that config.json says, but for mounts and joined namespaces.

    Reads the files it names and looks at devices. Raises InvalidInput, Unsupported.
    """
    security = values.security(wanted.security_opt)
    memory = _memory(wanted.memory)
    return Options(
        args=tuple(command) or None,
        entrypoint=None if wanted.entrypoint is None else tuple(filter(None, (wanted.entrypoint,))),
        env=environment(wanted.env, wanted.env_file),
        user=wanted.user,
        groups=wanted.group_add,
        workdir=wanted.workdir,
        hostname=_hostname(wanted),
        domainname=wanted.domainname,
        tty=wanted.tty,
        init=INIT if wanted.init else "",
        shm_size=_shm(wanted.shm_size),
        shm=wanted.ipc != "none",
        read_only=wanted.read_only,
        privileged=wanted.privileged,
        cap_add=wanted.cap_add,
        cap_drop=wanted.cap_drop,
        no_new_privileges=security.get("no-new-privileges") == "true",
        seccomp=_seccomp(security.get("seccomp", "")),
        apparmor=security.get("apparmor", "").replace("unconfined", ""),
        selinux=_selinux(security),
        masked="systempaths" not in security,
        devices=_devices(wanted),
        device_rules=tuple(map(values.device_rule, wanted.device_cgroup_rule)),
        rlimits=tuple(map(values.ulimit, wanted.ulimit)),
        memory=memory,
        memory_reservation=_size(wanted.memory_reservation, "--memory-reservation"),
        memory_swap=_swap(wanted, memory),
        memory_swappiness=_between(wanted.memory_swappiness, 0, 100, "--memory-swappiness"),
        oom_kill_disable=wanted.oom_kill_disable,
        oom_score_adj=_between(wanted.oom_score_adj, -1000, 1000, "--oom-score-adj"),
        cpus=_cpus(wanted),
        cpu_shares=wanted.cpu_shares,
        cpu_period=wanted.cpu_period,
        cpu_quota=wanted.cpu_quota,
        cpu_rt_period=wanted.cpu_rt_period,
        cpu_rt_runtime=wanted.cpu_rt_runtime,
        cpuset_cpus=wanted.cpuset_cpus,
        cpuset_mems=wanted.cpuset_mems,
        pids_limit=wanted.pids_limit or None,
        blkio_weight=_between(wanted.blkio_weight or None, 10, 1000, "--blkio-weight"),
        throttles=_throttles(wanted),
        namespaces=_namespaces(wanted),
        sysctls=dict(values.annotation(text, "--sysctl") for text in wanted.sysctl),
        annotations=dict(values.annotation(text, "--annotation") for text in wanted.annotation),
        cgroup_parent=_cgroup_parent(wanted.cgroup_parent),
    )


def environment(entries: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    """KEY=VALUE of `--env-file` and then `--env`; a KEY alone is ours, and left out where we have none."""
    found = [line for path in files for line in _lines(path, "--env-file")] + list(entries)
    for entry in found:
        if not entry.partition("=")[0]:
            raise InvalidInput(f"invalid environment variable: {entry!r}", where="--env", hint="KEY=VALUE")
    ours = os.environ
    return tuple(e if "=" in e else f"{e}={ours[e]}" for e in found if "=" in e or e in ours)


def labels(wanted: RunOptions) -> dict[str, str]:
    """The labels of `--label-file` and then `--label`."""
    texts = [line for path in wanted.label_file for line in _lines(path, "--label-file")]
    return dict(values.annotation(text, "--label") for text in (*texts, *wanted.label))


def joined(wanted: RunOptions) -> dict[str, str]:
    """Namespaces of other containers that it joins: kind -> the word for the container."""
    found = {}
    for kind, text in (("network", wanted.network), ("pid", wanted.pid), ("ipc", wanted.ipc), ("user", wanted.userns)):
        if text.startswith("container:"):
            found[kind] = text.removeprefix("container:")
    return found


def logging(wanted: RunOptions) -> dict[str, Any]:
    """What the log options say, as docker's LogConfig. Raises InvalidInput, Unsupported."""
    if wanted.log_driver not in ("json-file", "none"):
        raise Unsupported(f"no log driver {wanted.log_driver!r}", where="--log-driver", hint="json-file, or none")
    found = dict(values.annotation(text, "--log-opt") for text in wanted.log_opt)
    for key, text in found.items():
        if wanted.log_driver == "none" or key not in ("max-size", "max-file", "labels", "env"):
            raise InvalidInput(
                f"unknown log opt {key!r} for {wanted.log_driver} log driver",
                where="--log-opt",
                hint="max-size, max-file, labels, env",
            )
        if key == "max-size":
            values.size(text, "--log-opt max-size")
        if key == "max-file" and (not text.isdecimal() or int(text) < 1):
            raise InvalidInput(f"{text!r} is not a number of files", where="--log-opt max-file")
    return {"Type": wanted.log_driver, "Config": found}


def healthcheck(wanted: RunOptions) -> dict[str, Any]:
    """What the health options say, in the shape of docker's Healthcheck; {} for nothing. Raises InvalidInput."""
    from veloci.spec.duration import parse

    found: dict[str, Any] = {}
    if wanted.health_cmd:
        found["Test"] = ["CMD-SHELL", wanted.health_cmd]
    for key, flag, text in (
        ("Interval", "interval", wanted.health_interval),
        ("Timeout", "timeout", wanted.health_timeout),
        ("StartPeriod", "start-period", wanted.health_start_period),
        ("StartInterval", "start-interval", wanted.health_start_interval),
    ):
        span = parse(text) if text else 0
        if span is None or span < 0 or 0 < span < _MILLISECOND:
            raise InvalidInput(f"{text!r} is not a time of 1ms or more", where=f"--health-{flag}", hint="30s, 1m30s")
        if span:
            found[key] = span
    if wanted.health_retries < 0:
        raise InvalidInput("cannot be negative", where="--health-retries")
    if wanted.health_retries:
        found["Retries"] = wanted.health_retries
    if wanted.no_healthcheck:
        if found:
            raise InvalidInput("conflicts with --health-* options", where="--no-healthcheck")
        return {"Test": ["NONE"]}
    return found


def check(wanted: RunOptions) -> None:
    """Refuse what docker refuses together. Raises InvalidInput."""
    if wanted.rm and wanted.restart.partition(":")[0] != "no":
        raise _conflict("cannot specify both --restart and --rm")
    if wanted.network.startswith("container:"):
        for given, words in (
            (wanted.hostname, "hostname and the network mode"),
            (wanted.publish or wanted.publish_all, "port publishing and the container type network mode"),
            (wanted.add_host, "custom host-to-IP mapping and the network mode"),
            (wanted.dns, "dns and the network mode"),
            (wanted.mac_address, "mac-address and the network mode"),
        ):
            if given:
                raise _conflict(words)
    if wanted.uts == "host" and (wanted.hostname or wanted.domainname):
        raise _conflict("hostname and the UTS mode")
    if wanted.network_alias:
        _check_aliases(wanted)
    plain = ("none", "host", "container", "ns")
    if (wanted.ip or wanted.mac_address) and wanted.network.partition(":")[0] in plain:
        where = "--ip" if wanted.ip else "--mac-address"
        raise InvalidInput(f"network {wanted.network} gives no address", where=where, hint="--network bridge")
    if wanted.cpus and (wanted.cpu_quota or wanted.cpu_period):
        raise _conflict("--cpus and --cpu-period or --cpu-quota")
    if wanted.stop_timeout < -1:
        raise InvalidInput(f"{wanted.stop_timeout} is not a time", where="--stop-timeout", hint="seconds, or -1")


def _check_aliases(wanted: RunOptions) -> None:
    from veloci.engine.record import has_names

    where = "--network-alias"
    if not has_names(wanted.network):
        raise InvalidInput(
            "network-scoped alias is supported only for containers in user defined networks",
            where=where,
            hint="veloci network create NAME; --network NAME",
        )
    for name in wanted.network_alias:
        if not name.isascii() or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise InvalidInput(f"{name!r} is not a name", where=where)


def _conflict(words: str) -> InvalidInput:
    return InvalidInput(f"conflicting options: {words}")


def _lines(path: str, where: str) -> Iterable[str]:
    """The entries of an --env-file or --label-file, which quotes nothing: blanks before, empty lines, # go."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.rstrip("\r\n").lstrip() for line in file]
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8", where=where) from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", where=where) from None
    found = [line for line in lines if line and not line.startswith("#")]
    for line in found:
        name = line.partition("=")[0]
        if not name or any(c.isspace() for c in name):
            what = "has no name" if not name else "contains whitespaces"
            raise InvalidInput(f"variable {line!r} {what}", where=f"{where} {path}")
    return found


def _hostname(wanted: RunOptions) -> str:
    """Its name: what was asked, the host's on the host's network, "" for the ID."""
    if wanted.hostname or wanted.network != "host":
        return wanted.hostname
    return os.uname().nodename


def _seccomp(text: str) -> Any:
    if text in ("", "builtin"):
        return None
    if text == "unconfined":
        return text
    from veloci.spec.document import loads

    try:
        with open(text, "rb") as file:
            return loads(file.read(4 << 20))
    except OSError as error:
        raise InvalidInput(f"{text}: {error.strerror}", where="--security-opt seccomp") from None
    except ValueError as error:
        raise InvalidInput(f"{text}: not JSON: {error}", where="--security-opt seccomp") from None


def _selinux(security: dict[str, str]) -> str:
    parts = {key.removeprefix("label."): value for key, value in security.items() if key.startswith("label.")}
    if not parts or "disable" in parts:
        return ""
    label = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0", **parts}
    return ":".join(label[key] for key in ("user", "role", "type", "level"))


def named_devices(wanted: RunOptions) -> list[str]:
    """The devices that are asked for by name (CDI), not by path."""
    if not (wanted.device or wanted.gpus):
        return []
    from veloci.bundle.cdi import is_name
    from veloci.engine.device_names import graphics

    return [text for text in wanted.device if is_name(text)] + (graphics(wanted.gpus) if wanted.gpus else [])


def _devices(wanted: RunOptions) -> tuple[dict[str, Any], ...]:
    if not (wanted.device or wanted.privileged):
        return ()
    from veloci.engine import devices

    named = named_devices(wanted)
    paths = [text for text in wanted.device if text not in named]
    return (*(devices.everything() if wanted.privileged else ()), *devices.asked(paths))


def _throttles(wanted: RunOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for texts, flag, name in (
        (wanted.device_read_bps, "--device-read-bps", "throttleReadBpsDevice"),
        (wanted.device_write_bps, "--device-write-bps", "throttleWriteBpsDevice"),
        (wanted.device_read_iops, "--device-read-iops", "throttleReadIOPSDevice"),
        (wanted.device_write_iops, "--device-write-iops", "throttleWriteIOPSDevice"),
    ):
        for text in texts:
            from veloci.engine.devices import number

            path, rate = values.rate(text, flag, bytes=flag.endswith("bps"))
            major, minor = number(path, flag)
            found.setdefault(name, []).append({"major": major, "minor": minor, "rate": rate})
    return found


def _memory(text: str) -> int | None:
    found = _size(text, "--memory")
    if found is not None and 0 < found < _LEAST:
        raise InvalidInput("minimum memory limit allowed is 6MB", where="--memory")
    return found or None


def _shm(text: str) -> int:
    found = values.size(text, "--shm-size") if text else _SHM
    if found < 0:
        raise InvalidInput(f"{text!r} is not a size", where="--shm-size", hint="a number with b, k, m or g: 64m")
    return found


def _size(text: str, where: str) -> int | None:
    return values.size(text, where) if text else None


def _swap(wanted: RunOptions, memory: int | None) -> int | None:
    """Memory and swap together: docker's default is twice the memory, where the host counts swap."""
    if wanted.memory_swap:
        found = values.size(wanted.memory_swap, "--memory-swap")
        if memory is None and found > 0:
            raise InvalidInput("you should always set the memory limit with a memory-swap limit", where="--memory-swap")
        if memory is not None and 0 < found < memory:
            raise InvalidInput("the limit is below that of --memory", where="--memory-swap")
        return found or None
    if memory is None or memory < 0:
        return None
    counted = os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
    return 2 * memory if counted else None


def _cpus(wanted: RunOptions) -> float | None:
    if not wanted.cpus:
        return None
    try:
        found = float(wanted.cpus)
    except ValueError:
        found = -1.0
    if not 0.01 <= found <= (os.cpu_count() or 1):
        raise InvalidInput(
            f"{wanted.cpus!r} is not a number of processors: this host has 0.01 to {os.cpu_count()}.00", where="--cpus"
        )
    return found


def _between(number: int | None, low: int, high: int, where: str) -> int | None:
    if number is not None and not low <= number <= high:
        raise InvalidInput(f"{number} is not between {low} and {high}", where=where)
    return number


def _namespaces(wanted: RunOptions) -> dict[str, str]:
    """The namespaces that are the host's, or of a path; those of other containers are found when it starts."""
    found: dict[str, str] = {}
    for kind, text, known in (
        ("pid", wanted.pid, ("", "private", "host")),
        ("ipc", wanted.ipc, ("", "private", "shareable", "none", "host")),
        ("uts", wanted.uts, ("", "private", "host")),
        ("cgroup", wanted.cgroupns, ("", "private", "host")),
    ):
        if text == "host":
            found[kind] = "host"
        elif text not in known and not (kind in ("pid", "ipc") and text.removeprefix("container:") not in ("", text)):
            flag = f"--{'cgroupns' if kind == 'cgroup' else kind}"
            raise InvalidInput(f"{text!r} names no namespace", where=flag, hint=" ".join(filter(None, known)))
    if wanted.network == "host":
        found["network"] = "host"
    elif wanted.network.startswith("ns:"):
        path = wanted.network.removeprefix("ns:")
        if not path.startswith("/"):
            raise InvalidInput(f"{path!r} is not an absolute path", where="--network", hint="ns:/run/netns/NAME")
        found["network"] = path
    return found


def _cgroup_parent(path: str) -> str:
    if path and ".." in path.split("/"):
        raise InvalidInput(f"{path!r} leads upward", where="--cgroup-parent")
    return "/" + path.strip("/") if path.strip("/") else ""
