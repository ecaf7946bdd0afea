"""`update`."""

from __future__ import annotations

import sys

from veloci.cli.oci.main import load
from veloci.errors import InvalidInput
from veloci.spec.document import dumps
from veloci.spec.runtime import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def update(
    id: str,
    /,
    *,
    resources: str = "",
    blkio_weight: int | None = None,
    cpu_period: int | None = None,
    cpu_quota: int | None = None,
    cpu_burst: int | None = None,
    cpu_share: int | None = None,
    cpu_rt_period: int | None = None,
    cpu_rt_runtime: int | None = None,
    cpuset_cpus: str | None = None,
    cpuset_mems: str | None = None,
    cpu_idle: int | None = None,
    memory: str | None = None,
    memory_reservation: str | None = None,
    memory_swap: str | None = None,
    pids_limit: int | None = None,
    l3_cache_schema: str = "",
    mem_bw_schema: str = "",
) -> int:
    """Change a container's limits.

    -r, --resources FILE       resources as JSON, instead of all other options; - reads stdin
    --blkio-weight N           relative weight of its block I/O, 10 to 1000
    --cpu-period MICROSECONDS  the period in which the quota counts
    --cpu-quota MICROSECONDS   processor time in a period; -1 is no limit
    --cpu-burst MICROSECONDS   time saved up for later
    --cpu-share N              relative weight of its processor time
    --cpu-rt-period MICROSECONDS   the period of the realtime limit
    --cpu-rt-runtime MICROSECONDS  realtime in a period
    --cpuset-cpus LIST         processors to use (0-3,6)
    --cpuset-mems LIST         memory nodes to use
    --cpu-idle 0|1             run only when nothing else does
    --memory BYTES             at most this much memory (64m, 2g); -1 is no limit
    --memory-reservation BYTES  what it may always have
    --memory-swap BYTES        memory and swap together; -1 is no limit
    --pids-limit N             at most so many processes; -1 is no limit
    --l3-cache-schema SCHEMA   its part of the L3 cache (L3:0=f;1=f0)
    --mem-bw-schema SCHEMA     its part of the memory bandwidth (MB:0=20;1=70)
    """
    if resources == "-":
        raw = sys.stdin.buffer.read()
    elif resources:
        try:
            with open(resources, "rb") as file:
                raw = file.read()
        except OSError as error:
            raise InvalidInput(f"{resources}: {error.strerror}", where="--resources") from None
    else:
        limits = {
            "limit": _size(memory, "--memory"),
            "reservation": _size(memory_reservation, "--memory-reservation"),
            "swap": _size(memory_swap, "--memory-swap"),
        }
        times: dict[str, Any] = {"period": cpu_period, "quota": cpu_quota, "burst": cpu_burst, "shares": cpu_share}
        times |= {"realtimePeriod": cpu_rt_period, "realtimeRuntime": cpu_rt_runtime}
        times |= {"cpus": cpuset_cpus, "mems": cpuset_mems, "idle": cpu_idle}
        wanted = {"memory": limits, "cpu": times, "pids": {"limit": pids_limit}, "blockIO": {"weight": blkio_weight}}
        raw = dumps(wanted)
    container = load(id)
    asked = Resources.decode(raw, name=resources or "options")
    if l3_cache_schema or mem_bw_schema:
        from veloci.runtime import rdt

        rdt.update(container.saved.classes, l3_cache_schema, mem_bw_schema)
    container.update(asked)
    return 0


def _size(text: str | None, flag: str) -> int | None:
    """Bytes, with k, m, g, t or p for powers of 1024. Raises InvalidInput."""
    if text is None:
        return None
    plain = text.lower().removesuffix("b").removesuffix("i") if text[-1:].isalpha() else text
    shift = _SUFFIXES.get(plain[-1:], 0)
    number = plain[:-1] if shift else plain
    try:
        return int(float(number) * (1 << shift)) if "." in number else int(number) << shift
    except ValueError:
        raise InvalidInput(f"invalid size: {text!r}", where=flag, hint=f"{flag} 64m") from None
