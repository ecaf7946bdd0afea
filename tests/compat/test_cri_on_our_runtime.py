"""Kubernetes' way to containers: pods of containerd's CRI, made with veloci-runtime; what runc gives is what ours gives."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cri
import pytest
from peers import Containerd, own_network, run
from pods import CREATED, EXITED, RUNNING, Pods
from streams import STDIN, Streams

pytestmark = pytest.mark.needs("root", "overlay", "busybox", "containerd", "ctr", "runc", "cni", "iptables")
OWN = str(Path(sys.executable).parent / "veloci-runtime")
PROGRAMS = "cat chmod echo grep head hostname id ip ipcs kill ls mount nc pidof ps readlink sh sleep sysctl tail test touch true umount unshare wget".split()
POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
SERVICE = '[plugins."io.containerd.grpc.v1.cri"'
CONFIG = f"""
disabled_plugins = ["io.containerd.internal.v1.opt"]
{SERVICE}]
  sandbox_image = "docker.io/library/pause:v0"
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  enable_unprivileged_icmp = false
{SERVICE}.cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "ROOT/cni"
"""
RUNTIME = """
{SERVICE}.containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
{SERVICE}.containerd.runtimes.{name}.options]
  BinaryName = "{path}"
  Root = "ROOT/runtime-{name}"
  SystemdCgroup = false
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Two images of one tree, as docker's archives: one that waits, for pods, and one that runs what it is told."""
    here = tmp_path_factory.mktemp("images")
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "home/guest"):
        (here / "tree" / name).mkdir(parents=True)
    (here / "tree/tmp").chmod(0o1777)
    (here / "tree/etc/passwd").write_text("root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n")
    (here / "tree/etc/group").write_text("root:x:0:\nguest:x:1000:\nextra:x:55:guest\n")
    shutil.copy(shutil.which("busybox"), here / "tree/bin/busybox")
    for name in PROGRAMS:
        (here / "tree/bin" / name).symlink_to("busybox")
    run("tar", "-C", here / "tree", "-cf", here / "tree.tar", ".")
    environment = os.environ | {"VELOCI_ROOT": str(here / "data"), "VELOCI_RUN": str(here / "run")}
    forever = ["-c", 'CMD ["sh", "-c", "trap exit TERM INT; while :; do sleep 1 & wait; done"]']
    for name, change in (("pause", forever), ("shell", ["-c", "ENV IMAGE=shell"])):
        words = [
            ["-c", "ENV PATH=/bin", *change, here / "tree.tar", f"docker.io/library/{name}:v0"],
            ["-o", here / f"{name}.tar", f"{name}:v0"],
        ]
        for command, rest in zip(("import", "save"), words, strict=True):
            run(sys.executable, "-m", "veloci", command, *rest, env=environment)
    return [here / "pause.tar", here / "shell.tar"]


