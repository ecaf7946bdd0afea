"""Many at once, and killed in the middle: what stays is whole, and the next command works."""

import random
import subprocess
import time

import pytest
from box import VELOCI

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")
ALONE = ("--network", "none")


def left(box):
    """What is there of containers, by directory; nothing of one that never was."""
    data, run = box.path / "data", box.path / "run"
    places = [data / "containers", data / "containers/.making", data / "containers/.names", data / "snapshots/writable"]
    places += [run / "containers", run / "runtime"]
    return {
        str(place.relative_to(box.path)): sorted(
            entry.name for entry in place.iterdir() if entry.name[0] != "." or entry.parent.name == ".making"
        )
        for place in places
        if place.is_dir()
    }


def test_eight_containers_start_at_once(box):
    words = [VELOCI, "run", "-d", "-p", "80", "bb", "sleep", "60"]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    done = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 8, done
    ids = {out.strip() for out, _ in done}
    assert {*box.ok("ps", "-q", "--no-trunc").split()} == ids
    addresses = {box.show(id, "{{.NetworkSettings.IPAddress}}") for id in ids}
    ports = {box.ok("port", id) for id in ids}
    assert (len(addresses), len(ports)) == (8, 8)
    began = time.monotonic()
    box.ok("rm", "-f", *ids)
    assert time.monotonic() - began < 60
    assert not any(left(box).values())


def test_one_of_many_gets_a_name(box):
    words = [VELOCI, "run", "-d", *ALONE, "--name", "only", "bb", "sleep", "60"]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    done = [process.communicate(timeout=60) for process in running]
    winner = next(out.strip() for out, _ in done if out)
    assert sorted(process.returncode for process in running) == [0, 125, 125, 125]
    for out, error in done:
        if not out:
            assert error.splitlines() == [
                f"veloci: the container name 'only' is already in use by container {winner[:12]}",
                "  try: veloci rm only, or another name",
            ]
    assert box.ok("ps", "-aq", "--no-trunc").split() == [winner]
    assert left(box)["data/containers"] == [winner]


@pytest.mark.needs("strace")
def test_a_run_that_is_killed_at_any_change_leaves_a_store_that_works(box):
    command = [VELOCI, "run", "-d", *ALONE, "--name", "web", "-v", "data:/data", "bb", "sleep", "60"]
    box.ok("volume", "create", "data")
    killed = []
    for call, step in (("rename", 1), ("symlink", 1), ("mkdir", 4), ("flock", 3), ("unlink", 1)):
        for count in range(1, 40, step):
            strace = ["strace", "-qq", "-o", box.path / "trace", "-e", f"inject={call}:signal=KILL:when={count}"]
            done = subprocess.run([*strace, *command], capture_output=True, check=False, timeout=60)
            box.veloci("rm", "-f", "web")
            if done.returncode == 0:
                break
            assert done.returncode in (137, -9), done
            killed.append(call)
            box.ok("create", "--name", "web", "-v", "data:/data", "bb", "true")
            assert len(box.ok("ps", "-aq").split()) == 1
            box.ok("rm", "web")
            assert not any(left(box).values()), f"killed at {call} {count}"
        assert done.returncode == 0
    assert len(killed) > 10
    box.ok("volume", "rm", "data")
    assert box.ok("volume", "ls", "-q") == ""


@pytest.mark.needs("strace")
def test_an_rm_that_is_killed_at_any_change_is_done_by_the_next_command(box):
    make = ("create", "--name", "web", *ALONE, "-v", "/data", "bb", "true")
    killed = []
    for call, step in (("rename", 1), ("unlink", 6), ("rmdir", 5)):
        for count in range(1, 60, step):
            box.ok(*make)
            strace = ["strace", "-qq", "-o", box.path / "trace", "-e", f"inject={call}:signal=KILL:when={count}"]
            done = subprocess.run([*strace, VELOCI, "rm", "-v", "web"], capture_output=True, check=False, timeout=60)
            if done.returncode == 0:
                break
            assert done.returncode in (137, -9), done
            killed.append(call)
            box.veloci("rm", "-f", "web")
            box.ok(*make)
            box.ok("rm", "-v", "web")
            assert not any(left(box).values()), f"killed at {call} {count}"
        assert done.returncode == 0
    assert len(killed) > 3
    box.ok("volume", "prune", "-f")
    assert box.ok("volume", "ls", "-q") == ""


@pytest.mark.needs("strace")
def test_a_run_that_is_killed_while_it_gets_its_address_gives_it_back(box):
    """Also where the address is written down, and not yet that the container has it."""
    command = [VELOCI, "run", "-d", "--network", "bridge", "--name", "web", "bb", "sleep", "60"]
    taken = []
    for count in range(1, 40):
        strace = ["strace", "-qq", "-o", box.path / "trace", "-e", f"inject=rename:signal=KILL:when={count}"]
        done = subprocess.run([*strace, *command], capture_output=True, check=False, timeout=60)
        taken += addresses(box)
        box.veloci("rm", "-f", "web")
        assert addresses(box) == [], f"killed at rename {count}"
        if done.returncode == 0:
            break
    assert done.returncode == 0
    assert len(taken) > 1


def addresses(box):
    network = box.path / "data/networks/bridge"
    return [entry.name for entry in network.iterdir() if "@" in entry.name] if network.exists() else []


def test_a_run_that_is_killed_at_any_time_can_be_done_again(box):
    chosen = random.Random(7)
    for _ in range(6):
        running = box.background("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "bb", "sleep", "60")
        time.sleep(chosen.uniform(0.02, 0.3))
        running.kill()
        running.communicate(timeout=30)
        assert box.veloci("rm", "-f", "web").returncode == 0
    box.started("--name", "web", "-p", "127.0.0.1::80", "bb", "sleep", "60", network="bridge")
    box.ok("rm", "-f", "web")
    assert not any(left(box).values())
    assert addresses(box) == []


def test_one_container_is_started_once(box):
    id = box.ok("create", *ALONE, "bb", "sleep", "60").strip()
    running = [box.background("start", id) for _ in range(4)]
    done = [process.communicate(timeout=60) for process in running]
    assert all(out == f"{id}\n" for out, _ in done if out), done
    assert any(out for out, _ in done)
    assert box.show(id, "{{.State.Status}}") == "running"
    assert len(box.ok("ps", "-q").split()) == 1


def test_a_removal_by_two_at_once(box):
    id = box.started("bb", "sleep", "60")
    running = [box.background("rm", "-f", id) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in running] == [""] * 3
    assert not any(left(box).values())
