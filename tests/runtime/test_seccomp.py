"""Seccomp: actions, arguments, flags, and notification to a listener."""

import array
import errno
import fcntl
import json
import os
import socket
import struct
import threading

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

_RECV, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_*
MKDIR = ["mkdir", "mkdirat"]


def profile(*rules, **more):
    """A change that sets a seccomp profile which allows everything but what the rules say."""
    return lambda config: config["linux"].update(
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}
    )


def rule(names, action, **more):
    return {"names": names, "action": action, **more}


@pytest.fixture
def mkdir(either):
    (either.bundle / "rootfs/bin/mkdir").symlink_to("busybox")
    (either.bundle / "rootfs/bin/uname").symlink_to("busybox")
    return either


@pytest.mark.parametrize("privileges", [True, False])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rule(MKDIR, "SCMP_ACT_ERRNO"), "Operation not permitted"),
        (rule(MKDIR, "SCMP_ACT_ERRNO", errnoRet=errno.EDOM), "argument out of domain"),
        (rule(MKDIR, "SCMP_ACT_KILL_PROCESS"), "Bad system call"),
        (rule(MKDIR, "SCMP_ACT_TRAP"), "Bad system call"),
        (rule([*MKDIR, "no_such_call"], "SCMP_ACT_LOG"), ""),
    ],
)
def test_an_action_is_taken(mkdir, given, said, privileges):
    def change(config):
        profile(given)(config)
        config["process"]["noNewPrivileges"] = not privileges
        if privileges:
            for name in ("bounding", "permitted", "effective"):
                config["process"]["capabilities"][name].append("CAP_SYS_ADMIN")

    done = mkdir.run("sh", "-c", "mkdir /dev/shm/new && echo made", change=change)
    assert (said in done.stderr, done.stdout) == (True, "" if said else "made\n"), done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another machine has no chmod(2)")
def test_an_argument_decides(either):
    (either.bundle / "rootfs/bin/chmod").symlink_to("busybox")
    given = rule(["chmod"], "SCMP_ACT_ERRNO", args=[{"index": 1, "value": 0o600, "op": "SCMP_CMP_EQ"}])
    done = either.run("sh", "-c", "cd /dev/shm; true > f; chmod 600 f; chmod 640 f && echo done", change=profile(given))
    assert (done.stdout, done.stderr.count("Operation not permitted")) == ("done\n", 1), done.stderr


def test_a_default_action_with_its_error(runtime):
    (runtime.bundle / "rootfs/bin/mkdir").symlink_to("busybox")
    allowed = (
        "execve execveat brk arch_prctl mmap munmap mprotect read write open openat close stat fstat newfstatat lstat "
        "getpid gettid getuid geteuid getgid getegid getppid set_tid_address set_robust_list rseq prlimit64 readlink "
        "getrandom uname rt_sigaction rt_sigprocmask ioctl exit exit_group umask prctl seccomp futex"
    ).split()

    def change(config):
        rules = [rule(allowed, "SCMP_ACT_ALLOW")]
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": errno.EXDEV,
            "syscalls": rules,
        }

    done = runtime.run("/bin/mkdir", "/dev/shm/x", change=change)
    assert "Invalid cross-device link" in done.stderr


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("privileges", [True, False])
def test_a_profile_need_allow_only_what_the_program_calls(runtime, user, privileges):
    ours = (
        "capset capget chdir getcwd close_range execveat fcntl fchown setgroups setresuid setresgid memfd_create stat "
        "newfstatat statx access faccessat faccessat2 getuid umask prctl socketpair setsid openat2"
    ).split()

    def change(config):
        profile(rule(ours, "SCMP_ACT_ERRNO"))(config)
        config["process"] |= {"noNewPrivileges": not privileges, "user": {"uid": user, "gid": user}}

    done = runtime.run("cat", "/proc/self/status", change=change)
    assert "Seccomp:\t2" in done.stdout, done.stderr
    kept = next(line for line in done.stdout.splitlines() if line.startswith("CapPrm"))
    assert kept.split()[1] == ("0000000000000000" if user else "0000000020000420")
    runtime.detached("sleep", "60", change=change)
    assert runtime("exec", runtime.id, "grep", "Seccomp:", "/proc/self/status").stdout == "Seccomp:\t2\n"
    runtime("delete", "-f", runtime.id)


@pytest.mark.parametrize(
    "flag", ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
)
def test_flags_are_taken(runtime, flag):
    done = runtime.run(
        "grep", "Seccomp", "/proc/self/status", change=profile(rule(MKDIR, "SCMP_ACT_ERRNO"), flags=[flag])
    )
    assert "Seccomp:\t2\n" in done.stdout


