"""The attacks that other runtimes fell to, tried on real containers; the names are those of docs/security.md."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

HOST = Path("/proc/self/exe").resolve()


def bound(source, place, *options):
    return {"destination": place, "type": "none", "source": str(source), "options": ["bind", *options]}


@pytest.fixture
def outside(tmp_path):
    """A directory of the host beside the bundle, which must stay empty."""
    place = tmp_path / "outside"
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


# --- A4: descriptors and working directories; what else of ours enters is in test_entering.py -------


def test_no_descriptor_of_the_host_is_a_working_directory(runtime):
    """CVE-2024-21626, at create and at exec."""
    for number in range(3, 8):
        done = runtime.run(
            "cat", "../../../../etc/hostname", change=lambda c, n=number: c["process"].update(cwd=f"/proc/self/fd/{n}")
        )
        assert done.returncode == 1
        assert done.stdout == ""
    runtime.detached("sleep", "100")
    for number in range(3, 8):
        done = runtime("exec", "--cwd", f"/proc/self/fd/{number}", runtime.id, "ls")
        assert (done.returncode, done.stdout) == (255, ""), number


def test_descriptors_of_the_caller_are_closed(runtime, tmp_path):
    (tmp_path / "secret").write_text("secret")
    runtime.configure("sh", "-c", "ls /proc/self/fd")
    with open(tmp_path / "secret") as secret, open(tmp_path / "secret") as other:
        numbers = (secret.fileno(), other.fileno())
        words = [runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id]
        done = subprocess.run(
            words, pass_fds=numbers, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, timeout=20
        )
    assert done.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls's own


# --- A5 to A11: mounts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/self", "//proc/./fs", "/link/self/attr"]
)
def test_nothing_is_mounted_inside_proc(runtime, place):
    """CVE-2019-16884, CVE-2025-52881: what writes to /proc must find the kernel's files."""
    (runtime.bundle / "rootfs/link").symlink_to("/proc")
    mount = {"destination": place, "type": "tmpfs", "source": "tmpfs"}
    done = runtime.run("true", change=lambda c: c["mounts"].append(mount))
    assert done.returncode == 1
    assert "cannot be mounted because it is inside /proc" in done.stderr
    assert runtime.traces() == []


def test_files_about_the_host_may_be_replaced_inside_proc(either, tmp_path):
    """lxcfs's, as runc allows."""
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    done = either.run(
        "cat", "/proc/uptime", change=lambda c: c["mounts"].append(bound(tmp_path / "uptime", "/proc/uptime"))
    )
    assert done.stdout == "1.00 1.00\n", done.stderr


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_proc_or_sys_that_is_a_symlink_is_refused(runtime, outside, name):
    """CVE-2023-27561, CVE-2023-28642."""
    (runtime.bundle / "rootfs" / name).symlink_to(outside)
    done = runtime.run("true")
    assert "must be mounted on ordinary directory" in done.stderr
    assert runtime.traces() == []


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_a_false_null_device_hides_and_exposes_nothing(runtime, outside, kind):
    """CVE-2025-31133: hidden files are covered by /dev/null, which must not be the image's."""
    (runtime.bundle / "rootfs/dev").mkdir()
    null = runtime.bundle / "rootfs/dev/null"
    null.symlink_to(outside / "target") if kind == "symlink" else null.write_text("")
    (runtime.bundle / "rootfs/secret").write_text("secret")

    def change(config):
        config["mounts"] = [mount for mount in config["mounts"] if not mount["destination"].startswith("/dev")]
        config["linux"]["maskedPaths"] = ["/secret"]

    done = runtime.run("cat", "/secret", change=change)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/dev/null is another file already" in done.stderr


