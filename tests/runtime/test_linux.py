"""linux: sysctl, devices, hidden and read-only paths, personality, memory policy, network devices, propagation."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def linux(**fields):
    """A change that sets fields of linux."""
    return lambda config: config["linux"].update(fields)


def test_sysctls_of_each_namespace_are_set_and_the_hosts_stay(either):
    values = {
        "kernel.shmmni": "4000",
        "kernel/msgmax": "9000",
        "net.ipv4.ip_forward": "1",
        "net.ipv4.ping_group_range": "0 100",
        "net/ipv4/conf/lo/forwarding": "1",
        "fs.mqueue.msg_max": "11",
        "kernel.domainname": "example",
    }
    host = {name: Path("/proc/sys/" + name.replace(".", "/")).read_text() for name in values}
    files = ["/proc/sys/" + name.replace(".", "/") for name in values]
    done = either.run("cat", *files, change=linux(sysctl=values))
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [value.split() for value in values.values()]
    assert host == {name: Path("/proc/sys/" + name.replace(".", "/")).read_text() for name in values}


@pytest.mark.parametrize("turned", [False, True])
def test_sysctls_that_want_each_other_may_stand_in_any_order(runtime, turned):
    values = {"net.ipv4.ip_local_port_range": "1 2000", "net.ipv4.ip_unprivileged_port_start": "0"}
    ordered = dict(sorted(values.items(), reverse=turned))
    files = [f"/proc/sys/{name.replace('.', '/')}" for name in ordered]
    done = runtime.run("cat", *files, change=linux(sysctl=ordered))
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [ordered[name].split() for name in ordered]


def test_a_sysctl_with_dots_in_a_part_is_spelled_with_slashes(runtime):
    done = runtime.run("true", change=linux(sysctl={"net/ipv4/conf/no.such/forwarding": "1"}))
    assert done.stderr.splitlines()[0].endswith(
        "$.linux.sysctl: sysctl: sys/net/ipv4/conf/no.such/forwarding: openat2: No such file or directory"
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kernel.core_pattern", "kernel/core_pattern"),
        ("vm.swappiness", "vm/swappiness"),
        ("kernel.hostname", "kernel/hostname"),
        ("fs.file-max", "fs/file-max"),
        ("net/../kernel/core_pattern", "kernel/core_pattern"),
        ("net", "net"),
    ],
)
def test_a_sysctl_of_the_host_is_refused(runtime, name, file):
    held = Path("/proc/sys", file)
    # What the host has already: were it written, no harm would be done.
    setting = held.read_text().rstrip("\n") if held.is_file() else "1"
    done = runtime.run("true", change=linux(sysctl={name: setting}))
    assert (done.returncode, "$.linux.sysctl" in done.stderr) == (1, True)
    assert runtime.traces() == []


def test_a_sysctl_of_a_shared_namespace_is_refused(either):
    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    done = either.run("true", change=change)
    assert done.returncode == 1
    assert "not in a separate kernel namespace" in done.stderr or "not allowed" in done.stderr


def test_a_sysctl_of_a_namespace_that_is_the_hosts_by_its_path_is_refused(either):
    host = Path("/proc/sys/net/ipv4/ip_forward").read_text()

    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
        config["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1" if host == "0\n" else "0"}

    done = either.run("true", change=change)
    assert done.returncode == 1
    assert "not in a separate kernel namespace" in done.stderr or "not allowed in host network" in done.stderr
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == host


def test_counts_of_a_user_namespace_are_set_in_its_own_alone(mapped):
    file, name = "/proc/sys/user/max_user_namespaces", "user.max_user_namespaces"
    host = Path(file).read_text()
    done = mapped.run("true", change=linux(sysctl={name: "5"}))
    assert f"sysctl '{name}' is not in a separate kernel namespace" in done.stderr

    def change(config):
        config["linux"]["namespaces"].append({"type": "user"})
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        config["linux"].update(uidMappings=ids, gidMappings=ids, sysctl={name: "5"})

    done = mapped.run("cat", file, change=change)
    assert (done.stdout, Path(file).read_text()) == ("5\n", host), done.stderr


def test_a_default_device_can_be_another(either):
    devices = [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "uid": 3},
    ]
    done = either.run("stat", "-c", "%a|%u|%t|%T", "/dev/null", "/dev/full", change=linux(devices=devices))
    assert done.stdout.splitlines() == ["666|0|1|5", "640|3|1|7"], done.stderr


def test_devices_are_made_with_mode_and_owner(either):
    devices = [
        {"path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/deep/two", "type": "u", "major": 1, "minor": 3},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 5, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 5},
    ]
    places = [device["path"] for device in devices]
    done = either.run("stat", "-c", "%F|%a|%u|%g|%t|%T", *places, change=linux(devices=devices))
    assert done.stdout.splitlines() == [
        "character special file|640|3|4|1|5",
        "character special file|666|0|0|1|3",
        "block special file|600|0|0|7|5",
        "fifo|622|5|0|0|0",
    ], done.stderr


def test_every_container_has_the_default_devices_and_links(either):
    names = "null zero full random urandom tty".split()
    done = either.run("stat", "-c", "%n %a %t:%T", *(f"/dev/{name}" for name in names))
    numbers = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    assert done.stdout.splitlines() == [f"/dev/{name} 666 {numbers[name]}" for name in names]
    links = "for n in fd stdin stdout stderr ptmx; do readlink /dev/$n; done"
    assert either.run("sh", "-c", links).stdout.split() == [
        "/proc/self/fd",
        *(f"/proc/self/fd/{n}" for n in range(3)),
        "pts/ptmx",
    ]


def test_only_devices_that_are_allowed_can_be_opened(either):
    def change(config):
        config["linux"]["devices"] = [{"path": f"/dev/loop{n}", "type": "b", "major": 7, "minor": n} for n in (98, 99)]
        rules = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "b", "major": 7, "minor": 98, "access": "r"},
        ]
        config["linux"]["resources"]["devices"] = rules

    done = either.run("sh", "-c", "cat /dev/loop98; cat /dev/loop99; : > /dev/loop98", change=change)
    lines = done.stderr.splitlines()
    denied = [line for line in lines if "Operation not permitted" in line]
    assert len(denied) == 2
    assert "loop99" in denied[0]
    assert "loop98" in denied[1]


def test_a_device_where_another_file_stands_is_refused(runtime):
    (runtime.bundle / "rootfs/there").touch()
    done = runtime.run("true", change=linux(devices=[{"path": "/there", "type": "c", "major": 1, "minor": 3}]))
    assert done.stderr.splitlines()[0].endswith("$.linux.devices: devices: /there is another file already")


def test_paths_are_hidden(either):
    def change(config):
        config["linux"]["maskedPaths"] = ["/proc/keys", "/proc/scsi", "/proc/nothing", "/secret", "/full"]

    (either.bundle / "rootfs/secret").write_text("secret")
    (either.bundle / "rootfs/full").mkdir()
    (either.bundle / "rootfs/full/inside").write_text("secret")
    done = either.run("sh", "-c", "cat /secret /proc/keys; ls -A /full; touch /full/new", change=change)
    assert done.stdout == ""
    assert "Read-only file system" in done.stderr


def test_paths_are_read_only(either):
    def change(config):
        config["root"]["readonly"] = False
        config["linux"]["readonlyPaths"] = ["/proc/sys", "/data", "/file", "/nothing"]
        config["mounts"].append({"destination": "/data/below", "type": "tmpfs", "source": "tmpfs"})

    (either.bundle / "rootfs/data").mkdir()
    (either.bundle / "rootfs/file").touch()
    script = "for f in /proc/sys/kernel/domainname /data/new /data/below/new /file; do echo x > $f; done; echo y > /else && echo fine"
    done = either.run("sh", "-c", script, change=change)
    assert done.stdout == "fine\n"
    assert done.stderr.count("Read-only file system") == (
        3 if either.program == "runc" else 4
    )  # runc 1.1 leaves what is below


def test_a_read_only_root_still_has_writable_mounts(either):
    done = either.run(
        "sh",
        "-c",
        "echo x > /new; echo x > /dev/shm/new && echo fine",
        change=lambda c: c["root"].update(readonly=True),
    )
    assert (done.stdout, "Read-only file system" in done.stderr) == ("fine\n", True)


@pytest.mark.parametrize(("domain", "machine"), [("LINUX32", "i686"), ("LINUX", os.uname().machine)])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another machine is called otherwise")
def test_the_personality_is_set_also_for_an_exec(runtime, domain, machine):
    runtime.detached("sleep", "100", change=linux(personality={"domain": domain}))
    assert runtime("exec", runtime.id, "/bin/busybox", "uname", "-m").stdout == f"{machine}\n"
    with open(f"/proc/{runtime.state()['pid']}/personality") as file:
        assert int(file.read(), 16) == (8 if domain == "LINUX32" else 0)


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="this kernel has no memory policies")
def test_the_memory_policy_is_set_also_for_an_exec(runtime, policy, shown):
    runtime.detached("sleep", "100", change=linux(memoryPolicy=policy))
    done = runtime("exec", runtime.id, "cat", "/proc/self/numa_maps", "/proc/1/numa_maps")
    assert {line.split()[1] for line in done.stdout.splitlines() if "stack" in line or "heap" in line} == {shown}


@pytest.fixture
def device():
    """A veth pair of the host; the name of one end."""
    name = f"vt{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", f"{name}p"], check=True)
    subprocess.run(["ip", "addr", "add", "10.99.0.2/24", "dev", name], check=True)
    subprocess.run(["ip", "addr", "add", "fd99::2/64", "dev", name], check=True)
    yield name
    subprocess.run(["ip", "link", "del", f"{name}p"], check=False, capture_output=True)


@pytest.mark.needs("ip", "nsenter")
def test_a_network_device_moves_in_with_its_addresses(runtime, device):
    runtime.detached("sleep", "100", change=linux(netDevices={device: {"name": "eth7"}}))
    pid = str(runtime.state()["pid"])
    done = subprocess.run(["nsenter", "-t", pid, "-n", "ip", "-json", "addr"], capture_output=True, check=True)
    found = {link["ifname"]: link for link in json.loads(done.stdout)}
    assert set(found) == {"lo", "eth7"}
    assert "UP" in found["eth7"]["flags"]
    addresses = {
        f"{each['local']}/{each['prefixlen']}" for each in found["eth7"]["addr_info"] if each["scope"] == "global"
    }
    assert addresses == {"10.99.0.2/24", "fd99::2/64"}
    assert not os.path.exists(f"/sys/class/net/{device}")


@pytest.mark.needs("ip")
@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ({"nosuch0": {}}, "$.linux.netDevices.nosuch0: move network device nosuch0: No such device"),
        ({"eth0": {"name": "a/b"}}, "$.linux.netDevices.eth0: 'a/b' is no name of a network device"),
        ({"a": {"name": "c"}, "b": {"name": "c"}}, "$.linux.netDevices.b.name: 'c' stands twice"),
        ({"x" * 16: {}}, f"$.linux.netDevices.{'x' * 16}: {'x' * 16!r} is no name of a network device"),
    ],
)
def test_a_network_device_that_cannot_be_is_named(runtime, devices, message):
    done = runtime.run("true", change=linux(netDevices=devices))
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: {message}"
    assert runtime.traces() == []


@pytest.mark.needs("ip")
def test_a_failed_container_takes_no_device_with_it(runtime, device):
    def change(config):
        config["linux"]["netDevices"] = {device: {"name": "lo"}}  # which is there already

    done = runtime.run("true", change=change)
    assert "$.linux.netDevices" in done.stderr
    assert os.path.exists(f"/sys/class/net/{device}")


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("shared", "shared"), ("slave", ""), ("private", ""), ("unbindable", "unbindable"), ("rshared", "shared")],
)
def test_the_propagation_of_the_root(runtime, wanted, shown):
    done = runtime.run("grep", " / / \\| /.*rootfs / ", "/proc/self/mountinfo", change=linux(rootfsPropagation=wanted))
    assert done.returncode == 0, done.stderr
    fields = done.stdout.split(" - ")[0].split()[6:]
    assert {field.partition(":")[0] for field in fields} - {"master"} == ({shown} if shown else set())


def test_the_hosts_mounts_stay_as_they_are(runtime):
    before = Path("/proc/self/mountinfo").read_text().splitlines()
    runtime.run("true", change=linux(rootfsPropagation="shared"))
    after = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [line for line in after if runtime.id in line or str(runtime.bundle) in line] == []
    assert {line.split()[4]: line.split()[6] for line in before if line.split()[4] == "/"} == {
        line.split()[4]: line.split()[6] for line in after if line.split()[4] == "/"
    }


def test_the_files_of_the_host_keep_their_modes(runtime):
    before = {path: os.stat(path) for path in ("/dev/null", "/dev/zero", "/dev/tty")}
    runtime.run(
        "true", change=linux(devices=[{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}])
    )
    for path, status in before.items():
        assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(status.st_mode)
