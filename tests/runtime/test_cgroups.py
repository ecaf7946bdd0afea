"""Control groups: limits as files of version 1 and 2, device rules, freezing, killing, paths, statistics, events."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

CGROUP = Path("/sys/fs/cgroup")
V1 = pytest.mark.skipif(
    not (CGROUP / "memory/memory.limit_in_bytes").exists(), reason="this host has no cgroup version 1"
)
MIB = 1 << 20
GROUP = f"/veloci-test-{os.getpid()}"


def resources(**fields):
    """A change that sets fields of linux.resources."""

    def change(config):
        config["linux"]["resources"].update(fields)
        config["linux"]["cgroupsPath"] = GROUP  # a relative one is below the caller's own group

    return change


def read(runtime, controller, file):
    return (CGROUP / controller / GROUP[1:] / file).read_text().split()


V1_FILES = [
    ({"memory": {"limit": 32 * MIB}}, "memory", "memory.limit_in_bytes", [str(32 * MIB)]),
    ({"memory": {"limit": 32 * MIB, "swap": 64 * MIB}}, "memory", "memory.memsw.limit_in_bytes", [str(64 * MIB)]),
    ({"memory": {"limit": 32 * MIB, "swap": -1}}, "memory", "memory.memsw.limit_in_bytes", ["9223372036854771712"]),
    ({"memory": {"reservation": 8 * MIB}}, "memory", "memory.soft_limit_in_bytes", [str(8 * MIB)]),
    ({"memory": {"swappiness": 7}}, "memory", "memory.swappiness", ["7"]),
    ({"cpu": {"shares": 512}}, "cpu", "cpu.shares", ["512"]),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_quota_us", ["20000"]),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_period_us", ["50000"]),
    ({"cpu": {"realtimePeriod": 900000, "realtimeRuntime": 1000}}, "cpu", "cpu.rt_period_us", ["900000"]),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", "cpuset.cpus", ["0"]),
    ({"pids": {"limit": 33}}, "pids", "pids.max", ["33"]),
    ({"pids": {"limit": -1}}, "pids", "pids.max", ["max"]),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1000000}]}}, "blkio", "blkio.throttle.read_bps_device", ["7:0", "1000000"]),
    ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 7, "minor": 0, "rate": 100}]}}, "blkio", "blkio.throttle.write_iops_device", ["7:0", "100"]),
]  # fmt: skip


@V1
@pytest.mark.parametrize(("wanted", "controller", "file", "value"), V1_FILES, ids=[case[2] for case in V1_FILES])
def test_limits_are_files_of_version_1(either, wanted, controller, file, value):
    # The root group has no pids.max, and not all of cpuset.
    if not (CGROUP / controller / file).exists() and controller not in {"cpuset", "pids"}:
        pytest.skip(f"this kernel has no {file}")
    either.created("true", change=resources(**wanted))
    assert read(either, controller, file) == value


@V1
@pytest.mark.parametrize(
    ("wanted", "file", "value"),
    [
        ({"cpu": {"idle": 1}}, "cpu.idle", ["1"]),
        ({"cpu": {"quota": 50000, "burst": 20000}}, "cpu.cfs_burst_us", ["20000"]),
    ],
)
def test_limits_that_runc_1_1_does_not_know(runtime, wanted, file, value):
    runtime.created("true", change=resources(**wanted))
    assert read(runtime, "cpu", file) == value


@V1
def test_one_container_is_counted_in_every_hierarchy_and_leaves_none(either):
    either.detached("sleep", "100")
    pid = either.state()["pid"]
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    named = [line for line in groups if either.id in line]
    wanted = {"memory", "cpu", "cpuset", "pids", "devices", "freezer", "blkio"}
    if " - cgroup2 " in Path("/proc/self/mountinfo").read_text():
        wanted.add("")
    assert {name for line in named for name in line.split(":")[1].split(",")} >= wanted
    either("delete", "--force", either.id)
    assert either.traces() == []


@V1
@pytest.mark.parametrize("path", ["/veloci-test/deep/{id}", "veloci-test-{id}"])
def test_a_group_is_where_the_path_says(either, path):
    path = path.format(id=either.id)
    either.detached("sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=path))
    groups = Path(f"/proc/{either.state()['pid']}/cgroup").read_text()
    own = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    wanted = path if path.startswith("/") else f"{own['pids'].rstrip('/')}/{path}"
    assert f":pids:{wanted}\n" in groups
    either("delete", "--force", either.id)
    assert not list(CGROUP.glob(f"*{wanted}"))
    for group in CGROUP.glob("*/veloci-test"):
        (group / "deep").rmdir()
        group.rmdir()


@pytest.mark.parametrize("path", ["../x", "/a/../../x", "/", "//", "a/..", "/x\0y"])
def test_a_path_that_leads_out_is_refused(runtime, path):
    done = runtime.run("true", change=lambda c: c["linux"].update(cgroupsPath=path))
    assert (done.returncode, "$.linux.cgroupsPath" in done.stderr) == (1, True)
    assert runtime.traces() == []


@V1
def test_a_group_with_a_process_in_it_is_refused_and_stays(runtime):
    group = CGROUP / "pids" / f"busy-{runtime.id}"
    group.mkdir()
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            done = runtime.run("true", change=lambda c: c["linux"].update(cgroupsPath=f"/busy-{runtime.id}"))
            assert done.returncode == 1
            assert "container's cgroup is not empty: 1 process(es) found" in done.stderr
            assert process.poll() is None
        finally:
            process.kill()
    time.sleep(0.05)
    for left in CGROUP.glob(f"*/busy-{runtime.id}"):
        left.rmdir()


@V1
def test_no_processes_at_all_is_one(runtime):
    runtime.created("true", change=resources(pids={"limit": 0}))
    assert read(runtime, "pids", "pids.max") == ["1"]
    runtime("delete", "-f", runtime.id)


@V1
@pytest.mark.parametrize("command", ["create", "run"])
def test_a_frozen_group_is_refused_and_stays(runtime, command):
    group = CGROUP / "freezer" / GROUP[1:]
    group.mkdir(parents=True)
    try:
        (group / "freezer.state").write_text("FROZEN")
        runtime.configure("true", change=resources())
        done = runtime(command, "--bundle", str(runtime.bundle), runtime.id)
        assert (done.returncode, "container's cgroup unexpectedly frozen" in done.stderr) == (1, True), done.stderr
        assert (group / "freezer.state").read_text() == "FROZEN\n"
    finally:
        (group / "freezer.state").write_text("THAWED")
        group.rmdir()


@V1
def test_the_groups_are_mounted_one_a_controller(either):
    def change(config):
        config["linux"]["namespaces"].append({"type": "cgroup"})

    script = (
        "cat /sys/fs/cgroup/pids/cgroup.procs | head -1; grep :pids: /proc/self/cgroup; mkdir /sys/fs/cgroup/pids/x"
    )
    done = either.run("sh", "-c", script, change=change)
    lines = done.stdout.splitlines()
    assert lines[0] == "1"
    assert lines[1].endswith(":pids:/")  # nothing of the host's tree is shown
    assert "Read-only file system" in done.stderr


@V1
def test_a_writable_group_can_be_divided_and_goes_with_the_container(either):
    def change(config):
        config["linux"]["namespaces"].append({"type": "cgroup"})
        for mount in config["mounts"]:
            if mount["type"] == "cgroup":
                mount["options"].remove("ro")
        config["linux"]["cgroupsPath"] = f"/{either.id}"

    done = either.run(
        "sh",
        "-c",
        "mkdir -p /sys/fs/cgroup/pids/a/b && echo 1 > /sys/fs/cgroup/pids/a/b/cgroup.procs && echo fine",
        change=change,
    )
    assert done.stdout == "fine\n", done.stderr
    assert either.traces() == []


@V1
def test_an_exec_can_go_to_a_group_below(runtime):
    runtime.detached("sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=f"/{runtime.id}"))
    below = CGROUP / "pids" / runtime.id / "below"
    below.mkdir()
    done = runtime("exec", "--cgroup", "pids:below", runtime.id, "cat", "/proc/self/cgroup")
    assert f":pids:/{runtime.id}/below\n" in done.stdout, done.stderr
    assert any(f"{name}:/{runtime.id}\n" in done.stdout for name in (":cpu", ":cpu,cpuacct"))
    both = ("--cgroup", "pids:below", "--cgroup", "memory:/")
    assert f":pids:/{runtime.id}/below\n" in runtime("exec", *both, runtime.id, "cat", "/proc/self/cgroup").stdout
    for wish, said in [
        ("pids:../..", "bad sub cgroup path: ../..\n"),
        ("nope:/", "unknown controller nope\n"),
        ("pids:none", f"adding pid to cgroup /sys/fs/cgroup/pids/{runtime.id}/none: no such file or directory\n"),
    ]:
        refused = runtime("exec", "--cgroup", wish, runtime.id, "true")
        assert refused.stderr == f"veloci-runtime: exec failed: --cgroup: {said}"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "$.linux.resources.rdma.mlx5_1: cannot set rdma.max: the cgroup controller rdma is not mounted"),
        ({"network": {"classID": 1}}, "$.linux.resources.network.classID: cannot set net_cls.classid: the cgroup controller net_cls is not mounted"),
        ({"unified": {"memory.high": "1"}}, "$.linux.resources.unified: invalid configuration: cannot use unified on cgroup v1"),
        ({"blockIO": {"leafWeight": 30}}, "$.linux.resources.blockIO.leafWeight: set blkio.leaf_weight to 30: No such file or directory"),
        ({"cpu": {"cpus": "7000"}}, "$.linux.resources.cpu.cpus: set cpuset.cpus to 7000: Numerical result out of range"),
        ({"memory": {"useHierarchy": False}}, "$.linux.resources.memory.useHierarchy: set memory.use_hierarchy to 0: Invalid argument"),
        ({"memory": {"swappiness": 1000}}, "$.linux.resources.memory.swappiness: set memory.swappiness to 1000: Invalid argument"),
    ],
)  # fmt: skip
@V1
def test_a_limit_that_the_host_cannot_set_is_named_and_leaves_nothing(runtime, wanted, message):
    for name, controller in (("rdma", "rdma"), ("network", "net_cls")):
        if name in wanted and (CGROUP / controller).exists():
            pytest.skip(f"this host has {controller}")
    done = runtime.run("true", change=resources(**wanted))
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: {message}"
    assert runtime.traces() == []


@V1
def test_kernel_memory_is_limited_where_the_kernel_can_and_else_refused(runtime, tmp_path):
    file = "memory.kmem.tcp.limit_in_bytes"
    if not (CGROUP / "memory" / file).exists():
        pytest.skip(f"this kernel has no {file}")
    runtime.created("true", change=resources(memory={"kernelTCP": 8 * MIB, "kernel": -1, "useHierarchy": True}))
    assert read(runtime, "memory", file) == [str(8 * MIB)]
    (tmp_path / "wanted").write_text('{"memory": {"kernelTCP": -1}}')
    assert runtime("update", "-r", str(tmp_path / "wanted"), runtime.id).returncode == 0
    assert int(read(runtime, "memory", file)[0]) > 2**62
    runtime("delete", "--force", runtime.id)
    runtime.configure("true", change=resources(memory={"kernel": 8 * MIB}))
    done = runtime("create", "--bundle", str(runtime.bundle), runtime.id)
    if done.returncode == 0:
        assert read(runtime, "memory", "memory.kmem.limit_in_bytes") == [str(8 * MIB)]
    else:
        assert "$.linux.resources.memory.kernel: " in done.stderr
        assert runtime.traces() == []


ALONE = 'mkdir -p /sys/fs/cgroup/{0} && mount -t cgroup -o {0} cgroup /sys/fs/cgroup/{0} && "$@"'


@V1
@pytest.mark.needs("unshare")
def test_network_classes_and_priorities_where_the_host_has_them(either):
    if not shutil.which("unshare") or "net_cls" not in Path("/proc/cgroups").read_text():
        pytest.skip("this kernel has no net_cls")
    wanted = {"classID": 0x100001, "priorities": [{"name": "lo", "priority": 5}]}
    either.configure(
        "sh",
        "-c",
        "cat /sys/fs/cgroup/net_cls,net_prio/net_cls.classid; grep '^lo ' /sys/fs/cgroup/net_cls,net_prio/net_prio.ifpriomap",
        change=resources(network=wanted),
    )
    there = (CGROUP / "net_cls,net_prio").exists()
    script = '"$@"' if there else ALONE.format("net_cls,net_prio")
    done = either.run_within(script)
    if not there:
        (CGROUP / "net_cls,net_prio").rmdir()
    assert done.stdout == "1048577\nlo 5\n", done.stderr


@V1
def test_a_paused_container_is_frozen_and_goes_on(either):
    either.detached("sh", "-c", "while :; do :; done", change=resources())
    assert either("pause", either.id).returncode == 0
    assert read(either, "freezer", "freezer.state") == ["FROZEN"]
    assert either.state()["status"] == "paused"
    assert either("resume", either.id).returncode == 0
    assert either.state()["status"] == "running"


@V1
def test_a_paused_container_is_deleted_by_force(either):
    either.detached("sleep", "100")
    either("pause", either.id)
    assert either("delete", "--force", either.id).returncode == 0
    assert either.traces() == []


def test_kill_of_all_reaches_every_process(runtime):
    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]

    runtime.detached("sh", "-c", "sleep 100 & sleep 100 & wait", change=change)
    time.sleep(0.1)
    pids = json.loads(runtime("ps", "-f", "json", runtime.id).stdout)
    assert len(pids) == 3
    assert runtime("kill", "--all", runtime.id, "KILL").returncode == 0
    time.sleep(0.2)
    assert json.loads(runtime("ps", "-f", "json", runtime.id).stdout) == []


@pytest.mark.needs("strace")
def test_version_2_kills_all_at_once_who_forks_as_fast_as_it_can(runtime, tmp_path):
    """With no process between being seen and being killed, whose number could be another's then: Linux 5.14."""

    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]

    runtime.detached("sh", "-c", "while :; do sleep 100 & sleep 0.01; done", change=change)
    time.sleep(0.2)
    words = [runtime.program, "--root", str(runtime.root), "delete", "--force", runtime.id]
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-fqq", "-e", "trace=openat,kill,pidfd_send_signal", "-o", trace, *words], check=True, timeout=60
    )
    lines = trace.read_text().splitlines()
    if " - cgroup2 " in Path("/proc/self/mountinfo").read_text():
        assert [line for line in lines if "/cgroup.kill" in line and "= -1" not in line]
        assert len([line for line in lines if " kill(" in line]) <= 1  # of the first process
    assert runtime.traces() == []


