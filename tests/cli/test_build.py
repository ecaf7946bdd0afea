"""`veloci build`, from the outside: real steps in real containers."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox")


def veloci(*words, **options):
    command = [sys.executable, "-m", "veloci", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.fixture
def context(roots):
    directory = roots / "context"
    directory.mkdir()
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    return directory


BASE = 'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


def built(context, text, *words, **options):
    (context / "Dockerfile").write_text(text)
    return veloci("build", "--network", "none", "-t", "t:1", *words, context, **options)


def config(name="t:1"):
    found = json.loads(veloci("image", "inspect", name).stdout)[0]
    return found["Config"]


def layers(roots, name="t:1"):
    """The names in each layer, base first."""
    archive = roots / "saved.tar"
    assert veloci("save", "-o", archive, name).returncode == 0
    with tarfile.open(archive) as saved:
        (manifest,) = json.load(saved.extractfile("manifest.json"))
        raw = [saved.extractfile(layer).read() for layer in manifest["Layers"]]
    return [tarfile.open(fileobj=io.BytesIO(layer)) for layer in raw]


def printed(done):
    """The lines that programs in steps printed."""
    return [line.split(" ", 2)[2] for line in done.stderr.splitlines() if re.match(r"#\d+ \d+\.\d+ ", line)]


def left(roots):
    """What builds leave beside images and their cache."""
    found = []
    for path in ("data/snapshots/writable", "data/build/work", "data/build/active", "run/runtime", "run/build"):
        found += [str(p) for p in (roots / path).glob("*") if p.name != ".seccomp"]  # a cache of the runtime's
    return found


def test_two_stages_make_one_small_image_and_the_second_build_is_cached(context, roots):
    (context / "src").mkdir()
    (context / "src/app.txt").write_text("hello\n")
    text = BASE + (
        "FROM base AS build\nCOPY src /src\nRUN cat /src/app.txt > /app.jar && echo made it\n"
        "FROM nosuch.invalid/image AS unused\nRUN false\n"
        'FROM scratch\nWORKDIR /\nCOPY --from=build app.jar .\nENTRYPOINT ["java", "-jar", "app.jar"]\n'
    )
    first = built(context, text)
    assert first.returncode == 0, first.stderr
    assert "made it" in first.stderr
    assert "#5 [stage-3 3/3] COPY --from=build app.jar .\n" in first.stderr
    assert "naming to docker.io/library/t:1 done\n" in first.stderr
    assert first.stderr.splitlines()[-1].startswith(("#6 DONE", "#7 DONE"))
    assert config()["Entrypoint"] == ["java", "-jar", "app.jar"]
    (layer,) = layers(roots)
    assert layer.getnames() == ["app.jar"]
    assert layer.extractfile("app.jar").read() == b"hello\n"
    second = built(context, text)
    identity = [line for line in first.stderr.splitlines() if "writing image" in line]
    assert identity[0].partition(" ")[2] in second.stderr
    assert second.stderr.count("CACHED") == first.stderr.count("DONE") - 1
    (context / "src/app.txt").write_text("other\n")
    third = built(context, text)
    assert third.stderr.count("CACHED") == 2
    assert left(roots) == []


def test_a_step_sees_an_environment_built_from_nothing_and_leaves_no_mount_point(context, roots):
    text = (
        BASE
        + "ARG WHO=me\nENV A=1 WHO2=$WHO\nWORKDIR /w\nRUN env | sort; grep CapEff /proc/self/status; ls -A /etc; cat; touch x\n"
    )
    done = built(context, text, env={**os.environ, "LEAK": "yes"})
    assert done.returncode == 0, done.stderr
    said = [line.split(" ", 2)[2] for line in done.stderr.splitlines() if re.match(r"#4 \d+\.\d+ ", line)]
    assert said[:8] == [
        "A=1",
        "HOME=/",
        "HOSTNAME=build",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/w",
        "SHLVL=1",
        "WHO2=me",
        "WHO=me",
    ]
    assert said[8].split() == ["CapEff:", "00000000a80425fb"]
    assert layers(roots)[-1].getnames() == ["w", "w/x"]


def test_a_failing_step_shows_its_output_and_leaves_nothing(context, roots):
    done = built(context, BASE + "RUN echo before; exit 7\n")
    assert done.returncode == 1
    assert "before\n" in done.stderr
    assert done.stderr.endswith("veloci: Dockerfile:4: RUN echo before; exit 7: exit status 7\n")
    assert veloci("images", "-q").stdout == ""
    assert left(roots) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nRUNN x\n", "veloci: Dockerfile:2: unknown instruction: RUNN (did you mean RUN?)\n"),
        ("FROM scratch\nCOPY nope.txt /\n", "veloci: Dockerfile:2: COPY nope.txt: not in the build context\n"),
        (
            "FROM scratch\nCOPY --chown=nobody busybox /\n",
            "veloci: Dockerfile:2: unable to find user nobody: no matching entries in passwd file\n",
        ),
        (
            "FROM scratch\nCOPY busybox busybox /x\n",
            "veloci: Dockerfile:2: when using COPY with more than one source file, the destination must be a directory and end with a /\n",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(context, roots, text, message):
    done = built(context, text)
    assert done.returncode == 1
    assert message in done.stderr
    assert left(roots) == []


def test_copy_sets_owners_and_modes_and_add_unpacks(context, roots):
    (context / "d/in").mkdir(parents=True)
    (context / "d/in/f").write_text("x")
    (context / "d/in/f").chmod(0o640)
    (context / "d/skip.log").write_text("x")
    with tarfile.open(context / "a.tgz", "w:gz") as tar:
        tar.add(context / "d/in/f", "t/f")
    text = (
        "FROM scratch\nCOPY --chown=5:6 --chmod=u=rwX,go=rX d /new/d\nCOPY --chown=7 d/in/f /\n"
        "ADD a.tgz /tar/\nCOPY d/*.none d/in/f /w/\nCOPY --exclude=*.log d /x\nCOPY <<one <<'two' /h/\n$HOME\none\n$HOME\ntwo\n"
    )
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    shown = [
        [(m.name, oct(m.mode), m.uid, m.gid) for m in layer.getmembers() if not m.name.startswith("tar/t")]
        for layer in layers(roots)
    ]
    assert shown[0] == [
        ("new", "0o755", 5, 6),
        ("new/d", "0o755", 5, 6),
        ("new/d/in", "0o755", 5, 6),
        ("new/d/in/f", "0o644", 5, 6),
        ("new/d/skip.log", "0o644", 5, 6),
    ]
    assert shown[1] == [("f", "0o640", 7, 7)]
    assert "tar/t/f" in layers(roots)[2].getnames()
    assert [name for name, *_ in shown[3]] == ["w", "w/f"]
    assert [name for name, *_ in shown[4]] == ["x", "x/in", "x/in/f"]
    assert layers(roots)[5].extractfile("h/one").read() == b"\n"
    assert layers(roots)[5].extractfile("h/two").read() == b"$HOME\n"


def test_mounts_of_a_step_are_there_and_gone(context, roots):
    (context / "note").write_text("hello")
    (roots / "secret").write_text("hush")
    text = BASE + (
        "RUN --mount=target=/ctx --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=secret,id=s "
        "cat /ctx/note /run/secrets/s; echo; cat /c/old || echo > /c/old; grep -c ' /t tmpfs' /proc/mounts; touch /ctx/x || echo read-only\n"
    )
    done = built(context, text, "--secret", f"id=s,src={roots}/secret")
    assert done.returncode == 0, done.stderr
    assert " hellohush\n" in done.stderr
    assert " read-only\n" in done.stderr
    assert "CACHED" not in done.stderr
    again = built(context, text, "--secret", f"id=s,src={roots}/secret", "--no-cache")
    assert "can't open '/c/old'" in done.stderr
    assert "can't open '/c/old'" not in again.stderr
    assert layers(roots)[-1].getnames() == []
    assert b"hush" not in b"".join(p.read_bytes() for p in (roots / "data/build/steps").iterdir())
    assert left(roots) == []


def test_the_epoch_makes_two_builds_equal(context, roots):
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1000000000"}
    text = BASE + "RUN date > /dev/null; touch /x\n"
    identities = []
    for _ in range(2):
        (context / "Dockerfile").write_text(text)
        done = veloci("build", "-q", "--network=none", "--no-cache", context, env=environment)
        assert done.returncode == 0, done.stderr
        identities.append(done.stdout)
    assert identities[0] == identities[1]


def test_triggers_of_the_base_run_in_the_stage_above(context, roots):
    done = built(context, BASE + "ONBUILD COPY note /n\nONBUILD RUN cat /n\nFROM base\nCMD x\n")
    assert done.returncode == 1
    assert "COPY note: not in the build context" in done.stderr
    (context / "note").write_text("triggered\n")
    done = built(context, BASE + "ONBUILD COPY note /n\nONBUILD RUN cat /n\nFROM base\nCMD x\n")
    assert done.returncode == 0, done.stderr
    assert " triggered\n" in done.stderr
    assert config()["Cmd"] == ["/bin/sh", "-c", "x"]
    assert not config().get("OnBuild")


def test_ignored_files_are_not_copied(context, roots):
    (context / ".dockerignore").write_text("*\n!keep\n")
    (context / "keep").write_text("k")
    done = built(context, "FROM scratch\nCOPY . /all/\n")
    assert done.returncode == 0, done.stderr
    assert layers(roots)[0].getnames() == ["all", "all/keep"]
    done = built(context, "FROM scratch\nCOPY busybox /\n")
    assert (
        "veloci: Dockerfile:2: COPY busybox: not in the build context: .dockerignore:1 leaves it out\n" in done.stderr
    )


def test_a_build_that_was_killed_is_swept_by_the_next(context, roots):
    (context / "Dockerfile").write_text(BASE + "RUN echo started; sleep 6061\n")
    command = [sys.executable, "-m", "veloci", "build", "--network=none", str(context)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert any("started" in line and "0." in line for line in process.stderr)
        process.kill()
    assert left(roots)
    done = built(context, "FROM scratch\nCOPY busybox /\n")
    assert done.returncode == 0, done.stderr
    assert left(roots) == []
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x006061" in content(p)]


def test_a_bind_mount_of_a_stage_is_mounted_and_what_is_written_to_it_is_lost(context, roots):
    text = BASE + (
        "FROM base AS data\nRUN mkdir /d && echo one > /d/f && ln -s /d /link && chmod 700 /d\nFROM base\n"
        "RUN --mount=from=data,source=/link,target=/m --mount=from=data,source=d/f,target=/file "
        "--mount=from=data,target=/rw,rw "
        "cat /m/f /file; stat -c %a /m; touch /m/x || echo read-only; echo two > /rw/d/f; cat /rw/d/f\n"
        "RUN --mount=from=data,source=d,target=/m,rw cat /m/f; rm /m/f; ls -A /m\n"
    )
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    said = printed(done)
    assert said == ["one", "one", "700", "touch: /m/x: Read-only file system", "read-only", "two", "one"]
    assert [layer.getnames() for layer in layers(roots)[2:]] == [[], []]
    assert left(roots) == []


def test_a_bind_mount_cannot_lead_out_of_its_stage(context, roots):
    text = (
        BASE
        + "FROM base AS data\nRUN ln -s /../../../../etc /out\nFROM base\nRUN --mount=from=data,source=/out,target=/m ls /m\n"
    )
    done = built(context, text)
    assert done.returncode == 1
    assert "veloci: Dockerfile:7: /out: not in data\n" in done.stderr
    assert left(roots) == []


def test_a_cache_mount_begins_with_a_stages_files_and_is_kept(context, roots):
    text = BASE + (
        "FROM base AS seed\nRUN mkdir /s && echo seed > /s/f\nFROM base\n"
        "RUN --mount=type=cache,from=seed,source=s,target=/c,uid=5,gid=6,mode=0711 cat /c/f; stat -c '%u:%g %a' /c; echo more >> /c/f\n"
        "RUN --mount=type=cache,from=seed,source=s,target=/c cat /c/f\n"
        "RUN --mount=type=cache,id=/c,target=/other ls -A /other; echo empty\n"
        "RUN --mount=type=cache,from=seed,source=s,target=/c,ro touch /c/x || echo kept\n"
    )
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    said = printed(done)
    assert said == ["seed", "5:6 711", "seed", "more", "empty", "touch: /c/x: Read-only file system", "kept"]


def sharing(context, kind):
    """Two stages that use one cache mount at the same time; what each found there."""
    use = f"RUN --mount=type=cache,target=/c,sharing={kind} ls -A /c; echo > /c/%s; sleep 1; ls -A /c | wc -l\n"
    text = f"{BASE}FROM base AS a\n{use % 'a'}FROM base AS b\n{use % 'b'}FROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
    done = built(context, text, "--no-cache")
    assert done.returncode == 0, done.stderr
    return sorted(printed(done))


def test_a_cache_mount_is_shared_private_or_locked(context, roots):
    assert sharing(context, "shared")[:2] == ["2", "2"]
    shutil.rmtree(roots / "data/build/mounts")
    assert sharing(context, "private") == ["1", "1"]
    shutil.rmtree(roots / "data/build/mounts")
    first, second, *names = sharing(context, "locked")
    assert (first, second) == ("1", "2")
    assert names in (["a"], ["b"])


def test_a_step_has_a_socket_to_the_users_ssh_agent(context, roots):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(roots / "agent"))
    text = BASE + (
        "RUN --mount=type=ssh,uid=7,mode=0620 echo $SSH_AUTH_SOCK; stat -c '%u %a %F' $SSH_AUTH_SOCK\n"
        "RUN echo none:$SSH_AUTH_SOCK\n"
    )
    environment = {**os.environ, "SSH_AUTH_SOCK": str(roots / "agent")}
    done = built(context, text, "--ssh", "default", env=environment)
    listener.close()
    assert done.returncode == 0, done.stderr
    assert " /run/buildkit/ssh_agent.0\n" in done.stderr
    assert " 7 620 socket\n" in done.stderr
    assert " none:\n" in done.stderr
    assert layers(roots)[-1].getnames() == []
    without = built(context, BASE + "RUN --mount=type=ssh,required true\n")
    assert without.stderr.endswith(
        "veloci: Dockerfile:4: SSH agent default: not found\n  try: veloci build --ssh default\n"
    )
    missing = built(context, BASE, "--ssh", f"default={roots}/nothing")
    assert missing.stderr == f"veloci: --ssh: {roots}/nothing: No such file or directory\n"
    assert left(roots) == []


def test_more_than_the_usual_must_be_allowed(context, roots):
    text = BASE + "RUN --security=insecure grep CapEff /proc/self/status\n"
    done = built(context, text)
    assert done.stderr.endswith(
        "veloci: Dockerfile:4: security.insecure is not allowed\n  try: veloci build --allow security.insecure\n"
    )
    done = built(context, text, "--allow", "security.insecure")
    assert done.returncode == 0, done.stderr
    assert "00000000a80425fb" not in done.stderr
    done = built(context, BASE + "RUN --network=host ls /sys/class/net\n")
    assert "veloci: Dockerfile:4: network.host is not allowed\n" in done.stderr
    done = built(context, BASE + "RUN --network=host ls /sys/class/net\n", "--allow=network.host")
    assert done.returncode == 0, done.stderr
    assert built(context, BASE, "--allow=all").stderr == (
        "veloci: --allow: unknown entitlement 'all'\n  try: network.host or security.insecure\n"
    )


def test_one_stage_alone_is_built_anew(context, roots):
    text = BASE + "FROM base AS one\nRUN echo first\nFROM base\nRUN echo second\nCOPY --from=one /bin /b\n"
    assert built(context, text).returncode == 0
    done = built(context, text, "--no-cache-filter", "one")
    assert done.stderr.count("CACHED") == 4
    assert re.search(r" \d+\.\d+ first\n", done.stderr)
    assert not re.search(r" \d+\.\d+ second\n", done.stderr)


def test_stages_that_do_not_need_each_other_are_built_side_by_side(context, roots):
    text = BASE + "".join(f"FROM base AS s{n}\nRUN sleep 1.5; echo {n}\n" for n in range(3))
    text += "FROM scratch\n" + "".join(f"COPY --from=s{n} /bin /{n}\n" for n in range(3))
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    begun = [lines.index(line) for line in lines if "] RUN sleep" in line]
    ended = [lines.index(line) for line in lines if re.match(r"#\d+ \d\.\d+ \d$", line)]
    assert len(begun) == len(ended) == 3
    assert max(begun) < min(ended), done.stderr


def test_a_step_that_two_stages_have_runs_once(context, roots):
    text = (
        BASE
        + "FROM base AS a\nRUN sleep 0.5; echo once\nFROM base AS b\nRUN sleep 0.5; echo once\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n"
    )
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r" \d+\.\d+ once\n", done.stderr)) == 1


def test_one_stages_failure_ends_the_others(context, roots):
    text = (
        BASE
        + "FROM base AS slow\nRUN sleep 6062\nFROM base AS bad\nRUN sleep 0.5; false\nFROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /\n"
    )
    began = time.monotonic()
    done = built(context, text)
    assert done.returncode == 1
    assert done.stderr.endswith("veloci: Dockerfile:7: RUN sleep 0.5; false: exit status 1\n")
    assert time.monotonic() - began < 30
    assert left(roots) == []
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x006062" in content(p)]


def test_a_build_that_waits_for_another_says_so_and_can_be_interrupted(context, roots):
    text = (
        BASE
        + "FROM base AS slow\nRUN echo started; sleep 5\nFROM base AS b\nRUN true\nFROM scratch\nCOPY --from=slow /bin /1\nCOPY --from=b /bin /2\n"
    )
    (context / "Dockerfile").write_text(text)
    command = [sys.executable, "-m", "veloci", "build", "--network=none", str(context)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert any(re.search(r"\d\.\d+ started", line) for line in first.stderr)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
            assert any(line.endswith("another build does this step: waiting for it\n") for line in second.stderr)
            began = time.monotonic()
            second.send_signal(signal.SIGINT)
            rest = second.stderr.read()
            assert second.wait() == 130, rest
            assert time.monotonic() - began < 3
        assert first.stderr.read().splitlines()[-1].endswith("s")
        assert first.wait() == 0
    assert left(roots) == []


def remains(token, path):
    """What of a killed build's container is left on the host: processes, cgroups, mounts."""
    found = [p for p in Path("/proc").glob("[0-9]*/cmdline") if token.encode() in content(p)]
    found += [p for p in Path("/sys/fs/cgroup").glob("*/veloci-build-*") if mine(p, path)]
    return found + [line for line in Path("/proc/mounts").read_text().splitlines() if str(path) in line]


