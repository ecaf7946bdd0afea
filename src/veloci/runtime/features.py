"""What this runtime can do, for callers that ask — runtime-spec features.md, v1.2.1."""

from __future__ import annotations

from veloci.kernel import caps
from veloci.kernel.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS
from veloci.runtime import mounts
from veloci.runtime.identity import MEMORY_FLAGS, MEMORY_MODES
from veloci.runtime.plan import CLONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def library() -> str:
    """The version of libseccomp; "" where it is missing."""
    from veloci.kernel.libseccomp import version

    try:
        return version()
    except OSError:
        return ""


def features() -> dict[str, Any]:
    """The features document as plain values."""
    annotations = {"org.opencontainers.runc.checkpoint.enabled": "true"}
    if filters := library():
        annotations["io.github.seccomp.libseccomp.version"] = filters
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": sorted([*mounts.OPTIONS, "bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"]),
        # A file that can name programs for CRIU to run; any property of a unit of systemd's.
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property."],
        "annotations": annotations,
        "linux": {
            "namespaces": sorted(CLONE),
            "capabilities": list(caps.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": list(MEMORY_MODES), "flags": list(MEMORY_FLAGS)},
            "netDevices": {"enabled": True},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
    }
