"""Image configuration and options to config.json."""

import pytest

from veloci.bundle import defaults
from veloci.bundle.configure import configure, process
from veloci.bundle.options import Options
from veloci.errors import InvalidInput
from veloci.spec.document import dumps
from veloci.spec.image import ContainerConfig, ImageConfig, RootFs
from veloci.spec.runtime import Config

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n"
GROUP = b"root:x:0:\nstaff:x:50:app\nwheel:x:10:root,app\n"


def image(**config):
    return ImageConfig(architecture="amd64", os="linux", rootfs=RootFs(type="layers"), config=ContainerConfig(**config))


def made(options=None, **config):
    given = {"cmd": ("sh",), **config}
    return configure(image(**given), options, id="0123456789abcdef", passwd=PASSWD, group=GROUP)


def test_what_comes_out_is_a_runtime_configuration():
    config = Config.decode(dumps(made()), name="config.json")
    assert config.process is not None
    assert config.process.args == ("sh",)
    assert config.linux.cgroups_path == "/veloci-0123456789abcdef"
    assert config.hostname == "0123456789ab"


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "options", "args"),
    [
        (("e",), ("c",), {}, ["e", "c"]),
        (("e",), ("c",), {"args": ("x", "y")}, ["e", "x", "y"]),
        (("e",), ("c",), {"entrypoint": ("z",)}, ["z"]),
        (("e",), ("c",), {"entrypoint": (), "args": ("x",)}, ["x"]),
        (None, ("c",), {"args": ()}, None),
        (None, None, {}, None),
        (("e",), ("c",), {"entrypoint": ()}, None),
    ],
)
def test_the_command_is_docker_s(entrypoint, cmd, options, args):
    if args is None:
        with pytest.raises(InvalidInput, match="no command specified"):
            made(Options(**options), entrypoint=entrypoint, cmd=cmd)
    else:
        assert made(Options(**options), entrypoint=entrypoint, cmd=cmd)["process"]["args"] == args


def test_the_environment_is_the_image_s_then_the_user_s():
    options = Options(env=("A=3", "HOME=/tmp"), user="app")
    env = made(options, env=("PATH=/bin", "A=1", "B=2"))["process"]["env"]
    assert env == ["PATH=/bin", "HOSTNAME=0123456789ab", "HOME=/tmp", "A=3", "B=2"]


def test_an_images_labels_and_volumes_say_nothing_to_the_runtime():
    """Nor to systemd, to hooks or to podman, which take orders from annotations (CVE-2024-3154, 2026-53488)."""
    labels = {"org.systemd.property.ExecStart": "'x'", "run.oci.hooks.stderr": "/etc/x", "io.podman.annotations.x": "y"}
    plain, hostile = made(), made(labels=labels)
    assert hostile == plain
    assert "annotations" not in hostile
    assert "hooks" not in hostile


def test_an_image_cannot_take_a_variable_from_the_host():
    with pytest.raises(InvalidInput, match="the image's environment has 'AWS_SECRET', which is not KEY=VALUE"):
        made(env=("AWS_SECRET",))


@pytest.mark.parametrize(
    ("user", "expected", "home"),
    [
        ("", {"uid": 0, "gid": 0, "additionalGids": [0, 10]}, "/root"),
        ("app", {"uid": 1000, "gid": 1001, "additionalGids": [10, 50, 1001]}, "/home/app"),
        ("1000", {"uid": 1000, "gid": 1001, "additionalGids": [10, 50, 1001]}, "/home/app"),
        ("app:staff", {"uid": 1000, "gid": 50, "additionalGids": [50]}, "/home/app"),
        ("77", {"uid": 77, "gid": 0, "additionalGids": [0]}, "/"),
        ("77:88", {"uid": 77, "gid": 88, "additionalGids": [88]}, "/"),
    ],
)
def test_users_are_looked_up_in_the_image(user, expected, home):
    process = made(Options(user=user))["process"]
    assert process["user"] == expected
    assert f"HOME={home}" in process["env"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", "--user: unable to find user nobody: no matching entries in passwd file"),
        ("app:nope", "--user: unable to find group nope: no matching entries in group file"),
        ("4294967296", "--user: '4294967296': the ID '4294967296' is not between 0 and 4294967294"),
        ("-1", "--user: '-1': the ID '-1' is not between 0 and 4294967294"),
        ("0:4294967295", "--user: '0:4294967295': the ID '4294967295' is not between 0 and 4294967294"),
    ],
)
def test_a_user_that_is_not_there_is_an_error_and_never_root(user, message):
    with pytest.raises(InvalidInput) as failure:
        made(Options(user=user))
    assert str(failure.value) == message


