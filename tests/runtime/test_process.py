"""process: every field of it, seen by the program or from the host."""

import json
import os
import resource
import signal
import stat
import subprocess

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def process(**fields):
    """A change that sets fields of process."""
    return lambda config: config["process"].update(fields)


def status(runtime, *names, change):
    """Lines of /proc/self/status in the container, as a table."""
    done = runtime.run("cat", "/proc/self/status", change=change)
    assert done.returncode == 0, done.stderr
    table = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
    return [table[name] for name in names]


def test_user_and_groups_are_exactly_those_given(either):
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}
    assert status(either, "Uid", "Gid", "Groups", change=process(user=user)) == [
        "1000\t1000\t1000\t1000",
        "1001\t1001\t1001\t1001",
        "5 6 ",
    ]


def test_umask_is_set_and_022_by_default(either):
    assert status(either, "Umask", change=process()) == ["0022"]
    assert status(either, "Umask", change=process(user={"uid": 0, "gid": 0, "umask": 0o27})) == ["0027"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGPIPE])
def test_what_the_caller_ignores_the_program_does_not(either, number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        (ignored,) = status(either, "SigIgn", change=process())
    finally:
        signal.signal(number, before)
    # The C library keeps 32 and 33 to itself, and its posix_spawn, by which Python 3.13 begins us, ignores them.
    assert int(ignored, 16) & ~(0b11 << 31) == 0


def test_rlimits_are_set(either):
    names = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    limits = [{"type": f"RLIMIT_{name}", "soft": 10**5 + n, "hard": 10**6 + n} for n, name in enumerate(names)]
    limits[names.index("NOFILE")].update(soft=600, hard=700)
    for name in ("AS", "DATA", "STACK", "FSIZE", "RSS"):
        limits[names.index(name)].update(soft=2**64 - 1, hard=2**64 - 1)
    limits = [limit for limit in limits if _may(limit)]
    done = either.run("cat", "/proc/self/limits", change=process(rlimits=limits))
    table = {line[:26].strip(): line[26:].split()[:2] for line in done.stdout.splitlines()[1:]}
    assert table["Max open files"] == ["600", "700"]
    assert table["Max address space"] == ["unlimited", "unlimited"]
    assert table["Max cpu time"] == ["100000", "1000000"]
    assert table["Max realtime timeout"] == ["100015", "1000015"]
    assert len(table) == 16


def test_a_limit_that_may_not_be_set_is_named(runtime):
    """More open files than fs.nr_open no one may have."""
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 2**40}]
    done = runtime.run("true", change=process(rlimits=limits))
    wanted = "config.json: $.process.rlimits: rlimits: RLIMIT_NOFILE: prlimit64: Operation not permitted"
    assert (done.returncode, wanted in done.stderr) == (1, True), done.stderr
    assert runtime.traces() == []


def _may(limit):
    """Whether this host's root may set it: without CAP_SYS_RESOURCE none can be raised."""
    hard = resource.getrlimit(getattr(resource, limit["type"], resource.RLIMIT_CPU))[1]
    return hard == resource.RLIM_INFINITY or limit["hard"] <= hard


def test_an_exec_has_the_limits_of_the_container(runtime):
    runtime.detached("sleep", "100", change=process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400}]))
    assert runtime("exec", runtime.id, "sh", "-c", "ulimit -n; ulimit -Hn").stdout.split() == ["300", "400"]


@pytest.mark.parametrize("score", [0, 700])
def test_the_oom_score_is_set(either, score):
    assert either.run("cat", "/proc/self/oom_score_adj", change=process(oomScoreAdj=score)).stdout == f"{score}\n"


def test_all_five_capability_sets(either):
    bits = {"CAP_CHOWN": 1, "CAP_KILL": 1 << 5, "CAP_NET_RAW": 1 << 13}
    sets = {
        "bounding": [*bits],
        "permitted": [*bits],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_KILL"],
    }
    found = status(
        either, "CapBnd", "CapInh", "CapAmb", "CapPrm", change=process(capabilities=sets, user={"uid": 5, "gid": 5})
    )
    # Another user's program has what is ambient, and nothing else.
    assert [int(text, 16) for text in found] == [sum(bits.values()), 1 << 5 | 1 << 13, 1 << 5, 1 << 5]