def test_a_false_null_device_in_a_dev_that_is_bound_hides_as_the_hosts(runtime, tmp_path):
    """CVE-2025-31133, where no step of ours has looked at what is in /dev."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").write_text("of the image\n")
    (runtime.bundle / "rootfs/secret").write_text("secret")

    def change(config):
        config["mounts"] = [mount for mount in config["mounts"] if not mount["destination"].startswith("/dev")]
        config["mounts"].append(
            {"destination": "/dev", "type": "bind", "source": str(tmp_path / "dev"), "options": ["bind"]}
        )
        config["linux"]["maskedPaths"] = ["/secret"]

    done = runtime.run("sh", "-c", "stat -c %F /secret; cat /secret", change=change)
    assert done.stdout == "character special file\n", done.stderr


def test_a_null_device_of_the_host_that_is_none_is_refused(runtime):
    runtime.configure("true")
    script = 'mount --bind /dev/zero /dev/null && exec "$@"'
    done = runtime.run_within(script)
    assert (done.returncode, "/dev/null of the host is no null device" in done.stderr) == (1, True), done.stderr
    assert runtime.traces() == []


@pytest.mark.parametrize("mapped_root", [False, True], ids=["", "mapped"])
def test_the_hosts_null_device_is_not_the_containers_to_change(runtime, mapped_root):
    """Root may change the mode and owner of what it finds: behind a hidden file, that is a file of the host's."""
    changed = os.stat("/dev/null").st_ctime_ns
    (runtime.bundle / "rootfs/bin/chmod").symlink_to("busybox")

    def change(config):
        sets = ("bounding", "effective", "permitted")
        config["process"]["capabilities"] = {name: ["CAP_FOWNER", "CAP_CHOWN", "CAP_DAC_OVERRIDE"] for name in sets}
        config["linux"]["maskedPaths"] = ["/proc/keys", "/etc/hidden"]
        if mapped_root:  # the devices are the host's as well
            ids = [{"containerID": 0, "hostID": 0, "size": 10}]
            config["linux"]["namespaces"].append({"type": "user"})
            config["linux"].update(uidMappings=ids, gidMappings=ids)

    (runtime.bundle / "rootfs/etc").mkdir(exist_ok=True)
    (runtime.bundle / "rootfs/etc/hidden").write_text("hidden")
    places = ["/proc/keys", "/etc/hidden", *(["/dev/null"] if mapped_root else [])]
    script = "for f in {}; do chmod 666 $f; echo $? $(cat $f); echo x >$f || echo closed; done"
    done = runtime.run("sh", "-c", script.format(" ".join(places)), change=change)
    assert done.stdout.splitlines() == ["1"] * len(places), done.stderr
    assert os.stat("/dev/null").st_ctime_ns == changed


def test_a_hidden_file_is_the_hosts_null_device(runtime):
    (runtime.bundle / "rootfs/secret").write_text("secret")
    done = runtime.run("stat", "-c", "%t:%T", "/secret", change=lambda c: c["linux"].update(maskedPaths=["/secret"]))
    assert done.stdout == "1:3\n"


def test_a_console_that_is_a_symlink_leads_nowhere_outside(runtime, outside):
    """CVE-2025-52565."""
    (runtime.bundle / "rootfs/dev/pts").mkdir(parents=True)
    (runtime.bundle / "rootfs/dev/console").symlink_to(outside / "console")

    def change(config):
        config["process"]["terminal"] = True
        config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/dev"]

    script = "stat -L -c '%F %t' /dev/console; grep -o '/[^ ]*/console rw' /proc/self/mountinfo"
    done = runtime.run("sh", "-c", script, change=change)
    # Of the container, for there is an `outside` of its own now: the terminal is mounted on what the link names there.
    assert done.stdout.splitlines() == ["character special file 88", f"{outside}/console rw"], done.stderr
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()
    assert (runtime.bundle / "rootfs" / str(outside)[1:] / "console").is_file()


def test_a_pts_that_is_no_devpts_gives_no_terminal(runtime):
    (runtime.bundle / "rootfs/dev/pts").mkdir(parents=True)
    (runtime.bundle / "rootfs/dev/pts/ptmx").write_text("")

    def change(config):
        config["process"]["terminal"] = True
        config["mounts"] = [mount for mount in config["mounts"] if not mount["destination"].startswith("/dev")]

    done = runtime.run("true", change=change)
    assert "/dev/pts is not a devpts file system" in done.stderr
    assert runtime.traces() == []


