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
        ("data:/b:ro,nocopy", "volume", "data", "/b", ["ro", "nocopy"]),
        ("/a:/b:Z", "bind", "/a", "/b", ["rbind", "Z", "rprivate"]),
        ("/a://b/./c/../d/", "bind", "/a", "/b/d", ["rbind", "rprivate"]),
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
        ("/a:/b:nocopy", "--volume: '/a:/b:nocopy': unknown option 'nocopy'"),
        ("data:/b:rshared", "--volume: 'data:/b:rshared': unknown option 'rshared'"),
        ("/a:/b:ro,rw", "--volume: '/a:/b:ro,rw': the options contradict each other"),
        ("/a:/b/..", "--volume: '/a:/b/..': the destination cannot be /"),
    ],
)
def test_no_volume(text, message):
    with pytest.raises(InvalidInput) as failure:
        values.volume(text)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/a,dst=/b,ro", ("bind", "/a", "/b", ["rbind", "rprivate", "ro"])),
        ("type=bind,source=/a,target=/b,bind-recursive=disabled", ("bind", "/a", "/b", ["bind", "rprivate"])),
        (
            "type=bind,source=/a,target=/b,readonly,bind-recursive=readonly",
            ("bind", "/a", "/b", ["rbind", "rprivate", "rro"]),
        ),
        ("source=v,target=/b", ("volume", "v", "/b", [])),
        ("type=volume,target=/b,readonly=false,volume-nocopy", ("volume", "", "/b", ["nocopy"])),
        (
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
            ("tmpfs", "tmpfs", "/t", ["noexec", "nosuid", "nodev", "size=1m", "mode=1770"]),
        ),
    ],
)
def test_a_mount_in_fields(text, expected):
    found = values.mount(text)
    assert tuple(found[key] for key in ("type", "source", "destination", "options")) == expected


def test_a_field_in_quotes_may_hold_commas():
    found = values.mount('type=volume,src=v,dst=/b,"volume-opt=o=addr=1,rw",volume-label=a=b')
    assert (found["driver_options"], found["labels"]) == ({"o": "addr=1,rw"}, {"a": "b"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,target=/b", "the source of a bind must be an absolute path"),
        ("type=bind,source=/a,target=/b,speed=9", "'speed' does not fit a mount of type bind"),
        ("type=tmpfs,target=/b,source=/a", "a mount of type tmpfs has no source"),
        ("type=npipe,target=/b", "unknown type 'npipe'"),
        ("type=volume,target=b", "the path in the container must be absolute"),
        ("type=bind,src=/a,dst=/b,readonly=maybe", "readonly=maybe is neither true nor false"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "bind-recursive=readonly needs readonly"),
        ('type=volume,dst=/b,"volume-opt=o', "a quote is not closed"),
    ],
)
def test_no_mount(text, message):
    with pytest.raises(InvalidInput) as failure:
        values.mount(text)
    assert str(failure.value) == f"--mount: {text!r}: {message}"


@pytest.mark.parametrize("path", ["/proc", "//proc/.", "/proc/sys", "/proc/self/attr", "/sys/../proc/x"])
def test_nothing_is_mounted_inside_proc(path):
    with pytest.raises(InvalidInput, match="cannot be mounted because it is inside /proc"):
        values.place(path, "--volume")


def test_but_what_lxcfs_offers():
    assert values.place("/proc/cpuinfo/", "--volume") == "/proc/cpuinfo"
    assert values.place("/process", "--volume") == "/process"


def test_a_tmpfs_takes_the_file_system_s_options_alone():
    assert values.tmpfs("/t:exec,size=1m")["options"] == ["nosuid", "nodev", "exec", "size=1m"]
    with pytest.raises(InvalidInput, match="unknown option 'fast'"):
        values.tmpfs("/t:fast")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")),
    ],
)
def test_a_device(text, expected):
    assert values.device(text) == expected


@pytest.mark.parametrize("text", ["a", "/dev/a:/dev/b:x", "/dev/a:/dev/b:rr", "/dev/a:/dev/b:r:w"])
def test_no_device(text):
    with pytest.raises(InvalidInput) as failure:
        values.device(text)
    assert str(failure.value) == f"--device: {text!r} is not a device"


def test_device_rules_and_rates():
    rule = {"allow": True, "type": "c", "access": "rw", "major": 1}
    assert values.device_rule("c 1:* rw") == rule
    assert values.rate("/dev/sda:2mb", "--device-read-bps", bytes=True) == ("/dev/sda", 2 << 20)
    assert values.rate("/dev/sda:20", "--device-read-iops", bytes=False) == ("/dev/sda", 20)
    with pytest.raises(InvalidInput, match="'c 1 rw' is not a device rule"):
        values.device_rule("c 1 rw")
    with pytest.raises(InvalidInput, match="'sda:1' is not a device and a rate"):
        values.rate("sda:1", "--device-read-bps", bytes=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:10.0.0.1", ("a", "10.0.0.1")),
        ("a=10.0.0.1", ("a", "10.0.0.1")),
        ("a:::1", ("a", "::1")),
        ("a:[fe80::1]", ("a", "fe80::1")),
        ("a:host-gateway", ("a", "host-gateway")),
    ],
)
def test_a_host(text, expected):
    assert values.host(text) == expected


def test_no_host():
    with pytest.raises(InvalidInput, match="'a' is not a host"):
        values.host("a")
    with pytest.raises(InvalidInput, match="'b' is not an address"):
        values.host("a:b")


def test_security_options():
    found = values.security(["no-new-privileges", "seccomp=unconfined", "label=type:t", "systempaths=unconfined"])
    assert found == {
        "no-new-privileges": "true",
        "seccomp": "unconfined",
        "label.type": "t",
        "systempaths": "unconfined",
    }
    for text in ("speed=9", "no-new-privileges=maybe", "seccomp=", "label=colour:red", "systempaths=x"):
        with pytest.raises(InvalidInput) as failure:
            values.security([text])
        assert str(failure.value) == f"--security-opt: invalid security option {text!r}"


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
