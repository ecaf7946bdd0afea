"""What `run` takes, as a program in the container sees it: docker's options, and docker's refusals."""

import json
import os
import resource
import shutil
import signal
import subprocess

import pytest
from box import VELOCI, until
from peers import Serving

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


REFUSED = {
    "--cpus 99": f"--cpus: '99' is not a number of processors: this host has 0.01 to {os.cpu_count()}.00",
    "--memory 1k": "--memory: minimum memory limit allowed is 6MB",
    "--memory-swap 1g": "--memory-swap: you should always set the memory limit with a memory-swap limit",
    "-u nobody": "--user: unable to find user nobody: no matching entries in passwd file",
    "-w rel": "--workdir: the working directory 'rel' is invalid, it needs to be absolute",
    "--security-opt foo": "--security-opt: invalid security option 'foo'",
    "--security-opt seccomp=/nope": "--security-opt seccomp: /nope: No such file or directory",
    "--uts host -h x": "conflicting options: hostname and the UTS mode",
    "--userns keep-id": "--userns: keep-id is only supported in rootless mode",
    "--pid foo": "--pid: 'foo' names no namespace",
    "--pid container:nope": "no such container: nope",
    "--ipc mine": "--ipc: 'mine' names no namespace",
    "--restart always": "conflicting options: cannot specify both --restart and --rm",
    "--pull sometimes": "--pull: invalid pull option: 'sometimes'",
    "--stop-signal FOO": "--stop-signal: unknown signal 'FOO'",
    "--add-host a": "--add-host: 'a' is not a host",
    "--dns x": "--dns: 'x' is not an address",
    "--label-file /nope": "--label-file: /nope: No such file or directory",
    "-e =x": "--env: invalid environment variable: '=x'",
    "--oom-score-adj 5000": "--oom-score-adj: 5000 is not between -1000 and 1000",
    "--blkio-weight 5": "--blkio-weight: 5 is not between 10 and 1000",
    "--device-read-bps /dev/nope:1mb": "--device-read-bps: /dev/nope: No such file or directory",
    "--expose foo": "--expose: invalid port 'foo'",
    "--ip 10.0.0.1": "--ip: network none gives no address",
    "--sysctl vm.swappiness=1": "config.json: $.linux.sysctl.vm.swappiness: sysctl 'vm.swappiness' is not in a separate kernel namespace",
    "--runtime nope": "--runtime: no runtime 'nope'",
    "--name x": "invalid container name 'x'",
}  # fmt: skip


def status(box, name, *options):
    """A line of /proc/self/status in a container."""
    lines = box.ok("run", "--rm", "--network", "none", *options, "bb", "cat", "/proc/self/status").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def said(box, *words):
    """What a program in a container prints: options, "--", then the command."""
    at = words.index("--")
    return box.ok("run", "--rm", "--network", "none", *words[:at], "bb", *words[at + 1 :])


def refused(box, *options, network="none"):
    done = box.veloci("run", "--rm", "--network", network, *options, "bb", "true")
    assert done.returncode == 125, done
    assert done.stdout == ""
    return done.stderr.partition("\n")[0].removeprefix("veloci: ")


def test_capabilities_are_added_and_dropped(box):
    assert status(box, "CapEff") == "00000000a80425fb"
    assert status(box, "CapEff", "--cap-drop", "ALL", "--cap-add", "chown") == "0000000000000001"
    assert status(box, "CapBnd", "--cap-drop", "CAP_CHOWN") == "00000000a80425fa"


def test_security_options_are_obeyed(box, tmp_path):
    assert status(box, "NoNewPrivs") == "0"
    assert status(box, "NoNewPrivs", "--security-opt", "no-new-privileges") == "1"
    assert status(box, "Seccomp") == "2"
    assert status(box, "Seccomp", "--security-opt", "seccomp=unconfined") == "0"
    profile = tmp_path / "profile.json"
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    script = "mkdir /a 2>/dev/null || echo refused"
    assert said(box, "--security-opt", f"seccomp={profile}", "--", "sh", "-c", script) == "refused\n"
    masked = said(box, "--", "sh", "-c", "echo x > /proc/sysrq-trigger || true; test -s /proc/keys; echo $?")
    assert masked == "1\n"
    open_ = said(box, "--security-opt", "systempaths=unconfined", "--", "cat", "/proc/self/mounts")
    assert "/proc/keys" not in open_