def test_root_has_what_is_bounding_and_nothing_without_sets(either):
    wanted = ["CAP_CHOWN", "CAP_KILL"]
    sets = {"bounding": wanted, "permitted": wanted, "effective": wanted}
    assert status(either, "CapEff", "CapInh", change=process(capabilities=sets)) == [
        "0000000000000021",
        "0000000000000000",
    ]
    assert status(either, "CapEff", change=lambda c: c["process"].pop("capabilities")) == ["0000000000000000"]


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(either, wanted):
    assert status(either, "NoNewPrivs", change=process(noNewPrivileges=wanted)) == [str(int(wanted))]


def test_a_capability_that_is_not_given_is_a_warning(runtime):
    asked = {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]}
    asked |= {name: ["CAP_KILL", "CAP_CHOWN", "CAP_NOPE"] for name in ("bounding", "permitted", "effective")}
    done = runtime.run("grep", "CapAmb", "/proc/self/status", change=process(capabilities=asked))
    assert done.stdout == "CapAmb:\t0000000000000020\n"
    assert [line.partition("msg=")[2] for line in done.stderr.splitlines()] == [
        '"ignoring unknown or unavailable capabilities: [CAP_NOPE]"',
        '"can\'t raise ambient capability CAP_CHOWN: operation not permitted"',
    ]


