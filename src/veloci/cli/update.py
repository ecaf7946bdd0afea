"""`veloci update`."""

from __future__ import annotations

from veloci.cli.main import each
from veloci.errors import InvalidInput


def update(
    container: str,
    /,
    *containers: str,
    memory: str = "",
    memory_reservation: str = "",
    memory_swap: str = "",
    cpus: str = "",
    cpu_shares: int | None = None,
    cpu_period: int | None = None,
    cpu_quota: int | None = None,
    cpu_rt_period: int | None = None,
    cpu_rt_runtime: int | None = None,
    cpuset_cpus: str = "",
    cpuset_mems: str = "",
    pids_limit: int | None = None,
    blkio_weight: int = 0,
    restart: str = "",
) -> int:
    """Change the limits of containers, at once where they run.

    -m, --memory SIZE          at most this much memory (512m, 2g)
    --memory-reservation SIZE  what is left to it when memory is short
    --memory-swap SIZE         memory and swap together; -1 is no limit
    --cpus N                   at most so many processors
    -c, --cpu-shares N         its weight beside others
    --cpu-period USEC          the quota's period
    --cpu-quota USEC           processor time in a period
    --cpu-rt-period USEC       the real-time period
    --cpu-rt-runtime USEC      real-time processor time in it
    --cpuset-cpus LIST         the processors it may use (0-2,4)
    --cpuset-mems LIST         the memory nodes it may use
    --pids-limit N             at most so many processes; -1 is no limit
    --blkio-weight N           10 to 1000: its weight at the disk
    --restart POLICY           no, always, unless-stopped, on-failure[:n]
    """
    given = {name: value for name, value in locals().items() if value and name not in ("container", "containers")}
    policy = str(given.pop("restart", ""))
    if not given and not policy:
        raise InvalidInput("you must provide one or more flags when using this command", hint="veloci update --help")
    from veloci.engine.control import update as changed
    from veloci.engine.engine import Engine
    from veloci.engine.run_options import RunOptions

    engine, wanted = Engine(), RunOptions(**given)

    def one(word: str) -> None:
        changed(engine, word, wanted, restart=policy)
        print(word)

    return each(one, (container, *containers))