V2 = pytest.mark.skipif(not (CGROUP / "cgroup.controllers").exists(), reason="version 2 is not alone on this host")
V2_FILES = [
    ({"memory": {"limit": 32 * MIB}}, "memory.max", [str(32 * MIB)]),
    ({"memory": {"limit": 32 * MIB, "swap": 48 * MIB}}, "memory.swap.max", [str(16 * MIB)]),
    ({"memory": {"limit": 32 * MIB, "swap": -1}}, "memory.swap.max", ["max"]),
    ({"memory": {"reservation": 8 * MIB}}, "memory.low", [str(8 * MIB)]),
    ({"cpu": {"shares": 512}}, "cpu.weight", ["20"]),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu.max", ["20000", "50000"]),
    ({"cpu": {"quota": 20000}}, "cpu.max", ["20000", "100000"]),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset.cpus", ["0"]),
    ({"pids": {"limit": 33}}, "pids.max", ["33"]),
    ({"pids": {"limit": -1}}, "pids.max", ["max"]),
    ({"unified": {"memory.high": "1048576"}}, "memory.high", ["1048576"]),
]


@V2
@pytest.mark.parametrize(("wanted", "file", "value"), V2_FILES, ids=[case[1] for case in V2_FILES])
def test_limits_are_files_of_version_2(either, wanted, file, value):
    either.created("true", change=resources(**wanted))
    assert read(either, "", file) == value


