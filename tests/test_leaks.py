"""The comparison that ends every run of the tests and of the demo finds one of each thing that can be left behind."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "ip", "nft")
NAME = f"vtleak{os.getpid() % 100000}"
GROUPS = "/sys/fs/cgroup"


def group():
    """Where a cgroup can be made: on version 1 below a controller."""
    return f"{GROUPS}/{NAME}" if Path(GROUPS, "cgroup.procs").exists() else f"{GROUPS}/pids/{NAME}"


@pytest.mark.parametrize(
    ("leak", "undo", "found"),
    [
        ("mount -t tmpfs none {here}", "umount {here}", "mounts: + {here} (tmpfs)"),
        (f"ip link add {NAME} type bridge", f"ip link del {NAME}", f"links: + {NAME}"),
        (f"ip netns add {NAME}", f"ip netns del {NAME}", f"network namespaces: + {NAME}"),
        (f"nft add table ip {NAME}", f"nft delete table ip {NAME}", f"nft rules: + table ip {NAME} {{{{"),
        ("mkdir {group}", "rmdir {group}", "cgroups: + {group}"),
    ],
)
def test_what_is_left_behind_is_found(leaks, tmp_path, leak, undo, found):
    places = {"here": tmp_path, "group": group()}
    before = leaks.state()
    subprocess.run(leak.format(**places).split(), check=True)
    try:
        assert found.format(**places) in leaks.changes(before, leaks.state())
    finally:
        subprocess.run(undo.format(**places).split(), check=True)
    assert found.format(**places) not in leaks.changes(before, leaks.state())


def test_what_has_gone_is_found_too(leaks, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    before = leaks.state()
    subprocess.run(["umount", tmp_path], check=True)
    assert f"mounts: - {tmp_path} (tmpfs)" in leaks.changes(before, leaks.state())


def test_a_mode_that_has_changed_is_found(leaks):
    before = leaks.state()
    mode = os.stat("/dev/zero").st_mode & 0o7777
    os.chmod("/dev/zero", 0o676)
    try:
        assert "devices: + /dev/zero 0o20676" in leaks.changes(before, leaks.state())
    finally:
        os.chmod("/dev/zero", mode)
