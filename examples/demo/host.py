"""What a container tool could leave behind on a host, to compare before and after."""

from __future__ import annotations

import os
import subprocess


def state() -> dict[str, set[str]]:
    """Mounts, links, namespaces, firewall rules, cgroups and device modes of this host, as sets of lines."""
    return {
        "mounts": _mounts(),
        "links": set(os.listdir("/sys/class/net")),
        "network namespaces": set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set(),
        "nft rules": set(_output("nft", "--stateless", "list", "ruleset")),
        "cgroups": {os.path.join(top, name) for top, names, _ in os.walk("/sys/fs/cgroup") for name in names},
        "devices": {f"{name} {oct(os.stat(name).st_mode)}" for name in ("/dev/null", "/dev/zero", "/dev/tty")},
    }


def changes(before: dict[str, set[str]], after: dict[str, set[str]]) -> list[str]:
    """One line for each thing that is there now and was not, or the other way round.

    A cgroup that has gone is left out: it went with a process that is none of ours.
    """
    return [
        f"{kind}: {sign} {line}"
        for kind in before
        for sign, lines in (("+", after[kind] - before[kind]), ("-", before[kind] - after[kind]))
        for line in sorted(lines)
        if (kind, sign) != ("cgroups", "-")
    ]


def _mounts() -> set[str]:
    """Where something is mounted, and what."""
    with open("/proc/self/mountinfo") as file:
        rows = [line.split() for line in file]
    return {f"{row[4]} ({row[row.index('-') + 1]})" for row in rows}


def _output(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
