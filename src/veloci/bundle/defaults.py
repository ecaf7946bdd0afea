"""What a container gets unless told otherwise: runc's `spec`, and Docker's defaults where they are wider.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md#default-filesystems
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The version whose fields we use by default; every runtime in use reads it (crun 1.8 refuses all but 1.0).
VERSION = "1.0.2"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")

CAPABILITIES = (  # Docker's, 0xa80425fb
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
)
ALL_CAPABILITIES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def mounts(shm_size: int = 65536 * 1024) -> list[dict[str, Any]]:
    """The file systems every container has, in the order they are mounted. shm_size: bytes of /dev/shm."""
    restricted = ("nosuid", "noexec", "nodev")
    return [
        _mount("/proc", "proc", *restricted),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/dev/shm", "tmpfs", *restricted, "mode=1777", f"size={shm_size}", source="shm"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", *restricted),
        _mount("/sys", "sysfs", *restricted, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", *restricted, "relatime", "ro"),
    ]


def _mount(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}


def default(*, rootless: bool = False, uid: int = 0, gid: int = 0) -> dict[str, Any]:
    """A configuration to start from, as `runc spec` writes it.

    rootless: for a user without privilege, whose `uid` and `gid` become the container's root.
    """
    few = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READONLY),
    }
    mounted = mounts()
    if rootless:
        linux = {
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
            **linux,
            "namespaces": [{"type": kind} for kind in NAMESPACES if kind != "network"] + [{"type": "user"}],
        }
        del linux["resources"]
        mounted[2]["options"].remove("gid=5")  # that group is not mapped
        shared = {"destination": "/sys", "type": "none", "source": "/sys"}
        # A new sysfs needs a network namespace of its own; the host's is bound, and what is below it: all read-only.
        mounted[5:7] = [{**shared, "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]}]
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [PATH, "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(few) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "veloci",
        "mounts": mounted,
        "linux": linux,
    }
