"""State files that are cut, zeroed or gone: told by name, and the container can be removed all the same."""

import json
import os
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

DAMAGES = {
    "empty": lambda raw: raw[:0],
    "cut": lambda raw: raw[: len(raw) // 2],
    "zeroed": lambda raw: bytes(len(raw)),
    "another document": lambda raw: b"[1]\n" + raw[:0],
}


def damage(runtime, file, how):
    place = runtime.root / runtime.id / file
    place.write_bytes(DAMAGES[how](place.read_bytes()))


def with_a_hook(config):
    """So that nothing is told to the launcher: Python looks."""
    config["hooks"] = {"poststop": [{"path": "/bin/true"}]}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("prepare", ["created", "detached"])
def test_a_container_whose_state_is_damaged_is_named_and_removed_by_force(runtime, how, prepare):
    getattr(runtime, prepare)("sleep", "100", change=with_a_hook)
    pid = runtime.state()["pid"]
    damage(runtime, "state.json", how)
    for words in (["state", runtime.id], ["kill", runtime.id, "KILL"], ["delete", runtime.id]):
        done = runtime(*words)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f"{runtime.id}/state.json: " in done.stderr
    done = runtime("delete", "--force", runtime.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.exists(f"/proc/{pid}/exe")
    assert runtime.traces() == []


def test_one_that_is_damaged_hides_none_of_the_others(runtime):
    runtime.detached("sleep", "100")
    damaged = runtime.id
    damage(runtime, "state.json", "cut")
    runtime.id += "-whole"
    runtime.detached("sleep", "100")
    done = runtime("list", "-f", "json")
    assert [each["id"] for each in json.loads(done.stdout)] == [runtime.id]
    assert done.stderr.startswith(f"load container {damaged}: ")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["quick", "config.json"])
def test_what_else_is_damaged_changes_no_answer(runtime, how, file):
    runtime.detached("sleep", "100")
    before = runtime("state", runtime.id).stdout
    damage(runtime, file, how)
    assert runtime("state", runtime.id).stdout == before
    assert runtime("delete", "--force", runtime.id).stderr == ""
    assert runtime.traces() == []


def test_what_the_launcher_reads_may_be_cut_anywhere(runtime):
    runtime.created("sleep", "100")
    place = runtime.root / runtime.id / "quick"
    raw, before = place.read_bytes(), json.loads(runtime("state", runtime.id).stdout)
    lines = [end for end in range(len(raw)) if raw[end : end + 1] == b"\n"]
    for end in sorted({*lines, *(end + 5 for end in lines), *range(0, len(raw), 97)}):
        place.write_bytes(raw[:end])
        assert json.loads(runtime("state", runtime.id).stdout) == before, end
    first = runtime.state()["pid"]
    runtime("kill", runtime.id, "KILL")
    while Path(f"/proc/{first}/exe").exists():
        time.sleep(0.01)
    place.write_bytes(raw[: raw.index(b"\n\n") - 9])  # in the last of its groups
    assert runtime("delete", runtime.id).stderr == ""
    assert runtime.traces() == []
