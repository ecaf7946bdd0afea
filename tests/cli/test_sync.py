"""`veloci sync`: what is listed arrives, what is there stays; skopeo's directories byte for byte."""

import subprocess
from pathlib import Path

import pytest
from peers import Built, Scripted, Serving, digest
from peers import inside as veloci


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("other")) as (address, _process):
        yield address


@pytest.fixture
def filled(tmp_path, roots, monkeypatch, registry):
    """A registry with team/app:1.0, 1.1, latest and tool:v1, and the image they all are."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    built = Built(tmp_path / "layout")
    veloci(
        "copy",
        "-q",
        f"oci:{built.path}:v0",
        f"docker://{registry}/team/app:1.0",
        "--additional-tag",
        "1.1",
        "--additional-tag",
        "latest",
    )
    veloci("copy", "-q", f"oci:{built.path}:v0", f"docker://{registry}/tool:v1")
    return built


def listing(path, registry, text):
    file = path / "list.yml"
    file.write_text(f"{registry}:\n{text}")
    return file


def test_what_is_listed_arrives_and_what_is_there_stays(filled, registry, other, tmp_path):
    file = listing(tmp_path, registry, "  images-by-tag-regex:\n    team/app: ^[0-9]\n  images:\n    tool: []\n")
    to = f"docker://{other}/mirror"
    lines = veloci("sync", "--dry-run", file, to).splitlines()
    assert lines == [
        f"{registry}/{name}: would be copied to {to}/{name.rpartition('/')[2]}"
        for name in ("tool:v1", "team/app:1.0", "team/app:1.1")
    ] + ["3 to copy"]
    lines = veloci("sync", file, to).splitlines()
    assert lines[-1] == "3 copied"
    assert [line for line in lines if "copied to" in line] == [
        f"{registry}/{name}: copied to {to}/{name.rpartition('/')[2]}, digest: {digest(filled.manifest)}"
        for name in ("tool:v1", "team/app:1.0", "team/app:1.1")
    ]
    assert veloci("list-tags", "-q", f"{other}/mirror/app").split() == ["1.0", "1.1"]
    assert veloci("sync", file, to).splitlines()[-1] == "3 there already"
    assert veloci("sync", "-q", file, to) == ""


def test_a_digest_and_a_range_choose_too(filled, registry, other, tmp_path):
    wanted = digest(filled.manifest)
    file = listing(
        tmp_path, registry, f'  images:\n    tool: ["{wanted}"]\n  images-by-semver:\n    team/app: ">= 1.1"\n'
    )
    lines = veloci("sync", file, f"docker://{other}/chosen").splitlines()
    assert [line.partition(":")[2].partition(", ")[0] for line in lines if "copied to" in line] == [
        f"{registry.partition(':')[2]}/tool@{wanted}: copied to docker://{other}/chosen/tool@{wanted}",
        f"{registry.partition(':')[2]}/team/app:1.1: copied to docker://{other}/chosen/app:1.1",
    ]


def tree(path):
    return {str(each.relative_to(path)): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()}


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("scoped", [[], ["--scoped"]])
def test_directories_are_skopeos_byte_for_byte(filled, registry, tmp_path, scoped):
    file = listing(tmp_path, registry, "  images:\n    team/app: []\n    tool: [v1]\n  tls-verify: false\n")
    veloci("sync", *scoped, file, f"dir:{tmp_path}/ours")
    (tmp_path / "theirs").mkdir()
    subprocess.run(
        ["skopeo", "sync", *scoped, "--src", "yaml", "--dest", "dir", file, f"{tmp_path}/theirs"],
        check=True,
        capture_output=True,
    )
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert veloci("sync", *scoped, file, f"dir:{tmp_path}/ours").splitlines()[-1] == "4 there already"


def test_one_that_fails_stops_the_others_or_not(filled, registry, other, tmp_path):
    file = listing(tmp_path, registry, "  images:\n    none: []\n    team/app: [gone, '1.0']\n")
    done = veloci("sync", file, f"docker://{other}/one", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"veloci: {registry}/none: name unknown\n  try: check the name, the tag and the registry\n")
    done = veloci("sync", "--keep-going", file, f"docker://{other}/two", check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 copied, 2 failed"
    assert done.stderr.count("veloci: ") == 2


def test_credentials_of_the_list_are_for_its_registry(roots, tmp_path, monkeypatch):
    from base64 import b64encode

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    right = "Basic " + b64encode(b"me:pass:word").decode()

    def private(request):
        if request.headers.get("Authorization") == right:
            return request.reply(200, b'{"tags":["v0"]}')
        return request.reply(401, WWW_Authenticate='Basic realm="r"')

    text = '  images:\n    app: []\n  credentials: {username: me, password: "pass:word"}\n'
    with Scripted(private) as server:
        done = veloci("sync", "--dry-run", listing(tmp_path, server.address, text), f"dir:{tmp_path}/out")
        assert done == f"{server.address}/app:v0: would be copied to dir:{tmp_path}/out/app:v0\n1 to copy\n"
    assert not (tmp_path / "out").exists()


def test_what_is_called_wrongly_is_told(roots, tmp_path):
    for words, message in (
        ((f"{tmp_path}/none.yml", "dir:/x"), f"veloci: {tmp_path}/none.yml: read: No such file or directory\n"),
        ((f"{tmp_path}/none.yml", "oci:/x"), "veloci: 'oci:/x' is no place to synchronise to\n  try: docker://HOST[:PORT][/PATH] or dir:DIRECTORY\n"),
        (("--format", "zip", "a", "dir:/x"), "veloci: --format: 'zip' is no image format\n  try: oci or docker\n"),
    ):  # fmt: skip
        done = veloci("sync", *words, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


@pytest.mark.parametrize("here", [".", "../stick", "./"])
def test_an_image_of_a_relative_path_goes_below_the_directory(filled, tmp_path, monkeypatch, here):
    """Under its directory's name: `dir:OUT/.` would be OUT itself, and what is there would go."""
    veloci("copy", "-q", f"oci:{filled.path}:v0", f"dir:{tmp_path}/stick")
    monkeypatch.chdir(tmp_path / "stick")
    veloci("sync", f"dir:{here}", f"dir:{tmp_path}/out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stick"]