@pytest.mark.parametrize("cover", ["tmpfs", "file"])
def test_a_setting_is_written_to_the_kernel_whatever_lies_over_it(runtime, tmp_path, cover):
    """CVE-2025-52881: a hook in the container's namespaces covers /proc/sys, the host's and the container's own."""
    rootfs, false = runtime.bundle / "rootfs", tmp_path / "false"
    false.write_text("0\n")
    name = "net/ipv4/ip_forward"
    lines = []
    for place in ("/proc/sys", f"{rootfs}/proc/sys"):
        if cover == "tmpfs":
            lines += [f"mount -t tmpfs tmpfs {place}", f"mkdir -p {place}/net/ipv4", f"echo 0 > {place}/{name}"]
        else:
            lines.append(f"mount --bind {false} {place}/{name}")

    def change(config):
        hook = {"path": "/bin/sh", "args": ["sh", "-ec", "; ".join(lines)], "env": ["PATH=/usr/bin:/bin:/usr/sbin"]}
        config["hooks"] = {"createContainer": [hook]}
        config["linux"]["sysctl"] = {name: "1"}
        config["linux"]["readonlyPaths"] = []
        config["mounts"].append({"destination": "/proc2", "type": "proc", "source": "proc"})

    runtime.configure("cat", f"/proc2/sys/{name}", f"/proc/sys/{name}", change=change)
    done = runtime.run_within()  # so that nothing of the host's can be covered
    assert done.stdout == "1\n0\n", done.stderr
    assert false.read_text() == "0\n"


def test_a_place_that_turns_into_a_symlink_leads_no_mount_outside(runtime, outside):
    """CVE-2021-30465, CVE-2024-45310."""
    place, spare = runtime.bundle / "rootfs/swap", runtime.bundle / "rootfs/spare"
    place.mkdir()
    spare.symlink_to(outside)
    ended = threading.Event()

    def swap():
        import ctypes

        libc = ctypes.CDLL(None)
        while not ended.is_set():  # RENAME_EXCHANGE: at every moment one or the other stands there
            libc.renameat2(-100, os.fsencode(place), -100, os.fsencode(spare), 2)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(6):
            runtime.run(
                "true",
                change=lambda c: c["mounts"].append({"destination": "/swap/made", "type": "tmpfs", "source": "tmpfs"}),
            )
            assert list(outside.iterdir()) == []
    finally:
        ended.set()
        thread.join()
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()


def test_links_and_dots_of_an_image_end_in_its_root(runtime, outside):
    """CVE-2019-18837, CVE-2025-24965, CVE-2026-41579: directories, devices and files that the runtime makes."""
    rootfs = runtime.bundle / "rootfs"
    (rootfs / "absolute").symlink_to(outside)
    (rootfs / "relative").symlink_to("../" * 12 + str(outside).lstrip("/"))

    def change(config):
        config["root"]["readonly"] = False
        config["process"]["cwd"] = "/absolute/cwd"
        config["mounts"] += [
            {"destination": "/relative/tmp", "type": "tmpfs", "source": "tmpfs"},
            bound("/etc/hostname", "/absolute/file"),
        ]
        config["mounts"].append(
            {"destination": "/../../../" + str(outside) + "/dots", "type": "tmpfs", "source": "tmpfs"}
        )
        config["linux"]["devices"] = [{"path": "/absolute/null", "type": "c", "major": 1, "minor": 3}]

    done = runtime.run("sh", "-c", "pwd", change=change)
    assert done.stdout == f"{outside}/cwd\n", done.stderr
    inside = rootfs / str(outside).lstrip("/")
    assert {path.name for path in inside.iterdir()} == {"cwd", "tmp", "file", "null", "dots"}


# --- A12 to A17: what a process may, and who it is -----------------------------------------------


