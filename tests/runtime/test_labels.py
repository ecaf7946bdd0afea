"""Security labels: AppArmor's where the host has it (`make test-vm`); SELinux's by where they are written to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from veloci.runtime import mounts
from veloci.spec.runtime import Mount

LABEL = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
selinux = os.path.exists("/sys/fs/selinux/enforce")
apparmor = os.path.exists("/sys/module/apparmor/parameters/enabled") and (
    Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
)


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


@pytest.mark.needs("root", "namespaces")
@pytest.mark.parametrize("cover", ["true", "mount -t tmpfs tmpfs /proc/$$", "mount --bind /dev/null /proc/$$/comm"])
def test_what_a_process_writes_about_itself_reaches_the_kernel_whatever_lies_over_it(cover):
    """CVE-2019-16884, CVE-2019-19921: labels go to files below /proc/thread-self, which is a link."""
    script = """
from veloci.kernel.files import write_beneath
from veloci.runtime.procfs import _mine, _private_proc
import ctypes
proc = _private_proc()
write_beneath(proc, f"{_mine(proc)}/comm", b"written")
name = ctypes.create_string_buffer(16)
ctypes.CDLL(None).prctl(16, name, 0, 0, 0)  # PR_GET_NAME
print(name.value.decode())
"""
    words = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{cover} && exec "$@"', "sh"]
    done = subprocess.run([*words, sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "written\n", done.stderr


@pytest.mark.needs("root", "namespaces", "busybox")
@pytest.mark.skipif(not apparmor, reason="AppArmor is not enabled on this host")
def test_a_program_has_its_apparmor_profile_and_one_that_is_not_loaded_is_named(either):
    def profile(name):
        return lambda config: config["process"].update(apparmorProfile=name)

    done = either.run("cat", "/proc/self/attr/apparmor/current", change=profile("unconfined"))
    assert (done.returncode, done.stdout) == (0, "unconfined\n"), done.stderr
    either.detached("sleep", "100")
    done = either("exec", "--apparmor", "unconfined", either.id, "cat", "/proc/self/attr/apparmor/current")
    assert (done.returncode, done.stdout) == (0, "unconfined\n"), done.stderr
    done = either("exec", "--apparmor", "no-such-profile", either.id, "true")
    assert done.returncode == 255
    assert "no such file or directory" in done.stderr.lower()
