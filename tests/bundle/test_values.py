"""Docker's spelling of sizes, volumes and limits."""

import pytest

from veloci.bundle import values
from veloci.bundle.hostfiles import hosts, resolv
from veloci.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "number"),
    [("100", 100), ("1b", 1), ("512m", 512 << 20), ("2G", 2 << 30), ("1.5gb", 3 << 29), ("4KiB", 4096), ("-1", -1)],
)
def test_a_size(text, number):
    assert values.size(text, "--memory") == number


@pytest.mark.parametrize("text", ["", "m", "12q", "1e400", "-2", "nan", "12 34"])
def test_no_size(text):
    with pytest.raises(InvalidInput) as failure:
        values.size(text, "--memory")
    assert str(failure.value) == f"--memory: {text!r} is not a size"


@pytest.mark.parametrize(
    ("text", "kind", "source", "destination", "options"),
    [
        ("/a:/b", "bind", "/a", "/b", ["rbind", "rprivate"]),
        ("./a:/b:ro", "bind", "./a", "/b", ["rbind", "ro", "rprivate"]),
        ("/a:/b:ro,rslave", "bind", "/a", "/b", ["rbind", "ro", "rslave"]),
        ("data:/b", "volume", "data", "/b", []),
        ("/b", "volume", "", "/b", []),
    ],
)
def test_a_volume(text, kind, source, destination, options):
    assert values.volume(text) == {"type": kind, "source": source, "destination": destination, "options": options}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b", "--volume: 'a:b': the path in the container must be absolute"),
        ("/a:/", "--volume: '/a:/': the destination cannot be /"),
        ("/a:/b:fast", "--volume: '/a:/b:fast': unknown option 'fast'"),
        ("a b:/c", "--volume: 'a b' is not a volume's name"),
        ("::", "--volume: '::' is not a volume"),
    ],
)
def test_no_volume(text, message):
    with pytest.raises(InvalidInput) as failure:
        values.volume(text)
    assert str(failure.value) == message


def test_mounts_in_their_long_form():
    assert values.mount("type=bind,src=/a,dst=/b,ro") == {
        "type": "bind",
        "source": "/a",
        "destination": "/b",
        "options": ["rbind", "rprivate", "ro"],
    }
    assert values.mount("source=v,target=/b")["type"] == "volume"
    assert values.mount("type=tmpfs,target=/t,tmpfs-size=1m")["options"] == ["noexec", "nosuid", "nodev", "size=1m"]
    with pytest.raises(InvalidInput, match="the source of a bind must be an absolute path"):
        values.mount("type=bind,target=/b")
    with pytest.raises(InvalidInput, match="'speed' does not fit a mount of type bind"):
        values.mount("type=bind,source=/a,target=/b,speed=9")


def test_limits():
    assert values.ulimit("nofile=10:20") == {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}
    assert values.ulimit("core=-1")["hard"] == 2**64 - 1
    with pytest.raises(InvalidInput, match="the soft limit is above the hard one"):
        values.ulimit("nofile=3:2")
    with pytest.raises(InvalidInput, match="is not a limit"):
        values.ulimit("speed=3")


def test_hosts_names_the_container():
    text = hosts([("10.0.0.2", "web")])
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.0.0.2\tweb\n")
    with pytest.raises(InvalidInput):
        hosts([("10.0.0.2", "a\nb")])


def test_a_container_does_not_get_the_host_s_loopback_resolver():
    host = "# made by x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lan\n"
    assert resolv(host) == "nameserver 10.0.0.1\nsearch lan\n"
    assert resolv(host, own_network=False) == "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lan\n"
    assert resolv(host, servers=["9.9.9.9"], search=["a"], options=["ndots:0"]) == (
        "nameserver 9.9.9.9\nsearch a\noptions ndots:0\n"
    )