@pytest.mark.parametrize("how", ["run", "exec", "exec --cap"])
def test_nothing_is_inheritable_by_default(runtime, how):
    """CVE-2022-29162, CVE-2022-24769 and their kin."""
    look = ("grep", "-E", "Cap(Inh|Amb)", "/proc/self/status")
    if how == "run":
        done = runtime.run(*look)
    else:
        runtime.detached("sleep", "100")
        more = ("--cap", "CAP_NET_RAW") if how == "exec --cap" else ()
        done = runtime("exec", *more, runtime.id, *look)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"0000000000000000"}


def test_the_hosts_release_agent_is_out_of_reach(runtime):
    """CVE-2022-0492."""

    def change(config):
        config["linux"]["namespaces"].append({"type": "cgroup"})
        for mount in config["mounts"]:
            if mount["type"] == "cgroup":
                mount["options"].remove("ro")

    script = "ls /sys/fs/cgroup/*/release_agent; mkdir /tmp /tmp/c; mount -t cgroup -o memory cgroup /tmp/c; echo $?"
    (runtime.bundle / "rootfs/bin/mkdir").symlink_to("busybox")
    change_root = lambda c: (change(c), c["root"].update(readonly=False))  # noqa: E731
    done = runtime.run("sh", "-c", script, change=change_root)
    assert "release_agent" not in done.stdout
    assert done.stdout.splitlines()[-1] != "0"
    assert "permission denied" in done.stderr.lower()


@pytest.mark.parametrize(
    "user", ["4294967296", "4294967295", "-1", "0x0", "1e3", " 0", "0:4294967296", "٣", "²", "99999999999999999999"]
)
def test_a_number_that_is_no_user_is_refused(runtime, user):
    """CVE-2024-40635, CVE-2026-46680, CVE-2026-30892: it must not come out as root."""
    runtime.detached("sleep", "100")
    done = runtime("exec", f"--user={user}", runtime.id, "id", "-u")
    assert (done.returncode, done.stdout) == (255, "")
    assert "user" in done.stderr


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("how", ["run", "exec"])
def test_groups_of_the_caller_are_left_behind(runtime, how):
    """CVE-2022-36109, CVE-2023-25173."""
    look, words = ("grep", "Groups", "/proc/self/status"), [runtime.program, "--root", str(runtime.root)]
    change = lambda c: c["process"]["user"].update(uid=5, gid=5, additionalGids=[11])  # noqa: E731
    if how == "exec":
        runtime.detached("sleep", "100", change=change)
        words += ["exec", runtime.id, *look]
    else:
        runtime.configure(*look, change=change)
        words += ["run", "--bundle", str(runtime.bundle), runtime.id]
    done = subprocess.run(
        ["setpriv", "--groups", "7,8,9", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == "Groups:\t11 \n"


# --- A19 to A22 ----------------------------------------------------------------------------------


def test_long_values_are_refused_whole_and_never_cut(runtime):
    """CVE-2021-43784: a length that wraps."""
    for change in (
        lambda c: c.update(hostname="x" * 65536),
        lambda c: c["process"].update(args=["true", "x" * (1 << 20)]),
        lambda c: c["mounts"].append({"destination": "/" + "x" * 65600, "type": "tmpfs", "source": "tmpfs"}),
        lambda c: c["linux"].update(cgroupsPath="/" + "x" * 65600),
    ):
        done = runtime.run("true", change=change)
        assert done.returncode == 1
        assert "config.json: $." in done.stderr or "exec: " in done.stderr
        assert runtime.traces() == []


def test_the_default_profile_denies_the_kernels_less_trodden_calls():
    """CVE-2026-31431 and its kin, by the profile that `veloci run` gives."""
    script = textwrap.dedent("""
        import ctypes, json, socket, sys
        from veloci.bundle.seccomp import profile
        from veloci.kernel import seccomp
        from veloci.kernel.process import PR_SET_NO_NEW_PRIVS, prctl
        from veloci.runtime.filters import compiled
        from veloci.spec.runtime import Seccomp
        libc = ctypes.CDLL(None, use_errno=True)
        bpf, flags = compiled(Seccomp.convert(json.loads(json.dumps(profile(())))), sys.argv[1])
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load(bpf, flags)
        calls = {"bpf": 321, "keyctl": 250, "add_key": 248, "userfaultfd": 323, "io_uring_setup": 425, "mount": 165,
                 "perf_event_open": 298, "kexec_load": 246, "init_module": 175, "open_by_handle_at": 304, "ptrace_x": 101}
        for name, number in calls.items():
            ctypes.set_errno(0)
            result = libc.syscall(number, 0, 0, 0, 0, 0)
            print(name, result, ctypes.get_errno())
        print("unshare", libc.unshare(0x10000000), ctypes.get_errno())
        try:
            socket.socket(38, socket.SOCK_SEQPACKET)  # AF_ALG
        except OSError as error:
            print("af_alg -1", error.errno)
        print("vsock", libc.socket(40, 1, 0), ctypes.get_errno())
    """)
    import tempfile

    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are of x86-64")
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [sys.executable, "-c", script, directory], capture_output=True, text=True, check=False, timeout=60
        )
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert len(found) == 14, done.stderr
    for name, (result, number) in found.items():
        if name != "ptrace_x":  # allowed on kernels that guard it
            assert (result, number in ("1", "38")) == ("-1", True), name  # EPERM or ENOSYS


def test_state_is_for_its_owner_alone(runtime):
    """CVE-2021-41103: others must reach neither state nor root file systems, nor start what waits."""

    def change(config):
        config["hooks"] = {"startContainer": [{"path": "/bin/true"}]}  # there is start.fifo, too
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}  # and a directory of filters

    os.umask(0)
    try:
        runtime.created("true", change=change)
    finally:
        os.umask(0o022)
    place = runtime.root / runtime.id
    found = [runtime.root, place, *runtime.root.rglob("*")]
    assert {"exec.fifo", "start.fifo", "state.json", "config.json", ".seccomp"} <= {file.name for file in found}
    for file in found:
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_foreign_process_that_has_the_pid_is_never_signalled(runtime):
    runtime.detached("sleep", "100")
    state = runtime.root / runtime.id / "state.json"
    saved = json.loads(state.read_text())
    os.kill(saved["pid"], 9)
    time.sleep(0.2)
    with subprocess.Popen(["sleep", "60"]) as foreign:
        state.write_text(json.dumps({**saved, "pid": foreign.pid}))
        assert runtime.state()["status"] == "stopped"
        assert runtime("kill", runtime.id, "KILL").returncode == 1
        assert runtime("delete", "--force", runtime.id).returncode == 0
        assert foreign.poll() is None
        foreign.kill()