class Service(Containerd):
    def ready(self):
        """Wait until the part of it that is asked for pods answers as well."""
        for _ in range(100):
            with contextlib.suppress(cri.Failed):  # "server is not initialized yet"
                return cri.Client(self.socket).Status()
            time.sleep(0.1)
        raise AssertionError((self.root / "log").read_text()[-2000:])


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory, archives):
    """A containerd that knows runc and veloci-runtime, and a network for its pods, in a network namespace of its own."""
    root = tmp_path_factory.mktemp("cri")
    (root / "cni").mkdir()
    address = {"type": "host-local", "subnet": "10.213.7.0/24", "dataDir": str(root / "addresses")}
    address["routes"] = [{"dst": "0.0.0.0/0"}]
    plugins = [{"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": True, "ipam": address}]
    plugins += [{"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}]
    (root / "cni/10-pods.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}))
    runtimes = [
        RUNTIME.format(SERVICE=SERVICE, name=name, path=path) for name, path in (("runc", "runc"), ("veloci", OWN))
    ]
    containerd = Service(root, (CONFIG + "".join(runtimes)).replace("ROOT", str(root)))
    known = os.path.exists("/var/lib/cni")
    with own_network(), containerd as ctr:
        for archive in archives:
            run(*ctr, "--namespace", "k8s.io", "image", "import", archive)
        containerd.ready()
        yield containerd
    for group in Path("/sys/fs/cgroup").glob(f"*/vcri-{os.getpid()}"):
        group.rmdir()  # who asks for pods makes and removes what they are below
    if not known:
        shutil.rmtree("/var/lib/cni", ignore_errors=True)  # what the plugins' library keeps of results


@pytest.fixture(scope="module")
def client(kubernetes):
    return cri.Client(kubernetes.socket)


@pytest.fixture(params=["runc", "veloci"])
def pods(request, client, tmp_path):
    found = Pods(client, request.param, tmp_path)
    yield found
    found.close()


def test_the_service_is_ready(client):
    version = client.Version()
    assert (version["runtime_name"], version["runtime_api_version"]) == ("containerd", "v1")
    conditions = client.Status()["status"]["conditions"]
    assert {one["type"]: one["status"] for one in conditions} == {"RuntimeReady": True, "NetworkReady": True}


def test_a_container_of_a_pod_from_its_creation_to_its_removal(client, pods):
    pod = pods.pod(hostname="front", labels={"app": "one"})
    status = pod.status()
    assert (status["state"], status["runtime_handler"]) == (0, pods.runtime)
    assert status["network"]["ip"].startswith("10.213.7.")
    script = "trap 'echo told; exit 5' TERM; echo out $IMAGE $HERE; echo err >&2; while :; do sleep 0.05; done"
    box = pod.create("sh", "-c", script, envs=[{"key": "HERE", "value": "there"}], labels={"part": "web"})
    assert box.status()["state"] == CREATED
    client.StartContainer(container_id=box.id)
    status = box.status()
    assert (status["state"], status["finished_at"], status["reason"]) == (RUNNING, 0, "")
    (listed,) = client.ListContainers(filter={"pod_sandbox_id": pod.id})["containers"]
    assert (listed["id"], listed["state"], listed["labels"], listed["metadata"]["name"]) == (
        box.id,
        RUNNING,
        {"part": "web"},
        "box1",
    )

    done = box.exec("sh", "-c", "hostname; echo wrong >&2; exit 3")
    assert (done["stdout"], done["stderr"], done["exit_code"]) == ("front\n", "wrong\n", 3)
    stats = client.ContainerStats(container_id=box.id)["stats"]
    assert stats["attributes"]["id"] == box.id
    assert stats["cpu"]["usage_core_nano_seconds"]["value"] > 0
    assert stats["memory"]["working_set_bytes"]["value"] > 0

    box.says(("stderr", "err"))
    client.StopContainer(container_id=box.id, timeout=30)
    status = box.status()
    assert (status["state"], status["exit_code"], status["reason"]) == (EXITED, 5, "Error")
    assert sorted(box.log()) == [("stderr", "err"), ("stdout", "out shell there"), ("stdout", "told")]
    client.RemoveContainer(container_id=box.id)
    with pytest.raises(cri.Failed, match="not found"):
        box.status()
    client.StopPodSandbox(pod_sandbox_id=pod.id)
    assert pod.status()["state"] == 1
    client.RemovePodSandbox(pod_sandbox_id=pods.made.pop())
    with pytest.raises(cri.Failed, match="not found"):
        pod.status()


def test_who_does_not_end_in_time_is_killed(client, pods):
    box = pods.pod().start("sh", "-c", "trap : TERM; echo up; while :; do sleep 0.05; done")
    box.says(("stdout", "up"))
    begin = time.monotonic()
    client.StopContainer(container_id=box.id, timeout=1)
    assert 1 <= time.monotonic() - begin < 20
    assert box.status()["exit_code"] == 137


def test_how_a_container_ended_is_told(client, pods):
    pod = pods.pod()
    status = pod.start("sh", "-c", "exit 7").ended()
    assert (status["exit_code"], status["reason"]) == (7, "Error")
    status = pod.start("true").ended()
    assert (status["exit_code"], status["reason"]) == (0, "Completed")
    box = pod.create("nosuch")
    with pytest.raises(cri.Failed, match=r'exec: "nosuch": executable file not found in \$PATH'):
        client.StartContainer(container_id=box.id)
    status = box.status()
    assert (status["state"], status["exit_code"], status["reason"]) == (EXITED, 128, "StartError")
    box = pod.create("/bin")
    with pytest.raises(cri.Failed, match=r'exec: "/bin": (permission denied|is a directory)'):
        client.StartContainer(container_id=box.id)


def test_a_program_in_a_container_that_takes_too_long_or_is_not_there(client, pods):
    box = pods.pod().start("sleep", "1000")
    with pytest.raises(cri.Failed, match="timeout 1s exceeded") as caught:
        box.exec("sleep", "333", timeout=1)
    assert caught.value.code == "4"  # DeadlineExceeded
    assert "sleep 333" not in box.exec("ps", "-o", "args")["stdout"]
    with pytest.raises(cri.Failed, match=r'exec: "nosuch": executable file not found in \$PATH'):
        box.exec("nosuch")
    assert box.exec("true")["exit_code"] == 0


def test_limits_are_set_and_changed(client, pods):
    limits = {
        "memory_limit_in_bytes": 64 << 20,
        "cpu_period": 100000,
        "cpu_quota": 50000,
        "cpu_shares": 512,
        "cpuset_cpus": "0",
    }
    box = pods.pod().start("sleep", "1000", resources=limits)

    def told():
        memory = box.group("memory", "memory.limit_in_bytes", "memory.max")
        quota = box.group("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
        return memory, quota, box.group("cpuset", "cpuset.cpus", "cpuset.cpus")

    assert told() == (str(64 << 20), "50000", "0")
    shares = box.group("cpu", "cpu.shares", "cpu.weight")
    client.UpdateContainerResources(
        container_id=box.id, linux=limits | {"memory_limit_in_bytes": 32 << 20, "cpu_quota": 20000, "cpu_shares": 256}
    )
    assert told() == (str(32 << 20), "20000", "0")
    assert 0 < int(box.group("cpu", "cpu.shares", "cpu.weight")) < int(shares)


def test_a_container_that_takes_too_much_memory(client, pods):
    box = pods.pod().start("tail", "/dev/zero", resources={"memory_limit_in_bytes": 16 << 20})
    status = box.ended()
    assert (status["exit_code"], status["reason"]) == (137, "OOMKilled")


def test_containers_of_a_pod_share_its_network_ipc_and_names(client, pods):
    own = {"namespace_options": {"pid": CONTAINER}}  # what kubelet asks for unless shareProcessNamespace
    pod = pods.pod(hostname="both", security=own, dns_config={"servers": ["10.1.2.3"], "searches": ["here.test"]})
    one = pod.start("sh", "-c", "echo hello | nc -l -p 8080; sleep 1000", security=own)
    two = pod.start("sleep", "1000", security=own)
    for _ in range(50):
        if ":1F90" in two.exec("cat", "/proc/net/tcp", "/proc/net/tcp6")["stdout"]:
            break
        time.sleep(0.1)
    assert two.exec("sh", "-c", "nc 127.0.0.1 8080 </dev/null")["stdout"] == "hello\n"

    def namespaces(box):
        names = "net ipc uts pid mnt".split()
        links = box.exec("sh", "-c", f"for n in {' '.join(names)}; do readlink /proc/1/ns/$n; done")["stdout"].split()
        return dict(zip(names, links, strict=True))

    first, second = namespaces(one), namespaces(two)
    assert [name for name in first if first[name] == second[name]] == ["net", "ipc", "uts"]
    assert one.exec("touch", "/dev/shm/seen")["exit_code"] == two.exec("cat", "/dev/shm/seen")["exit_code"] == 0
    assert two.exec("hostname")["stdout"] == "both\n"
    assert two.exec("cat", "/etc/resolv.conf")["stdout"] == "search here.test\nnameserver 10.1.2.3\n"
    assert pod.status()["network"]["ip"] in two.exec("ip", "-4", "addr", "show", "eth0")["stdout"]


def test_processes_are_each_containers_own_or_the_pods(client, pods):
    seen = {}
    for mode in (CONTAINER, POD):
        options = {"namespace_options": {"pid": mode}}
        pod = pods.pod(security=options)
        pod.start("sleep", "777", security=options)
        seen[mode] = pod.start("sleep", "888", security=options).exec("ps", "-o", "pid,args")["stdout"]
    assert "sleep 777" not in seen[CONTAINER]
    assert "1 sleep 888\n" in seen[CONTAINER]
    assert "sleep 777" in seen[POD]
    assert "1 sh -c trap exit" in seen[POD]


STATUS = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status"
DEFAULT = "CapEff:\t00000000a80425fb"
CONTEXTS = {  # security context, script, its lines
    "user": (
        {"run_as_user": {"value": 1000}, "run_as_group": {"value": 7}, "supplemental_groups": [77]},
        "id -u; id -g; id -G; echo $HOME", ["1000", "7", "7 55 77", "/home/guest"],
    ),
    "user by name": ({"run_as_username": "guest"}, "id -u; id -g; id -G", ["1000", "1000", "1000 55"]),
    "read-only": (
        {"readonly_rootfs": True},
        "touch /x; touch /dev/shm/x && echo shm", ["touch: /x: Read-only file system", "shm"],
    ),
    "capabilities": (
        {"capabilities": {"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["ALL"]}, "no_new_privs": True},
        STATUS, ["CapEff:\t0000000000001000", "NoNewPrivs:\t1", "Seccomp:\t0"],
    ),
    "seccomp": (
        {"seccomp": {"profile_type": 0}},
        f"{STATUS}; unshare -U true", [DEFAULT, "NoNewPrivs:\t0", "Seccomp:\t2", "unshare: unshare(0x10000000): Operation not permitted"],
    ),
    "no seccomp": ({"seccomp": {"profile_type": 1}}, STATUS, [DEFAULT, "NoNewPrivs:\t0", "Seccomp:\t0"]),
    "masked": (
        {"masked_paths": ["/proc/interrupts", "/sys/kernel"], "readonly_paths": ["/proc/sys"]},
        "head -c 1 /proc/interrupts; ls /sys/kernel; echo x > /proc/sys/kernel/hostname; grep -c ' /proc/interrupts ' /proc/mounts",
        ["sh: can't create /proc/sys/kernel/hostname: Read-only file system", "1"],
    ),
    "nothing masked": ({"masked_paths": [], "readonly_paths": []}, "grep -cE ' /proc/.* ro' /proc/mounts", ["0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_security_context(pods, name):
    security, script, wanted = CONTEXTS[name]
    assert pods.pod().said(f"exec 2>&1; {script}", security=security) == wanted


def test_a_privileged_container(pods):
    pod = pods.pod(security={"privileged": True})
    every = f"CapEff:\t{(1 << (1 + int(Path('/proc/sys/kernel/cap_last_cap').read_text()))) - 1:016x}"
    host = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    script = (
        "grep CapEff: /proc/self/status; mount -t tmpfs none /tmp && echo mounted; test -e /dev/kmsg && echo devices"
    )
    said = pod.said(script, security={"privileged": True})
    assert said[0] in (every, host.replace("CapBnd", "CapEff"))
    assert said[1:] == ["mounted", "devices"]


def test_sysctls_of_a_pod(pods):
    pod = pods.pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"})
    assert pod.said("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced") == ["80", "1"]


def test_a_pod_of_the_hosts_network(pods):
    options = {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}
    pod = pods.pod(security=options)
    names = "net", "pid", "ipc"
    said = pod.said("for n in net pid ipc; do readlink /proc/self/ns/$n; done", security=options)
    assert said == [os.readlink(f"/proc/thread-self/ns/{name}") for name in names]
    assert pod.status()["network"] in ({}, {"ip": ""})


def test_a_port_of_a_pod_is_one_of_the_host(client, pods):
    pod = pods.pod(port_mappings=[{"protocol": 0, "container_port": 80, "host_port": 8099}])
    pod.start("sh", "-c", "while :; do echo served | nc -l -p 80; done")
    for _ in range(50):
        try:
            with socket.create_connection(("10.213.7.1", 8099), 5) as peer:
                assert peer.recv(100) == b"served\n"
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    else:
        raise AssertionError("nobody answers")


def test_mounts_devices_and_a_terminal(pods, tmp_path):
    (tmp_path / "shared/inner").mkdir(parents=True)
    (tmp_path / "shared/file").write_text("from the host\n")
    mounts = [
        {"host_path": str(tmp_path / "shared"), "container_path": "/read", "readonly": True},
        {"host_path": str(tmp_path / "shared"), "container_path": "/write"},
    ]
    devices = [{"host_path": "/dev/kmsg", "container_path": "/dev/mine", "permissions": "r"}]
    script = "cat /read/file; touch /read/x 2>&1; touch /write/y && echo written; readlink /proc/self/fd/0; (exec 3<>/dev/mine) 2>&1"
    pod = pods.pod()
    said = pod.said(script, mounts=mounts, devices=devices, tty=True)
    assert [line.rstrip("\r") for line in said] == [
        "from the host", "touch: /read/x: Read-only file system", "written", "/dev/pts/0",
        "sh: can't create /dev/mine: Operation not permitted",
    ]  # fmt: skip
    assert (tmp_path / "shared/y").exists()


def test_a_terminal_through_the_streaming_server(client, pods):
    """As `kubectl exec -it`: typed input, sizes, an interrupt, the exit status."""
    box = pods.pod().start("sleep", "777")
    command = ["sh", "-c", "trap 'echo changed' WINCH; PS1='$ ' exec sh -i"]
    answer = client.Exec(container_id=box.id, cmd=command, tty=True, stdin=True, stdout=True)
    with Streams(answer["url"]) as streams:
        streams.resize(101, 33)
        streams.until(b"$ ")
        streams.send(STDIN, b"busybox stty size; readlink /proc/self/fd/0\n")
        streams.until(b"\n")
        assert streams.until(b"$ ").split() == [b"33", b"101", b"/dev/pts/0"]
        streams.resize(55, 22)
        streams.send(STDIN, b"busybox usleep 200000; busybox stty size; ps -o args; tty\n")
        streams.until(b"\n")
        said = streams.until(b"$ ")
        assert b"22 55" in said
        assert b"sleep 777" in said  # it is in the container's pid namespace
        streams.send(STDIN, b"sleep 999\n")
        for _ in range(100):  # until then the shell edits lines, and ^C is a key
            if "sleep 999" in box.exec("ps", "-o", "args")["stdout"]:
                break
        streams.send(STDIN, b"\x03")
        streams.until(b"$ ")
        streams.send(STDIN, b"echo $?; exit 7\n")
        out, err, status = streams.end()
    assert b"130" in out
    assert (err, status) == (b"", 7)
    assert "sleep 999" not in box.exec("ps", "-o", "args")["stdout"]


def test_streams_without_a_terminal_stay_apart(client, pods):
    box = pods.pod().start("sleep", "777")
    script = "read line; echo got $line; echo wrong >&2; head -c 300000 /dev/zero; exit 3"
    command = {"container_id": box.id, "cmd": ["sh", "-c", script], "stdin": True, "stdout": True, "stderr": True}
    with Streams(client.Exec(**command)["url"]) as streams:
        streams.send(STDIN, b"sent\n")
        out, err, status = streams.end()
    assert (out[:9], len(out), err, status) == (b"got sent\n", 300009, b"wrong\n", 3)


def test_a_container_with_a_terminal_is_attached_to(client, pods):
    box = pods.pod().start(
        "sh", "-c", "while read line; do echo got $line; busybox stty size; done", stdin=True, tty=True
    )
    for size in ((70, 20), (80, 24)):  # one after the other: the container goes on when who attached has left
        answer = client.Attach(container_id=box.id, stdin=True, tty=True, stdout=True)
        with Streams(answer["url"]) as streams:
            streams.resize(*size)
            time.sleep(0.3)  # nothing answers a size
            streams.send(STDIN, b"word\n")
            streams.until(b"got word\r\n")
            assert streams.until(b"\r\n") == b"%d %d" % size[::-1]
    assert box.status()["state"] == RUNNING
    answer = client.Attach(container_id=box.id, stdin=True, tty=True, stdout=True)
    with Streams(answer["url"]) as streams:
        streams.send(STDIN, b"\x04")  # the end of what is typed
        assert box.ended()["exit_code"] == 0


def test_containers_outlive_containerd(kubernetes, client, pods):
    pod = pods.pod()
    box = pod.start("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    box.says(("stdout", "up"))
    kubernetes.stop()
    kubernetes.start()
    kubernetes.ready()
    assert box.status()["state"] == RUNNING
    assert box.exec("echo", "still")["stdout"] == "still\n"
    client.StopContainer(container_id=box.id, timeout=20)
    assert box.status()["exit_code"] == 4


def test_nothing_is_left_of_pods(kubernetes):
    """The last test: after all of them were removed."""
    groups = subprocess.run(
        ["find", "/sys/fs/cgroup", "-path", f"*/vcri-{os.getpid()}/*", "-type", "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert groups.stdout == ""
    assert [line for line in Path("/proc/mounts").read_text().splitlines() if str(kubernetes.short) in line] == []
    for name in ("runc", "veloci"):
        place = kubernetes.root / f"runtime-{name}/k8s.io"
        assert not place.exists() or list(place.glob("[!.]*")) == []