def test_a_capability_counts_when_the_program_is_looked_for(either):
    (either.bundle / "rootfs/bin/busybox").chmod(0o700)
    sets = {name: ["CAP_DAC_OVERRIDE"] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    done = either.run("id", "-u", change=process(user={"uid": 1000, "gid": 100}, capabilities=sets))
    assert done.stdout == "1000\n", done.stderr


def test_an_unknown_capability_is_left_out(either):
    sets = {"bounding": ["CAP_CHOWN", "CAP_NOPE"], "effective": ["CAP_CHOWN", "CAP_NOPE"], "permitted": ["CAP_CHOWN"]}
    assert status(either, "CapBnd", change=process(capabilities=sets)) == ["0000000000000001"]


def test_the_working_directory_is_made(either):
    done = either.run("sh", "-c", "pwd; stat -c '%a %u' .", change=process(cwd="/not/there/yet"))
    assert done.stdout.splitlines() == ["/not/there/yet", "755 0"] or (done.returncode, done.stderr) == (0, "")


def test_a_working_directory_that_only_root_may_enter_is_entered(either):
    (either.bundle / "rootfs/closed").mkdir(mode=0o700)
    done = either.run("readlink", "/proc/self/cwd", change=process(cwd="/closed", user={"uid": 9, "gid": 9}))
    assert (done.returncode, done.stdout) == (0, "/closed\n")


def test_home_is_looked_up_in_the_containers_passwd(either):
    (either.bundle / "rootfs/etc").mkdir()
    (either.bundle / "rootfs/etc/passwd").write_text("a:x:77:7::/home/a:/bin/sh\n")
    script = ("sh", "-c", "echo $HOME")
    assert either.run(*script, change=process(user={"uid": 77, "gid": 7})).stdout == "/home/a\n"
    assert either.run(*script, change=process(user={"uid": 78, "gid": 7})).stdout == "/\n"
    kept = process(user={"uid": 77, "gid": 7}, env=["PATH=/bin", "HOME=/x"])
    assert either.run(*script, change=kept).stdout == "/x\n"


def test_an_empty_home_is_none_and_the_last_of_two_values_counts(runtime):
    env = ["PATH=/bin", "HOME=/x", "HOME=", "ONE=two", "ONE=three"]
    assert runtime.run("sh", "-c", "echo $HOME $ONE", change=process(env=env)).stdout == "/ three\n"


def test_an_exec_is_the_containers_user_but_for_what_it_names(either):
    user = {"uid": 7, "gid": 8, "additionalGids": [9]}
    either.detached("sleep", "100", change=process(user=user))
    assert either("exec", either.id, "id").stdout == "uid=7 gid=8 groups=9\n"
    assert either("exec", "--user", "5", either.id, "id").stdout == "uid=5 gid=8 groups=9\n"
    assert either("exec", "--user", "5:6", "-g", "4", either.id, "id").stdout == "uid=5 gid=6 groups=4,9\n"
    either("delete", "-f", either.id)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
def test_a_deadline_on_some_processors_only_is_refused_in_runcs_words(runtime):
    def change(config):
        process(scheduler={"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1000000, "period": 1000000})(
            config
        )
        config["linux"]["resources"] = {"cpu": {"cpus": "0"}}

    done = runtime.run("true", change=change)
    assert done.stderr.endswith("cpu.cpus: process scheduler can't be used together with AllowedCPUs\n")


def test_a_script_without_its_interpreter_is_named(either):
    script = either.bundle / "rootfs/bin/run.sh"
    script.write_text("#!/nope foo\n")
    script.chmod(0o755)
    either.detached("sleep", "100")
    done = either("exec", either.id, "/bin/run.sh")
    assert "no such file or directory" in done.stderr
    assert done.returncode != 0
    either("delete", "-f", either.id)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
def test_the_callers_processors_are_not_the_containers(runtime):
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        shown = runtime.run("grep", "Cpus_allowed_list", "/proc/self/status").stdout
        runtime.detached("sleep", "100")
        assert runtime("exec", runtime.id, "grep", "Cpus_allowed_list", "/proc/self/status").stdout == shown
    finally:
        os.sched_setaffinity(0, everywhere)
    assert shown.split()[1] == f"0-{os.cpu_count() - 1}"
    runtime("delete", "-f", runtime.id)


def test_an_exec_can_have_a_capability_more(runtime):
    inherited = {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "inheritable", "permitted", "effective")}
    runtime.detached("sleep", "100", change=process(capabilities=inherited))
    done = runtime("exec", "--cap", "CAP_CHOWN", runtime.id, "grep", "CapAmb", "/proc/self/status")
    assert done.stdout == "CapAmb:\t0000000000000001\n", done.stderr
    runtime("delete", "-f", runtime.id)


def test_arguments_and_environment_come_as_they_are(either):
    odd = "tab\there, 'quotes' \"too\", $no, ünïcode, \\back"
    done = either.run(
        "sh",
        "-c",
        'printf "%s|" "$@"; echo; printf %s "$ODD"',
        "zero",
        odd,
        "",
        "-n",
        change=lambda c: c["process"]["env"].append(f"ODD={odd}"),
    )
    assert done.stdout == f"{odd}||-n|\n{odd}"


@pytest.mark.parametrize(
    ("given", "policy", "priority", "nice"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, os.SCHED_BATCH, 0, 5),
        ({"policy": "SCHED_OTHER", "nice": -5}, os.SCHED_OTHER, 0, -5),
        ({"policy": "SCHED_IDLE"}, os.SCHED_IDLE, 0, 0),
        ({"policy": "SCHED_FIFO", "priority": 3}, os.SCHED_FIFO, 3, 0),
        ({"policy": "SCHED_RR", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, os.SCHED_RR | os.SCHED_RESET_ON_FORK, 4, 0),
    ],
)  # fmt: skip
def test_the_scheduler_is_set(runtime, given, policy, priority, nice):
    def change(config):
        config["process"]["scheduler"] = given
        if given.get("priority") and os.path.exists(
            "/sys/fs/cgroup/cpu/cpu.rt_runtime_us"
        ):  # which a group of version 1 has no time for by default
            config["linux"]["resources"]["cpu"] = {"realtimePeriod": 1_000_000, "realtimeRuntime": 10_000}

    runtime.detached("sleep", "100", change=change)
    pid = runtime.state()["pid"]
    assert os.sched_getscheduler(pid) == policy
    assert os.sched_getparam(pid).sched_priority == priority
    assert os.getpriority(os.PRIO_PROCESS, pid) == nice


def test_a_deadline_is_set(runtime):
    times = {"runtime": 10_000_000, "deadline": 30_000_000, "period": 40_000_000}
    runtime.detached("sleep", "100", change=process(scheduler={"policy": "SCHED_DEADLINE", **times}))
    assert os.sched_getscheduler(runtime.state()["pid"]) == 6


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, "best-effort: prio 6"),
        ({"class": "IOPRIO_CLASS_RT", "priority": 2}, "realtime: prio 2"),
        ({"class": "IOPRIO_CLASS_IDLE"}, "idle"),
    ],
)
@pytest.mark.needs("ionice")
def test_the_io_priority_is_set(runtime, given, shown):
    runtime.detached("sleep", "100", change=process(ioPriority=given))
    done = subprocess.run(["ionice", "-p", str(runtime.state()["pid"])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == shown


@pytest.mark.skipif(os.cpu_count() < 2, reason="one processor")
def test_an_exec_runs_on_the_processors_of_its_affinity(runtime):
    runtime.detached("sleep", "100", change=process(execCPUAffinity={"initial": "0", "final": "1"}))
    read = ("grep", "Cpus_allowed_list", "/proc/self/status")
    assert runtime("exec", runtime.id, *read).stdout == "Cpus_allowed_list:\t1\n"
    failed = runtime("exec", "--process", str(asked(runtime, {"initial": "7000"})), runtime.id)
    assert failed.stderr == (
        "veloci-runtime: exec failed: process: $.execCPUAffinity.initial: run on processors 7000: Invalid argument\n"
    )
    # The container's own process has all of them.
    assert os.sched_getaffinity(runtime.state()["pid"]) == os.sched_getaffinity(0)


def asked(runtime, affinity):
    """A file as exec --process reads it."""
    file = runtime.bundle / "process.json"
    file.write_text(json.dumps({"cwd": "/", "args": ["true"], "env": ["PATH=/bin"], "execCPUAffinity": affinity}))
    return file


@pytest.mark.parametrize("text", ["a", "3-1", "0,", "-1", "9999999"])
def test_a_list_of_processors_that_is_none_is_refused(runtime, text):
    done = runtime.run("true", change=process(execCPUAffinity={"final": text}))
    assert done.stderr.splitlines()[0] == (
        f"veloci-runtime run failed: config.json: $.process.execCPUAffinity.final: {text!r} is not a list of processors"
    )


def test_stdio_belongs_to_the_user_unless_it_is_a_device(runtime, tmp_path):
    runtime.configure("true", change=process(user={"uid": 1234, "gid": 5}))
    before = os.stat("/dev/null")
    with open(tmp_path / "out", "w") as out, open("/dev/null") as null:
        subprocess.run(
            [runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id],
            stdin=null, stdout=out, stderr=out, check=True, timeout=20,
        )  # fmt: skip
    assert os.stat(tmp_path / "out").st_uid == 1234
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (
        before.st_uid,
        before.st_gid,
        stat.S_IMODE(before.st_mode),
    )


def test_the_hosts_limits_do_not_change(runtime):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    runtime.run("true", change=process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400}]))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("flag", ["apparmorProfile", "selinuxLabel"])
def test_a_label_that_the_host_cannot_give_is_refused(runtime, flag):
    if os.path.exists("/sys/module/apparmor") or os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this host has a security module")
    name = {"apparmorProfile": "AppArmor", "selinuxLabel": "SELinux"}[flag]
    done = runtime.run("true", change=process(**{flag: "some"}))
    assert done.stderr.splitlines()[0] == (
        f"veloci-runtime run failed: config.json: $.process.{flag}: {name} is not enabled on this host"
    )