@pytest.mark.skipif(not os.path.exists("/proc/sys/kernel/ns_last_pid"), reason="this kernel gives no number again")
def test_a_number_that_is_given_again_between_two_looks_is_not_signalled(tmp_path):
    """In a pid namespace, where the next number can be said: the process ends as its descriptor is about to be opened."""
    script = textwrap.dedent("""
        import os, signal, subprocess, sys, time
        from veloci.runtime import container as module
        from veloci.runtime.state import Directory, Saved, process

        first = subprocess.Popen(["sleep", "60"])
        saved = Saved(oci_version="1.2.0", id="x", bundle="/", rootfs="/", created="", owner=0,
                      pid=first.pid, started=process(first.pid)[1])
        held = module.Container(Directory(sys.argv[1], "x"), saved, sys.argv[1])
        opened, others = module._pidfd, []

        def late(pid):
            first.kill()
            first.wait()
            time.sleep(0.05)  # the moment it began is told in hundredths of a second
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
            others.append(subprocess.Popen(["sleep", "60"]))
            assert others[0].pid == pid, "the number was not given again"
            return opened(pid)

        module._pidfd = late
        print(held._signal(signal.SIGKILL))
        time.sleep(0.1)
        print(others[0].poll())
        others[0].kill()
    """)
    words = ["unshare", "-pf", "--mount-proc", "--kill-child", sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split() == ["False", "None"], done.stderr
