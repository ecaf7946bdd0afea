"""`veloci network`, in a network namespace of the test's own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from veloci.cli.main import main
from veloci.network.namespace import Inside
from veloci.network.networks import Networks

pytestmark = pytest.mark.needs("root", "ip")


def sh(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def mounted(path):
    return f" {path} " in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def veloci(own_netns, roots, capsys):
    """Run a command: its exit status, standard output and standard error."""

    def run(*words):
        capsys.readouterr()
        status = main(["network", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def pod(veloci):
    """The name of a namespace that `veloci network namespace` made."""
    name = f"veloci-test-{os.getpid()}"
    assert veloci("namespace", name) == (0, f"/run/netns/{name}\n", "")
    yield name
    if os.path.exists(f"/run/netns/{name}"):
        assert veloci("namespace", name, "--rm")[0] == 0


def test_a_service_in_a_namespace_is_reached_over_a_bridge(veloci, pod):
    assert veloci("bridge", "br9", "--address", "10.200.0.1/24") == (0, "br9\n", "")
    attach = ("attach", "br9", pod, "--address", "10.200.0.2/24", "--gateway", "10.200.0.1")
    assert veloci(*attach) == (0, "", "")
    assert sh(f"ip -n {pod} route") == (
        "default via 10.200.0.1 dev eth0 \n10.200.0.0/24 dev eth0 proto kernel scope link src 10.200.0.2 \n"
    )
    with Inside(os.open(f"/run/netns/{pod}", os.O_RDONLY)):
        server = socket.create_server(("10.200.0.2", 8000))
        inside = socket.create_connection(("10.200.0.2", 8000), timeout=2)  # lo is up
    client = socket.create_connection(("10.200.0.2", 8000), timeout=2)
    for each in (server, inside, client):
        each.close()
    assert veloci("detach", "br9", pod) == (0, "", "")
    assert "eth0" not in sh(f"ip -n {pod} link")
    assert veloci("bridge", "br9", "--rm") == (0, "br9\n", "")
    assert sh("ip -o link | cut -d: -f2") == " lo\n"


def test_a_namespace_is_pinned_as_ip_netns_does(veloci, pod):
    assert pod in sh("ip netns list").split()
    assert sh(f"ip -n {pod} -o link | cut -d: -f2") == " lo\n"
    assert veloci("namespace", pod) == (
        1,
        "",
        f"veloci: network namespace /run/netns/{pod} exists already\n"
        f"  try: remove it: veloci network namespace {pod} --rm\n",
    )
    assert mounted(f"/run/netns/{pod}")
    assert veloci("namespace", pod, "--rm") == (0, f"/run/netns/{pod}\n", "")
    assert pod not in sh("ip netns list").split()
    assert not mounted(f"/run/netns/{pod}")


def test_a_namespace_of_ip_netns_can_be_attached_and_removed(veloci):
    name = f"veloci-test-ip-{os.getpid()}"
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    os.makedirs("/run/netns", exist_ok=True)
    sh(f"touch /run/netns/{name} && unshare --net=/run/netns/{name} true")
    assert veloci("attach", "br9", name, "--address", "10.200.0.2/24")[0] == 0
    assert sh(f"ip -n {name} route show default") == "default via 10.200.0.1 dev eth0 \n"  # the bridge's own
    assert veloci("namespace", name, "--rm")[0] == 0
    assert "veth" not in sh("ip link")
    assert not mounted(f"/run/netns/{name}")
    assert not os.path.exists(f"/run/netns/{name}")


def test_a_second_interface_and_no_default_route(veloci, pod):
    veloci("bridge", "br8", "--address", "10.201.0.1/24")
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    assert veloci("attach", "br8", pod, "--address", "10.201.0.2/24", "--gateway", "")[0] == 0
    assert sh(f"ip -n {pod} route show default") == ""
    assert veloci("attach", "br9", pod, "--address", "10.200.0.2/24", "--interface", "eth1")[0] == 0
    assert "dev eth1" in sh(f"ip -n {pod} route show default")
    assert veloci("detach", "br9", pod, "--interface", "eth0") == (
        1,
        "",
        f"veloci: namespace /run/netns/{pod} has no interface eth0 on bridge br9\n  try: veloci network show {pod}\n",
    )
    assert veloci("detach", "br9", pod, "--interface", "eth1")[0] == 0
    assert veloci("detach", "br8", pod)[0] == 0


def test_a_path_stands_for_a_namespace_and_ipv6_is_an_address(veloci):
    veloci("bridge", "br9", "--address", "fd00:9::1/64")
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "20"])
    path = f"/proc/{sleeper.pid}/ns/net"
    try:
        while os.stat(path).st_ino == os.stat("/proc/thread-self/ns/net").st_ino:
            pass
        assert veloci("attach", "br9", path, "--address", "fd00:9::2/64") == (0, "", "")
        assert "fd00:9::2/64" in sh(f"nsenter --net={path} ip -6 addr show eth0")
        assert "default via fd00:9::1" in sh(f"nsenter --net={path} ip -6 route")
        assert veloci("detach", "br9", path)[0] == 0
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("bridge", "br9", "--address", "10.200.0.1"),
            "--address: '10.200.0.1' has no prefix between /0 and /32\n"
            "  try: write an address and its prefix's length, as in 10.200.0.1/24\n",
        ),
        (
            ("bridge", "br9", "--address", "10.200.0.0/24"),
            "--address: 10.200.0.0 is the first address of 10.200.0.0/24, not a host's\n  try: --address 10.200.0.1/24\n",
        ),
        (
            ("bridge", "averyveryverylongname"),
            "bridge: 'averyveryverylongname' has 21 bytes; the name of a link has 15 at most\n",
        ),
        (
            ("bridge", "a/b"),
            "bridge: 'a/b' cannot name a link\n  try: letters, digits, - and _ can\n",
        ),
        (
            ("bridge", "br9", "--rm"),
            "no bridge br9\n  try: make it: veloci network bridge br9 --address 10.200.0.1/24\n",
        ),
        (
            ("bridge", "lo", "--rm"),
            "lo is no bridge but a device\n  try: make it: veloci network bridge br0 --address 10.200.0.1/24\n",
        ),
        (("bridge", "lo"), "link lo exists already\n  try: veloci network bridge lo --rm\n"),
        (
            ("namespace", "../escape"),
            "'../escape' cannot name a namespace\n  try: letters, digits, - and _ can\n",
        ),
        (
            ("namespace", "veloci-test-none", "--rm"),
            "no network namespace /run/netns/veloci-test-none\n  try: make one: veloci network namespace NAME\n",
        ),
        (
            ("attach", "br9", "/proc/self/ns/uts", "--address", "10.200.0.2/24"),
            "/proc/self/ns/uts is not a network namespace\n  try: make one: veloci network namespace NAME\n",
        ),
        (
            ("attach", "br9", "/proc/self/ns/net", "--address", "10.200.0.2/24"),
            "no bridge br9\n  try: make it: veloci network bridge br9 --address 10.200.0.1/24\n",
        ),
        (("attach", "br9", "x"), "--address: needs an address\n  try: --address 10.200.0.2/24\n"),
        (("show", "--format", "yaml"), "--format: no format 'yaml'\n  try: table or json\n"),
        (("create", "bridge"), "network bridge is predefined\n  try: choose another name\n"),
        (("create", "x", "--driver", "overlay"), "--driver: no network driver 'overlay'\n  try: --driver bridge\n"),
        (("rm", "nope"), "no network nope\n  try: list them: veloci network ls\n"),
        (("rm", "host"), "network host is predefined\n  try: leave it: unused it costs nothing\n"),
        (
            ("ls", "--filter", "colour=red"),
            "--filter: invalid filter 'colour=red'\n"
            "  try: KEY=VALUE; a key is dangling, driver, id, label, name, scope, type\n",
        ),
    ],
)
def test_bad_input_is_one_line_and_a_way_out_and_nothing_is_left(veloci, words, error):
    assert veloci(*words) == (1, "", f"veloci: {error}")
    assert sh("ip -o link | cut -d: -f2") == " lo\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("--address", "10.200.0.1/24"),
            "address 10.200.0.1 is in use by bridge br9\n  try: choose another --address\n",
        ),
        (
            ("--address", "10.200.0.2/24", "--gateway", "10.9.0.1"),
            "--gateway: 10.9.0.1 is not in 10.200.0.0/24\n  try: --gateway 10.200.0.1\n",
        ),
        (
            ("--address", "10.200.0.2/24", "--interface", "lo"),
            "namespace {path} has an interface lo already\n  try: name another, --interface eth1, or take it off: "
            "veloci network detach br9 {pod} --interface lo\n",
        ),
        (
            ("--address", "10.200.0.2/24", "--interface", "a b"),
            "interface: 'a b' cannot name a link\n  try: letters, digits, - and _ can\n",
        ),
    ],
)
def test_a_wire_that_cannot_be_laid_leaves_no_end(veloci, pod, words, error):
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    status, out, err = veloci("attach", "br9", pod, *words)
    assert (status, out, err) == (1, "", "veloci: " + error.format(pod=pod, path=f"/run/netns/{pod}"))
    assert "veth" not in sh("ip link")
    assert sh(f"ip -n {pod} -o link | cut -d: -f2") == " lo\n"


def test_a_failure_in_the_middle_leaves_no_end(veloci, pod):
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    sh(f"ip -n {pod} link set lo up && ip -n {pod} route add default dev lo")
    status, _, err = veloci("attach", "br9", pod, "--address", "10.200.0.2/24")
    assert (status, err) == (
        1,
        "veloci: --gateway 10.200.0.1: the namespace has a default route already\n  try: --gateway ''\n",
    )
    assert "veth" not in sh("ip link")


def test_an_address_of_this_host_is_refused(veloci):
    veloci("bridge", "br8", "--address", "10.200.0.1/24")
    assert veloci("bridge", "br9", "--address", "10.200.0.1/24") == (
        1,
        "",
        "veloci: address 10.200.0.1 is in use by this host\n  try: choose another --address\n",
    )
    assert "br9" not in sh("ip link")


def test_an_address_of_another_namespace_is_refused(veloci, pod):
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    veloci("attach", "br9", pod, "--address", "10.200.0.2/24")
    veloci("namespace", f"{pod}-2")
    try:
        assert veloci("attach", "br9", f"{pod}-2", "--address", "10.200.0.2/24") == (
            1,
            "",
            f"veloci: address 10.200.0.2 is in use by namespace {pod}\n  try: choose another --address\n",
        )
    finally:
        veloci("namespace", f"{pod}-2", "--rm")


def test_who_is_not_root_is_told(own_netns, tmp_path):
    code = "import os, sys, veloci.cli.main as m, veloci.cli.network, veloci.network.wires, veloci.network.pools\nos.setuid(65534)\nsys.exit(m.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "network", "bridge", "br9"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: make bridge br9: Operation not permitted\n  try: run it as root: networks need CAP_NET_ADMIN\n",
    )


def test_links_addresses_and_routes_are_shown(veloci, pod):
    veloci("bridge", "br9", "--address", "10.200.0.1/24")
    veloci("attach", "br9", pod, "--address", "10.200.0.2/24")
    _, out, _ = veloci("show", pod)
    mac = sh(f"ip -n {pod} -br link show eth0").split()[2]
    assert out.splitlines() == [
        "LINK      KIND      STATE     MTU       MAC                 BRIDGE    ADDRESSES",
        "lo        -         up        65536     00:00:00:00:00:00   -         127.0.0.1/8, ::1/128",
        f"eth0      veth      up        1500      {mac}   -         " + out.splitlines()[2].split(" - ")[-1].strip(),
        "",
        "ROUTE           GATEWAY      LINK      SOURCE",
        "default         10.200.0.1   eth0      -",
        "10.200.0.0/24   -            eth0      10.200.0.2",
        *out.splitlines()[7:],
    ]
    assert "10.200.0.2/24" in out.splitlines()[2]
    _, out, _ = veloci("show", "--format", "json")
    shown = json.loads(out)
    assert [(link["name"], link["kind"], link["master"]) for link in shown["links"]][1:] == [
        ("br9", "bridge", ""),
        (shown["links"][2]["name"], "veth", "br9"),
    ]
    assert "10.200.0.1/24" in shown["links"][1]["addresses"]
    assert {"destination": "10.200.0.0/24", "gateway": "", "link": "br9", "source": "10.200.0.1", "metric": 0} in shown[
        "routes"
    ]


def test_networks_are_listed_as_docker_does(veloci):
    status, made, _ = veloci("create", "backend", "--subnet", "10.77.0.0/24", "--label", "tier=db", "--label", "x")
    assert status == 0
    assert len(made.strip()) == 64
    _, out, _ = veloci("ls")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert [line[1:] for line in lines[1:]] == [
        ["backend", "bridge", "local"],
        ["bridge", "bridge", "local"],
        ["host", "host", "local"],
        ["none", "null", "local"],
    ]
    assert lines[1][0] == made[:12]
    assert veloci("ls", "-q", "--filter", "name=^back") == (0, made[:12] + "\n", "")
    assert veloci("ls", "-q", "--no-trunc", "-f", "label=tier=db", "-f", "type=custom") == (0, made, "")
    assert veloci("ls", "--filter", "label=tier=web", "--format", "{{.Name}}") == (0, "", "")
    assert veloci("ls", "--filter", "driver=null", "--format", "{{.Name}} {{.Internal}}") == (0, "none false\n", "")
    assert veloci("ls", "--filter", "name=[")[0] == 1
    assert json.loads(veloci("ls", "--filter", "name=^bridge$", "--format", "json")[1])["Driver"] == "bridge"


def test_a_network_is_inspected_as_docker_does(veloci, roots):
    veloci("create", "backend", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.254", "--internal", "--label", "a=b")
    networks = Networks(f"{os.environ['VELOCI_ROOT']}/networks")
    lease = networks.prepare("backend", "c" * 64)
    _, out, _ = veloci("inspect", "backend")
    (found,) = json.loads(out)
    assert found["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.254"}]
    assert (found["Internal"], found["Labels"]) == (True, {"a": "b"})
    assert found["Containers"]["c" * 64]["IPv4Address"] == "10.77.0.1/24"
    assert veloci("inspect", found["Id"][:12], "-f", "{{.Name}} {{(index .IPAM.Config 0).Subnet}}") == (
        0,
        "backend 10.77.0.0/24\n",
        "",
    )
    assert veloci("rm", "backend") == (
        1,
        "",
        "veloci: network backend is in use by cccccccccccc\n  try: stop or remove them first\n",
    )
    networks.detach(lease)
    assert veloci("rm", "backend") == (0, "backend\n", "")
    assert veloci("rm", "--force", "backend") == (0, "", "")
    assert veloci("inspect", "backend") == (
        1,
        "[]\n",
        "veloci: no network backend\n  try: list them: veloci network ls\n",
    )


def test_a_network_needs_a_subnet_for_its_gateway(veloci):
    assert veloci("create", "x", "--gateway", "10.9.0.1") == (
        1,
        "",
        "veloci: --gateway: a gateway needs its subnet\n  try: add --subnet, as in 10.99.0.0/24\n",
    )
    assert veloci("create", "x", "--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1") == (
        1,
        "",
        "veloci: --gateway: 10.8.0.1 is not an address of a host in 10.9.0.0/24\n",
    )
    assert veloci("ls", "-q", "--filter", "type=custom") == (0, "", "")
