"""`update`."""

from __future__ import annotations

import sys

from veloci.cli.oci.main import load
from veloci.spec.document import dumps
from veloci.spec.runtime import Resources


def update(id: str, /, *, resources: str = "", memory: int = 0, pids_limit: int = 0, cpu_share: int = 0) -> int:
    """Change a container's limits.

    -r, --resources FILE  resources as JSON; - reads stdin
    --memory BYTES        at most this much memory
    --pids-limit N        at most so many processes
    --cpu-share N         relative weight of its CPU time
    """
    if resources == "-":
        raw = sys.stdin.buffer.read()
    elif resources:
        with open(resources, "rb") as file:
            raw = file.read()
    else:
        raw = dumps({"memory": {"limit": memory}, "pids": {"limit": pids_limit}, "cpu": {"shares": cpu_share}})
    load(id).update(Resources.decode(raw, name=resources or "options"))
    return 0