def test_a_device_of_the_host_is_there_with_what_it_may_do(box):
    assert said(
        box, "--device", "/dev/zero:/dev/nothing", "--", "od", "-An", "-N2", "-tx1", "/dev/nothing"
    ).split() == [
        "00",
        "00",
    ]
    look = "for to in '<' '>'; do (eval \": $to /dev/wire\") 2>/dev/null && echo open || echo refused; done"
    assert said(box, "--device", "/dev/net/tun:/dev/wire:r", "--", "sh", "-c", look) == "open\nrefused\n"
    assert said(box, "--device", "/dev/net/tun:/dev/wire", "--", "sh", "-c", look) == "open\nopen\n"
    rule = ("--device-cgroup-rule", "c 10:229 rwm", "--cap-add", "MKNOD")
    make = f"busybox mknod /dev/wire c 10 229; {look}"  # FUSE's; the tunnel's may be opened by all, as with runc
    assert said(box, *rule, "--", "sh", "-c", make) == "open\nopen\n"
    assert said(box, "--", "sh", "-c", make) == "refused\nrefused\n"
    assert refused(box, "--device", "/dev/nope") == "--device: /dev/nope: No such file or directory"
    assert refused(box, "--device", "/etc") == "--device: /etc is not a device"


def test_privileged_has_all_devices_and_all_capabilities(box):
    capabilities = int(status(box, "CapBnd", "--privileged"), 16)
    with open("/proc/self/status") as file:
        ours = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
    assert capabilities == ours
    there = said(box, "--privileged", "--", "ls", "/dev").split()
    assert {"full", "kmsg", "null"} & {*os.listdir("/dev")} <= {*there}


