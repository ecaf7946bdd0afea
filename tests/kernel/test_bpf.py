"""Device programs, loaded into the kernel and attached to a group of version 2; a process in it tries the devices."""

import os
import subprocess
from pathlib import Path

import pytest

from veloci.kernel.bpf import restrict_devices

pytestmark = pytest.mark.needs("root")

NULL, ZERO = (True, "c", 1, 3, "rwm"), (True, "c", 1, 5, "rwm")
NOTHING, EVERYTHING = (False, "a", None, None, "rwm"), (True, "a", None, None, "rwm")


def _hierarchy():
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            return Path(line.split()[4])
    pytest.skip("this host lacks cgroup v2")


@pytest.fixture
def group():
    made = _hierarchy() / f"veloci-test-{os.getpid()}"
    made.mkdir()
    yield made
    made.rmdir()


def _works(group, command):
    """Whether `command` succeeds in `group`."""
    script = f"echo $$ > {group}/cgroup.procs && {command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    ("rules", "null", "zero"),
    [
        ([], False, False),
        ([NULL], True, False),
        ([NOTHING, NULL], True, False),
        ([NULL, NOTHING], False, False),
        ([NOTHING, NULL, ZERO, (False, "c", 1, None, "w")], False, True),
        ([NOTHING, (True, "c", 1, None, "r")], False, True),
        ([EVERYTHING], True, True),
        ([EVERYTHING, (False, "c", 1, 5, "r")], True, False),
        ([EVERYTHING, (False, "b", 1, 5, "r")], True, True),
    ],
)
def test_the_last_rule_that_matches_decides(group, rules, null, zero):
    restrict_devices(str(group), rules)
    assert _works(group, "echo > /dev/null") == null
    assert _works(group, "head -c 1 /dev/zero") == zero
