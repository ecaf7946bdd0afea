"""Namespaces: new ones, ones joined by path, users mapped to others, clocks moved."""

import os
import subprocess
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

ALL = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
FILES = {"network": "net", "mount": "mnt"}
READ = "for n in pid net mnt ipc uts user cgroup time; do readlink /proc/self/ns/$n; done"


def users(config):
    """Root of the container is user 100000 of the host."""
    config["linux"]["namespaces"].append({"type": "user"})
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"].update(uidMappings=ids, gidMappings=ids)


def test_a_user_namespace_maps_ids_both_ways(either_mapped):
    def change(config):
        users(config)
        config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}

    done = either_mapped.run(
        "sh", "-c", "id; cat /proc/self/uid_map; stat -c '%u %g' /bin/busybox /dev/null", change=change
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "uid=7 gid=8 groups=9"
    assert lines[1].split() == ["0", "100000", "65536"]
    assert lines[2] == "0 0"
    assert lines[3] == "65534 65534"  # the host's own node, bound: none may be made


def test_a_mapped_container_is_the_mapped_user_outside(mapped):
    mapped.detached("sleep", "100", change=users)
    pid = mapped.state()["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == 100000
    done = mapped("exec", mapped.id, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert done.stdout.split() == ["0", "0", "100000", "65536"]
    done = mapped("exec", "--user", "5:6", mapped.id, "id")
    assert done.stdout == "uid=5 gid=6\n", done.stderr


def test_the_user_it_becomes_need_not_reach_the_root_nor_what_is_mounted(mapped):
    """As runC opens mounts' sources: as the caller."""
    (mapped.bundle / "data").mkdir()
    (mapped.bundle / "data/file").write_text("found\n")
    mapped.bundle.chmod(0o700)

    def change(config):
        users(config)
        for place in ("/bind", "/below/bind"):
            bind = {"destination": place, "type": "bind", "source": "data", "options": ["rbind", "ro"]}
            config["mounts"].append(bind)

    done = mapped.run("sh", "-c", "cat /bind/file /below/bind/file; : >/bind/new", change=change)
    assert done.stdout == "found\nfound\n", done.stderr
    assert done.stderr == "sh: can't create /bind/new: Read-only file system\n"


def test_a_mapped_container_has_devices_a_terminal_and_limits(mapped):
    def change(config):
        users(config)
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 2048, "hard": 4096}]
        config["process"]["oomScoreAdj"] = 100
        config["linux"]["resources"]["pids"] = {"limit": 20}

    done = mapped.run(
        "sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; echo x > /dev/null && echo y", change=change
    )
    assert (done.stdout.split(), done.stderr) == (["2048", "4096", "100", "y"], "")


def test_two_containers_share_a_user_namespace_by_its_path(mapped):
    mapped.detached("sleep", "100", change=users)
    first = mapped.state()["pid"]
    second = f"{mapped.id}-second"

    def join(config):
        config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts")]
        config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{first}/ns/user"})

    mapped.configure("sh", "-c", "readlink /proc/self/ns/user; id -u; hostname", change=join)
    done = mapped("run", "--bundle", str(mapped.bundle), second)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [os.readlink(f"/proc/{first}/ns/user"), "0", "veloci"]


def test_all_eight_namespaces_are_new(mapped):
    def change(config):
        users(config)
        config["linux"]["namespaces"] += [{"type": "cgroup"}, {"type": "time"}]

    done = mapped.run("sh", "-c", READ, change=change)
    assert done.returncode == 0, done.stderr
    inside = done.stdout.split()
    own = [os.readlink(f"/proc/self/ns/{FILES.get(kind, kind)}") for kind in ALL]
    assert len(inside) == 8
    assert not set(inside) & set(own)


def without(config):
    """No mount namespace of its own, and nothing hidden of the host's /proc."""
    config["linux"].update(maskedPaths=[], readonlyPaths=[])
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "mount"]


def test_the_callers_mount_namespace_is_shared_and_left_as_it_was(runtime):
    def mounts():
        with open("/proc/self/mountinfo") as file:
            return [line for line in file if str(runtime.bundle.parent) in line]

    for _ in range(2):
        runtime.detached("sleep", "100", change=without)
        pid = runtime.state()["pid"]
        assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        assert os.readlink(f"/proc/{pid}/root") == str(runtime.bundle / "rootfs")
        assert mounts()
        shown = runtime("exec", runtime.id, "ls", "/bin/busybox", "/proc/self/exe")
        assert (shown.stdout, shown.stderr) == ("/bin/busybox\n/proc/self/exe\n", "")
        assert runtime("exec", runtime.id, "ls", str(runtime.bundle)).returncode == 1
        assert runtime("delete", "-f", runtime.id).returncode == 0
        assert mounts() == []
    done = runtime.run("nope", change=without)
    assert "executable file not found" in done.stderr
    assert (mounts(), runtime.traces()) == ([], [])


def test_a_mount_namespace_is_joined_by_path(runtime):
    with subprocess.Popen(["unshare", "--mount", "sleep", "100"]) as other:
        own, theirs = os.readlink("/proc/self/ns/mnt"), ""
        while theirs in ("", own):
            theirs = os.readlink(f"/proc/{other.pid}/ns/mnt")

        def join(config):
            without(config)
            config["linux"]["namespaces"].append({"type": "mount", "path": f"/proc/{other.pid}/ns/mnt"})

        try:
            done = runtime.run("readlink", "/proc/self/ns/mnt", change=join)
            assert (done.stdout, done.stderr) == (f"{theirs}\n", "")
        finally:
            other.kill()


