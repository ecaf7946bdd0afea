"""`veloci info`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.engine.engine import Engine


def info(*, format: str | None = None) -> int:
    """Show where and how images and containers are kept here, how many there are, and what host this is.

    -f, --format TEMPLATE  json, or a Go template with docker's names: .Driver .DockerRootDir .Images .Containers
    """
    from veloci.cli.output import formatted, show
    from veloci.cli.output import size as shown
    from veloci.engine.engine import Engine

    found = _found(Engine())
    if format:
        show(formatted([dict(found)], format, ""))
        return 0
    lines = [
        ("Containers", found["Containers"]),
        ("  Running", found["ContainersRunning"]),
        ("  Paused", found["ContainersPaused"]),
        ("  Stopped", found["ContainersStopped"]),
        ("Images", found["Images"]),
        ("Server Version", found["ServerVersion"]),
        ("Storage Driver", found["Driver"]),
        *((f"  {name}", text) for name, text in found["DriverStatus"]),
        ("Cgroup Version", found["CgroupVersion"]),
        ("Kernel Version", found["KernelVersion"]),
        ("Operating System", found["OperatingSystem"]),
        ("OSType", found["OSType"]),
        ("Architecture", found["Architecture"]),
        ("CPUs", found["NCPU"]),
        ("Total Memory", shown(found["MemTotal"])),
        ("Name", found["Name"]),
        ("Root Dir", found["DockerRootDir"]),
        ("Run Dir", found["RunDir"]),
    ]
    show("".join(f"{name}: {value}\n" for name, value in lines))
    return 0


def _found(engine: Engine) -> dict[str, Any]:
    """The facts by docker's names."""
    import os

    from veloci import __version__
    from veloci.snapshot.drivers import better

    records = engine.containers.records
    statuses = [records.current(record.id).status for record in records.all()]
    host = os.uname()
    return {
        "Containers": len(statuses),
        "ContainersRunning": statuses.count("running"),
        "ContainersPaused": statuses.count("paused"),
        "ContainersStopped": len(statuses) - statuses.count("running") - statuses.count("paused"),
        "Images": len({listed.id for listed in engine.images.all()}),
        "Driver": engine.snapshots.driver,
        "DriverStatus": better(engine.snapshots),
        "CgroupVersion": "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        "KernelVersion": host.release,
        "OperatingSystem": _distribution(),
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": host.nodename,
        "ServerVersion": __version__,
        "DockerRootDir": engine.root,
        "RunDir": engine.run_root,
    }


def _distribution() -> str:
    """What os-release(5) calls the host."""
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        return "Linux"
    return fields.get("PRETTY_NAME", "Linux").strip("\"'")
