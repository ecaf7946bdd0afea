"""systemd's manager on the system's or the user's bus: units are started, changed, stopped.

https://www.freedesktop.org/software/systemd/man/252/org.freedesktop.systemd1.html
"""

from __future__ import annotations

import posix
from errno import EIO, ETIMEDOUT

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Properties, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import unwrap_msg

from veloci.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

    from jeepney import Message

    from veloci.runtime.cgroup.properties import Property

_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
_ENDED = {"type": "signal", "interface": _MANAGER.interface, "member": "JobRemoved", "path": _MANAGER.object_path}
_PATIENCE = 30  # seconds, as runc


class Bus:
    """A connection, for as long as its context lasts. Raises HostError if there is no bus."""

    def __init__(self, *, user: bool) -> None:
        address = "SYSTEM"
        if user:
            directory = posix.environ.get(b"XDG_RUNTIME_DIR", b"/run/user/%d" % posix.geteuid()).decode()
            given = posix.environ.get(b"DBUS_SESSION_BUS_ADDRESS", b"").decode()
            address = given or f"unix:path={directory}/bus"
        try:
            self.connection = open_dbus_connection(address)
        except (OSError, ValueError, KeyError) as error:
            broken = error if isinstance(error, OSError) else OSError(EIO, str(error))
            raise HostError("connect to systemd over D-Bus", broken, where="--systemd-cgroup") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def property(self, name: str) -> object:
        """A property of the manager itself."""
        return self._call(f"read {name} of systemd", Properties(_MANAGER).get(name))[0][1]

    def version(self) -> int:
        """systemd's version; 0 if it does not tell."""
        digits = str(self.property("Version")).lstrip("v").split(".")[0].split("-")[0].split("~")[0].split(" ")[0]
        return int(digits) if digits.isdecimal() else 0

    def start(self, unit: str, properties: Sequence[Property]) -> None:
        """Start a transient unit, in place of one of that name that has failed. Raises HostError."""
        doing = f"start the unit {unit}"
        try:
            self._job(doing, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", list(properties), []))
        except HostError as error:
            if "UnitExists" not in str(error):
                raise
            self._reset(unit)
            self._job(doing, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", list(properties), []))

    def set(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties of a unit until the next boot. Raises HostError."""
        message = new_method_call(_MANAGER, "SetUnitProperties", "sba(sv)", (unit, True, list(properties)))
        self._call(f"change the unit {unit}", message)

    def stop(self, unit: str) -> None:
        """Stop a unit; one that is gone is no error. Raises HostError."""
        try:
            self._job(f"stop the unit {unit}", "StopUnit", "ss", (unit, "replace"))
        except HostError as error:
            if "NoSuchUnit" not in str(error):
                raise
        self._reset(unit)

    def _reset(self, unit: str) -> None:
        """Forget that a unit has failed."""
        try:
            self._call(f"forget the unit {unit}", new_method_call(_MANAGER, "ResetFailedUnit", "s", (unit,)))
        except HostError:
            return  # it has not, or it is gone

    def _job(self, doing: str, method: str, signature: str, arguments: tuple[Any, ...]) -> None:
        """Call what begins a job, and wait for its end."""
        # The bus knows whose the name is; what it lets through bears the sender's number.
        self._call(doing, message_bus.AddMatch(MatchRule(**_ENDED, sender=_MANAGER.bus_name)))
        self._call(doing, new_method_call(_MANAGER, "Subscribe"))
        ended: deque[Message]
        with self.connection.filter(MatchRule(**_ENDED), bufsize=64) as ended:
            job = self._call(doing, new_method_call(_MANAGER, method, signature, arguments))[0]
            while True:
                try:
                    _, path, _, result = self.connection.recv_until_filtered(ended, timeout=_PATIENCE).body
                except TimeoutError:
                    raise HostError(doing, OSError(ETIMEDOUT, "systemd does not answer")) from None
                if path == job:
                    break
        if result not in ("done", "skipped"):
            raise HostError(doing, OSError(EIO, f"systemd says: {result}"))

    def _call(self, doing: str, message: Message) -> tuple[Any, ...]:
        """What the call gives. Raises HostError with systemd's words."""
        try:
            reply: tuple[Any, ...] = unwrap_msg(self.connection.send_and_get_reply(message, timeout=_PATIENCE))
        except DBusErrorResponse as error:
            words = error.data[0] if error.data and isinstance(error.data[0], str) else ""
            kind = error.name.rpartition(".")[2]
            raise HostError(doing, OSError(EIO, f"{words} ({kind})" if words else kind)) from error
        except TimeoutError:
            raise HostError(doing, OSError(ETIMEDOUT, "systemd does not answer")) from None
        except OSError as error:
            raise HostError(doing, error) from error
        return reply