@V2
def test_limits_are_updated_in_version_2(either):
    either.detached("sleep", "100", change=resources(cpu={"quota": 20000, "period": 50000}))
    for words, file, value in (
        (["--memory", "33554432"], "memory.max", ["33554432"]),
        (["--cpu-quota", "30000"], "cpu.max", ["30000", "50000" if either.program != "runc" else "100000"]),
        (["--pids-limit", "9"], "pids.max", ["9"]),
        (["--cpu-share", "512"], "cpu.weight", ["20"]),
        (["--cpuset-cpus", "0"], "cpuset.cpus", ["0"]),
    ):
        done = either("update", *words, either.id)
        assert done.returncode == 0, done.stderr
        assert read(either, "", file) == value, words


@V2
def test_reads_are_throttled_in_version_2(either):
    device = next(
        line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/"
    )
    major, minor = map(int, device.split(":"))
    throttle = {"major": major, "minor": minor, "rate": 1000000}
    either.created("true", change=resources(blockIO={"throttleReadBpsDevice": [throttle]}))
    assert "rbps=1000000" in read(either, "", "io.max")


@V2
@pytest.mark.parametrize(
    ("wanted", "file", "value"),
    [
        ({"cpu": {"idle": 1}}, "cpu.idle", ["1"]),
        ({"cpu": {"quota": 50000, "burst": 20000}}, "cpu.max.burst", ["20000"]),
    ],
)
def test_limits_of_version_2_that_runc_1_1_does_not_know(runtime, wanted, file, value):
    runtime.created("true", change=resources(**wanted))
    assert read(runtime, "", file) == value


