"""The only file that names our directories.

    data()   /var/lib/veloci        $XDG_DATA_HOME/veloci      what lasts: content, snapshots, containers, networks
    run()    /run/veloci            $XDG_RUNTIME_DIR/veloci    what a reboot may lose: states, sockets, namespaces

VELOCI_ROOT and VELOCI_RUN (the command line's --root and --runroot) win over both.
"""

from __future__ import annotations

from os import environ, geteuid


def data() -> str:
    """The directory of what lasts, as an absolute path; it may not exist yet."""
    if chosen := environ.get("VELOCI_ROOT"):
        return chosen
    if geteuid() == 0:
        return "/var/lib/veloci"
    return (environ.get("XDG_DATA_HOME") or environ.get("HOME", "/") + "/.local/share") + "/veloci"


def run() -> str:
    """The directory of what a reboot may lose, as an absolute path; it may not exist yet."""
    if chosen := environ.get("VELOCI_RUN"):
        return chosen
    if geteuid() == 0:
        return "/run/veloci"
    return (environ.get("XDG_RUNTIME_DIR") or f"/tmp/veloci-{geteuid()}") + "/veloci"  # noqa: S108 -- made 0700
