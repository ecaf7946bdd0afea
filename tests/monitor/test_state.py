"""What is known of a container whose monitor is gone: by the kernel's lock, the boot and the moment of its start."""

import os
import subprocess

import pytest

from veloci.monitor import state
from veloci.monitor.state import UNKNOWN_EXIT, State


@pytest.fixture
def places(tmp_path):
    """DATA and RUN of a container whose first process is we."""
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
    mine = State(status="running", pid=os.getpid(), ticks=state.ticks(os.getpid()), boot=state.boot_id(), monitor=1)
    state.write(f"{tmp_path}/run/state.json", mine.plain())
    return f"{tmp_path}/data", f"{tmp_path}/run", mine


def test_one_that_lives_without_its_monitor_is_told_as_that(places):
    data, run, mine = places
    assert state.current(data, run) == mine.replace(monitor=0)
    lock = state.hold(data)
    assert state.held(data)
    assert state.current(data, run) == mine
    os.close(lock)
    assert not state.held(data)


@pytest.mark.parametrize(("field", "value"), [("boot", "another"), ("ticks", 1)])
def test_a_process_of_another_boot_or_moment_is_not_the_containers(places, field, value):
    data, run, mine = places
    state.write(f"{run}/state.json", mine.replace(**{field: value}).plain())
    now = state.current(data, run)
    assert (now.status, now.pid, now.exit_code) == ("exited", 0, UNKNOWN_EXIT)


def test_a_monitor_that_ends_between_two_looks_is_believed(places, monkeypatch):
    data, run, mine = places
    state.write(f"{run}/state.json", mine.replace(ticks=1).plain())

    def ended(path):
        state.write(f"{path}/exit.json", State(status="exited", exit_code=7).plain())
        os.unlink(f"{run}/state.json")
        return False

    monkeypatch.setattr(state, "held", ended)
    assert state.current(data, run).exit_code == 7


@pytest.mark.needs("root")
def test_what_cannot_be_written_leaves_the_old(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place], check=True)
    try:
        state.write(f"{place}/state.json", {"a": "old"})
        with pytest.raises(OSError, match="No space left on device"):
            state.write(f"{place}/state.json", {"a": "x" * 65536})
        assert state.read(f"{place}/state.json") == {"a": "old"}
        assert os.listdir(place) == ["state.json"]
    finally:
        subprocess.run(["umount", place], check=True)