@pytest.mark.parametrize(
    ("flags", "bits"),
    [({}, 4), ({"flags": []}, 0), ({"flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]}, 2)],
    ids=["none given", "empty", "some"],
)
def test_the_debug_log_has_the_filters_flags_as_runcs(runtime, flags, bits):
    runtime.configure("true", change=profile(rule(MKDIR, "SCMP_ACT_ERRNO"), **flags))
    done = runtime("--debug", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert f'msg="seccomp filter flags: {bits}"' in done.stderr


class Listener:
    """Answers for a filter: every call that is asked about fails with EDOM."""

    def __init__(self, place):
        self.path = str(place)
        self._socket = socket.socket(socket.AF_UNIX)
        directory = os.open(place.parent, os.O_PATH)
        self._socket.bind(f"/proc/self/fd/{directory}/{place.name}")
        os.close(directory)
        self._socket.listen(4)
        self._socket.settimeout(15)
        self.states, self.asked, self.listeners = [], [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                message, control, _, _ = connection.recvmsg(65536, socket.CMSG_LEN(4))
            self.states.append(json.loads(message))
            descriptor = array.array("i", control[0][2])[0]
            self.listeners.append(descriptor)
            threading.Thread(target=self._answer, args=(descriptor,), daemon=True).start()

    def _answer(self, descriptor):
        while True:
            asked = bytearray(80)
            try:
                fcntl.ioctl(descriptor, _RECV, asked)
                number, pid, _flags, call = struct.unpack_from("=QIIi", asked)
                self.asked.append((pid, call))
                fcntl.ioctl(descriptor, _SEND, struct.pack("=QqiI", number, 0, -errno.EDOM, 0))
            except OSError as error:
                if error.errno == errno.ENOENT:  # it was interrupted meanwhile
                    continue
                return

    def close(self):
        self._socket.close()


@pytest.fixture
def listener(tmp_path):
    made = Listener(tmp_path / "listener")
    yield made
    made.close()


@pytest.mark.parametrize("privileges", [True, False])
def test_a_listener_answers_for_the_container(mkdir, listener, privileges):
    def change(config):
        profile(rule(MKDIR, "SCMP_ACT_NOTIFY"), listenerPath=listener.path, listenerMetadata="of mine")(config)
        config["process"]["noNewPrivileges"] = not privileges
        config["annotations"] = {"a": "b"}

    mkdir.detached("sh", "-c", "mkdir /dev/shm/new 2> /dev/shm/said; cat /dev/shm/said; exec sleep 100", change=change)
    done = mkdir("exec", mkdir.id, "mkdir", "/dev/shm/other")
    assert "argument out of domain" in done.stderr
    assert not mkdir("exec", mkdir.id, "ls", "/dev/shm/other").stdout
    assert "argument out of domain" in (mkdir.bundle.parent / "out").read_text()
    first, second = listener.states[:2]
    pid = mkdir.state()["pid"]
    assert (first["fds"], first["metadata"], first["pid"]) == (["seccompFd"], "of mine", pid)
    assert (first["state"]["id"], first["state"]["status"], first["state"]["pid"]) == (mkdir.id, "creating", pid)
    assert first["state"]["annotations"] == {"a": "b"}
    assert first["state"]["bundle"] == str(mkdir.bundle)
    assert (second["state"]["status"], second["state"]["pid"]) == ("running", pid)
    assert second["pid"] != pid
    assert {call for _, call in listener.asked} <= {83, 258, 34}  # mkdir, mkdirat: x86-64, aarch64


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (profile(rule(MKDIR, "SCMP_ACT_NOTIFY")), "listenerPath: SCMP_ACT_NOTIFY needs listenerPath"),
        (profile(rule(MKDIR, "SCMP_ACT_NOTIFY"), listenerPath="/nope"), "listenerPath: failed to connect with seccomp agent /nope: No such file or directory"),
        (profile(rule(["write"], "SCMP_ACT_NOTIFY"), listenerPath="/x"), "syscalls[0].names: SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        (lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}), "defaultAction: SCMP_ACT_NOTIFY cannot be the default action"),
        (profile(listenerMetadata="x"), "listenerMetadata: needs listenerPath"),
        (profile(flags=["SECCOMP_FILTER_FLAG_NOPE"]), "flags[0]: 'SECCOMP_FILTER_FLAG_NOPE' is not supported"),
        (profile(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), "flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY"),
        (profile(rule(MKDIR, "SCMP_ACT_KILL", errnoRet=1)), "syscalls[0].errnoRet: SCMP_ACT_KILL gives no error number"),
        (profile(defaultErrnoRet=1), "defaultErrnoRet: SCMP_ACT_ALLOW gives no error number"),
        (profile(rule([], "SCMP_ACT_ERRNO")), "syscalls[0].names: needs a name"),
        (profile(rule(MKDIR, "SCMP_ACT_ERRNO", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])), "syscalls[0].args[0].index: a system call has the arguments 0 to 5, not 6"),
        (profile(architectures=["SCMP_ARCH_NOPE"]), "architectures[0]: there is no architecture 'SCMP_ARCH_NOPE'"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused_and_leaves_nothing(runtime, change, place):
    done = runtime.run("true", change=change)
    assert done.stderr.splitlines()[0] == f"veloci-runtime run failed: config.json: $.linux.seccomp.{place}"
    assert runtime.traces() == []
