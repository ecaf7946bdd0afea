"""Run tests in a virtual machine with Debian's own kernel and systemd, on the control groups of one kind.

    python tests/vm/machine.py [--cgroups v2|v1|hybrid] [TEST ...]

The host's hierarchies are what they are; here are version 2 alone, version 1 alone and both, a system
bus, and a kernel older than most hosts'. qemu emulates: no KVM is needed, and all takes some ten times
as long. The root file system is made once, of Debian's packages, and kept in .vm; the project's files
are copied into its disk before each start. Exits with pytest's status.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from hashlib import sha256
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / ".vm"
PACKAGES = (
    "systemd-sysv dbus kmod python3 linux-image-cloud-amd64 busybox-static runc crun libseccomp2 libcap2-bin "
    "iproute2 nftables iptables attr acl curl procps strace ca-certificates uidmap criu dbus-user-session libpam-systemd"
)
LIBRARIES = "pytest", "pytest-timeout", "hypothesis", "msgspec", "pyroute2"
TESTS = [
    "tests/runtime",
    "tests/kernel",
    "tests/snapshot",
    "tests/network",
    "tests/cli/test_run.py",
    "tests/cli/test_info.py",
]
HIERARCHIES = {
    "v2": "systemd.unified_cgroup_hierarchy=1",
    "v1": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
    "hybrid": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0",
}
SCRIPT = """#!/bin/sh
exec >/dev/ttyS1 2>&1
cd /opt/veloci
# The kernel loads them when they are asked for; the tests look whether they are there before they ask.
modprobe -a overlay erofs loop veth bridge nf_tables
systemctl start dbus systemd-logind
echo "Linux $(uname -r), /sys/fs/cgroup is $(stat -fc %T /sys/fs/cgroup)"
python3 -m pytest -p no:cacheprovider --color=no -rfEs --tb=short --timeout 300 $(cat tests.list)
echo "status $?"
systemctl poweroff -ff
"""
# All units are in groups of all controllers from the start, so that none comes while the tests run.
MANAGER = """[Manager]
DefaultCPUAccounting=yes
DefaultIOAccounting=yes
DefaultBlockIOAccounting=yes
DefaultMemoryAccounting=yes
DefaultTasksAccounting=yes
"""
UNIT = """[Unit]
Requires=dbus.socket
After=dbus.socket basic.target
[Service]
Type=oneshot
Delegate=yes
LimitNOFILE=65536
ExecStart=/usr/sbin/veloci-test
"""


def main() -> int:
    """Make the disk, start the machine, show what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cgroups", choices=HIERARCHIES, default="v2")
    parser.add_argument("tests", nargs="*", default=TESTS)
    options = parser.parse_args()
    KEPT.mkdir(exist_ok=True)
    root = base()
    fill(root, options.tests)
    disk = KEPT / "disk.img"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(3 << 30)
    run("mkfs.ext4", "-q", "-d", root, disk)
    return start(root, disk, HIERARCHIES[options.cgroups])


def base() -> Path:
    """The root file system, made if it is not there or was made of other packages."""
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    words = " ".join((PACKAGES, *LIBRARIES, *wanted, "ordinary"))
    root = KEPT / f"root-{sha256(words.encode()).hexdigest()[:12]}"
    if not root.exists():
        made = root.with_name("making")
        for old in (*KEPT.glob("root-*"), made):
            remove(old)
        # In a mount namespace that ends with it: mmdebstrap mounts /proc, /sys and /dev there, and may be killed.
        options = "--quiet", "--variant=minbase", f"--include={PACKAGES.replace(' ', ',')}"
        run("unshare", "--mount", "mmdebstrap", *options, "bookworm", made)
        site = made / "usr/lib/python3/dist-packages"
        run(sys.executable, "-m", "pip", "install", "-q", "--target", site, PROJECT, *LIBRARIES)
        run("chroot", made, "useradd", "--create-home", "--uid", "1000", "ordinary")
        shutil.rmtree(made / "dev")
        (made / "dev").mkdir()
        made.rename(root)
    return root


def remove(tree: Path) -> None:
    """Remove what one making left, and first unmount what is mounted below it: else the host's own would go."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed(mounts):
        if Path(path).is_relative_to(tree):
            run("umount", path)
    if tree.exists():
        shutil.rmtree(tree)


def fill(root: Path, tests: list[str]) -> None:
    """Put the project as it is now, and what to do with it, into the root file system."""
    here = root / "opt/veloci"
    shutil.rmtree(here, ignore_errors=True)
    for name in ("tests", "examples", "scripts"):
        shutil.copytree(PROJECT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", here)
    (here / "tests.list").write_text("\n".join(tests))
    package = root / "usr/lib/python3/dist-packages/veloci"
    shutil.rmtree(package)
    shutil.copytree(PROJECT / "src/veloci", package, ignore=shutil.ignore_patterns("__pycache__"))
    run("chroot", root, "python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages/veloci")
    for name in ("veloci", "veloci-runtime"):
        text = (PROJECT / "scripts" / name).read_text().replace("#!python", "#!/usr/bin/python3", 1)
        executable(root / "usr/bin" / name, text)
    executable(root / "usr/sbin/veloci-test", SCRIPT)
    (root / "etc/systemd/system.conf").write_text(MANAGER)
    (root / "etc/systemd/system/veloci-test.service").write_text(UNIT)


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


def start(root: Path, disk: Path, hierarchy: str) -> int:
    """Start the machine and wait until it is off. Returns the status that the tests ended with."""
    console, output = KEPT / "console.log", KEPT / "output.log"
    output.write_text("")
    (kernel,), (ramdisk,) = (list((root / "boot").glob(name)) for name in ("vmlinuz-*", "initrd.img-*"))
    command = [
        "qemu-system-x86_64", "-nographic", "-nodefaults", "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", "max",
        "-m", "1536", "-smp", "2", "-kernel", kernel, "-initrd", ramdisk,
        "-drive", f"file={disk},format=raw,if=virtio,snapshot=on",
        "-serial", f"file:{console}", "-serial", f"file:{output}",
        "-append", f"root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0 {hierarchy} "
        "systemd.unit=veloci-test.service",
    ]  # fmt: skip
    with subprocess.Popen(command) as machine, output.open("rb") as said:
        while machine.poll() is None:
            show(said.read())
            try:
                machine.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        show(said.read())
    last = [line for line in output.read_text(errors="replace").splitlines() if line.startswith("status ")]
    if not last:
        print(f"the machine ended before the tests did: {console} has its last words", file=sys.stderr)
        return 1
    return int(last[-1].split()[1])


def show(data: bytes) -> None:
    """Pass on what the machine's second serial line said."""
    sys.stdout.write(data.decode(errors="replace").replace("\r", ""))
    sys.stdout.flush()


def run(*command: str | Path) -> None:
    """Run a command; its failure is ours."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
