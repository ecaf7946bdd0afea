"""linux.mountLabel: the SELinux context of what is mounted for the container. No host of the tests has SELinux on."""

import os

import pytest

from veloci.runtime import mounts
from veloci.spec.runtime import Mount

LABEL = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
selinux = os.path.exists("/sys/fs/selinux/enforce")


@pytest.mark.needs("root", "namespaces", "busybox")
@pytest.mark.skipif(selinux, reason="this host has SELinux, and perhaps no such label")
def test_where_selinux_is_off_it_says_nothing(runtime):
    done = runtime.run("true", change=lambda config: config["linux"].update(mountLabel=LABEL))
    assert (done.returncode, done.stderr) == (0, "")


def test_made_file_systems_get_it_and_what_is_bound_and_the_kernels_do_not():
    kinds = ("tmpfs", "devpts", "mqueue", "proc", "sysfs")
    wanted = tuple(Mount(destination=f"/{kind}", type=kind, options=("mode=755", "size=64k")) for kind in kinds)
    wanted += (Mount(destination="/bound", type="bind", source="/", options=("bind",)),)
    steps = mounts.compile(wanted, {}, "/", cgroup_namespace=False, label=LABEL)
    labelled = [arguments["target"] for _, _, arguments in steps if ("context", LABEL) in arguments.get("options", ())]
    assert labelled == ["/tmpfs", "/devpts", "/mqueue"]
    assert ("mode", "755") in steps[0][2]["options"]
