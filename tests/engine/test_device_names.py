"""Devices by name (CDI), in a container."""

import json

import pytest

from veloci.bundle import cdi
from veloci.engine import device_names
from veloci.errors import InvalidInput

YAML = """
cdiVersion: 0.6.0
kind: example.com/wire
containerEdits:
  env: [WIRES=yes]
devices:
- name: one
  containerEdits:
    env: [WIRE=one]
    deviceNodes:
    - {path: /dev/wire, hostPath: /dev/net/tun, permissions: rw}
    mounts:
    - {hostPath: /etc/hostname, containerPath: /etc/wired, options: [ro, nosuid]}
    additionalGids: [7]
    hooks:
    - {hookName: createRuntime, path: /bin/true, args: ["true"], timeout: 5}
- name: two
  containerEdits: {env: [WIRE=two]}
"""


@pytest.fixture
def described(tmp_path, monkeypatch):
    """A directory with a file in YAML, and a later one with a file in JSON that says more of one device."""
    first, second = tmp_path / "etc", tmp_path / "run"
    first.mkdir()
    second.mkdir()
    (first / "wire.yaml").write_text(YAML)
    document = {
        "cdiVersion": "0.6.0",
        "kind": "example.com/wire",
        "devices": [{"name": "two", "containerEdits": {"env": ["WIRE=later"]}}],
    }
    (second / "wire.json").write_text(json.dumps(document))
    (second / "notes.txt").write_text("not one of them")
    monkeypatch.setattr(device_names, "DIRECTORIES", (str(first), str(second)))
    return device_names.specs((str(first), str(second)))


def test_a_name_is_a_kind_and_a_device():
    assert cdi.is_name("nvidia.com/gpu=0")
    assert cdi.is_name("a/b=all")
    for text in ("/dev/sda", "/dev/a=b/c", "nvidia.com/gpu", "gpu=0", "/gpu=0"):
        assert not cdi.is_name(text)


def test_each_device_brings_its_edits_and_those_of_all_once(described):
    names = ["example.com/wire=one", "example.com/wire=two"]
    assert [edit.env for edit in cdi.chosen(described, names)] == [
        ("WIRES=yes",),
        ("WIRE=one",),
        (),
        ("WIRE=later",),
    ]
    with pytest.raises(InvalidInput) as failure:
        cdi.chosen(described, ["example.com/wire=three"])
    assert str(failure.value) == "--device: unresolvable CDI device example.com/wire=three"
    assert failure.value.hint == "known: example.com/wire=one example.com/wire=two"


def test_the_configuration_is_changed(described):
    config = {
        "process": {"env": ["A=1", "WIRE=none"], "user": {"additionalGids": [0]}},
        "mounts": [{"destination": "/etc/wired"}],
        "linux": {"resources": {}},
    }
    node = {"type": "c", "major": 10, "minor": 200, "fileMode": 0o666, "uid": 0, "gid": 0}
    cdi.applied(config, cdi.chosen(described, ["example.com/wire=one"]), {"/dev/net/tun": node})
    assert config["process"] == {"env": ["A=1", "WIRES=yes", "WIRE=one"], "user": {"additionalGids": [0, 7]}}
    assert config["linux"]["devices"] == [{"path": "/dev/wire", **node}]
    rule = {"allow": True, "access": "rw", "type": "c", "major": 10, "minor": 200}
    assert config["linux"]["resources"]["devices"] == [rule]
    assert config["mounts"] == [
        {
            "destination": "/etc/wired",
            "type": "bind",
            "source": "/etc/hostname",
            "options": ["ro", "nosuid", "rbind"],
        }
    ]
    assert config["hooks"] == {"createRuntime": [{"path": "/bin/true", "args": ["true"], "timeout": 5}]}


def test_a_wrong_file_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: [")
    with pytest.raises(InvalidInput, match=f"{tmp_path}/a.yaml: not YAML: "):
        device_names.specs((str(tmp_path),))
    (tmp_path / "a.yaml").write_text("kind: x/y")
    with pytest.raises(InvalidInput) as failure:
        device_names.specs((str(tmp_path),))
    assert str(failure.value) == f"{tmp_path}/a.yaml: $: missing 'cdiVersion'"
    assert device_names.specs((f"{tmp_path}/nowhere",)) == []


def test_graphics_processors_are_names():
    assert device_names.graphics("all") == ["nvidia.com/gpu=all"]
    assert device_names.graphics("2") == ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
    assert device_names.graphics('"device=0,GPU-x"') == ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-x"]
    with pytest.raises(InvalidInput, match="--gpus: 'some' names no devices"):
        device_names.graphics("some")


@pytest.mark.needs("root", "namespaces", "overlay", "busybox")
def test_a_container_gets_its_device(box, described):
    from veloci import Engine, RunOptions

    engine = Engine(f"{box.path}/data", f"{box.path}/run")
    options = RunOptions(network="none", rm=True, device=("example.com/wire=one",))
    script = "echo $WIRES $WIRE; test -c /dev/wire && echo device; cat /etc/wired; id -G"
    text = engine.run("bb", ["sh", "-c", script], options).check().text
    with open("/etc/hostname") as file:
        assert text == f"yes one\ndevice\n{file.read()}0 7\n"
    done = box.veloci("run", "--rm", "--network", "none", "--device", "example.com/wire=nine", "bb", "true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        125,
        "veloci: --device: unresolvable CDI device example.com/wire=nine",
    )