def test_a_repository_goes_to_a_directory_and_from_there_to_another_registry(filled, registry, other, tmp_path):
    lines = veloci("sync", f"docker://{registry}/team/app", f"dir:{tmp_path}/stick").splitlines()
    assert lines[-1] == "3 copied"
    assert sorted(path.name for path in (tmp_path / "stick").iterdir()) == ["app:1.0", "app:1.1", "app:latest"]
    assert veloci("sync", f"dir:{tmp_path}/stick", f"docker://{other}/far").splitlines()[-1] == "3 copied"
    assert veloci("digest", f"docker://{other}/far/app:1.1") == f"{digest(filled.manifest)}\n"
    assert veloci("sync", f"dir:{tmp_path}/stick", f"docker://{other}/far").splitlines()[-1] == "3 there already"
    assert veloci("sync", f"dir:{tmp_path}/stick/app:1.0", f"docker://{other}/one").splitlines()[-1] == "1 copied"
    assert veloci("sync", f"docker://{registry}/tool:v1", f"docker://{other}/one").splitlines()[-1] == "1 copied"
    assert veloci("list-tags", "-q", f"{other}/one/tool") == "v1\n"
    (tmp_path / "stick/app:1.0/signature-1").write_bytes(b"\x90x")
    signed = ["sync", f"dir:{tmp_path}/stick/app:1.0", f"docker://{other}/signed", "--retry-times", "1"]
    done = veloci(*signed, check=False)
    message = f"dir:{tmp_path}/stick/app:1.0: its signatures cannot be copied to {other}/signed/app:1.0"
    hint = "--remove-signatures of copy and sync"
    assert (done.returncode, done.stderr) == (1, f"veloci: {message}: only a dir: holds them\n  try: {hint}\n")
    assert veloci(*signed, "--remove-signatures", "--src-no-creds").splitlines()[-1] == "1 copied"
    done = veloci("sync", f"dir:{tmp_path}/none", f"docker://{other}/one", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"veloci: {tmp_path}/none: holds no image\n  try: veloci sync FILE dir:DIRECTORY makes some\n",
    )
