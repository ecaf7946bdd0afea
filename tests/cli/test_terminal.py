"""Terminals: `run -it`, `exec -it` and `attach` as a user has them, driven through a real one."""

import os
import signal
import subprocess

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


def test_a_shell_has_a_terminal_of_our_size_and_ours_is_restored(box):
    with box.terminal("run", "-it", "--rm", "--network", "none", "bb", "sh", rows=31, columns=97) as t:
        t.type("stty size; tty\n")
        t.sees("31 97")
        t.sees("/dev/pts/0")
        assert t.mode() != t.mode_before  # raw: every key passes through
        t.type("exit 5\n")
        status, _ = t.ends()
        assert status == 5
        assert t.mode() == t.mode_before


def test_the_size_is_there_before_the_program_looks(box):
    for _ in range(3):
        with box.terminal("run", "-it", "--rm", "--network", "none", "bb", "stty", "size", rows=40, columns=123) as t:
            assert t.ends() == (0, "40 123\r\n")


TELLS = "trap 'echo now $(stty size); exit 4' WINCH; echo ready; while :; do sleep 0.1; done"


def test_the_program_learns_of_another_size(box):
    with box.terminal("run", "-it", "--rm", "--network", "none", "bb", "sh", "-c", TELLS) as t:
        t.sees("ready")
        t.resize(50, 132)
        assert t.ends() == (4, "\r\nnow 50 132\r\n")


def test_control_c_reaches_what_runs_on_the_terminal(box):
    waits = "trap 'echo got INT; exit 3' INT; echo ready; while :; do sleep 1; done"
    with box.terminal("run", "-it", "--rm", "--network", "none", "bb", "sh", "-c", waits) as t:
        t.sees("ready")
        t.type("\x03")
        t.sees("got INT")
        assert t.ends()[0] == 3


@pytest.mark.parametrize(
    ("option", "typed"), [((), "\x10\x11"), (("--detach-keys", "ctrl-a,x"), "\x01x"), (("--detach-keys", "q"), "q")]
)
def test_the_detach_keys_leave_it_running(box, option, typed):
    with box.terminal("run", "-it", "--name", "it", *option, "--network", "none", "bb", "sh") as t:
        t.type("echo re''ady\n")
        t.sees("ready")
        t.type(typed)
        assert t.ends()[0] == 0
        assert t.mode() == t.mode_before
    assert box.show("it", "{{.State.Status}}") == "running"


def test_the_beginning_of_the_detach_keys_is_passed_on(box):
    shows = "stty raw -echo; echo go; head -c 3 | od -An -tx1"
    with box.terminal("run", "-it", "--rm", "--network", "none", "bb", "sh", "-c", shows) as t:
        t.sees("go")
        t.type("\x10")
        t.type("a")
        t.type("\x10b")
        assert t.ends() == (0, "\n 10 61 10\n")


def test_a_key_that_is_none_is_refused(box):
    done = box.veloci("run", "--detach-keys", "ctrl-1", "bb")
    assert (done.returncode, done.stderr) == (
        125,
        "veloci: --detach-keys: unknown key 'ctrl-1'\n  try: keys with commas between, as in ctrl-p,ctrl-q\n",
    )


def test_a_terminal_is_asked_for_only_where_there_is_one(box):
    box.started("--name", "it", "-it", "bb", "sh")
    for words in (("run", "-it", "bb", "sh"), ("exec", "-it", "it", "sh"), ("attach", "it")):
        done = box.veloci(*words, stdin=subprocess.DEVNULL)
        assert done.returncode == 1
        assert done.stderr.startswith("veloci: the input device is not a TTY\n")
    assert box.ok("exec", "-t", "it", "tty", stdin=subprocess.DEVNULL) == "/dev/pts/1\n"


