"""Containers of a network find each other by name, as long as they are there."""

import os
import shutil
import signal
import subprocess

import pytest
from box import VELOCI

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


@pytest.fixture
def network(box):
    """A network of the test's own."""
    name = f"names{os.getpid()}"
    box.ok("network", "create", name)
    yield name
    left = box.ok("ps", "-aq").split()
    if left:
        box.ok("rm", "-f", *left)
    box.ok("network", "rm", name)


def names(box, container, network):
    """What a container's /etc/hosts says of its network: name -> address."""
    lines = box.ok("exec", container, "cat", "/etc/hosts").splitlines()
    found = {}
    for line in lines:
        if line.endswith(f"# network {network}"):
            address, *words = line.partition("#")[0].split()
            found |= dict.fromkeys(words, address)
    return found


def address(box, container):
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return box.show(container, template)


def test_they_find_each_other_whoever_came_first(box, network):
    first = box.started("--name", "db", "--network-alias", "data", "-h", "store", "bb", "sleep", "60", network=network)
    box.started("--name", "web", "bb", "sleep", "60", network=network)
    where = {name: address(box, "db") for name in ("db", "data", "store", first[:12])}
    for container in ("db", "web"):
        found = names(box, container, network)
        assert where.items() <= found.items()
        assert found["web"] == address(box, "web")
    assert "1 packets received" in box.ok("exec", "web", "busybox", "ping", "-c1", "-W5", "data")
    box.ok("stop", "-t", "0", "web")
    assert "web" not in names(box, "db", network)
    box.ok("start", "web")
    assert {"web", "db", "data"} <= {*names(box, "db", network)}
    box.ok("rename", "web", "site")
    assert {"site", "web"} & {*names(box, "db", network)} == {"site"}
    box.ok("rm", "-f", "site")
    assert {*names(box, "db", network)} == {"db", "data", "store", first[:12]}


def test_what_a_container_wrote_stays(box, network):
    box.started("--name", "db", "bb", "sleep", "60", network=network)
    box.ok("exec", "db", "sh", "-c", "echo '10.9.9.9 mine' >> /etc/hosts")
    box.started("--name", "web", "bb", "sleep", "60", network=network)
    lines = box.ok("exec", "db", "cat", "/etc/hosts").splitlines()
    assert lines.count("10.9.9.9 mine") == 1
    assert "web" in names(box, "db", network)
    assert sum("db" in line.split() for line in lines) == 1


def test_many_come_and_go_at_once(box, network):
    box.started("--name", "db", "bb", "sleep", "120", network=network)
    words = [VELOCI, "run", "-d", "--network", network, "bb", "sleep", "120"]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = [process.communicate(timeout=60)[0].strip() for process in running]
    assert {id[:12] for id in ids} < {*names(box, "db", network)}
    box.ok("rm", "-f", *ids)
    assert not {id[:12] for id in ids} & {*names(box, "db", network)}


def test_a_killed_monitor_s_container_is_forgotten_when_it_is_removed(box, network):
    box.started("--name", "db", "bb", "sleep", "60", network=network)
    box.started("--name", "lost", "bb", "sleep", "60", network=network)
    os.kill(box.monitor("lost"), signal.SIGKILL)
    box.ok("rm", "-f", "lost")
    assert "lost" not in names(box, "db", network)


@pytest.mark.parametrize("again", ["create", "rm"])
def test_a_boot_frees_the_addresses_of_what_it_ended(box, network, again):
    box.started("--name", "db", "bb", "sleep", "60", network=network)
    box.started("--name", "web", "bb", "sleep", "60", network=network)
    for name in ("db", "web"):
        pid = int(box.show(name, "{{.State.Pid}}"))
        os.kill(box.monitor(name), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    groups = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", "veloci-*"], capture_output=True, check=False, text=True
    )
    ids = {box.show(name, "{{.Id}}") for name in ("db", "web")}
    shutil.rmtree(box.path / "run")  # as a boot does
    leases = box.path / "data/networks" / network
    assert sum("@" in entry.name for entry in leases.iterdir()) == 2
    if again == "create":
        box.ok("create", "bb", "true")
    else:
        box.ok("rm", "db", "web")
    assert sum("@" in entry.name for entry in leases.iterdir()) == 0
    for path in groups.stdout.split():  # which a boot would have taken, too
        if path.rpartition("veloci-")[2] in ids:
            os.rmdir(path)


def test_an_alias_needs_a_network_of_the_user_s(box):
    for other in ("bridge", "none", "host", "container:x"):
        done = box.veloci("run", "--rm", "--network", other, "--network-alias", "data", "bb", "true")
        assert done.returncode == 125
        assert done.stderr.splitlines()[0] == (
            "veloci: --network-alias: network-scoped alias is supported only for containers in user defined networks"
        )
    done = box.veloci("run", "--network", "mine", "--network-alias", "a b", "bb", "true")
    assert (done.returncode, done.stderr) == (125, "veloci: --network-alias: 'a b' is not a name\n")
