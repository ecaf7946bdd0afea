"""kill -9 in the middle of connecting and disconnecting: `reclaim` finds all that is left (security-classes, Fault 7)."""

import shutil
import subprocess
import sys

import pytest
from boxes import sh

from veloci.network.networks import Networks

pytestmark = pytest.mark.needs("root", "ip", "nft", "strace")

WORKER = """
import os, signal, sys
from veloci.kernel.process import CLONE_NEWNET, unshare
from veloci.network.networks import Networks
from veloci.network.ports import parse
home = os.open("/proc/self/ns/net", os.O_RDONLY)
from veloci.kernel.process import setns
unshare(CLONE_NEWNET)
netns = os.open("/proc/self/ns/net", os.O_RDONLY)
setns(home)
networks = Networks(sys.argv[1])
lease = networks.prepare("bridge", "one", ports=parse("8000:80"))
networks.attach(lease, netns)
networks.detach(lease)
"""


def footprint():
    return sh("ip -o link | cut -d: -f2; ip -4 -o addr; nft list ruleset")


@pytest.mark.parametrize("call", ["sendto", "?rename,?renameat,renameat2", "setns", "?unlink,unlinkat", "socket"])
def test_what_a_killed_process_leaves_is_reclaimed(host, tmp_path, call):
    before = footprint()
    root = str(tmp_path / "networks")
    for when in range(1, 40):
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        command += ["-e", f"inject={call}:signal=KILL:when={when}", sys.executable, "-c", WORKER, root]
        status = subprocess.run(command, check=False, capture_output=True).returncode
        networks = Networks(root)
        networks.reclaim(lambda _container: False)
        networks.detach(networks.prepare("bridge", "two"))
        assert settled(before), (call, when, footprint())
        if status == 0:
            break
    assert status == 0
    shutil.rmtree(root)


def settled(before):
    """Whether all is as before; an ended process's namespace goes a moment later."""
    import time

    for _ in range(40):
        if footprint() == before:
            return True
        time.sleep(0.05)
    return False
