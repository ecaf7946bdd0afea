"""What test_cgroups and test_update say of version 1, on a host that has version 2 alone (in the virtual machine)."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

CGROUP = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.needs("root", "namespaces", "busybox"),
    pytest.mark.skipif(not (CGROUP / "cgroup.controllers").exists(), reason="version 2 is not alone on this host"),
]
MIB = 1 << 20
GROUP = f"veloci-unified-{os.getpid()}"


def grouped(namespace=False, writable=False, **resources):
    """A change that names the group, sets fields of linux.resources, and adds a namespace of groups."""

    def change(config):
        config["linux"]["cgroupsPath"] = f"/{GROUP}"
        config["linux"]["resources"].update(resources)
        if namespace:
            config["linux"]["namespaces"].append({"type": "cgroup"})
        for mount in config["mounts"]:
            if writable and mount["type"] == "cgroup":
                mount["options"].remove("ro")

    return change


def value(file):
    return (CGROUP / GROUP / file).read_text().strip()


@pytest.mark.parametrize("path", ["/veloci-test/deep/{id}", "veloci-test-{id}"])
def test_a_group_is_where_the_path_says(either, path):
    """A relative one is beside the caller's own: a group with processes has no children with controllers."""
    path = path.format(id=either.id)
    either.detached("sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=path))
    own = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]
    wanted = path if path.startswith("/") else os.path.join(os.path.dirname(own), path)
    assert Path(f"/proc/{either.state()['pid']}/cgroup").read_text() == f"0::{wanted}\n"
    either("delete", "--force", either.id)
    assert not (CGROUP / wanted[1:]).exists()
    for group in ("veloci-test/deep", "veloci-test") if path.startswith("/") else ():
        (CGROUP / group).rmdir()


def test_every_controller_is_handed_down_to_the_container(either):
    there = set((CGROUP / "cgroup.controllers").read_text().split())
    either.created("true", change=grouped())
    assert set(value("cgroup.controllers").split()) == there >= {"cpu", "cpuset", "io", "memory", "pids"}


def test_a_group_with_a_process_in_it_is_refused_and_stays(runtime):
    (CGROUP / GROUP).mkdir()
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            (CGROUP / GROUP / "cgroup.procs").write_text(str(process.pid))
            done = runtime.run("true", change=grouped())
            assert done.returncode == 1
            assert "container's cgroup is not empty: 1 process(es) found" in done.stderr
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
            (CGROUP / GROUP).rmdir()
    assert runtime.left() == []


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_frozen_group_is_refused_and_stays(runtime, command):
    (CGROUP / GROUP).mkdir()
    try:
        (CGROUP / GROUP / "cgroup.freeze").write_text("1")
        runtime.configure("true", change=grouped())
        done = runtime(command, "--bundle", str(runtime.bundle), runtime.id)
        assert (done.returncode, "container's cgroup unexpectedly frozen" in done.stderr) == (1, True), done.stderr
        assert value("cgroup.freeze") == "1"
    finally:
        (CGROUP / GROUP).rmdir()


def test_no_processes_at_all_is_one(runtime):
    runtime.created("true", change=grouped(pids={"limit": 0}))
    assert value("pids.max") == "1"


def test_the_group_is_mounted_read_only_and_shows_nothing_above(either):
    script = "cat /sys/fs/cgroup/cgroup.procs /proc/self/cgroup; busybox mkdir /sys/fs/cgroup/x"
    done = either.run("sh", "-c", script, change=grouped(namespace=True))
    assert done.stdout.split() == ["1", *done.stdout.split()[1:-1], "0::/"]
    assert "Read-only file system" in done.stderr


def test_a_writable_group_can_be_divided_and_goes_with_the_container(either):
    script = (
        "cd /sys/fs/cgroup && busybox mkdir -p a/b && echo 1 > a/b/cgroup.procs && echo $$ > a/b/cgroup.procs"
        " && echo +pids > cgroup.subtree_control && echo 5 > a/pids.max && cat a/pids.max"
    )
    done = either.run("sh", "-c", script, change=grouped(namespace=True, writable=True))
    assert done.stdout == "5\n", done.stderr
    assert not (CGROUP / GROUP).exists()