def content(file):
    """The file's bytes; none of one that has gone."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def mine(cgroup, path):
    return (path / "data/snapshots/writable" / cgroup.name.removeprefix("veloci-")).exists()


def killed(context, number, *, group):
    """Start a build whose step sleeps, and kill it: alone, or with the process of its step."""
    (context / "Dockerfile").write_text(BASE + f"RUN echo started; sleep {number}\n")
    command = [sys.executable, "-m", "veloci", "build", "--network=none", str(context)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert any(re.search(r"\d\.\d+ started", line) for line in process.stderr)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in [str(process.pid), *(children if group else [])]:
            os.kill(int(pid), signal.SIGKILL)


def test_a_killed_build_takes_its_container_with_it(context, roots):
    killed(context, 6063, group=False)
    limit = time.monotonic() + 20
    while remains("6063", roots) and time.monotonic() < limit:
        time.sleep(0.1)
    assert remains("6063", roots) == []


def test_what_a_build_and_its_step_left_when_both_were_killed_goes_with_the_next_build(context, roots):
    killed(context, 6064, group=True)
    assert built(context, "FROM scratch\nCOPY busybox /\n").returncode == 0
    assert remains("6064", roots) == []
    assert left(roots) == []


def test_two_builds_of_one_file_at_once_do_its_steps_once_and_make_one_image(context, roots):
    (context / "Dockerfile").write_text(BASE + "RUN sleep 0.5; head -c 16 /dev/urandom > /random\nCOPY busybox /last\n")
    command = [sys.executable, "-m", "veloci", "build", "--network=none", "-q", str(context)]
    builds = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [build.communicate(timeout=100) for build in builds]
    assert [build.returncode for build in builds] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    for path in (roots / "data/build/steps").iterdir():
        json.loads(path.read_text())
    assert left(roots) == []
    assert list((roots / "data/build/making").iterdir()) == []


def test_a_step_has_the_hosts_and_the_shared_memory_that_were_asked_for(context, roots):
    done = built(
        context,
        BASE + "RUN grep db /etc/hosts; grep ' /dev/shm ' /proc/mounts; ulimit -n\n",
        "--add-host",
        "db:10.0.0.7",
        "--shm-size=1m",
        "--ulimit",
        "nofile=77:77",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r" 10\.0\.0\.7\s+db\n", done.stderr)
    assert "size=1024k" in done.stderr
    assert re.search(r"\d 77\n", done.stderr)
