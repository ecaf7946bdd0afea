import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput, Unsupported, VelociError
from veloci.network.ports import Port, parse, reserve


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(container_port=80)]),
        ("8000:80", [Port(container_port=80, host_port=8000)]),
        ("8000:80/udp", [Port(container_port=80, host_port=8000, protocol="udp")]),
        ("8000:80/TCP", [Port(container_port=80, host_port=8000)]),
        ("127.0.0.1:8000:80", [Port(container_port=80, host_port=8000, host_address="127.0.0.1")]),
        ("127.0.0.1::80", [Port(container_port=80, host_address="127.0.0.1")]),
        ("[::1]:8000:80/sctp", [Port(container_port=80, host_port=8000, host_address="::1", protocol="sctp")]),
        ("[::1]::80", [Port(container_port=80, host_address="::1")]),
        ("80-81", [Port(container_port=80), Port(container_port=81)]),
        ("8000-8001:80-81", [Port(container_port=80, host_port=8000), Port(container_port=81, host_port=8001)]),
        ("8000-8009:80", [Port(container_port=80, host_port=8000, host_port_end=8009)]),
    ],
)
def test_docker_s_grammar_is_read(text, ports):
    assert parse(text) == ports


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a container port"),
        ("web", "'web' is not a container port"),
        ("8000:", "'' is not a container port"),
        ("0:80", "'0' is not a host port"),
        ("8000:70000", "'70000' is not a container port"),
        ("8000:80/icmp", "no protocol 'icmp'"),
        ("8000:80/", "no protocol ''"),
        ("8001-8000:80", "host port range 8001-8000 ends before it starts"),
        ("8000-8002:80-81", "ranges 8000-8002 and 80-81 differ in length"),
        ("127.0.0.1:80", "'127.0.0.1' is not a host port"),
        ("localhost:8000:80", "'localhost' is not an IP address"),
        ("::1:8000:80", "an IPv6 address stands in [ ]"),
        ("[::1:8000:80", "an IPv6 address stands in [ ]"),
    ],
)
def test_what_it_does_not_allow_is_told(text, message):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert str(caught.value) == f"--publish {text}: {message}"
    assert caught.value.hint


@given(st.text(alphabet="0123456789.:-[]/tcpud ", max_size=30))
def test_whatever_is_written_gives_ports_or_our_error(text):
    try:
        ports = parse(text)
    except VelociError:
        return
    assert all(0 < port.container_port < 65536 and 0 <= port.host_port < 65536 for port in ports)


def test_an_ipv6_address_of_the_host_is_refused_as_long_as_containers_have_none():
    with pytest.raises(Unsupported) as caught:
        reserve(parse("[::1]:8000:80")[0])
    assert str(caught.value) == "port [::1]:8000/tcp: containers have no IPv6 address yet"