# --- version 2 -----------------------------------------------------------------------------------

UNIFIED = 'umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup && "$@"'
pure = pytest.mark.skipif(
    not any("cgroup2" in line for line in Path("/proc/filesystems").read_text().splitlines()), reason="no cgroup 2"
)


def unified(runtime, *args, change=None, then=""):
    """A container run where only version 2 is mounted; `then` is shell while it runs."""
    runtime.configure(*args, change=change)
    start = "run -d" if then else "run"
    words = f"{runtime.program} --root {runtime.root} {start} --bundle {runtime.bundle} {runtime.id}"
    after = f"< /dev/null > {runtime.root}.out 2>&1; {then}" if then else ""
    script = UNIFIED.replace('"$@"', f"{{ {words} {after} ; }}")
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=30
    )


@pure
@pytest.mark.needs("unshare")
def test_version_2_alone_holds_freezes_and_kills(runtime):
    it = f"{runtime.program} --root {runtime.root}"
    then = (
        f"cat /sys/fs/cgroup/{runtime.id}/cgroup.procs | wc -l; {it} pause {runtime.id}; cat /sys/fs/cgroup/{runtime.id}/cgroup.freeze;"
        f"{it} resume {runtime.id}; cat /sys/fs/cgroup/{runtime.id}/cgroup.freeze; {it} exec {runtime.id} grep 0:: /proc/self/cgroup;"
        f"{it} delete --force {runtime.id}; ls -d /sys/fs/cgroup/{runtime.id}"
    )
    done = unified(runtime, "sleep", "100", change=lambda c: c["linux"].update(cgroupsPath=f"/{runtime.id}"), then=then)
    assert done.stdout.split() == ["1", "1", "0", f"0::/{runtime.id}"], done.stderr
    assert "No such file" in done.stderr
    assert runtime.traces() == []


