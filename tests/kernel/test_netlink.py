"""The netlink codec against pyroute2, `ip` and `nft`."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg

from veloci.kernel import nft
from veloci.kernel.netlink import (
    NETFILTER,
    Netlink,
    attribute,
    attributes,
    each_attribute,
    nested,
    packed,
    text,
    u32,
)
from veloci.network import links

pytestmark = pytest.mark.needs("root", "ip", "nft")


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ip(*words):
    return json.loads(sh("ip", "-j", *words) or "[]")


class Oracle(nlmsg):
    nla_map = (
        ("NONE", "none"),
        ("ONE", "cdata"),
        ("TWO", "asciiz"),
        ("THREE", "uint32"),
    )
    fields = ()


@given(st.binary(max_size=40), st.text(alphabet="abcz09_.-", max_size=15), st.integers(0, 2**32 - 1))
def test_attributes_are_laid_out_as_pyroute2_does(data, word, number):
    message = Oracle()
    message["attrs"] = [("ONE", data), ("TWO", word), ("THREE", number)]
    message.encode()
    ours = attribute(1, data) + text(2, word) + u32(3, number)
    assert ours == bytes(message.data[16:])
    assert attributes(ours) == {1: data, 2: word.encode() + b"\0", 3: number.to_bytes(4, "little")}


@given(st.binary(max_size=64))
def test_damaged_attributes_end_the_list(data):
    for _, value in each_attribute(data):
        assert value in data


def test_nested_attributes_are_marked_and_read_back():
    made = nested(5, text(1, "a"), text(1, "b"))
    assert made[2:4] == b"\x05\x80"
    assert list(each_attribute(attributes(made)[5])) == [(1, b"a\0"), (1, b"b\0")]


def test_links_are_described_as_ip_does(own_netns):
    sh("ip", "link", "add", "br0", "mtu", "1400", "address", "02:00:00:00:00:01", "type", "bridge")
    sh("ip", "link", "add", "left", "type", "veth", "peer", "name", "right")
    sh("ip", "link", "set", "left", "master", "br0", "up", "group", "7")
    with Netlink() as net:
        ours = links.all_links(net)
    theirs = ip("-d", "link")
    names = {link.index: link.name for link in ours}
    assert [(link.index, link.name, link.mac, link.mtu, link.up) for link in ours] == [
        (each["ifindex"], each["ifname"], each["address"], each["mtu"], "UP" in each["flags"]) for each in theirs
    ]
    assert [link.kind for link in ours] == [each.get("linkinfo", {}).get("info_kind", "") for each in theirs]
    assert [names.get(link.master) for link in ours] == [each.get("master") for each in theirs]
    assert [names.get(link.peer) for link in ours] == [each.get("link") for each in theirs]
    assert {link.name: link.group for link in ours if link.group} == {"left": 7}


def test_links_are_made_renamed_and_removed(own_netns):
    with Netlink() as net:
        bridge = links.add_bridge(net, "br0", mac="02:00:00:00:00:01", mtu=1300, group=9)
        ip("link", "set", "br0", "down")  # Linux before 6.2 renames no link that is up
        links.rename(net, bridge.index, "br1")
        assert links.find(net, "br0") is None
        assert links.by_index(net, bridge.index).name == "br1"
        (made,) = ip("link", "show", "br1")
        assert (made["address"], made["mtu"], made["group"]) == ("02:00:00:00:00:01", 1300, "9")
        with pytest.raises(FileExistsError):
            links.add_bridge(net, "br1")
        assert links.remove(net, "br1") is True
        assert links.remove(net, "br1") is False
        assert links.by_index(net, bridge.index) is None


def test_a_group_goes_at_once_but_never_the_hosts_own(own_netns):
    with Netlink() as net:
        for name in ("br0", "br1"):
            links.add_bridge(net, name, group=9)
        assert links.remove_group(net, 9) is True
        assert links.remove_group(net, 9) is False
        assert [link.name for link in links.all_links(net)] == ["lo"]
        with pytest.raises(ValueError, match=r"^group 0 holds the host's own links$"):
            links.remove_group(net, 0)


@pytest.mark.parametrize("address", ["10.9.0.1/24", "10.9.0.1/32", "fd00:9::1/64"])
def test_addresses_and_routes_are_described_as_ip_does(own_netns, address):
    host, _, prefix = address.partition("/")
    with Netlink() as net:
        bridge = links.add_bridge(net, "br0")
        net.talk(links.set_up(1), links.add_address(bridge.index, host, int(prefix)))
        assert address in [str(each) for each in links.addresses(net)]
        ours = [(str(route.destination), route.index) for route in links.routes(net) if route.index == bridge.index]
    assert address in [
        f"{each['local']}/{each['prefixlen']}" for link in ip("addr", "show", "br0") for each in link["addr_info"]
    ]
    family = "-6" if ":" in address else "-4"
    theirs = [each["dst"] for each in ip(family, "route", "show", "dev", "br0") if "/" in each["dst"]]
    assert set(theirs) <= {destination for destination, _ in ours}


def test_a_default_route_and_where_it_leads(own_netns):
    with Netlink() as net:
        bridge = links.add_bridge(net, "br0")
        with pytest.raises(OSError, match="Network is unreachable"):
            links.outward(net)
        net.talk(links.add_address(bridge.index, "10.9.0.2", 24), links.add_default_route(bridge.index, "10.9.0.1"))
        assert links.outward(net) == bridge.index
        (default,) = [route for route in links.routes(net, 2) if not route.destination.prefix]
    assert default.gateway == "10.9.0.1"
    assert ip("route", "show", "default")[0]["gateway"] == "10.9.0.1"


def test_a_failure_has_the_kernels_own_words(own_netns):
    with Netlink() as net, pytest.raises(OSError) as caught:
        net.talk(links.set_up(1), links.add_default_route(1, "10.9.0.1"))
    assert caught.value.strerror == "Nexthop has invalid gateway"
    assert caught.value.request == 1


def test_a_failure_in_the_middle_does_not_hide_the_other_answers(own_netns):
    with Netlink() as net:
        with pytest.raises(OSError, match=r"Cannot find device|No such device"):
            net.talk(links.set_up(99), links.set_up(1))
        assert links.find(net, "lo").up
        assert links.find(net, "none") is None


def test_a_veth_reaches_straight_into_another_namespace(own_netns):
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "20"])
    try:
        here = os.stat("/proc/thread-self/ns/net").st_ino
        while os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino == here:
            pass
        netns = os.open(f"/proc/{sleeper.pid}/ns/net", os.O_RDONLY)
        with Netlink() as net:
            bridge = links.add_bridge(net, "br0", mtu=1234)
            links.add_veth(net, "veth9", bridge=bridge, netns=netns, interface="eth0", mac="02:00:00:00:00:05")
            links.reflect(net, "veth9")
        os.close(netns)
        (near,) = ip("-d", "link", "show", "veth9")
        assert (near["master"], near["mtu"]) == ("br0", 1234)
        assert near["linkinfo"]["info_slave_data"]["hairpin"] is True
        far = json.loads(sh("nsenter", "-t", str(sleeper.pid), "-n", "ip", "-j", "link", "show", "eth0"))
        assert (far[0]["address"], far[0]["mtu"]) == ("02:00:00:00:00:05", 1234)
        assert [link["ifname"] for link in ip("link")] == ["lo", "br0", "veth9"]
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_dump_larger_than_one_datagram_is_whole(own_netns):
    with Netlink() as net:
        index = links.add_bridge(net, "br0").index
        for high in range(40):
            net.talk(*(links.add_address(index, f"10.9.{high}.{low}", 32) for low in range(25)))
        assert sum(each.prefix == 32 for each in links.addresses(net)) == 1000


RULES = """table inet test {
	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8000 : 10.0.0.2 . 80 }
	}

	map bound {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 127.0.0.1 . udp . 53 : 10.0.0.3 . 5353 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		dnat ip to ip daddr . meta l4proto . th dport map @bound
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br0" oifname != "br0" ct state established,related accept
		oifname "br0" ct status dnat accept
		ip daddr 127.0.0.0/8 drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.0.0.0/20 oifname != "br0" masquerade
	}
}
"""


def rules():
    batch = nft.Batch("test").table()
    batch.map("ports", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 1)
    batch.map("bound", ("ipv4_addr", "inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), 2)
    batch.element("ports", nft.key(b"\x06", b"\x1f\x40"), nft.key(packed("10.0.0.2"), b"\0\x50"))
    batch.element("bound", nft.key(packed("127.0.0.1"), b"\x11", b"\0\x35"), nft.key(packed("10.0.0.3"), b"\x14\xe9"))
    batch.chain("prerouting", "nat", nft.PREROUTING, -100)
    batch.rule("prerouting", nft.dnat_by_address("bound"))
    batch.rule("prerouting", nft.to_this_host(), nft.dnat_by_port("ports"))
    batch.chain("forward", "filter", nft.FORWARD, 0)
    answers = nft.ct_state(nft.ESTABLISHED | nft.RELATED)
    batch.rule("forward", nft.iifname("br0"), nft.oifname("br0", differs=True), answers, nft.verdict(nft.ACCEPT))
    batch.rule("forward", nft.oifname("br0"), nft.ct_status(nft.DNAT), nft.verdict(nft.ACCEPT))
    batch.rule("forward", nft.daddr(packed("127.0.0.0"), 8), nft.verdict(nft.DROP))
    batch.chain("postrouting", "nat", nft.POSTROUTING, 100)
    source = nft.saddr(packed("10.0.0.0"), 20)
    return batch.rule("postrouting", source, nft.oifname("br0", differs=True), nft.masquerade())


def test_nft_reads_our_rules_as_we_mean_them(own_netns):
    with Netlink(NETFILTER) as net:
        rules().commit(net)
    assert sh("nft", "list", "ruleset") == RULES


def test_nft_s_own_rules_are_the_same_bytes_in_the_kernel(own_netns):
    subprocess.run(["nft", "-f", "-"], input=RULES, check=True, text=True)
    theirs = sh("nft", "--debug=netlink", "list", "ruleset")
    sh("nft", "flush", "ruleset")
    with Netlink(NETFILTER) as net:
        rules().commit(net)
    ours = sh("nft", "--debug=netlink", "list", "ruleset")

    def expressions(text):
        return [line for line in text.splitlines() if line.startswith("  [")]

    assert expressions(ours) == expressions(theirs)


def test_a_transaction_is_made_whole_or_not_at_all(own_netns):
    with Netlink(NETFILTER) as net:
        with pytest.raises(FileNotFoundError) as caught:
            rules().without("ports", nft.key(b"\x06", b"\0\x07")).commit(net)
        assert caught.value.request == 14
        assert sh("nft", "list", "ruleset") == ""
        assert nft.has_table(net, "test") is False
        rules().commit(net)
        assert nft.has_table(net, "test") is True
        key, value = nft.key(b"\x06", b"\x1f\x40"), nft.key(packed("10.0.0.9"), b"\0\x50")
        with pytest.raises(FileExistsError):
            nft.Batch("test").element("ports", key, value).commit(net)
        nft.Batch("test").without("ports", key).commit(net)
        nft.Batch("test").remove().commit(net)
        assert sh("nft", "list", "ruleset") == ""


def test_chains_that_drop_are_found(own_netns):
    sh("nft", "add table ip t; add chain ip t F { type filter hook forward priority 0; policy drop; }")
    sh("nft", "add chain ip t I { type filter hook input priority 0; policy drop; }; add table inet u")
    sh("nft", "add chain inet u G { type filter hook forward priority 0; policy accept; }; add chain inet u plain")
    with Netlink(NETFILTER) as net:
        assert nft.dropping(net, nft.FORWARD) == ["ip t F"]


def test_without_privilege_the_kernels_refusal_is_the_error(own_netns):
    code = (
        "import os; from veloci.kernel import nft; from veloci.kernel.netlink import NETFILTER, Netlink\n"
        "os.setuid(65534)\n"
        "try:\n    nft.Batch('t').table().commit(Netlink(NETFILTER))\n"
        "except OSError as error: print(error.strerror)"
    )
    assert sh(sys.executable, "-c", code) == "Operation not permitted\n"


def test_sockets_are_close_on_exec_and_closed(own_netns):
    before = os.listdir("/proc/self/fd")
    with Netlink() as net:
        descriptor = net._socket.fileno()
        assert os.get_inheritable(descriptor) is False
        links.find(net, "none")
    assert os.listdir("/proc/self/fd") == before
