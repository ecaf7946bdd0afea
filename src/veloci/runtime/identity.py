"""Who a process is, and what it may: process of config.json as steps of the plan. Pure.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#process
"""

from __future__ import annotations

from veloci.errors import InvalidInput, Unsupported
from veloci.kernel import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.runtime.plan import Step
    from veloci.spec.process import Process, Scheduler
    from veloci.spec.runtime import MemoryPolicy, Personality

RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    )
}
_POLICIES = {
    f"SCHED_{name}": number
    for name, number in {"OTHER": 0, "FIFO": 1, "RR": 2, "BATCH": 3, "ISO": 4, "IDLE": 5, "DEADLINE": 6}.items()
}
_SCHED_FLAGS = {
    f"SCHED_FLAG_{name}": bit
    for name, bit in {
        "RESET_ON_FORK": 1,
        "RECLAIM": 2,
        "DL_OVERRUN": 4,
        "KEEP_POLICY": 8,
        "KEEP_PARAMS": 16,
        "UTIL_CLAMP_MIN": 32,
        "UTIL_CLAMP_MAX": 64,
    }.items()
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MEMORY_MODES = {
    f"MPOL_{name}": number
    for number, name in enumerate("DEFAULT PREFERRED BIND INTERLEAVE LOCAL PREFERRED_MANY WEIGHTED_INTERLEAVE".split())
}
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_DOMAINS = {"LINUX": 0, "LINUX32": 8}
_PROCESSORS = 8192  # the most that a kernel is built for: CONFIG_NR_CPUS
_LARGEST_ID = 2**32 - 2  # 2**32 - 1 means "no change" to setresuid(2)


def compile(process: Process, *, filtered: bool, rootless: bool, at: str = "$.process") -> list[Step]:
    """The steps from root in the container to the user's process. Raises InvalidInput, Unsupported.

    filtered: a seccomp filter is to be loaded. rootless: without capabilities on the host.
    """
    _check(process, at)
    steps: list[Step] = []
    steps.append(("stdio", f"{at}.terminal", {"uid": process.user.uid, "terminal": process.terminal}))
    if process.apparmor_profile or process.selinux_label:
        arguments: dict[str, object] = {"apparmor": process.apparmor_profile, "selinux": process.selinux_label}
        steps.append(
            ("label", f"{at}.apparmorProfile" if process.apparmor_profile else f"{at}.selinuxLabel", arguments)
        )
    if process.scheduler:
        scheduler = process.scheduler
        flags = sum(_named(flag, _SCHED_FLAGS, f"{at}.scheduler.flags") for flag in scheduler.flags)
        policy = _named(scheduler.policy, _POLICIES, f"{at}.scheduler.policy")
        _check_scheduler(scheduler, f"config.json: {at}.scheduler")
        values = (policy, flags, scheduler.nice, scheduler.priority)
        times = (scheduler.runtime, scheduler.deadline, scheduler.period)
        steps.append(("scheduler", f"{at}.scheduler", {"values": [*values, *times]}))
    if process.io_priority:
        number = _named(process.io_priority.class_, _IO_CLASSES, f"{at}.ioPriority.class")
        level = process.io_priority.priority
        if not 0 <= level <= 7:  # ioprio_set(2) would take the bits above for something else
            raise InvalidInput(f"{level} is not between 0 and 7", where=f"config.json: {at}.ioPriority.priority")
        steps.append(("io_priority", f"{at}.ioPriority", {"values": [number, level]}))
    if process.rlimits:
        limits = [(limit.type, RLIMITS[limit.type], limit.soft, limit.hard) for limit in process.rlimits]
        if rootless:
            steps.append(("ask", f"{at}.rlimits", {"question": "rlimits"}))
        else:
            steps.append(("rlimits", f"{at}.rlimits", {"limits": limits}))
    steps.append(("bound", f"{at}.capabilities", {"keep": _mask(process, "bounding")}))
    arguments = {
        "uid": process.user.uid,
        "gid": process.user.gid,
        "groups": list(process.user.additional_gids),
        "keep_groups": rootless and not process.user.additional_gids,
        "umask": 0o022 if process.user.umask is None else process.user.umask & 0o777,
    }
    # Before and after: a directory may be open to root only, or (over the network) to the user only.
    steps.append(("cwd", f"{at}.cwd", {"path": process.cwd, "last": False}))
    steps.append(("user", f"{at}.user", arguments))
    steps.append(("cwd", f"{at}.cwd", {"path": process.cwd, "last": True}))
    sets = {name: _mask(process, name) for name in ("effective", "permitted", "inheritable", "ambient")}
    # Without noNewPrivileges a filter needs CAP_SYS_ADMIN, and it is loaded last.
    keep = 1 << caps.SYS_ADMIN if filtered and not process.no_new_privileges else 0
    steps.append(("capabilities", f"{at}.capabilities", {**sets, "keep": keep}))
    if process.no_new_privileges:
        steps.append(("no_new_privileges", f"{at}.noNewPrivileges", {}))
    return steps


def ungranted(process: Process, *, mapped: bool) -> list[str]:
    """What of its capabilities it does not get, in runc's words: to be logged as warnings — config.md#process.

    mapped: in a user namespace, whose root has every capability there.
    """
    given = process.capabilities
    if not given:
        return []
    have = -1 if mapped else caps.current()[1]
    named = {name for each in given.plain().values() for name in each}
    lost = sorted(name for name in named if not caps.mask((name,)) & have)
    said = [f"ignoring unknown or unavailable capabilities: [{' '.join(lost)}]"] if lost else []
    may = caps.mask(given.permitted) & caps.mask(given.inheritable)
    ambient = [name for name in given.ambient if name not in lost and not caps.mask((name,)) & may]
    return said + [f"can't raise ambient capability {name}: operation not permitted" for name in ambient]


def check_text(value: object, where: str) -> None:
    """Raise InvalidInput, with the place, for text with a NUL, which the kernel would take for its end."""
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput("holds a NUL", where=where)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, where)
            check_text(item, f"{where}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_text(item, f"{where}[{index}]")


def memory_policy(policy: MemoryPolicy) -> Step:
    """The step that sets on which nodes memory is taken. Raises InvalidInput."""
    at = "$.linux.memoryPolicy"
    mode = _named(policy.mode, MEMORY_MODES, f"{at}.mode", "invalid memory policy mode: ")
    for index, flag in enumerate(policy.flags):
        mode |= _named(flag, MEMORY_FLAGS, f"{at}.flags[{index}]", "invalid memory policy flag: ")
    try:
        nodes = processors(policy.nodes, f"config.json: {at}.nodes", "memory nodes") if policy.nodes else set()
    except InvalidInput as error:
        raise InvalidInput(f"invalid memory policy nodes: {error.args[0]}", where=error.where) from None
    name = policy.mode.removeprefix("MPOL_")
    if name in ("DEFAULT", "LOCAL") and nodes:
        raise InvalidInput(
            f"memory policy mode requires 0 nodes but got {len(nodes)}", where=f"config.json: {at}.nodes"
        )
    if name not in ("DEFAULT", "LOCAL", "PREFERRED") and not nodes:
        raise InvalidInput("memory policy mode requires at least one node but got 0", where=f"config.json: {at}.nodes")
    return "memory_policy", at, {"mode": mode, "nodes": sum(1 << node for node in nodes)}


def personality(wanted: Personality) -> Step:
    """The step that sets the execution domain. Raises InvalidInput, Unsupported."""
    at = "$.linux.personality"
    domain = _named(wanted.domain, _DOMAINS, f"{at}.domain")
    if wanted.flags:
        raise Unsupported("the specification knows no flags", where=f"config.json: {at}.flags")
    return "personality", at, {"persona": domain}


def _check(process: Process, at: str) -> None:
    where = f"config.json: {at}"
    if not process.args:
        raise InvalidInput("args must not be empty", where=f"{where}.args")
    if not process.args[0]:
        raise InvalidInput("must not be empty", where=f"{where}.args[0]")
    if not process.cwd.startswith("/"):
        raise InvalidInput(f"{process.cwd!r} is not an absolute path", where=f"{where}.cwd")
    for index, entry in enumerate(process.env):
        if "=" not in entry or entry.startswith("="):
            raise InvalidInput(f"{entry!r} is not NAME=VALUE", where=f"{where}.env[{index}]")
    ids = [("uid", process.user.uid), ("gid", process.user.gid)]
    ids += [(f"additionalGids[{index}]", gid) for index, gid in enumerate(process.user.additional_gids)]
    for name, number in ids:
        if not 0 <= number <= _LARGEST_ID:
            raise InvalidInput(f"{number} is not between 0 and {_LARGEST_ID}", where=f"{where}.user.{name}")
    _check_host(process, where)


def _check_host(process: Process, where: str) -> None:
    if process.exec_cpu_affinity:
        for name, text in process.exec_cpu_affinity.plain().items():
            processors(text, f"{where}.execCPUAffinity.{name}")
    seen = set()
    for index, limit in enumerate(process.rlimits):
        if limit.type not in RLIMITS:
            raise InvalidInput(f"invalid rlimit type {limit.type!r}", where=f"{where}.rlimits[{index}].type")
        if limit.type in seen:
            raise InvalidInput(f"{limit.type} stands twice", where=f"{where}.rlimits[{index}].type")
        seen.add(limit.type)
    if process.apparmor_profile and not _enabled("/sys/module/apparmor/parameters/enabled", "Y"):
        raise Unsupported("AppArmor is not enabled on this host", where=f"{where}.apparmorProfile")
    if process.selinux_label and not _enabled("/sys/fs/selinux/enforce", ""):
        raise Unsupported("SELinux is not enabled on this host", where=f"{where}.selinuxLabel")


def _check_scheduler(scheduler: Scheduler, where: str) -> None:
    """Refuse what sched_setattr(2) would take for another number, or not look at with this policy."""
    policy = scheduler.policy
    if not -20 <= scheduler.nice <= 19:
        raise InvalidInput(f"{scheduler.nice} is not between -20 and 19", where=f"{where}.nice")
    if scheduler.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise InvalidInput(f"is for SCHED_FIFO and SCHED_RR, not for {policy}", where=f"{where}.priority")
    for name in ("runtime", "deadline", "period"):
        if getattr(scheduler, name) and policy != "SCHED_DEADLINE":
            raise InvalidInput(f"is for SCHED_DEADLINE, not for {policy}", where=f"{where}.{name}")


def processors(text: str, where: str, what: str = "processors") -> set[int]:
    """The numbers of a list as "0-3,6". Raises InvalidInput."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < _PROCESSORS):
            raise InvalidInput(f"{text!r} is not a list of {what}", where=where)
        found.update(range(int(first), int(last) + 1))
    return found


def _enabled(file: str, start: str) -> bool:
    try:
        with open(file) as stream:
            return stream.read().startswith(start)
    except OSError:
        return False


def _mask(process: Process, name: str) -> int:
    """A set's bits. One that is not given is empty: the inheritable set above all (CVE-2022-29162)."""
    return caps.mask(getattr(process.capabilities, name)) if process.capabilities else 0


def _named(name: str, table: dict[str, int], at: str, what: str = "") -> int:
    if name not in table:
        raise InvalidInput(f"{what}expected one of {', '.join(table)}, got {name!r}", where=f"config.json: {at}")
    return table[name]