def test_limits_reach_the_kernel(box):
    v1 = os.path.isdir("/sys/fs/cgroup/memory")
    files = (
        ("--memory=20m", "memory/memory.limit_in_bytes", "memory.max", str(20 << 20)),
        ("--pids-limit=30", "pids/pids.max", "pids.max", "30"),
        ("--cpu-shares=300", "cpu/cpu.shares", "", "300"),
        ("--cpus=0.5", "cpu/cpu.cfs_quota_us", "", "50000"),
        ("--cpuset-cpus=0", "cpuset/cpuset.cpus", "cpuset.cpus", "0"),
    )
    for option, one, two, value in files:
        name = one if v1 else two
        if name and (not v1 or os.path.exists(f"/sys/fs/cgroup/{name}")):
            assert said(box, option, "--", "cat", f"/sys/fs/cgroup/{name}").strip() == value
    assert said(box, "--ulimit", "nofile=100:200", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn") == "100\n200\n"
    assert said(box, "--oom-score-adj", "500", "--", "cat", "/proc/self/oom_score_adj") == "500\n"
    assert said(box, "--shm-size", "1m", "--", "busybox", "df", "/dev/shm").split()[8] == "1024"
    name = "net.ipv4.ip_forward"
    assert said(box, "--sysctl", f"{name}=1", "--", "cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"


def test_memory_and_swap_together_are_twice_the_memory(box):
    file = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
    if not os.path.exists(file):
        pytest.skip("this host does not count swap")
    assert said(box, "-m", "20m", "--", "cat", file) == f"{40 << 20}\n"
    assert said(box, "-m", "20m", "--memory-swap", "30m", "--", "cat", file) == f"{30 << 20}\n"


def test_an_init_is_the_first_process_and_leaves_no_orphans(box):
    script = "busybox tr '\\0' ' ' < /proc/1/cmdline; (sleep 0.1 & ); sleep 0.3; grep -l '^State:.Z' /proc/*/status"
    done = box.veloci("run", "--rm", "--network", "none", "--init", "bb", "sh", "-c", script)
    assert done.stdout.startswith("/sbin/docker-init -- sh -c ")
    assert done.stdout.count("\n") <= 1  # no status of a zombie
    assert box.veloci("run", "--rm", "--network", "none", "--init", "bb", "sh", "-c", "exit 9").returncode == 9
    missing = box.veloci("run", "--rm", "--network", "none", "--init", "bb", "nope")
    assert (missing.returncode, missing.stderr) == (127, 'exec: "nope": executable file not found\n')


def test_an_init_passes_the_stop_signal_on(box):
    box.started("--name", "polite", "--init", "bb", "sleep", "60")
    box.ok("stop", "-t", "20", "polite")
    assert box.show("polite", "{{.State.ExitCode}}") == "143"


def test_who_and_where(box):
    words = said(box, "-u", "guest", "-w", "/new/place", "--group-add", "55", "--", "sh", "-c", "id; pwd")
    assert words == "uid=1000(guest) gid=1000(guest) groups=55,1000(guest)\n/new/place\n"
    names = said(box, "-h", "ship", "--domainname", "sea", "--", "cat", "/etc/hostname", "/proc/sys/kernel/domainname")
    assert names == "ship\nsea\n"
    assert said(box, "--uts", "host", "--", "hostname").strip() == os.uname().nodename


def test_names_and_servers(box):
    hosts = said(box, "--add-host", "a:1.2.3.4", "--add-host", "b=::2", "--", "cat", "/etc/hosts").splitlines()
    assert hosts[-2:] == ["1.2.3.4\ta", "::2\tb"]
    servers = said(
        box, "--dns", "9.9.9.9", "--dns-search", "lan", "--dns-opt", "ndots:3", "--", "cat", "/etc/resolv.conf"
    )
    assert servers == "nameserver 9.9.9.9\nsearch lan\noptions ndots:3\n"


def test_variables_and_labels_come_from_files(box, tmp_path):
    (tmp_path / "env").write_text("# none\n  A=1 \nHERE\nNOT_HERE\n\nB=x=y\n")
    (tmp_path / "labels").write_text("one=1\ntwo\n")
    box.ok(
        "create", "--name", "box", "--env-file", tmp_path / "env", "-e", "B=2", "--label-file", tmp_path / "labels",
        "-l", "one=2", "bb", "env", env={**os.environ, "HERE": "h"},
    )  # fmt: skip
    assert {"A=1 ", "HERE=h", "B=2"} <= {*box.ok("start", "-a", "box").splitlines()}
    assert json.loads(box.show("box", "{{json .Config.Labels}}")) == {"one": "2", "two": ""}
    (tmp_path / "bad").write_text("A B=1\n")
    assert refused(box, "--env-file", tmp_path / "bad") == (
        f"--env-file {tmp_path}/bad: variable 'A B=1' contains whitespaces"
    )


def test_an_empty_entrypoint_is_none(box):
    assert said(box, "--entrypoint", "", "--", "echo", "hi") == "hi\n"
    assert said(box, "--entrypoint", "echo", "--", "hi") == "hi\n"
    done = box.veloci("run", "--rm", "--network", "none", "--entrypoint=", "bb")
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "veloci: no command specified")


def test_namespaces_are_the_host_s_or_another_container_s(box):
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts", "cgroup", "net")}
    links = " ".join(f"/proc/self/ns/{kind}" for kind in ours)
    look = f"for i in {links}; do busybox readlink $i; done"
    assert not {*said(box, "--", "sh", "-c", look).split()} & {*ours.values()}
    flags = ("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "--network", "host")
    assert said(box, *flags, "--", "sh", "-c", look).split() == list(ours.values())
    box.started("--name", "first", "-h", "lead", "bb", "sleep", "60")
    theirs = box.ok("exec", "first", "sh", "-c", look).split()
    shared = ("--pid", "container:first", "--network", "container:first")
    found = said(box, *shared, "--", "sh", "-c", f"{look}; hostname").split()
    assert (found[0], found[4], found[5]) == (theirs[0], theirs[4], "lead")
    box.ok("create", "--name", "second", *shared, "bb", "sh", "-c", look)
    box.ok("rm", "-f", "first")
    box.started("--name", "first", "bb", "sleep", "60")
    gone = box.veloci("start", "second")
    assert (gone.returncode, gone.stdout) == (1, "")


def test_a_namespace_is_joined_where_its_container_is_now(box):
    box.started("--name", "first", "bb", "sleep", "60")
    box.ok(
        "create", "--name", "second", "--network", "container:first", "bb", "busybox", "readlink", "/proc/self/ns/net"
    )
    for _ in range(2):
        box.ok("restart", "-t", "0", "first")
        theirs = box.ok("exec", "first", "busybox", "readlink", "/proc/self/ns/net")
        assert box.ok("start", "-a", "second") == theirs
    box.ok("stop", "-t", "0", "first")
    done = box.veloci("start", "second")
    assert done.stderr.splitlines() == [
        "veloci: cannot join the network namespace of a container that is not running: first",
        "  try: veloci start first",
    ]


@pytest.mark.parametrize("runtime", ["veloci", "runc"])
def test_memory_is_shared_with_a_container_that_was_made_for_it(box, runtime):
    if not shutil.which(runtime) and runtime != "veloci":
        pytest.skip(f"this host lacks {runtime}")
    box.started("--name", "first", "--ipc", "shareable", "--shm-size", "2m", "bb", "sleep", "60")
    shared = ("--runtime", runtime, "--ipc", "container:first")
    assert said(box, *shared, "--", "sh", "-c", "echo word > /dev/shm/file; busybox readlink /proc/self/ns/ipc") == (
        box.ok("exec", "first", "busybox", "readlink", "/proc/self/ns/ipc")
    )
    assert box.ok("exec", "first", "cat", "/dev/shm/file") == "word\n"
    assert said(box, *shared, "--", "busybox", "df", "/dev/shm").split()[8] == "2048"
    with open("/proc/self/mountinfo") as file:
        assert str(box.path) not in file.read()
    box.started("--name", "closed", "bb", "sleep", "60")
    message = "container closed does not share its IPC namespace"
    assert refused(box, "--ipc", "container:closed") == message


def test_a_container_that_starts_again_joins_anew(box):
    box.started("--name", "first", "--ipc", "shareable", "bb", "sleep", "60")
    names = ("--pid", "container:first", "--ipc", "container:first", "--network", "container:first")
    box.started("--name", "second", "--restart", "always", *names[2:], "bb", "sleep", "60")
    look = ("sh", "-c", "busybox readlink /proc/self/ns/net; busybox readlink /proc/self/ns/ipc")
    box.ok("restart", "-t", "0", "first")
    theirs = box.ok("exec", "first", *look)
    assert box.ok("exec", "second", *look) != theirs
    (config,) = box.path.glob(f"data/containers/{box.show('second', '{{.Id}}')}/bundle/config.json")
    with open(config) as held:
        os.kill(int(box.show("second", "{{.State.Pid}}")), signal.SIGKILL)
        box.until("second", "{{.RestartCount}}", "1")
        assert box.ok("exec", "second", *look) == theirs
        assert os.fstat(held.fileno()).st_nlink == 0  # replaced whole: nobody reads the half of it


def test_a_network_namespace_by_its_path(box):
    subprocess.run(["ip", "netns", "add", "veloci-run-ns"], check=True)
    try:
        inside = "ip -o link | busybox wc -l"
        subprocess.run(["ip", "-n", "veloci-run-ns", "link", "add", "extra", "type", "bridge"], check=True)
        words = ("run", "--rm", "--network", "ns:/run/netns/veloci-run-ns", "bb", "sh", "-c", inside)
        assert int(box.ok(*words)) >= 2
    finally:
        subprocess.run(["ip", "netns", "del", "veloci-run-ns"], check=True)


def test_an_address_of_its_own_and_every_exposed_port(box):
    exported = box.path / "exported.tar"
    box.ok("create", "--name", "source", "bb", "true")
    box.ok("export", "-o", exported, "source")
    box.ok("import", "--change", "EXPOSE 80 53/udp", exported, "web")
    box.ok("run", "-d", "--name", "web", "-P", "--expose", "90", "-p", "127.0.0.1::80", "web", "sleep", "60")
    ports = dict(line.split(" -> ") for line in box.ok("port", "web").splitlines())
    assert sorted(ports) == ["53/udp", "80/tcp", "90/tcp"]
    assert ports["80/tcp"].startswith("127.0.0.1:")
    assert box.ok("port", "web", "80") == ports["80/tcp"] + "\n"
    missing = box.veloci("port", "web", "81")
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (
        1,
        "veloci: no public port '81/tcp' published for web",
    )
    address = box.show("web", "{{.NetworkSettings.IPAddress}}").rpartition(".")[0] + ".77"
    mac = "02:42:0a:00:00:07"
    shown = box.ok("run", "--rm", "--ip", address, "--mac-address", mac, "bb", "ip", "addr", "show", "eth0")
    assert f"link/ether {mac}" in shown
    assert f"inet {address}/" in shown


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_has_closed_change_no_status(box, closed):
    command = f"exec '{VELOCI}' run --rm --network none bb sh -c 'exit 3' {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_many_published_ports_leave_the_limit_of_open_files_as_it_is(box):
    """Each is kept by a descriptor, more than a process may have as a rule; the container is not to inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), hard))
    try:
        script = "ulimit -Sn; ulimit -Hn; sleep 100"
        published = "-p", "127.0.0.1:28000-29099:28000-29099"
        id = box.started(*published, "bb", "sh", "-c", script, network="bridge")
        for restarted in (1, 2):
            until(lambda: len(box.ok("logs", id).split()) == 2 * restarted)  # noqa: B023 -- asked in its own turn
            box.ok("restart", "-t", "0", id)
        assert box.ok("logs", id).split()[:4] == [str(min(hard, 1024)), str(hard)] * 2
        assert box.ok("exec", id, "sh", "-c", "ulimit -Sn").split() == [str(min(hard, 1024))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_published_port_that_nobody_can_reach_is_said(box):
    done = box.veloci("run", "--rm", "--network", "none", "-p", "80", "bb", "true")
    assert (done.returncode, done.stderr) == (0, "veloci: warning: --publish: network none publishes no ports\n")


def test_what_cannot_be_is_said_in_a_line(box):
    assert {options: refused(box, *options.split()) for options in REFUSED} == REFUSED
    assert box.ok("ps", "-aq") == ""


def test_another_container_s_network_is_taken_as_it_is(box):
    clashes = {
        "-h x": "hostname and the network mode",
        "-p 80": "port publishing and the container type network mode",
        "--add-host a:1.2.3.4": "custom host-to-IP mapping and the network mode",
        "--dns 1.2.3.4": "dns and the network mode",
        "--mac-address 02:42:0a:00:00:07": "mac-address and the network mode",
    }
    for options, words in clashes.items():
        assert refused(box, *options.split(), network="container:x") == f"conflicting options: {words}"


def test_create_takes_what_run_takes(box):
    usage = [box.ok(command, "--help").splitlines() for command in ("run", "create")]
    run, create = ({line.strip() for line in lines if line.strip().startswith("-")} for lines in usage)
    assert create < run
    assert {line.split()[0].rstrip(",") for line in run - create} == {"-a", "-d", "--detach-keys", "--sig-proxy"}


def test_streams_are_chosen(box):
    words = ("bb", "sh", "-c", "cat; echo o; echo e >&2; exit 3")
    for options, out, error in (
        ("-a stdout", "o\n", ""),
        ("-a STDERR", "", "e\n"),
        ("-a stdout -a stderr", "o\n", "e\n"),
        ("-i -a stdin", "", ""),
        ("-i -a stdout", "in\no\n", ""),
    ):
        done = box.veloci("run", "--rm", "--network", "none", *options.split(), *words, input="in\n")
        assert (done.stdout, done.stderr, done.returncode) == (out, error, 3)
    assert refused(box, "-a", "log") == "--attach: no stream 'log'"
    done = box.veloci("run", "-d", "-a", "stdout", *words)
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: conflicting options: cannot specify both --attach and --detach\n",
    )


def test_an_image_that_is_not_here_is_pulled_as_the_policy_says(box):
    with Serving(box.path / "registry") as (address, _):
        name = f"{address}/small"
        box.ok("tag", "bb", name)
        box.ok("push", "-q", name)
        box.ok("rmi", name)
        words = ("--rm", "--network", "none", name, "echo", "hi")
        done = box.veloci("run", "--pull", "never", *words)
        assert (done.returncode, done.stdout) == (125, "")
        done = box.veloci("run", *words)
        assert done.stdout == "hi\n"
        assert done.stderr.splitlines()[0] == f"Unable to find image '{name}:latest' locally"
        assert done.stderr.splitlines()[1].endswith(": Already exists")
        done = box.veloci("run", "--pull", "always", *words)
        assert (done.stdout, "Unable" in done.stderr) == ("hi\n", False)
        box.ok("rmi", name)
        done = box.veloci("run", "-q", *words)
        assert (done.stdout, done.stderr) == ("hi\n", "")
    done = box.veloci("run", "--pull", "always", *words)
    assert (done.returncode, done.stdout) == (125, "")
    assert box.ok("ps", "-aq") == ""


def test_the_id_file_is_written_once(box, tmp_path):
    id = box.ok("create", "--cidfile", tmp_path / "id", "bb", "true").strip()
    assert (tmp_path / "id").read_text() == id
    done = box.veloci("create", "--cidfile", tmp_path / "id", "bb", "true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"veloci: --cidfile: container ID file found: {tmp_path}/id",
    )