def test_attach_joins_what_runs_and_leaves_it_again(box):
    box.started("--name", "it", "-it", "bb", "sh")
    with box.terminal("attach", "it", rows=44, columns=99) as t:
        t.type("stty size; X=kept\n")
        t.sees("44 99")
        t.type("\x10\x11")
        status, shown = t.ends()
        assert (status, shown.endswith("veloci: read escape sequence\r\n")) == (1, True)
        assert t.mode() == t.mode_before
    with box.terminal("attach", "it") as t:
        t.type("echo $X; exit 7\n")
        t.sees("kept")
        assert t.ends()[0] == 7
    assert box.veloci("attach", "it").stderr == "veloci: you cannot attach to a stopped container, start it first\n"


def test_start_attaches_with_a_terminal(box):
    box.ok("create", "--name", "it", "-it", "--network", "none", "bb", "sh")
    with box.terminal("start", "-ai", "it", rows=22, columns=66) as t:
        t.type("stty size; exit 4\n")
        t.sees("22 66")
        assert t.ends()[0] == 4
    with box.terminal("start", "-ai", "it") as t:
        t.type("echo re''ady\n")
        t.sees("ready")
        t.type("\x10\x11")
        assert t.ends()[0] == 0
    assert box.show("it", "{{.State.Running}}") == "true"
    with box.terminal("start", "-ai", "it") as t:  # it runs: the same as attach
        t.type("exit 6\n")
        assert t.ends()[0] == 6


def test_exec_has_a_terminal_of_its_own(box):
    box.started("--name", "it", "bb", "sleep", "60")
    with box.terminal("exec", "-it", "it", "sh", "-c", f"stty size; {TELLS}", rows=33, columns=111) as t:
        t.sees("33 111")
        t.sees("ready")
        t.resize(20, 70)
        assert t.ends() == (4, "\r\nnow 20 70\r\n")
        assert t.mode() == t.mode_before


def test_exec_left_by_the_detach_keys_goes_on(box):
    box.started("--name", "it", "bb", "sleep", "60")
    with box.terminal("exec", "-it", "it", "sh", "-c", "echo ready; read x; seq 20000; echo done >/tmp.done") as t:
        t.sees("ready")
        t.type("\n\x10\x11")
        status, shown = t.ends()
        assert (status, shown.endswith("veloci: read escape sequence\r\n")) == (1, True)
        assert t.mode() == t.mode_before
    until(lambda: box.veloci("exec", "it", "cat", "/tmp.done").stdout == "done\n")


@pytest.mark.parametrize("words", [("run", "--sig-proxy=false", "--name", "it"), ("exec", "it")])
def test_our_terminal_is_restored_when_a_signal_ends_us(box, words):
    if words[0] == "exec":
        box.started("--name", "it", "bb", "sleep", "60")
        words = ("exec", "-it", "it")
    else:
        words = (*words, "-it", "--network", "none", "bb")
    with box.terminal(*words, "sh", "-c", "echo ready; sleep 60") as t:
        t.sees("ready")
        assert t.mode() != t.mode_before
        t.process.send_signal(signal.SIGTERM)
        assert t.ends()[0] == -signal.SIGTERM
        assert t.mode() == t.mode_before
    assert box.show("it", "{{.State.Running}}") == "true"


def test_our_terminal_is_restored_when_the_container_is_killed(box):
    with box.terminal("run", "-it", "--name", "it", "--network", "none", "bb", "sh", "-c", "echo ready; sleep 60") as t:
        t.sees("ready")
        box.ok("kill", "it")
        assert t.ends() == (137, "\r\n")
        assert t.mode() == t.mode_before


def test_our_terminal_is_restored_when_the_monitor_is_killed(box):
    with box.terminal("run", "-it", "--name", "it", "--network", "none", "bb", "sh", "-c", "echo ready; sleep 60") as t:
        t.sees("ready")
        os.kill(box.monitor("it"), signal.SIGKILL)
        status, shown = t.ends()
        assert (status, shown) == (125, "\r\nveloci: the container's monitor is gone\r\n  try: veloci ps -a\r\n")
        assert t.mode() == t.mode_before