def test_an_exec_can_go_to_a_group_below(runtime):
    runtime.detached("sleep", "100", change=grouped())
    (CGROUP / GROUP / "below").mkdir()
    for words in (("--cgroup", "below"), ("--cgroup", "/below/")):
        done = runtime("exec", *words, runtime.id, "cat", "/proc/self/cgroup")
        assert done.stdout == f"0::/{GROUP}/below\n", done.stderr
    for wish, said in [
        ("../..", "bad sub cgroup path: ../..\n"),
        ("pids:/", "unknown controller pids\n"),
        ("none", f"adding pid to cgroup /sys/fs/cgroup/{GROUP}/none: no such file or directory\n"),
    ]:
        refused = runtime("exec", "--cgroup", wish, runtime.id, "true")
        assert refused.stderr == f"veloci-runtime: exec failed: --cgroup: {said}"


def test_a_paused_container_is_frozen_and_goes_on_or_is_deleted_by_force(either):
    either.detached("sh", "-c", "while :; do :; done", change=grouped())
    for _ in range(2):
        assert either("pause", either.id).returncode == 0
        assert "frozen 1" in value("cgroup.events")
        assert either.state()["status"] == "paused"
        assert either("resume", either.id).returncode == 0
        assert "frozen 0" in value("cgroup.events")
        assert either.state()["status"] == "running"
    either("pause", either.id)
    assert either("delete", "--force", either.id).returncode == 0
    assert either.traces() == []
    assert not (CGROUP / GROUP).exists()


LIMITS = [
    ({"blockIO": {"throttleWriteBpsDevice": [2000000]}}, "io.max", "wbps=2000000"),
    ({"blockIO": {"throttleReadIOPSDevice": [300]}}, "io.max", "riops=300"),
    ({"blockIO": {"throttleWriteIOPSDevice": [400]}}, "io.max", "wiops=400"),
    ({"memory": {"limit": -1, "swap": -1}}, "memory.max", "max"),
    ({"cpu": {"period": 50000}}, "cpu.max", "max 50000"),
    ({"cpu": {"quota": -1, "period": 50000}}, "cpu.max", "max 50000"),
    ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
    ({"cpu": {"shares": 2}}, "cpu.weight", "1"),
    ({"cpu": {"shares": 262144}}, "cpu.weight", "10000"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, "hugetlb.2MB.max", str(4 * MIB)),
    ({"unified": {"memory.swap.high": "1048576", "pids.max": "7"}}, "pids.max", "7"),
]


@pytest.mark.parametrize(("wanted", "file", "said"), LIMITS, ids=[f"{case[1]}-{n}" for n, case in enumerate(LIMITS)])
def test_limits_are_files(either, wanted, file, said):
    if file.startswith("hugetlb") and "hugetlb" not in (CGROUP / "cgroup.controllers").read_text().split():
        pytest.skip(f"this kernel has no {file}")
    if "blockIO" in wanted:
        root = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/")
        major, minor = map(int, root.split()[2].split(":"))
        [(name, [rate])] = wanted["blockIO"].items()
        wanted = {"blockIO": {name: [{"major": major, "minor": minor, "rate": rate}]}}
    either.created("true", change=grouped(**wanted))
    assert said in (value(file), *value(file).split())


def test_huge_pages_that_are_reserved_are_limited_too(runtime):
    """Which runc 1.1 does not know."""
    if "hugetlb" not in (CGROUP / "cgroup.controllers").read_text().split():
        pytest.skip("this kernel has no hugetlb")
    runtime.created("true", change=grouped(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}]))
    assert value("hugetlb.2MB.rsvd.max") == str(4 * MIB)


FLAGS = [
    (["--memory", "32M"], "memory.max", str(32 * MIB)),
    (["--memory", str(48 * MIB)], "memory.max", str(48 * MIB)),
    (["--memory", "48M", "--memory-swap", "64M"], "memory.swap.max", str(16 * MIB)),
    (["--memory-swap", "-1"], "memory.swap.max", "max"),
    (["--memory-reservation", "16m"], "memory.low", str(16 * MIB)),
    (["--memory", "-1"], "memory.max", "max"),
    (["--pids-limit", "30"], "pids.max", "30"),
    (["--pids-limit", "-1"], "pids.max", "max"),
    (["--cpu-share", "100"], "cpu.weight", "4"),
    (["--cpu-period", "20000", "--cpu-quota", "10000"], "cpu.max", "10000 20000"),
    (["--cpuset-cpus", "0"], "cpuset.cpus", "0"),
    (["--cpuset-mems", "0"], "cpuset.mems", "0"),
]


