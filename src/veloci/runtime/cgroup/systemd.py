"""Groups that systemd makes: a transient scope for each container, asked for over D-Bus — org.freedesktop.systemd1(5).

The scope is made around the container's first process; what systemd has no property for is then written into
the control files as everywhere. It goes with its last process, or when it is stopped.
"""

from __future__ import annotations

import posix

from veloci.errors import InvalidInput, Unsupported
from veloci.kernel.cgroupfs import hierarchies, read
from veloci.runtime.cgroup import Group, inside
from veloci.runtime.cgroup.properties import properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from veloci.runtime.cgroup.bus import Bus
    from veloci.runtime.cgroup.properties import Property
    from veloci.spec.runtime import Resources

_AT = "config.json: $.linux.cgroupsPath"
_ACCOUNTING = "MemoryAccounting", "CPUAccounting", "TasksAccounting"


def place(path: str, id: str) -> tuple[str, dict[str, str]]:
    """The scope "SLICE:UNIT" of `path` (linux.cgroupsPath), and its group: controllers -> directory.

    path: "slice:prefix:name"; an empty one is the unit veloci-ID.scope of systemd's default slice. A name that ends in
    .slice is a unit of its own. Raises InvalidInput, Unsupported where systemd does not run, HostError.
    """
    if not _running():
        raise Unsupported(
            "systemd not running on this host, cannot use systemd cgroups manager",
            where="--systemd-cgroup",
            hint="let the caller use the driver cgroupfs",
        )
    user = posix.geteuid() != 0
    slice, prefix, name = "", "veloci", id
    if path:
        parts = path.split(":")
        if len(parts) != 3:
            raise InvalidInput(
                f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{path}" instead',
                where=_AT,
            )
        slice, prefix, name = parts
    slice = slice or ("user.slice" if user else "system.slice")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
    inner = f"{_nested(slice)}/{unit}"
    inside(inner)  # refuses what leads out
    above = ""
    if user:
        with _bus(user=True) as bus:
            above = str(bus.property("ControlGroup"))
    return f"{slice}:{unit}", {each.name: f"{each.mount}{above}{inner}" for each in hierarchies()}


def _running() -> bool:
    """sd_booted(3)."""
    try:
        return posix.stat("/run/systemd/system").st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def _nested(slice: str) -> str:
    """Where a slice is: "a-b.slice" is below "a.slice". Raises InvalidInput for what is no slice's name."""
    name = slice.removesuffix(".slice")
    if slice == "-.slice":
        return ""
    if name == slice or "/" in slice or not all(name.split("-")):
        raise InvalidInput(f"invalid slice name: {slice}", where=_AT)
    words = name.split("-")
    return "".join(f"/{'-'.join(words[: count + 1])}.slice" for count in range(len(words)))


def _bus(*, user: bool) -> Bus:
    from veloci.runtime.cgroup.bus import Bus

    return Bus(user=user)


class Scope(Group):
    """One container's scope, and the groups of version 1 that systemd does not make."""

    def __init__(self, places: dict[str, str], scope: str, *, user: bool) -> None:
        super().__init__(places)
        self.early = False  # it is made around a process
        self.told = False  # systemd knows the limits that apply() is called for next
        self.slice, _, self.unit = scope.partition(":")
        self.user = user

    def open(self) -> int:
        """-1: no process can be born in what is made around it."""
        return -1

    def begin(self, pid: int, resources: Resources, annotations: Mapping[str, str]) -> None:
        """Have it made around the process `pid`, with the limits `resources`.

        annotations: those named org.systemd.property.NAME are properties as well, their values GVariants as text.
        Raises HostError, InvalidInput.
        """
        wanted: list[Property] = [("Description", ("s", f"veloci container {self.unit}"))]
        if self.unit.endswith(".slice"):
            wanted.append(("Wants", ("as", [self.slice])))
        else:
            wanted += [("Slice", ("s", self.slice)), ("Delegate", ("b", True)), ("PIDs", ("au", [pid]))]
        wanted += [
            (name, ("b", True)) for name in (*_ACCOUNTING, "IOAccounting" if self.unified else "BlockIOAccounting")
        ]
        wanted.append(("DefaultDependencies", ("b", False)))
        if annotations:
            from veloci.runtime.cgroup.gvariant import annotated

            wanted += annotated(annotations)
        with _bus(user=self.user) as bus:
            wanted += properties(resources, unified=self.unified, devices=not self.user, version=bus.version())
            bus.start(self.unit, wanted)
        self.told = True
        if self.unified:
            from veloci.runtime.cgroup.v2 import enable

            enable(self.places[""])
        self.create()
        if self.unit.endswith(".slice"):
            self.add(pid)

    def apply(self, resources: Resources, *, devices: bool) -> None:
        """As Group.apply, and tell systemd, unless begin() has."""
        if not self.told:
            wanted = self._timed(resources)
            with _bus(user=self.user) as bus:
                found = properties(wanted, unified=self.unified, devices=devices, version=bus.version())
                if found:
                    bus.set(self.unit, found)
        self.told = False
        super().apply(resources, devices=devices)

    def _timed(self, resources: Resources) -> Resources:
        """With both the processor's quota and its period, of which one may be as it was."""
        cpu = resources.cpu
        if not cpu or bool(cpu.quota) == bool(cpu.period):
            return resources
        if self.unified:
            quota, period = read(self.places[""], "cpu.max").split()
        else:
            directory = next(place for name, place in self.places.items() if "cpu" in name.split(","))
            quota, period = (read(directory, f"cpu.cfs_{what}_us") for what in ("quota", "period"))
        in_force = cpu.quota or (-1 if quota == "max" else int(quota))
        return resources.replace(cpu=cpu.replace(quota=in_force, period=cpu.period or int(period)))

    def remove(self) -> None:
        """Stop the unit, and remove what it leaves."""
        with _bus(user=self.user) as bus:
            bus.stop(self.unit)
        super().remove()
