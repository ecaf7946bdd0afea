"""Containers on networks, on the real kernel, in a namespace of the test's own."""

import os
import resource
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import Box, ask, sh

from veloci.errors import Conflict, HostError, InvalidInput, NotFound
from veloci.network.namespace import Inside
from veloci.network.networks import Networks
from veloci.network.ports import parse

pytestmark = pytest.mark.needs("root", "ip", "nft")


def footprint():
    return sh("ip -o link | cut -d: -f2; ip -4 -o addr; nft list ruleset")


def test_a_container_has_an_address_a_default_route_and_its_loopback(connected, outside):
    box, lease = connected("one")
    assert lease["address"] == "172.17.0.2"
    assert "inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0" in box.sh("ip addr show dev eth0")
    assert box.sh("ip route") == (
        "default via 172.17.0.1 dev eth0 \n172.17.0.0/16 dev eth0 proto kernel scope link src 172.17.0.2 \n"
    )
    assert "<LOOPBACK,UP,LOWER_UP>" in box.sh("ip link show lo")
    assert "mtu 1400" in box.sh("ip link show eth0")
    assert f"link/ether {lease['mac']}" in box.sh("ip link show eth0")
    assert "mtu 1400" in sh("ip link show veloci0")
    assert "inet 172.17.0.1/16" in sh("ip addr show veloci0")
    assert "inet6" not in sh("ip addr show veloci0") + box.sh("ip addr show eth0")


def test_containers_reach_each_other_and_the_host(connected):
    one, first = connected("one")
    two, second = connected("two")
    two.serve(80)
    assert one.ask(second["address"], 80) == first["address"]
    assert ask(second["address"], 80) == "172.17.0.1"


def test_a_container_reaches_the_outside_under_the_hosts_address(connected, outside):
    one, _ = connected("one")
    outside.serve(53)
    outside.serve(53, kind=socket.SOCK_DGRAM)
    assert one.ask("198.51.100.1", 53) == "198.51.100.2"
    assert one.ask("198.51.100.1", 53, kind=socket.SOCK_DGRAM) == "198.51.100.2"


def test_a_published_port_answers_on_every_way_to_the_host(connected, outside):
    web, _ = connected("web", ports=parse("8000:80"))
    web.serve(80)
    other, _ = connected("other")
    assert ask("127.0.0.1", 8000) == "172.17.0.1"
    assert ask("198.51.100.2", 8000) == "198.51.100.2"
    assert outside.ask("198.51.100.2", 8000) == "198.51.100.1"  # its own address, not the bridge's (CVE-2021-20199)
    assert other.ask("198.51.100.2", 8000) == "172.17.0.1"
    assert other.ask("172.17.0.1", 8000) == "172.17.0.1"
    assert web.ask("198.51.100.2", 8000) == "172.17.0.1"  # itself, by way of the host
    assert ask("127.0.0.1", 8001) == ""


def test_a_thousand_ports_are_published_and_taken_back(networks, connected):
    before = footprint()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limits[1]))  # as it is where nobody has raised it
    try:
        box, lease = connected("one", ports=parse("20000-20999:30000-30999"))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000, limits[1])  # what is started now inherits it
        room = [os.open("/", os.O_PATH) for _ in range(500)]  # for others
        for descriptor in room:
            os.close(descriptor)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    box.serve(30999)
    assert ask("127.0.0.1", 20999) == "172.17.0.1"
    networks.prepare("bridge", "other")
    networks.detach(lease)
    assert "elements" not in sh("nft list ruleset")
    networks.reclaim(lambda _container: False)
    assert footprint() == before


def test_udp_is_published_too(connected):
    one, _ = connected("one", ports=parse("5300:53/udp"))
    one.serve(53, kind=socket.SOCK_DGRAM)
    assert ask("127.0.0.1", 5300, kind=socket.SOCK_DGRAM) == "172.17.0.1"


