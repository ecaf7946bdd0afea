"""A user without privilege: containers of `spec --rootless`, beside runc's; more users by newuidmap; limits by the user's systemd."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import veloci

pytestmark = pytest.mark.needs("root", "setpriv", "busybox")

USER = 1000
PACKAGE = Path(veloci.__file__).parents[1]
START = f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); sys.argv[0] = 'veloci-runtime'; from veloci.cli.oci.main import program; program()"
AS_USER = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--inh-caps=-all"]


def interpreter():
    """A Python that the user may run, with the package that the user may read."""
    for python in (sys.executable, "/usr/bin/python3"):
        words = [*AS_USER, python, "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import veloci"]
        with open(os.devnull, "w") as null:
            if Path(python).exists() and subprocess.run(words, stderr=null, check=False, cwd="/").returncode == 0:
                return python
    return pytest.skip("no Python here that an ordinary user can run")


class Ordinary:
    """A runtime, called by an ordinary user on a bundle of `spec --rootless`."""

    def __init__(self, home, program):
        self.home, self.id = home, f"rootless-{os.getpid()}"
        self.program = ["runc"] if program == "runc" else [interpreter(), "-S", "-B", "-c", START]
        self.environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
        self.before = []
        binaries = home / "rootfs/bin"
        binaries.mkdir(parents=True)
        (home / "run").mkdir()
        shutil.copy("/bin/busybox", binaries)
        for name in "sh ls cat true sleep id touch".split():
            (binaries / name).symlink_to("busybox")
        for above, directories, files in os.walk(home):
            for name in (".", *directories, *files):
                os.chown(os.path.join(above, name), USER, USER, follow_symlinks=False)

    def __call__(self, *words, **options):
        return subprocess.run(
            [*self.before, *AS_USER, *self.program, *words],
            cwd=self.home,
            env=self.environment,
            text=True,
            check=False,
            timeout=60,
            **{"stdin": subprocess.DEVNULL, "capture_output": True, **options},
        )

    def configure(self, *args, change=None):
        (self.home / "config.json").unlink(missing_ok=True)
        done = self("spec", "--rootless")
        assert done.returncode == 0, done.stderr
        config = json.loads((self.home / "config.json").read_text())
        config["process"].update(terminal=False, args=list(args))
        config["root"]["readonly"] = False
        if change:
            change(config)
        (self.home / "config.json").write_text(json.dumps(config))

    def run(self, *args, change=None):
        self.configure(*args, change=change)
        return self("run", self.id)

    def detached(self, *args, change=None, flags=()):
        self.configure(*args, change=change)
        with open(self.home / "out", "w") as out:
            done = self(*flags, "run", "-d", self.id, capture_output=False, stdout=out, stderr=out)
        assert done.returncode == 0, (self.home / "out").read_text()

    def state(self):
        return json.loads(self("state", self.id).stdout)


def ordinary(program):
    home = Path(tempfile.mkdtemp(prefix="veloci-rootless-"))
    try:
        home.chmod(0o755)
        made = Ordinary(home, program)
        yield made
        made("delete", "--force", made.id)
    finally:
        shutil.rmtree(home)


@pytest.fixture
def ours():
    yield from ordinary("veloci")


@pytest.fixture(params=["veloci", "runc"])
def either(request):
    if not shutil.which("runc"):
        pytest.skip("this host lacks runc")
    yield from ordinary(request.param)


def test_the_user_is_root_in_there_and_nobody_outside(either):
    done = either.run(
        "sh", "-c", "id -u; id -g; cat /proc/self/uid_map; touch /made; echo x > /proc/sys/kernel/hostname"
    )
    assert done.stdout.split() == ["0", "0", "0", str(USER), "1"], done.stderr
    assert "can't create /proc/sys/kernel/hostname: Read-only file system" in done.stderr
    status = (either.home / "rootfs/made").stat()
    assert (status.st_uid, status.st_gid) == (USER, USER)


def test_the_hosts_groups_are_shown_read_only(ours):
    """CVE-2023-25809: a user may have groups of its own there, which the host's /sys brings along."""
    done = ours.run("sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do busybox mkdir $d/x; done")
    refused = {line.rpartition(": ")[2] for line in done.stderr.splitlines()}
    assert refused == {"Read-only file system"}


def test_it_warns_of_nothing_that_it_gives(ours):
    done = ours.run("busybox", "grep", "CapEff", "/proc/self/status")
    assert (done.stdout, done.stderr) == ("CapEff:\t0000000020000420\n", "")


def test_devices_and_mounts_are_there(either):
    script = "echo x > /dev/null && head -c1 /dev/zero > /dev/shm/x && ls /dev/pts /sys/class > /dev/null && echo fine"
    done = either.run("sh", "-c", script.replace("head -c1", "busybox head -c1"))
    assert done.stdout == "fine\n", done.stderr


