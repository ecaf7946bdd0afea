"""Docker, podman and skopeo read what veloci wrote, and veloci what they wrote."""

import json
from pathlib import Path

import pytest
from peers import Built, Dockerd, Serving, busybox, digest, run, veloci

pytestmark = pytest.mark.needs("root", "skopeo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """An image that runs."""
    return Built(tmp_path_factory.mktemp("shell") / "layout", busybox())


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    with Dockerd(tmp_path_factory.mktemp("dockerd")) as command:
        yield command


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["oci:{}/l:v0", "dir:{}/d"])
@pytest.mark.parametrize("format", ["oci", "v2s2"])
def test_layouts_and_directories_are_skopeos_byte_for_byte(roots, registry, shell, tmp_path, kind, format):
    there = f"docker://{registry}/bytes-{format}:v0"
    veloci("copy", "--format", format, f"oci:{shell.path}:v0", there)
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    veloci("copy", there, kind.format(tmp_path / "ours"))
    run("skopeo", "copy", "--src-tls-verify=false", there, kind.format(tmp_path / "theirs"))
    ours, theirs = files(tmp_path / "ours"), files(tmp_path / "theirs")
    if kind.startswith("oci:") and format == "v2s2":  # the manifest is made anew: the same layers and config
        assert {digest(layer)[7:] for layer in shell.layers} <= {name.rpartition("/")[2] for name in ours}
        assert digest(shell.config)[7:] in {name.rpartition("/")[2] for name in ours}
    else:
        assert ours == theirs


def test_skopeo_reads_every_place_of_ours(roots, shell, tmp_path):
    for place in (
        f"docker-archive:{tmp_path}/d.tar:app:v0",
        f"oci-archive:{tmp_path}/o.tar:v0",
        f"oci:{tmp_path}/l:v0",
    ):
        veloci("copy", f"oci:{shell.path}:v0", place)
        read = place.removesuffix(":app:v0")
        assert run("skopeo", "inspect", "--config", "--raw", read) == shell.config.decode()


def test_veloci_reads_every_place_of_skopeo(roots, registry, shell, tmp_path):
    for number, place in enumerate(
        (f"docker-archive:{tmp_path}/d.tar:app:v0", f"oci-archive:{tmp_path}/o.tar:v0", f"dir:{tmp_path}/dir")
    ):
        run("skopeo", "copy", f"oci:{shell.path}:v0", place)
        veloci("copy", place, f"read:{number}")
        veloci("copy", f"read:{number}", f"oci:{tmp_path}/back{number}:v0")
        (config,) = {digest(shell.config)[7:]} & {p.name for p in (tmp_path / f"back{number}/blobs/sha256").iterdir()}
        assert (tmp_path / f"back{number}/blobs/sha256" / config).read_bytes() == shell.config


@pytest.mark.needs("podman")
def test_podman_loads_and_we_load_podmans(roots, shell, tmp_path, podman):
    veloci("copy", f"oci:{shell.path}:v0", "app:v0")
    veloci("save", "-o", tmp_path / "ours.tar", "app:v0")
    assert run(*podman, "load", "-i", tmp_path / "ours.tar") == "Loaded image: docker.io/library/app:v0\n"
    assert run(*podman, "images", "--no-trunc", "--format", "{{.ID}}").strip() == digest(shell.config)
    for form in ("docker-archive", "oci-archive"):
        run(*podman, "save", "--format", form, "-o", tmp_path / f"{form}.tar", "app:v0")
        out = veloci("load", "-q", "-i", tmp_path / f"{form}.tar")
        assert out == "Loaded image: app:v0\n"


@pytest.mark.needs("podman")
def test_podman_pulls_and_pushes(roots, registry, shell, tmp_path, podman):
    veloci("copy", f"oci:{shell.path}:v0", f"docker://{registry}/pod:v0")
    run(*podman, "pull", "-q", "--tls-verify=false", f"{registry}/pod:v0")
    run(*podman, "push", "--tls-verify=false", f"{registry}/pod:v0", f"{registry}/pod:back")
    veloci("pull", "-q", f"{registry}/pod:back")


@pytest.mark.needs("docker", "dockerd")
def test_docker_loads_and_runs_ours_and_we_load_dockers(roots, shell, tmp_path, docker):
    veloci("copy", f"oci:{shell.path}:v0", "app:v0")
    veloci("save", "-o", tmp_path / "ours.tar", "app:v0")
    assert run(*docker, "load", "-i", tmp_path / "ours.tar") == "Loaded image: app:v0\n"
    assert run(*docker, "image", "inspect", "--format", "{{.Id}}", "app:v0").strip() == digest(shell.config)
    said = run(*docker, "run", "--rm", "--network", "none", "app:v0", "/bin/busybox", "cat", "/etc/text")
    assert said == "hello\n"
    run(*docker, "save", "-o", tmp_path / "theirs.tar", "app:v0")
    assert veloci("load", "-q", "-i", tmp_path / "theirs.tar") == "Loaded image: app:v0\n"
    veloci("copy", "app:v0", f"oci:{tmp_path}/back:v0")
    assert (tmp_path / "back/blobs/sha256" / digest(shell.config)[7:]).read_bytes() == shell.config


@pytest.mark.needs("docker", "dockerd")
def test_docker_pulls_and_pushes(roots, registry, shell, docker):
    veloci("copy", f"oci:{shell.path}:v0", f"docker://{registry}/dock:v0")
    assert f"Digest: {digest(shell.manifest)}" in run(*docker, "pull", f"{registry}/dock:v0")
    run(*docker, "tag", f"{registry}/dock:v0", f"{registry}/dock2:back")
    assert "back: digest: sha256:" in run(*docker, "push", f"{registry}/dock2:back")
    veloci("pull", "-q", f"{registry}/dock2:back")


def test_layers_are_equal_in_both_families(roots, registry, shell, tmp_path):
    for format in ("oci", "docker"):
        veloci("copy", "--format", format, f"oci:{shell.path}:v0", f"docker://{registry}/same:{format}")
    raw = [
        json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/same:{format}"))
        for format in ("oci", "docker")
    ]
    oci, docker = ([layer["digest"] for layer in document["layers"]] for document in raw)
    assert oci == docker == [digest(layer) for layer in shell.layers]
    assert raw[0]["mediaType"] != raw[1]["mediaType"]