def test_capabilities_are_docker_s_and_never_inheritable():
    assert sorted(made()["process"]["capabilities"]["bounding"]) == sorted(defaults.CAPABILITIES)
    chosen = made(Options(cap_drop=("ALL",), cap_add=("net_admin", "CAP_CHOWN")))["process"]["capabilities"]
    assert chosen == {key: ["CAP_CHOWN", "CAP_NET_ADMIN"] for key in ("bounding", "effective", "permitted")}
    user = made(Options(user="app"))["process"]["capabilities"]
    assert (user["effective"], user["permitted"]) == ([], [])
    assert "inheritable" not in user
    with pytest.raises(InvalidInput, match="unknown capability 'FLY'"):
        made(Options(cap_add=("FLY",)))


def test_limits_become_resources():
    resources = made(Options(memory=64 << 20, cpus=1.5, pids_limit=9))["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["pids"] == {"limit": 9}
    assert resources["devices"] == [{"allow": False, "access": "rwm"}]


def test_privileged_lifts_what_docker_lifts():
    config = made(Options(privileged=True))
    assert len(config["process"]["capabilities"]["bounding"]) == len(defaults.ALL_CAPABILITIES)
    assert "seccomp" not in config["linux"]
    assert "maskedPaths" not in config["linux"]
    assert config["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "ro" not in next(m for m in config["mounts"] if m["destination"] == "/sys")["options"]


def test_a_mount_replaces_the_default_one_and_parents_come_first():
    deep = {"destination": "/data/x/y", "type": "bind", "source": "/a", "options": ["rbind"]}
    shm = {"destination": "/dev/shm", "type": "bind", "source": "/b", "options": ["rbind"]}
    flat = {"destination": "/data", "type": "bind", "source": "/c", "options": ["rbind"]}
    destinations = [m["destination"] for m in made(Options(mounts=(deep, shm, flat)))["mounts"]]
    assert destinations[-3:] == ["/data", "/dev/shm", "/data/x/y"]
    assert destinations.count("/dev/shm") == 1


def test_namespaces_are_new_joined_or_the_host_s():
    linux = made(Options(namespaces={"network": "/proc/7/ns/net", "pid": "host"}))["linux"]
    assert {"type": "network", "path": "/proc/7/ns/net"} in linux["namespaces"]
    assert "pid" not in [n["type"] for n in linux["namespaces"]]
    assert "sysctl" not in linux
    host = made(Options(namespaces={"network": "host"}))
    assert next(m for m in host["mounts"] if m["destination"] == "/sys")["type"] == "bind"


def test_exec_adds_a_process_like_the_first():
    config = made(Options(env=("A=1",)))
    added = process(config, ["id"], Options(user="app", env=("B=2",), workdir="/w"), passwd=PASSWD, group=GROUP)
    assert added["args"] == ["id"]
    assert added["cwd"] == "/w"
    assert added["user"]["uid"] == 1000
    assert added["capabilities"]["effective"] == []
    assert {"A=1", "B=2", "HOME=/home/app"} <= set(added["env"])
    assert config["process"]["args"] == ["sh"]
