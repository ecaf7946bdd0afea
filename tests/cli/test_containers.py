"""docker's verbs for several containers at once: each error a line of its own, the others are done, status 1."""

import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")
NOBODY = ["veloci: no such container: nobody", "  try: veloci ps -a"]


def said(done):
    return done.returncode, done.stdout.split(), done.stderr.splitlines()


@pytest.fixture
def three(box):
    """c1 and c2 run, c3 was made."""
    for name in ("c1", "c2"):
        box.started("--name", name, "bb", "sleep", "60")
    box.ok("create", "--name", "c3", "--network", "none", "bb", "true")
    return box


def test_kill_and_wait(three):
    assert said(three.veloci("kill", "nobody", "c3", "c1")) == (
        1,
        ["c1"],
        [*NOBODY, "veloci: container c3 is not running", "  try: veloci start c3"],
    )
    assert said(three.veloci("wait", "nobody", "c1", "c3")) == (1, ["137", "0"], NOBODY)
    assert said(three.veloci("kill", "-s", "FOO", "c2"))[2][0] == "veloci: unknown signal 'FOO'"
    assert three.show("c2", "{{.State.Status}}") == "running"


def test_stop_and_start(three):
    began = time.monotonic()
    unheard = "veloci: warning: container {} was killed: signal 15 did not end it in 2 s, for its first process does "
    unheard += "not handle it; veloci run --init does"
    assert said(three.veloci("stop", "-t", "2", "nobody", "c1", "c3", "c2")) == (
        1,
        ["c1", "c3", "c2"],
        [*NOBODY, unheard.format("c1"), unheard.format("c2")],
    )
    assert 2 <= time.monotonic() - began < 4  # side by side: `sleep` does not heed TERM as the first process
    assert said(three.veloci("stop", "c1")) == (0, ["c1"], [])
    assert said(three.veloci("stop", "-s", "NONE", "c1"))[2][0] == "veloci: --signal: unknown signal 'NONE'"
    assert said(three.veloci("start", "nobody", "c1", "c1")) == (1, ["c1", "c1"], NOBODY)
    assert said(three.veloci("start", "-a", "c1", "c2")) == (
        1,
        [],
        ["veloci: you cannot start and attach multiple containers at once"],
    )


def test_restart(three):
    before = three.show("c1", "{{.State.Pid}}")
    began = time.monotonic()
    three.ok("restart", "-s", "KILL", "--timeout", "30", "c1")
    assert time.monotonic() - began < 15
    assert said(three.veloci("restart", "-t", "0", "nobody", "c1", "c3")) == (1, ["c1", "c3"], NOBODY)
    assert three.show("c1", "{{.State.Pid}}") not in (before, "0")


def test_rm(three):
    done = three.veloci("rm", "nobody", "c1", "c3")
    assert said(done) == (
        1,
        ["c3"],
        [
            *NOBODY,
            "veloci: cannot remove container c1: it is running",
            "  try: veloci stop c1, or veloci rm -f c1",
        ],
    )
    assert said(three.veloci("rm", "-f", "nobody", "c1", "c2")) == (0, ["c1", "c2"], [])


def test_rename(three):
    assert said(three.veloci("rename", "nobody", "c9")) == (1, [], NOBODY)
    id = three.show("c2", "{{.Id}}")[:12]
    assert said(three.veloci("rename", "c1", "c2"))[2][0] == (
        f"veloci: the container name 'c2' is already in use by container {id}"
    )
    assert said(three.veloci("rename", "c1", "c1"))[2] == ["veloci: the container's name is 'c1' already"]
    assert said(three.veloci("rename", "c1", "?"))[2][0] == "veloci: invalid container name '?'"
    assert said(three.veloci("rename", "c1", "c4")) == (0, [], [])
    assert three.ok("kill", "c4") == "c4\n"
    three.ok("run", "--name", "c1", "--network", "none", "bb", "true")


def test_the_start_of_an_id_is_enough(three):
    id = three.show("c1", "{{.Id}}")
    assert three.ok("stop", "-t", "0", id[:6]) == f"{id[:6]}\n"
    assert said(three.veloci("rm", "")) == (1, [], ["veloci: no such container: ", "  try: veloci ps -a"])