def test_the_hosts_console_is_not_the_containers(either):
    """A node of it may be made, as of any device; opened it may not be."""

    def change(config):
        for name in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][name] += ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]

    (either.bundle / "rootfs/bin/mknod").symlink_to("busybox")
    script = "mknod /dev/one c 1 3; mknod /dev/two c 5 1; : >/dev/one && echo null; : >/dev/two && echo console"
    done = either.run("sh", "-c", script, change=change)
    assert done.stdout == "null\n", done.stderr
    assert "/dev/two: Operation not permitted" in done.stderr


def opened(runtime, node, *rules):
    """Whether a container opens a node that it makes itself; after a rule against all, as docker has it, and `rules`."""

    def change(config):
        config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}, *rules]}
        for name in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][name] += ["CAP_MKNOD", "CAP_DAC_OVERRIDE"]

    (runtime.bundle / "rootfs/bin/mknod").symlink_to("busybox")
    done = runtime.run("sh", "-c", f"mknod /dev/one {node}; : <>/dev/one && echo opened; :", change=change)
    assert (done.stdout == "opened\n") != ("/dev/one: Operation not permitted" in done.stderr), done.stderr
    return done.stdout != ""


TUN = pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="this kernel has no /dev/net/tun")


@TUN
def test_a_tunnel_is_the_containers_to_make_and_open(either):
    """VPNs do so, with runc before 1.2 and from 1.2.4 on."""
    assert opened(either, "c 10 200")


@TUN
def test_a_rule_for_tunnels_stands(runtime):
    """runc allows them after all rules; its notes say that a rule takes them away."""
    assert not opened(runtime, "c 10 200", {"allow": False, "access": "w", "type": "c", "major": 10, "minor": 200})


@pure
@pytest.mark.needs("unshare")
def test_version_2_allows_devices_by_a_program(either):
    def change(config):
        config["linux"]["devices"] = [{"path": f"/dev/loop{n}", "type": "b", "major": 7, "minor": n} for n in (98, 99)]
        rules = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "b", "major": 7, "minor": 98, "access": "r"},
        ]
        config["linux"]["resources"]["devices"] = rules

    script = "cat /dev/loop98; cat /dev/loop99; true > /dev/loop98; true > /dev/null && head -c1 /dev/urandom > /dev/null && echo fine"
    done = unified(either, "sh", "-c", script, change=change)
    denied = [line for line in done.stderr.splitlines() if "Operation not permitted" in line]
    assert len(denied) == 2, done.stderr
    assert "loop99" in denied[0]
    assert "loop98" in denied[1]
    assert done.stdout == "fine\n"


