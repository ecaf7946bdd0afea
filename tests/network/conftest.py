"""A host of the test's own: a network namespace that the test runs in, with an outside world and containers."""

import pytest
from boxes import Box, sh

from veloci.network.networks import Networks


@pytest.fixture
def host(own_netns):
    """The test runs in a new namespace whose `lo` is up."""
    sh("ip link set lo up")


@pytest.fixture
def box(host):
    """Make namespaces with a process in them: `box()`."""
    made = []

    def make():
        made.append(Box())
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def outside(host, box):
    """Another machine, 198.51.100.1, where the host's default route goes through `up0`, of MTU 1400; the host is .2."""
    other = box()
    sh(f"ip link add up0 mtu 1400 type veth peer name eth0 netns {other.pid}")
    sh("ip addr add 198.51.100.2/24 dev up0 && ip link set up0 up")
    other.sh("ip link set lo up && ip addr add 198.51.100.1/24 dev eth0 && ip link set eth0 up")
    sh("ip route add default via 198.51.100.1")
    return other


@pytest.fixture
def networks(host, tmp_path):
    """The networks of a data directory of the test's own."""
    made = Networks(str(tmp_path / "networks"))
    yield made
    made.reclaim(lambda _container: False)


@pytest.fixture
def connected(networks, box):
    """Containers on a network: `connected("web", ports=…)` gives the box and its lease."""
    made = []

    def make(container, *, network="bridge", **options):
        lease = networks.prepare(network, container, **options)
        made.append(lease)
        held = networks.hold(lease)
        new = box()
        new._sockets += held
        networks.attach(lease, new.netns)
        return new, lease

    yield make
    for lease in made:
        networks.detach(lease)
