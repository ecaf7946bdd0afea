"""--userns: the container's users are others on the host, while its files keep the image's numbers."""

import os

import pytest

from veloci.engine.run_options import RunOptions
from veloci.engine.users import Users
from veloci.errors import VelociError

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")
MAP = ("--uidmap", "0:200000:65536")


def test_a_containers_root_is_somebody_else_on_the_host_and_owns_its_files(box):
    id = box.started(*MAP, "bb", "sh", "-c", "id -u; cat /proc/self/uid_map; touch /new; sleep 100")
    box.until(id, "{{.State.Status}}", "running")
    assert box.ok("exec", id, "sh", "-c", "busybox stat -c '%u %g' / /bin/sh /new /etc/hosts && id -u").split() == (
        ["0"] * 9
    )
    assert box.ok("logs", id).split()[:4] == ["0", "0", "200000", "65536"]
    assert os.stat(f"/proc/{box.show(id, '{{.State.Pid}}')}").st_uid == 200000
    assert box.ok("exec", "-u", "guest", id, "sh", "-c", "id -u").split() == ["1000"]


@pytest.mark.parametrize("snapshotter", ["overlay", "erofs", "copy"])
def test_what_it_writes_has_its_own_numbers_for_diff_cp_and_commit(box, snapshotter, monkeypatch):
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", snapshotter)
    box.ok("rmi", "bb")
    box.ok("import", box.tree.with_suffix(".tar"), "bb")
    script = "echo mine >/a; mkdir /d; echo u >/d/u; chown 1000:1000 /d/u; rm /bin/wc; echo x >>/etc/passwd"
    done = box.veloci("run", "--name", "one", "--network", "none", "--userns", "private", "bb", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"A /a", "A /d", "A /d/u", "D /bin/wc", "C /etc/passwd"} <= set(box.ok("diff", "one").splitlines())
    box.ok("commit", "one", "made")
    script = "busybox stat -c '%u:%g' /a /d/u /etc/passwd; ls /bin/wc"
    done = box.veloci("run", "--rm", "--network", "none", "made", "sh", "-c", script)
    assert done.stdout.split() == ["0:0", "1000:1000", "0:0"]
    assert done.stderr == "ls: /bin/wc: No such file or directory\n"


def test_each_container_has_users_of_its_own_and_gives_them_back(box):
    first, second = (box.started("--userns", "auto", "bb", "sleep", "100") for _ in range(2))
    ranges = [box.ok("exec", id, "cat", "/proc/self/uid_map").split() for id in (first, second)]
    assert [line[::2] for line in ranges] == [["0", "65536"], ["0", "65536"]]
    assert abs(int(ranges[0][1]) - int(ranges[1][1])) == 65536
    box.ok("rm", "-f", first)
    third = box.started("--userns", "auto:size=1000", "bb", "sleep", "100")
    assert box.ok("exec", third, "cat", "/proc/self/uid_map").split() == ["0", ranges[0][1], "1000"]


def test_a_volume_is_owned_as_in_any_container_and_a_bind_by_the_host(box):
    box.ok("run", "--rm", "--network", "none", "-v", "v:/v", "bb", "touch", "/v/root")
    (box.path / "bind").mkdir()
    (box.path / "bind/file").write_text("seen\n")
    box.ok("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", f"device={box.path}/bind", "named")
    script = "busybox stat -c %u /v /v/root /b/file /n/file; cat /b/file; touch /v/mapped; touch /b/new"
    words = ("--network", "none", *MAP, "-v", "v:/v", "-v", f"{box.path}/bind:/b", "-v", "named:/n")
    done = box.veloci("run", "--rm", *words, "bb", "sh", "-c", script)
    assert done.stdout.split() == ["0", "0", "65534", "65534", "seen"]
    assert done.stderr == "touch: /b/new: Permission denied\n"
    found = box.ok("run", "--rm", "--network", "none", "-v", "v:/v", "bb", "busybox", "stat", "-c", "%u", "/v/mapped")
    assert found == "0\n"


def test_a_container_joins_the_users_of_another(box):
    first = box.started("--name", "first", "--userns", "auto", "bb", "sleep", "100")
    same = "--userns=container:first", "--pid=container:first"
    done = box.ok(
        "run",
        "--rm",
        "--network",
        "container:first",
        *same,
        "bb",
        "sh",
        "-c",
        "busybox readlink /proc/self/ns/user; busybox readlink /proc/1/ns/user; busybox stat -c %u /bin",
    )
    mine, theirs, owner = done.split()
    assert (mine, owner) == (theirs, "0")
    assert mine == os.readlink(f"/proc/{box.show(first, '{{.State.Pid}}')}/ns/user")