@pure
@pytest.mark.needs("unshare")
def test_version_2_replaces_the_device_program_at_an_update(runtime):
    def change(config):
        config["linux"]["devices"] = [{"path": "/dev/loop99", "type": "b", "major": 7, "minor": 99}]
        config["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"}]

    it = f"{runtime.program} --root {runtime.root}"
    look = f"{it} exec {runtime.id} cat /dev/loop99"
    rules = json.dumps({"devices": [{"allow": True, "type": "b", "major": 7, "minor": 99, "access": "rwm"}]})
    then = f"{look}; echo '{rules}' | {it} update -r - {runtime.id} && echo updated; {look}; {it} delete --force {runtime.id}"
    done = unified(runtime, "sleep", "100", change=change, then=then)
    assert done.stdout == "updated\n"
    assert done.stderr.count("Operation not permitted") == 1, done.stderr


@pure
@pytest.mark.needs("unshare")
def test_version_2_is_mounted_in_the_container(either):
    def change(config):
        config["linux"]["namespaces"].append({"type": "cgroup"})

    done = unified(
        either,
        "sh",
        "-c",
        "cat /sys/fs/cgroup/cgroup.procs /proc/self/cgroup; grep -c cgroup2 /proc/mounts",
        change=change,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "1", done.stderr
    assert "0::/" in lines
    assert lines[-1] == "1"


@pure
@pytest.mark.needs("unshare")
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"unified": {"nosuch.max": "1"}}, "unified.nosuch.max: set nosuch.max to 1: No such file or directory"),
        ({"unified": {"../cgroup.procs": "1"}}, "unified: '../cgroup.procs' is not a file name"),
        ({"memory": {"swappiness": 5}}, "memory.swappiness: cgroup version 2 has nothing like it"),
        ({"memory": {"kernel": 5}}, "memory.kernel: cgroup version 2 has nothing like it"),
        ({"memory": {"kernelTCP": 5}}, "memory.kernelTCP: cgroup version 2 has nothing like it"),
        ({"memory": {"useHierarchy": False}}, "memory.useHierarchy: cgroup version 2 has nothing like it"),
        ({"cpu": {"realtimeRuntime": 5}}, "cpu.realtimeRuntime: cgroup version 2 has nothing like it"),
        ({"network": {"classID": 5}}, "network: cgroup version 2 has nothing like it"),
        ({"memory": {"limit": 100, "swap": 50}}, "memory.swap: is below memory.limit"),
    ],
)  # fmt: skip
def test_version_2_names_what_it_cannot_do(runtime, wanted, message):
    done = unified(runtime, "true", change=resources(**wanted))
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: $.linux.resources.{message}"
    assert runtime.traces() == []


@pure
@pytest.mark.needs("unshare")
def test_version_2_takes_any_file_by_its_name(runtime):
    done = unified(
        runtime,
        "cat",
        "/sys/fs/cgroup/cgroup.max.depth",
        change=lambda c: (
            resources(unified={"cgroup.max.depth": "3"})(c),
            c["linux"]["namespaces"].append({"type": "cgroup"}),
        ),
    )
    assert done.stdout == "3\n", done.stderr


@V1
@pytest.mark.parametrize("path", ["", "/deep/down/{id}"])
def test_no_directory_is_made_where_a_hierarchy_is_not(runtime, tmp_path, path):
    """It is covered, as one that is unmounted would be gone, after the runtime has seen that it is mounted."""
    runtime.configure("true", change=lambda c: c["linux"].update(cgroupsPath=path.format(id=runtime.id)))
    covered = CGROUP / "pids"
    script = f'mount -t tmpfs none {covered} && "$@"; status=$?; ls -A {covered} > {tmp_path}/left; exit $status'
    done = runtime.run_within(script)
    assert (done.returncode, "is not on a control group file system" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "left").read_text() == ""
    for group in CGROUP.glob("*/deep"):
        (group / "down").rmdir()
        group.rmdir()
    assert runtime.traces() == []