def test_every_flag_of_update_changes_its_file_and_leaves_the_others(either):
    either.detached("sleep", "100", change=grouped(memory={"limit": 64 * MIB}, cpu={"quota": 90000, "period": 100000}))
    for words, file, wanted in FLAGS:
        done = either("update", *words, either.id)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert value(file) == wanted, words
    assert (value("pids.max"), value("cpu.weight")) == ("max", "4")


def test_flags_of_newer_runcs_and_what_stays_of_a_bandwidth(runtime):
    runtime.detached("sleep", "100", change=grouped(cpu={"quota": 20000, "period": 50000}))
    for words, file, wanted in (
        (["--cpu-quota", "30000"], "cpu.max", "30000 50000"),
        (["--cpu-period", "60000"], "cpu.max", "30000 60000"),
        (["--cpu-burst", "10000"], "cpu.max.burst", "10000"),
        (["--cpu-quota", "-1", "--cpu-burst", "0"], "cpu.max", "max 60000"),
        (["--cpu-idle", "1"], "cpu.idle", "1"),
        (["--cpu-idle", "0"], "cpu.idle", "0"),
    ):
        done = runtime("update", *words, runtime.id)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert value(file) == wanted, words


WANTED = {
    "memory": {"limit": 40 * MIB},
    "cpu": {"shares": 300, "cpus": "0"},
    "pids": {"limit": 12},
    "unified": {"memory.high": str(30 * MIB)},
}


def test_an_update_reads_resources_as_json_and_reaches_one_that_is_created(runtime, tmp_path):
    runtime.created("true", change=grouped())
    (tmp_path / "resources").write_text(json.dumps(WANTED))
    assert runtime("update", "--resources", str(tmp_path / "resources"), runtime.id).returncode == 0
    files = [value(file) for file in ("memory.max", "cpu.weight", "cpuset.cpus", "pids.max", "memory.high")]
    assert files == [str(40 * MIB), "12", "0", "12", str(30 * MIB)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"cpu": {"cpus": "999"}}, "cpu.cpus: set cpuset.cpus to 999: Numerical result out of range"),
        ({"cpu": {"quota": 1}}, "cpu.quota: set cpu.max to 1 100000: Invalid argument"),
        ({"cpu": {"quota": 50000, "burst": 60000}}, "cpu.burst: set cpu.max.burst to 60000: Invalid argument"),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, "hugepageLimits[0]: set hugetlb.3MB.max to 1: No such file or directory"),
        ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma.mlx5_1: set rdma.max to mlx5_1 hca_handle=3 hca_object=max: "),
        ({"blockIO": {"leafWeight": 10}}, "blockIO.leafWeight: cgroup version 2 has nothing like it"),
        ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller: cgroup version 2 has nothing like it"),
        ({"unified": {"pids.max": "few"}}, "unified.pids.max: set pids.max to few: Invalid argument"),
    ],
)  # fmt: skip
def test_a_limit_that_the_kernel_refuses_is_named_and_leaves_nothing(runtime, wanted, message):
    done = runtime.run("true", change=grouped(**wanted))
    start = f"veloci-runtime run failed: config.json: $.linux.resources.{message}"
    assert done.stderr.startswith(start), done.stderr
    assert (runtime.left(), (CGROUP / GROUP).exists()) == ([], False)


def test_a_container_has_no_more_processes_than_it_may(runtime):
    done = runtime.run("sh", "-c", "sleep 1 & sleep 1 & wait; echo $?", change=grouped(pids={"limit": 2}))
    assert "can't fork" in done.stderr
    assert not (CGROUP / GROUP).exists()


def test_processes_that_are_left_without_a_pid_namespace_go_with_the_container(runtime):
    """runc 1.1 leaves the group of one that has stopped."""

    def change(config):
        grouped()(config)
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]

    runtime.detached("sh", "-c", "sleep 100 & sleep 100 & sleep 0.1", change=change)
    limit = time.monotonic() + 20
    while runtime.state()["status"] != "stopped":
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert len(value("cgroup.procs").split()) == 2
    assert runtime("delete", runtime.id).returncode == 0
    assert not (CGROUP / GROUP).exists()
