"""What is done to a container that runs, besides ending it: pause, go on, other limits."""

from __future__ import annotations

from veloci.errors import Conflict, VelociError
from veloci.monitor import runtimes, session, state
from veloci.spec.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.engine import Engine
    from veloci.engine.run_options import RunOptions

_LIMITS = (
    "Memory MemoryReservation MemorySwap NanoCpus CpuShares CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime "
    "CpusetCpus CpusetMems PidsLimit BlkioWeight"
).split()


def pause(engine: Engine, word: str) -> None:
    """Stop all its processes where they are. Raises NotFound, Conflict unless it runs."""
    id, now = _known(engine, word)
    if now.status == "paused":
        raise Conflict(f"container {word} is already paused", hint=f"veloci unpause {word}")
    if now.status != "running":
        raise Conflict(f"container {word} is not running", hint=f"veloci start {word}")
    _tell(engine, id, b"p", now)


def unpause(engine: Engine, word: str) -> None:
    """Let them go on. Raises NotFound, Conflict unless it is paused."""
    id, now = _known(engine, word)
    if now.status != "paused":
        raise Conflict(f"container {word} is not paused")
    _tell(engine, id, b"u", now)


def update(engine: Engine, word: str, wanted: RunOptions, *, restart: str = "") -> None:
    """Change its limits and its restart policy, at once where it runs, and for its next starts.

    wanted: only its limits are read; those that it does not name stay. restart: as --restart takes it; "" leaves it.
    Raises NotFound, InvalidInput, Conflict, what the runtime says.
    """
    from veloci.bundle.configure import resources as limits
    from veloci.engine import asked
    from veloci.engine.creation import asked_for
    from veloci.engine.lasting import keep
    from veloci.monitor.policy import Restart

    policy = Restart.parse(restart) if restart else None
    options = asked.bundled(wanted, ())
    resources = {key: value for key, value in limits(options).items() if key != "devices"}
    shown = asked_for(wanted, options)
    id, now = _known(engine, word)
    records = engine.containers.records
    record = records.load(id)
    if policy and record.auto_remove and policy.policy != "no":
        raise Conflict("restart policy cannot be updated because AutoRemove is enabled for the container")
    changes = {"resources": resources, **({"restart": policy.plain()} if policy else {})}
    if now.status in state.LIVE:
        _tell(engine, id, b"U" + dumps(changes), now)
    path = f"{records.data(id)}/bundle/config.json"
    config = state.read(path) or {}
    config["linux"]["resources"] = _merged(config["linux"].get("resources") or {}, resources)
    state.write(path, config)
    told = {**(record.host_config or {}), **{key: shown[key] for key in _LIMITS if shown[key]}}
    engine.containers.tell(id, "update")
    records.save(record.replace(restart=policy or record.restart, host_config=told))
    keep(engine, id)


def _known(engine: Engine, word: str) -> tuple[str, state.State]:
    records = engine.containers.records
    id = records.find(word)
    return id, records.current(id)


def _tell(engine: Engine, id: str, message: bytes, now: state.State) -> None:
    """Have its monitor do it; where that was killed, do it here. Raises what the runtime says."""
    run = engine.containers.records.run(id)
    try:
        connection = session.connect(run)
    except Conflict:
        if not state.alive(now):
            raise
        _alone(engine, id, message)
        return
    try:
        connection.send(message)
        while answer := session.receive(connection):
            if answer[:1] == b"y":
                return
            if answer[:1] == b"n":
                why = loads(answer[1:])
                raise VelociError(why["message"], hint=why["hint"], exit_status=why["exit_status"])
    finally:
        connection.close()
    raise Conflict("the container is not running")


def _alone(engine: Engine, id: str, message: bytes) -> None:
    """What the monitor would have done."""
    records = engine.containers.records
    run = records.run(id)
    runtime = runtimes.named(records.load(id).runtime, engine.run_root, run)
    if message[:1] == b"U":
        runtime.update(id, loads(message[1:])["resources"])
        return
    (runtime.pause if message == b"p" else runtime.resume)(id)
    known = state.State.convert(state.read(f"{run}/state.json"))
    state.write(f"{run}/state.json", known.replace(status="paused" if message == b"p" else "running").plain())


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with what `new` names in its place, in groups as well."""
    pairs = {
        key: _merged(old[key], value) if isinstance(value, dict) and isinstance(old.get(key), dict) else value
        for key, value in new.items()
    }
    return {**old, **pairs}
