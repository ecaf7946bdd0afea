"""`process` of config.json, and an exec's document (runtime-spec).

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#process
"""

# Without `from __future__ import annotations`: types that are objects need not be evaluated again.
from veloci.spec.document import Document, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    I64: TypeAlias = int
    U64: TypeAlias = int
    U32: TypeAlias = int
    U16: TypeAlias = int
    Minor: TypeAlias = int
else:

    class Number:
        """The field type of a whole number in a range; `Number | None` is one that may be left out."""

        def __init__(self, least, most):
            self.least, self.most = least, most

        def __or__(self, _none):
            return self  # null is absence before any type is asked

        def convert(self, value):
            """`value` if it is in the range."""
            if type(value) is not int:
                wrong(f"expected a whole number, got {value!r}")
            if not self.least <= value <= self.most:
                wrong(f"expected a whole number from {self.least} to {self.most}, got {value}")
            return value

    I64, U64, U32, U16 = (Number(-(2**63), 2**63 - 1), *(Number(0, 2**bits - 1) for bits in (64, 32, 16)))
    Minor = Number(-1, 2**20 - 1)  # of a device, and -1 for any


class User(Document):
    """Who the process is, in numbers."""

    uid: int = 0
    gid: int = 0
    umask: U32 | None = None
    additional_gids: tuple[int, ...] = ()


class ConsoleSize(Document):
    """A terminal's size in characters."""

    height: U16
    width: U16


class Capabilities(Document):
    """The five sets of capabilities(7), each of names as CAP_CHOWN."""

    bounding: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Document):
    """A limit of getrlimit(2) by its name, as RLIMIT_NOFILE."""

    type: str
    hard: U64
    soft: U64


class IoPriority(Document, class_="class"):
    """What ioprio_set(2) is told: IOPRIO_CLASS_RT, _BE or _IDLE, and 0 (first) to 7."""

    class_: str
    priority: I64 = 0


class Scheduler(Document):
    """What sched_setattr(2) is told; runtime, deadline and period in nanoseconds."""

    policy: str
    nice: I64 = 0
    priority: U32 = 0
    flags: tuple[str, ...] = ()
    runtime: U64 = 0
    deadline: U64 = 0
    period: U64 = 0


class CpuAffinity(Document):
    """The processors, as "0-3,6", that an exec's process runs on before and after it joins the container's cgroup."""

    initial: str = ""
    final: str = ""


class Process(Document, exec_cpu_affinity="execCPUAffinity"):
    """What runs, and as whom. config.md#process"""

    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: I64 | None = None
    io_priority: IoPriority | None = None
    scheduler: Scheduler | None = None
    exec_cpu_affinity: CpuAffinity | None = None