def test_a_port_published_on_loopback_is_for_the_host_alone(connected, outside):
    """CVE-2025-54388."""
    web, _ = connected("web", ports=parse("127.0.0.1:8000:80"))
    web.serve(80)
    other, _ = connected("other")
    assert ask("127.0.0.1", 8000) == "172.17.0.1"
    assert outside.ask("198.51.100.2", 8000) == ""
    outside.sh(
        "ip route add 127.0.0.1/32 via 198.51.100.2 table local; ip link set lo down; ip route flush cache", check=False
    )
    assert outside.ask("127.0.0.1", 8000) == ""
    assert other.ask("198.51.100.2", 8000) == ""


def test_what_is_not_published_is_not_reached_from_outside_even_by_its_address(connected, outside):
    web, lease = connected("web", ports=parse("8000:80"))
    web.serve(80)
    web.serve(81)
    outside.sh("ip route add 172.17.0.0/16 via 198.51.100.2")
    assert outside.ask(lease["address"], 81) == ""
    assert outside.ask(lease["address"], 80) == ""
    assert outside.ask("198.51.100.2", 8000) == "198.51.100.1"


def test_a_container_cannot_reach_the_hosts_loopback(connected):
    """The bridge's route_localnet would let it (CVE-2020-8558)."""
    web, lease = connected("web", ports=parse("8000:80"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as secret:
        secret.bind(("127.0.0.1", 0))
        secret.settimeout(0.3)
        packet = datagram(lease["address"], "127.0.0.1", secret.getsockname()[1])
        with Inside(web.netns), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            raw.sendto(packet, ("eth0", 0x0800, 0, 0, bytes.fromhex(lease["bridge_mac"].replace(":", ""))))
        with pytest.raises(TimeoutError):
            secret.recv(100)


def datagram(source, destination, port):
    """An IPv4 packet with a UDP datagram that holds "?"."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 29, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack(">10H", head))
    checksum = 0xFFFF - (total + (total >> 16)) % 0x10000
    return head[:10] + struct.pack(">H", checksum) + head[12:] + struct.pack(">HHHH", 4000, port, 9, 0) + b"?"


def test_networks_are_apart(networks, connected):
    networks.create("left", subnet="10.77.1.0/24")
    networks.create("right", subnet="10.77.2.0/24")
    one, _ = connected("one", network="left")
    two, lease = connected("two", network="right")
    two.serve(80)
    assert one.ask(lease["address"], 80) == ""


def test_an_internal_network_has_no_way_out_and_none_in(networks, connected, outside):
    networks.create("vault", subnet="10.77.3.0/24", internal=True)
    one, first = connected("one", network="vault")
    two, second = connected("two", network="vault")
    outside.serve(80)
    two.serve(80)
    assert one.sh("ip route show default") == ""
    one.sh("ip route add default via 10.77.3.1")
    assert one.ask("198.51.100.1", 80) == ""
    with Inside(outside.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as told:  # not one packet gets out
        told.bind(("198.51.100.1", 53))
        told.settimeout(0.3)
        one.ask("198.51.100.1", 53, kind=socket.SOCK_DGRAM)
        with pytest.raises(TimeoutError):
            told.recv(100)
    assert one.ask(second["address"], 80) == first["address"]
    with pytest.raises(InvalidInput) as caught:
        networks.prepare("vault", "three", ports=parse("8000:80"))
    assert str(caught.value) == "--publish: network vault is internal, its containers publish no ports"


def test_nothing_is_left_when_the_last_container_has_gone(networks, box):
    before = footprint()
    leases = [networks.prepare("bridge", f"c{number}", ports=parse(f"{9000 + number}:80")) for number in range(3)]
    for lease in leases:
        networks.attach(lease, box().netns)
    assert "table inet veloci0" in footprint()
    for lease in leases:
        networks.detach(lease)
        networks.detach(lease)
    assert footprint() == before
    assert os.listdir(Path(networks._store.root) / "bridge") == ["network.json"]


def test_a_lease_of_a_dead_container_is_detached_by_another_process(networks, tmp_path):
    before = footprint()
    lease = networks.prepare("bridge", "gone", ports=parse("8000:80"))
    dead = Box()
    networks.attach(lease, dead.netns)
    dead.end()
    networks.hold(lease)[0].close()
    Networks(str(tmp_path / "networks")).detach(lease)
    assert footprint() == before


def test_leases_of_the_dead_are_reclaimed_and_of_the_living_kept(networks, connected):
    one, _ = connected("alive")
    networks.prepare("bridge", "dead", ports=parse("8000:80"))
    assert networks.reclaim(lambda container: container == "alive") == ["dead"]
    assert [each["container"] for each in networks.leases("bridge")] == ["alive"]
    one.sh("ip addr show eth0")
    assert ask("127.0.0.1", 8000) == ""


def test_a_bridge_whose_maker_died_midway_is_made_anew(networks, box):
    before = footprint()
    networks.default()
    config = networks.get("bridge")
    sh(f"ip link add {config.link} address {config.mac} type bridge")
    lease = networks.prepare("bridge", "one")
    assert f"inet {config.gateway}/16" in sh(f"ip addr show {config.link}")
    networks.detach(lease)
    assert footprint() == before


def test_a_bridge_that_somebody_removed_is_made_again(networks, box):
    lease = networks.prepare("bridge", "one")
    sh("ip link del veloci0")
    networks.attach(lease, box().netns)
    assert "inet 172.17.0.1/16" in sh("ip addr show veloci0")
    networks.detach(lease)


def test_rules_that_somebody_flushed_come_back_with_the_next_container(connected, outside):
    web, _ = connected("web", ports=parse("8000:80"))
    web.serve(80)
    sh("nft flush ruleset")
    assert outside.ask("198.51.100.2", 8000) == ""
    connected("other")
    assert outside.ask("198.51.100.2", 8000) == "198.51.100.1"


def test_a_port_in_use_is_told_and_nothing_is_left(networks):
    before = footprint()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict) as caught:
            networks.prepare("bridge", "one", ports=parse(f"127.0.0.1:{port}:80"))
    assert str(caught.value) == f"port 127.0.0.1:{port}/tcp is in use"
    assert caught.value.hint == f"publish another one, -p PORT:80, or see who has it: ss -lnp sport = :{port}"
    assert footprint() == before
    assert networks.leases("bridge") == []


def test_two_containers_cannot_publish_one_port(networks, connected):
    connected("one", ports=parse("8000:80"))
    with pytest.raises(Conflict, match=r"^port 0\.0\.0\.0:8000/tcp is in use$"):
        networks.prepare("bridge", "two", ports=parse("8000:80"))
    with (
        pytest.raises(Conflict, match=r"^every port of 0\.0\.0\.0:8000-8000/tcp is in use$")
        if False
        else pytest.raises(Conflict)
    ):
        networks.prepare("bridge", "two", ports=parse("127.0.0.1:8000:80"))
    lease = networks.prepare("bridge", "two", ports=parse("8000-8001:80"))
    assert lease["ports"][0]["hostPort"] == 8001
    networks.detach(lease)


def test_an_ephemeral_port_is_chosen_and_kept(networks, connected):
    web, lease = connected("web", ports=parse("80"))
    web.serve(80)
    port = lease["ports"][0]["hostPort"]
    assert port >= 1024
    assert ask("127.0.0.1", port) == "172.17.0.1"
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("0.0.0.0", port))


def test_a_forked_monitor_takes_the_ports_over_without_a_gap(networks, tmp_path):
    lease = networks.prepare("bridge", "web", ports=parse("8000:80"))
    ready, told = os.pipe()
    go, going = os.pipe()
    child = os.fork()
    if child == 0:
        held = Networks(str(tmp_path / "networks")).hold(lease)
        os.write(told, b"!")
        os.read(go, 1)
        os._exit(len(held))
    for each in networks.hold(lease):
        each.close()
    assert os.read(ready, 1) == b"!"
    with pytest.raises(Conflict):
        networks.hold(lease)
    os.write(going, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    for descriptor in (ready, told, go, going):
        os.close(descriptor)


def test_a_port_can_be_held_by_another_process(networks, tmp_path):
    lease = networks.prepare("bridge", "web", ports=parse("8000:80"))
    mine = networks.hold(lease)
    with pytest.raises(Conflict):
        Networks(str(tmp_path / "networks")).hold(lease)
    for each in mine:
        each.close()
    theirs = Networks(str(tmp_path / "networks")).hold(lease)
    assert [each.getsockname() for each in theirs] == [("0.0.0.0", 8000)]
    theirs[0].close()
    networks.detach(lease)


def test_a_port_of_an_address_that_this_host_lacks_is_told(networks):
    with pytest.raises(InvalidInput) as caught:
        networks.prepare("bridge", "web", ports=parse("203.0.113.7:8000:80"))
    assert str(caught.value) == "port 203.0.113.7:8000/tcp: this host has no address 203.0.113.7"


def test_an_address_can_be_asked_for(networks, connected):
    box, lease = connected("one", address="172.17.3.4", mac="02:00:00:00:00:07")
    assert lease["address"] == "172.17.3.4"
    assert "inet 172.17.3.4/16" in box.sh("ip addr show eth0")
    assert "link/ether 02:00:00:00:00:07" in box.sh("ip link show eth0")
    with pytest.raises(Conflict, match=r"^address 172\.17\.3\.4 of network bridge is in use by container one$"):
        networks.prepare("bridge", "two", address="172.17.3.4")
    with pytest.raises(Conflict, match=r"^address 172\.17\.0\.1 of network bridge is in use by the gateway$"):
        networks.prepare("bridge", "two", address="172.17.0.1")
    with pytest.raises(InvalidInput, match=r"^--ip: 10\.0\.0\.1 is not an address of a host in 172\.17\.0\.0/16"):
        networks.prepare("bridge", "two", address="10.0.0.1")


def test_a_container_that_comes_back_gives_its_old_lease_back_first(networks, connected):
    networks.prepare("bridge", "other")
    first = networks.prepare("bridge", "one", ports=parse("8000:80"))
    networks.hold(first)[0].close()
    box, again = connected("one", ports=parse("8000:80"))
    box.serve(80)
    assert again["address"] == first["address"]
    assert ask("127.0.0.1", 8000) == "172.17.0.1"
    assert len(networks.leases("bridge")) == 2


def test_a_small_network_says_when_it_is_full(networks):
    networks.create("tiny", subnet="10.77.4.0/30")
    networks.prepare("tiny", "one")
    with pytest.raises(Conflict) as caught:
        networks.prepare("tiny", "two")
    assert str(caught.value) == "network tiny has no free address in 10.77.4.0/30"
    assert len(networks.leases("tiny")) == 1


def test_a_namespace_with_an_eth0_is_refused_and_nothing_is_left(networks, box):
    full = box()
    full.sh("ip link add eth0 type bridge")
    lease = networks.prepare("bridge", "one")
    with pytest.raises(Conflict, match=r"^container one has an interface eth0 already$"):
        networks.attach(lease, full.netns)
    assert "veth" not in sh("ip link")
    networks.detach(lease)


def test_what_is_no_namespace_is_refused_and_nothing_is_left(networks, tmp_path):
    lease = networks.prepare("bridge", "one")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(HostError, match=r"^connect one to network bridge: "):
        networks.attach(lease, descriptor)
    os.close(descriptor)
    assert "veth" not in sh("ip link")
    networks.detach(lease)


def test_the_pool_avoids_routes_addresses_and_name_servers(networks, outside):
    sh("ip route add 172.17.5.0/24 dev up0; ip addr add 172.18.0.9/32 dev lo; ip route add 172.19.0.0/24 dev up0")
    assert networks.default().subnet == "172.20.0.0/16"


def test_a_chosen_pool_is_chosen_again_when_the_host_took_it_meanwhile(networks, outside, connected):
    assert networks.default().subnet == "172.17.0.0/16"
    sh("ip route add 172.17.0.0/16 dev up0")
    box, lease = connected("one")
    assert lease["address"] == "172.18.0.2"
    assert "default via 172.18.0.1" in box.sh("ip route")
    assert networks.get("bridge").subnet == "172.18.0.0/16"


def test_two_data_directories_share_the_host(tmp_path, host, box):
    before = footprint()
    both = [Networks(str(tmp_path / name)) for name in ("left", "right")]
    assert {each.default().link for each in both} == {"veloci0"}
    leases = [each.prepare("bridge", "one") for each in both]
    assert [lease["bridge"] for lease in leases] == ["veloci0", "veloci1"]
    assert [lease["address"] for lease in leases] == ["172.17.0.2", "172.18.0.2"]
    both[0].detach(leases[0])
    assert "table inet veloci1" in footprint()
    both[1].detach(leases[1])
    assert footprint() == before


def test_a_subnet_that_overlaps_is_refused(networks, outside):
    sh("ip route add 10.88.0.0/16 dev up0")
    with pytest.raises(Conflict) as caught:
        networks.create("mine", subnet="10.88.3.0/24")
    assert str(caught.value) == "subnet 10.88.3.0/24 overlaps 10.88.0.0/16, which this host has a route to"
    networks.create("first", subnet="10.77.0.0/24")
    with pytest.raises(Conflict, match=r"^subnet 10\.77\.0\.0/16 overlaps 10\.77\.0\.0/24 of another network$"):
        networks.create("second", subnet="10.77.0.0/16")


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        ("10.77.0.0", "--subnet: '10.77.0.0' has no prefix between /0 and /32"),
        ("10.77.0.0/33", "--subnet: '10.77.0.0/33' has no prefix between /0 and /32"),
        ("10.77.0.300/24", "--subnet: '10.77.0.300/24' is not an address with a prefix"),
        ("10.77.0.5/24", "--subnet: 10.77.0.5/24 names a host; its subnet is 10.77.0.0/24"),
        ("10.77.0.0/31", "--subnet: 10.77.0.0/31 is no subnet for containers"),
        ("fd00:77::/64", "--subnet: fd00:77::/64 is no subnet for containers"),
    ],
)
def test_a_bad_subnet_is_told(networks, subnet, message):
    with pytest.raises(InvalidInput) as caught:
        networks.create("mine", subnet=subnet)
    assert str(caught.value) == message
    assert networks.all() == []


def test_networks_are_found_by_name_and_id_and_removed_when_unused(networks):
    made = networks.create("mine", labels={"a": "b"})
    assert networks.get("mine") == networks.get(made.id) == networks.get(made.id[:12]) == made
    with pytest.raises(Conflict, match=r"^network mine exists already$"):
        networks.create("mine")
    lease = networks.prepare("mine", "one")
    with pytest.raises(Conflict, match=r"^network mine is in use by one$"):
        networks.remove("mine")
    networks.detach(lease)
    networks.remove("mine")
    with pytest.raises(NotFound, match=r"^no network mine$"):
        networks.get("mine")
    with pytest.raises(Conflict, match=r"^network bridge is predefined$"):
        networks.remove("bridge")


@pytest.mark.parametrize("name", ["", "../up", "a/b", "-x", ".x", "a b", "é", "x" * 129])
def test_a_name_that_could_be_a_path_is_refused(networks, name):
    with pytest.raises(InvalidInput):
        networks.create(name)
    with pytest.raises(NotFound):
        networks.get(name)
    with pytest.raises(InvalidInput):
        networks.prepare("bridge", name)


def test_a_torn_lease_can_be_given_back(networks):
    before = footprint()
    lease = networks.prepare("bridge", "one")
    path = Path(networks._store.root) / "bridge" / f"{lease['address']}@one"
    path.write_bytes(b"")
    assert networks.leases("bridge") == []
    networks.detach(lease)
    assert footprint() == before


def test_a_damaged_network_says_which_file(networks):
    networks.create("mine")
    path = Path(networks._store.root) / "mine" / "network.json"
    path.write_bytes(b"{")
    with pytest.raises(InvalidInput) as caught:
        networks.get("mine")
    assert str(caught.value).startswith(f"{path}: not JSON: ")
    assert caught.value.hint == "remove it: veloci network rm mine"
    networks.detach(networks.prepare("bridge", "one"))  # the others go on
    networks.remove("mine")
    assert [each.name for each in networks.all()] == ["bridge"]


def test_a_foreign_chain_that_drops_is_noticed(networks):
    """docker's FORWARD policy: an accept in our table cannot override it."""
    sh("nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'")
    lease = networks.prepare("bridge", "one")
    assert len(lease["warnings"]) == 1
    assert "chain 'ip filter FORWARD' drops" in lease["warnings"][0]
    networks.detach(lease)


def test_forwarding_is_turned_on(networks):
    sh("sysctl -w net.ipv4.ip_forward=0")
    networks.detach(networks.prepare("bridge", "one"))
    assert sh("sysctl -n net.ipv4.ip_forward") == "1\n"


WORKER = """
import os, signal, sys
from veloci.kernel.process import CLONE_NEWNET, unshare
from veloci.network.networks import Networks
from veloci.network.ports import parse
networks = Networks(sys.argv[1])
lease = networks.prepare("bridge", sys.argv[2], ports=parse("80"))
ready, told = os.pipe()
child = os.fork()
if child == 0:
    unshare(CLONE_NEWNET)
    os.write(told, b"!")
    signal.pause()
os.read(ready, 1)
networks.attach(lease, os.open(f"/proc/{child}/ns/net", os.O_RDONLY))
print(lease["address"], lease["ports"][0]["hostPort"], flush=True)
sys.stdin.read()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
networks.detach(lease)
"""


def test_ten_processes_at_once_get_ten_addresses_and_leave_nothing(host, tmp_path):
    before = footprint()
    command = [sys.executable, "-c", WORKER, str(tmp_path / "networks")]
    workers = [
        subprocess.Popen([*command, f"c{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(10)
    ]
    said = [worker.stdout.readline().split() for worker in workers]
    assert len({address for address, _ in said}) == 10
    assert len({port for _, port in said}) == 10
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert footprint() == before


def test_connecting_imports_next_to_nothing(host, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from veloci.network.networks import Networks\n"
        "networks = Networks(sys.argv[2]); lease = networks.prepare('bridge', 'one'); networks.detach(lease)\n"
        "print(*sorted(name for name in sys.modules if not name.startswith('veloci')))"
    )
    source = str(Path(sys.modules["veloci"].__file__).parent.parent)
    command = [sys.executable, "-I", "-S", "-c", code, source, str(tmp_path / "networks")]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    heavy = "typing dataclasses enum re json argparse logging subprocess pathlib asyncio threading socket contextlib"
    assert loaded.isdisjoint(heavy.split())
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    allowed = (
        "__future__ _ctypes _json _socket _struct ctypes ctypes._endian encodings.ascii errno fcntl itertools struct"
    )
    assert loaded - set(bare.stdout.split()) <= {
        *allowed.split(),
        *"os os.path posixpath genericpath stat _stat".split(),
    } | {
        "_collections_abc",
        "abc",
        "_abc",
        "types",
    }