def test_a_container_lives_is_entered_and_goes(either):
    either.detached("sleep", "100")
    assert either.state()["status"] == "running"
    assert either("exec", either.id, "id", "-u").stdout == "0\n"
    either("kill", either.id, "KILL")
    time.sleep(0.2)
    assert either.state()["status"] == "stopped"
    assert either("delete", either.id).returncode == 0
    assert either("state", either.id).returncode == 1


def test_the_state_is_in_the_users_own_directory(ours):
    ours.detached("sleep", "100")
    assert [path.name for path in (ours.home / "run/veloci-runtime").iterdir()] == [ours.id]
    assert (ours.home / "run/veloci-runtime").stat().st_mode & 0o777 == 0o700


def test_no_group_can_be_made_set_or_paused_here(ours):
    if os.path.isdir(f"/sys/fs/cgroup/user.slice/user-{USER}.slice"):
        pytest.skip("this user has groups")
    done = ours.run("true", change=lambda c: c["linux"].update(resources={"pids": {"limit": 5}}))
    message = "config.json: $.linux.resources: cannot set limits: the container has no cgroup"
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: {message}"
    ours.detached("sleep", "100")
    done = ours("pause", ours.id)
    assert done.stderr == "veloci-runtime: cannot pause a container that has no cgroup\n"


def test_what_takes_privilege_is_refused_and_leaves_nothing(ours):
    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "user"]
        del config["linux"]["uidMappings"], config["linux"]["gidMappings"]

    done = ours.run("true", change=change)
    assert done.returncode == 1
    assert "rootless container requires user namespaces" in done.stderr
    assert not (ours.home / "run/veloci-runtime").exists()


def many(config):
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind] = [
            {"containerID": 0, "hostID": USER, "size": 1},
            {"containerID": 1, "hostID": 200000, "size": 1000},
        ]


@pytest.fixture
def allotted(either):
    """The user has IDs from 200000 on, in a mount namespace of the test's own."""
    if not shutil.which("newuidmap"):
        pytest.skip("this host lacks newuidmap")
    (either.home / "ids").write_text(f"{USER}:200000:65536\n")
    script = (
        'touch /etc/subuid /etc/subgid; mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
    )
    either.before = ["unshare", "-m", "sh", "-c", script, str(either.home / "ids")]
    return either


def test_more_users_are_mapped_by_newuidmap(allotted):
    def change(config):
        many(config)
        config["process"]["user"] = {"uid": 5, "gid": 6}

    (allotted.home / "rootfs").chmod(0o777)
    done = allotted.run("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; touch /f", change=change)
    assert done.stdout.split() == ["0", str(USER), "1", "1", "200000", "1000"] * 2, done.stderr
    status = (allotted.home / "rootfs/f").stat()
    assert (status.st_uid, status.st_gid) == (200004, 200005)


def test_users_that_are_not_allotted_are_refused(ours):
    if not shutil.which("newuidmap"):
        pytest.skip("this host lacks newuidmap")
    done = ours.run("true", change=many)
    assert done.returncode == 1
    assert "config.json: $.linux.uidMappings: newuidmap: Operation not permitted" in done.stderr
    assert list((ours.home / "run/veloci-runtime").iterdir()) == []


@pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir() or not Path("/sys/fs/cgroup/cgroup.controllers").exists(),
    reason="no systemd with cgroup version 2 alone here",
)
def test_limits_are_the_users_systemds(either):
    subprocess.run(["systemctl", "start", f"user@{USER}.service"], check=True)
    try:
        either.environment["XDG_RUNTIME_DIR"] = f"/run/user/{USER}"
        either.environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path=/run/user/{USER}/bus"

        def change(config):
            config["linux"]["cgroupsPath"] = f"user.slice:box:{either.id}"
            config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 22}}

        either.detached("sleep", "100", change=change, flags=["--systemd-cgroup"])
        group = Path(f"/proc/{either.state()['pid']}/cgroup").read_text().strip().removeprefix("0::")
        assert group == f"/user.slice/user-{USER}.slice/user@{USER}.service/user.slice/box-{either.id}.scope"
        directory = Path(f"/sys/fs/cgroup{group}")
        assert [(directory / file).read_text().strip() for file in ("memory.max", "pids.max")] == [str(64 << 20), "22"]
        assert either("pause", either.id).returncode == 0
        assert either.state()["status"] == "paused"
        assert either("delete", "--force", either.id).returncode == 0
        assert not directory.exists()
    finally:
        subprocess.run(["systemctl", "stop", f"user@{USER}.service", f"user-{USER}.slice", "user.slice"], check=True)