@pytest.mark.parametrize("user", [False, True])
def test_all_namespaces_but_mount_are_joined_by_path(mapped, user):

    def first(config):
        if user:
            users(config)
        config["linux"]["namespaces"] += [{"type": "cgroup"}, {"type": "time"}]

    mapped.detached("sleep", "100", change=first)
    pid = mapped.state()["pid"]
    kinds = [kind for kind in ALL if kind != "mount" and (user or kind != "user")]

    def join(config):
        config["linux"]["namespaces"] = [{"type": "mount"}]
        for kind in kinds:
            config["linux"]["namespaces"].append({"type": kind, "path": f"/proc/{pid}/ns/{FILES.get(kind, kind)}"})
        config["hostname"] = ""

    mapped.configure("sh", "-c", READ, change=join)
    done = mapped("run", "--bundle", str(mapped.bundle), f"{mapped.id}-second")
    assert done.returncode == 0, done.stderr
    links = [line.split(":")[0] for line in done.stdout.split()]
    theirs = dict(zip(links, done.stdout.split(), strict=True))
    for kind in kinds:
        file = FILES.get(kind, kind)
        assert theirs[file] == os.readlink(f"/proc/{pid}/ns/{file}")


def test_a_path_of_another_kind_of_namespace_is_refused(runtime):
    def change(config):
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        config["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/uts"})

    done = runtime.run("true", change=change)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        "veloci-runtime run failed: config.json: $.linux.namespaces[4].path: /proc/self/ns/uts is no network namespace"
    )
    assert runtime.traces() == []


@pytest.mark.needs("ip")
def test_a_named_network_namespace_is_joined(either):
    name = f"veloci-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:

        def change(config):
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = f"/run/netns/{name}"

        done = either.run("readlink", "/proc/self/ns/net", change=change)
        assert done.stdout.strip() == f"net:[{os.stat(f'/run/netns/{name}').st_ino}]"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.needs("ip")
def test_a_mapped_container_joins_a_network_namespace_of_the_host(either_mapped):
    """As podman starts one with --userns=auto and a network."""
    name = f"veloci-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:

        def change(config):
            users(config)
            config["mounts"] = [mount for mount in config["mounts"] if mount["type"] not in ("sysfs", "cgroup")]
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = f"/run/netns/{name}"

        done = either_mapped.run("readlink", "/proc/self/ns/net", change=change)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"net:[{os.stat(f'/run/netns/{name}').st_ino}]"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_namespaces_that_are_not_named_are_the_callers(either):
    def change(config):
        config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
        config["hostname"] = ""

    done = either.run("sh", "-c", "for n in net ipc uts user; do readlink /proc/self/ns/$n; done", change=change)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "ipc", "uts", "user")]


def test_clocks_are_moved_by_time_offsets(runtime):
    def change(config):
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000}, "monotonic": {"secs": 7, "nanosecs": 5}}

    done = runtime.run("sh", "-c", "cat /proc/uptime; cat /proc/self/timens_offsets", change=change)
    assert done.returncode == 0, done.stderr
    uptime, *offsets = done.stdout.splitlines()
    assert float(uptime.split()[0]) == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME) + 1000000, abs=20)
    assert [line.split() for line in offsets] == [["monotonic", "7", "5"], ["boottime", "1000000", "0"]]


def test_clocks_are_moved_for_the_root_of_a_user_namespace(mapped):
    def change(config):
        users(config)
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000}}

    done = mapped.run("cat", "/proc/self/timens_offsets", change=change)
    assert done.stdout.split()[-3:] == ["boottime", "1000000", "0"], done.stderr


def test_a_container_without_a_pid_namespace_is_killed_whole(runtime):
    def change(config):
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]

    runtime.detached("sh", "-c", "sleep 100 & sleep 100 & wait", change=change)
    assert runtime("delete", "--force", runtime.id).returncode == 0
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda linux: linux["namespaces"].append({"type": "user"}), "$.linux: a user namespace needs uidMappings and gidMappings"),
        (lambda linux: linux["namespaces"].append({"type": "pid"}), "$.linux.namespaces[5]: the namespace pid stands twice"),
        (lambda linux: linux["namespaces"].append({"type": "x"}), "$.linux.namespaces[5].type: expected one of pid, network, mount, ipc, uts, user, cgroup, time, got 'x'"),
        (lambda linux: linux["namespaces"].append({"type": "user", "path": "x"}), "$.linux.namespaces[5].path: 'x' is not an absolute path"),
        (lambda linux: linux["namespaces"].append({"type": "cgroup", "path": "/nope"}), "$.linux.namespaces[5]: namespace /nope: No such file or directory"),
        (lambda linux: linux.update(timeOffsets={"boottime": {"secs": 1}}), "$.linux.timeOffsets: needs a time namespace in linux.namespaces"),
        (lambda linux: linux.update(uidMappings=[{"containerID": 0, "hostID": 1, "size": 1}]), "$.linux.uidMappings: needs a user namespace in linux.namespaces"),
    ],
)  # fmt: skip
def test_namespaces_that_cannot_be_are_refused(runtime, change, message):
    done = runtime.run("true", change=lambda c: change(c["linux"]))
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: {message}"
    assert runtime.traces() == []
