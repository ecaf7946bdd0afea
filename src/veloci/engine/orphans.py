"""A container whose monitor was killed: it may go on for ever, and nobody waits for it or cleans up after it."""

from __future__ import annotations

import os

from veloci.monitor import runtimes, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.engine.engine import Engine
    from veloci.engine.record import Record


class Orphan:
    """The container of `record`, which has no monitor; whether anything of it is left or not."""

    def __init__(self, engine: Engine, record: Record) -> None:
        self._engine, self.record = engine, record
        records = engine.containers.records
        self._data, self._run = records.data(record.id), records.run(record.id)

    @property
    def running(self) -> bool:
        """Whether its first process is there."""
        return state.current(self._data, self._run).status in state.LIVE

    def signal(self, number: int) -> None:
        """Send a signal to its first process. Raises Conflict when that has ended."""
        self._runtime().kill(self.record.id, number)

    def await_end(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, `seconds` at most (None: for ever). Returns whether it has."""
        from select import poll

        from veloci.kernel.process import pidfd

        now = state.current(self._data, self._run)
        if now.status not in state.LIVE:
            return True
        try:
            process = pidfd(now.pid)
        except ProcessLookupError:
            return True
        try:
            waiting = poll()
            waiting.register(process)
            return bool(waiting.poll(None if seconds is None else seconds * 1000))
        finally:
            os.close(process)

    def stop(self, number: int, seconds: float) -> None:
        """Ask it to end by signal `number`, kill it after `seconds` (less than 0: never), and take the rest away."""
        if self.running:
            self.signal(number)
            self.await_end(None if seconds < 0 else seconds)
        self.clean()

    def clean(self) -> None:
        """End it and take away what it has of the host, and keep that nobody knows how it ended."""
        if not os.path.isdir(self._run):  # the host has been booted since it was made
            if not self.record.addressed:
                return
            self._engine.networks.reclaim(lambda container: container != self.record.id)
            self._engine.containers.announce(self.record)
            return
        now = state.read(f"{self._run}/state.json")
        self._runtime().delete(self.record.id)
        lease = state.read(f"{self._run}/lease.json")
        if lease is not None:
            self._engine.networks.detach(lease)
            os.unlink(f"{self._run}/lease.json")
            self._engine.containers.announce(self.record)
        elif self.record.addressed:  # who gave it one may have been killed before that was written
            self._engine.networks.forget(self.record.network, self.record.id)
        if now is not None:
            state.write(f"{self._data}/exit.json", state.orphaned(state.State.convert(now)).plain())
            os.unlink(f"{self._run}/state.json")

    def _runtime(self) -> runtimes.Runtime:
        return runtimes.named(self.record.runtime, self._engine.run_root, self._run)