def test_a_container_is_in_a_namespace_of_a_path(box):
    first = box.started(*MAP, "bb", "sleep", "100")
    path = f"/proc/{box.show(first, '{{.State.Pid}}')}/ns/user"
    script = "busybox readlink /proc/self/ns/user; busybox stat -c %u /bin; cat /proc/self/uid_map; touch /new; ip link"
    done = box.ok("run", "--rm", "--userns", f"ns:{path}", "bb", "sh", "-c", script)
    assert done.split()[:5] == [os.readlink(path), "0", "0", "200000", "65536"]
    assert "eth0" in done
    for other, status, message in (
        ("/nonexistent", 125, "cannot find specified user namespace path: /nonexistent: no such file or directory"),
        ("/proc/self/ns/user", 126, "cannot enter the user namespace /proc/self/ns/user: Invalid argument"),
        ("/proc/self/ns/net", 126, "cannot enter the user namespace /proc/self/ns/net: Invalid argument"),
    ):
        done = box.veloci("run", "--userns", f"ns:{other}", "bb", "true")
        assert (done.returncode, done.stderr) == (status, f"veloci: --userns: {message}\n")
    assert box.ok("ps", "-aq").split() == [first[:12]]


def test_a_privileged_container_has_all_capabilities_over_its_own_namespace(box):
    script = "id -u; cat /proc/self/uid_map; grep -E '^(CapEff|Seccomp):' /proc/self/status; "
    script += "busybox mount -t tmpfs none /dev/shm && echo mounted; busybox test -e /dev/kmsg && echo devices; "
    script += "busybox touch /proc/sys/kernel/core_pattern; busybox mknod /made c 1 3"
    done = box.veloci("run", "--rm", "--privileged", *MAP, "bb", "sh", "-c", script)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        every = f"{(2 << int(file.read())) - 1:016x}"
    with open("/proc/self/status") as file:
        ours = next(line.split()[1] for line in file if line.startswith("CapBnd:"))
    assert done.stdout.split()[:4] == ["0", "0", "200000", "65536"], done.stderr
    assert done.stdout.split()[5] in (every, ours)
    assert done.stdout.split()[6:] == ["Seccomp:", "0", "mounted", "devices"]
    assert "/proc/sys/kernel/core_pattern: Permission denied" in done.stderr
    assert "mknod: /made: Operation not permitted" in done.stderr


def test_it_has_a_network_a_terminal_and_starts_again(box):
    words = (
        "run",
        "--name",
        "one",
        "-t",
        *MAP,
        "bb",
        "sh",
        "-c",
        "test -t 0 && ip addr show eth0 | grep -c inet; id -u",
    )
    with box.terminal(*words) as terminal:
        assert terminal.ends()[1].split()[-2:] == ["1", "0"]
    box.ok("start", "-a", "one")
    assert box.show("one", "{{.HostConfig.UsernsMode}} {{.State.ExitCode}}") == "private 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"userns": "keep-id"}, "--userns: keep-id is only supported in rootless mode"),
        ({"userns": "keep-id:uid=200,gid=210"}, "--userns: keep-id is only supported in rootless mode"),
        ({"userns": "nomap"}, "--userns: nomap is only supported in rootless mode"),
        ({"userns": "nomap:x"}, "--userns: no user namespace 'nomap:x'"),
        ({"userns": "ns:"}, "--userns: namespace mode path requires a value"),
        ({"userns": "host", "uidmap": ("0:1:1",)}, "--userns: the host's user namespace has no mapping"),
        ({"uidmap": ("0:1:x",)}, "--uidmap: '0:1:x' is no mapping"),
        ({"uidmap": ("1:1:1",)}, "--uidmap: there must be a root: 0 is not mapped"),
        ({"uidmap": ("0:4294967295:1",)}, "--uidmap: '0:4294967295:1' names users that there are not"),
        ({"subuidname": "nobody-at-all"}, "--subuidname: /etc/subuid has no range of nobody-at-all"),
        ({"userns": "auto:foo=1"}, "--userns: unknown option of an automatic user namespace: 'foo=1'"),
        ({"userns": "auto", "runtime": "runc"}, "--runtime: user namespaces need the runtime veloci"),
        ({"userns": "auto", "pid": "host"},
         "--pid: cannot share the host's PID namespace when user namespaces are enabled"),
        ({"userns": "auto", "ipc": "container:c"},
         "--ipc: cannot join a IPC namespace that belongs to another user namespace"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(VelociError) as caught:
        Users.asked(RunOptions(**options))
    assert str(caught.value) == message
