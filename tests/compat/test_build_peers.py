"""The same Dockerfile built by veloci, docker and buildah: the same files, and the same configuration."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile

import pytest
from peers import Dockerd, run, veloci

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox")

BASE = (
    'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
    "COPY passwd group /etc/\n"
)
CASES = {
    "copies": BASE
    + (
        "WORKDIR /w\nCOPY tree /copied\nCOPY tree/ ./rel/\nCOPY tree/file renamed\nCOPY tree/f* tree/sub /many/\n"
        "COPY --chown=app:app tree /owned/deep\nCOPY --chown=7 tree/file /number\nCOPY --chown=app tree/file /named\n"
        "ADD packed.tar.gz /unpacked\nADD packed.tar.gz plain /both/\nCOPY tree/link /followed\nCOPY . /everything\n"
    ),
    "steps": BASE
    + (
        "ENV A=1\nARG B=two\nRUN echo $A $B > /env; mkdir -p /d/e; touch /d/e/f; chmod 1777 /d\n"
        "RUN rm -r /d/e; ln /env /hard; ln -s env /soft; mkfifo /fifo; chmod 4755 /env\n"
        "RUN mkdir /a && echo 1 > /a/x && echo 2 > /a/y\nRUN rm /a/x\nRUN rm -r /a && mkdir /a && echo 3 > /a/z\n"
        'RUN mkdir -p /home/app; chown app:app /home/app\nUSER app\nWORKDIR /home/app\nRUN id > mine; echo $HOME >> mine; pwd >> mine\nSHELL ["/bin/sh", "-ec"]\nRUN false || true; echo $0 > mine2\n'
    ),
    "stages": (
        BASE
        + "ARG WHAT=none\nFROM base AS build\nARG WHAT\nRUN echo $WHAT > /out\nFROM base AS other\nRUN echo other > /out\n"
        + "FROM scratch AS wanted\nCOPY --from=build /out /from-name\nCOPY --from=2 /out /from-number\nCOPY --from=base /bin/sh /bin/\nFROM scratch\nCOPY tree /never\n"
    ),
}  # fmt: skip
CONFIG = BASE + (
    'LABEL one=1 two="t w o"\nLABEL one=uno\nENV X=1 Y="a b"\nENV X=$X:2 Z=${Q:-d}\nENV OLD old style\nEXPOSE 80 53/udp 90/tcp\nVOLUME /data \nVOLUME ["/a b"]\n'
    'USER app\nWORKDIR /x\nWORKDIR y\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s --timeout=2s --retries=4 CMD ["ok"]\n'
    'CMD ["never"]\nENTRYPOINT run it\nCMD ["a", "b c"]\nONBUILD RUN echo hi\n'
)  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    directory = tmp_path_factory.mktemp("context")
    shutil.copy(shutil.which("busybox"), directory / "busybox")
    (directory / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:5:6::/home/app:/bin/sh\n")
    (directory / "group").write_text("root:x:0:\napp:x:6:\n")
    (directory / "tree/sub/empty").mkdir(parents=True)
    (directory / "tree/file").write_text("file\n")
    (directory / "tree/file").chmod(0o640)
    (directory / "tree/second").write_text("x")
    (directory / "tree/sub/set").write_text("x")
    (directory / "tree/sub/set").chmod(0o4755)
    (directory / "tree/sub").chmod(0o700)
    (directory / "tree/link").symlink_to("file")
    (directory / "plain").write_text("plain\n")
    (directory / "node.log").write_text("x")
    (directory / "keep.log").write_text("x")
    (directory / "deep/er").mkdir(parents=True)
    (directory / "deep/er/x.tmp").write_text("x")
    (directory / "deep/er/y").write_text("y")
    with tarfile.open(directory / "packed.tar.gz", "w:gz") as tar:
        for name, mode in (("p/one", 0o600), ("two", 0o755)):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid = 1, mode, 8, 9
            tar.addfile(info, io.BytesIO(b"1"))
    for directory_path, _, names in os.walk(directory):
        for name in names:
            os.utime(f"{directory_path}/{name}", (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return directory


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    if not shutil.which("dockerd"):
        pytest.skip("this host lacks dockerd")
    with Dockerd(tmp_path_factory.mktemp("dockerd")) as command:
        yield command


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    if not shutil.which("buildah"):
        pytest.skip("this host lacks buildah")
    short = tempfile.mkdtemp(prefix="v")
    base = ["buildah", "--root", tmp_path_factory.mktemp("buildah"), "--runroot", short, "--storage-driver", "vfs"]
    yield base
    run(*base, "rmi", "--all", "--force", check=False)
    shutil.rmtree(short, ignore_errors=True)


class Image:
    """An image in a Docker archive: its configuration, and its files as the layers on top of each other give them."""

    def __init__(self, archive):
        with tarfile.open(archive) as saved:
            (manifest,) = json.load(saved.extractfile("manifest.json"))
            self.config = json.load(saved.extractfile(manifest["Config"]))
            self.files = {}
            for name in manifest["Layers"]:
                with tarfile.open(fileobj=io.BytesIO(saved.extractfile(name).read())) as layer:
                    self._apply(layer)

    def _apply(self, layer):
        for member in layer:
            name = member.name.strip("/").removeprefix("./")
            parent, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                self._remove(parent, inside=True)
            elif last.startswith(".wh."):
                self._remove(f"{parent}/{last[4:]}".lstrip("/"))
            elif name and name != ".":
                data = layer.extractfile(member).read() if member.isfile() or member.islnk() else b""
                target = member.linkname if member.issym() else ""
                kind = "file" if member.isfile() or member.islnk() else member.type.decode()
                self.files[name] = (
                    kind,
                    oct(member.mode & 0o7777),
                    member.uid,
                    member.gid,
                    target,
                    hashlib.sha256(data).hexdigest()[:8],
                )

    def _remove(self, path, inside=False):
        for name in [n for n in self.files if n.startswith(f"{path}/") or (n == path and not inside)]:
            del self.files[name]


def ours(context, text, place, *words):
    (context / "Dockerfile").write_text(text)
    veloci("build", "-q", "--network", "none", "-t", "built:1", *words, str(context))
    veloci("save", "-o", str(place), "built:1")
    return Image(place)


def dockers(docker, context, text, place, *words):
    (context / "Dockerfile").write_text(text)
    run(
        *docker,
        "build",
        "-q",
        "--network",
        "none",
        "-t",
        "built:1",
        *words,
        context,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    run(*docker, "save", "-o", place, "built:1")
    return Image(place)


def buildahs(buildah, context, text, place, *words):
    (context / "Dockerfile").write_text(text)
    words = ["--isolation", "chroot", "--network", "host", "--format", "docker", "--layers", *words]
    run(*buildah, "bud", "-q", *words, "-t", "built:1", context)
    run(*buildah, "push", "-q", "built:1", f"docker-archive:{place}:built:1")
    found = Image(place)
    place.unlink()
    return found


def different(one, two):
    return {name: (one.get(name), two.get(name)) for name in {*one, *two} if one.get(name) != two.get(name)}


def words(case):
    if case == "stages":
        return ["--target", "wanted", "--build-arg", "WHAT=given"]
    return ["--build-arg", "B=three"] if case == "steps" else []


# What buildah leaves of its mounts; what a RUN of ours is mounted upon is gone with it.
STUBS = {"dev", "proc", "run", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"}


def without_setuid(files):
    """buildah and docker's classic builder drop setuid bits of the context; buildkit keeps them, and so do we."""
    return {
        name: (kind, mode.replace("0o4", "0o", 1) if len(mode) == 6 else mode, *rest)
        for name, (kind, mode, *rest) in files.items()
    }


@pytest.fixture(autouse=True)
def ignore_file(context):
    (context / ".dockerignore").write_text("*.log\n!keep.log\n**/*.tmp\nDockerfile\n.dockerignore\nbusybox\n!busybox\n")


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_buildahs(context, buildah, roots, case):
    mine = without_setuid(ours(context, CASES[case], roots / "ours.tar", *words(case)).files)
    theirs = without_setuid(buildahs(buildah, context, CASES[case], roots / "theirs.tar", *words(case)).files)
    for name in STUBS - mine.keys():
        theirs.pop(name, None)
    assert different(mine, theirs) == {}


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_dockers(context, docker, roots, case):
    mine = without_setuid(ours(context, CASES[case], roots / "ours.tar", *words(case)).files)
    theirs = without_setuid(dockers(docker, context, CASES[case], roots / "theirs.tar", *words(case)).files)
    if case == "copies":  # buildkit, and we, give --chown's owner to the directories made on the way
        assert mine.pop("owned")[2:4] == (5, 6)
        assert theirs.pop("owned")[2:4] == (0, 0)
    assert different(mine, theirs) == {}


FIELDS = "Cmd Entrypoint Labels WorkingDir User ExposedPorts Volumes StopSignal Healthcheck Shell OnBuild".split()


def variables(image):
    """ENV but for PATH, which docker's classic builder and buildah do not set for scratch."""
    return [entry for entry in image.config["config"]["Env"] if not entry.startswith("PATH=")]


def test_the_configuration_is_dockers_and_buildahs(context, docker, buildah, roots):
    mine = ours(context, CONFIG, roots / "ours.tar")
    for theirs in (
        dockers(docker, context, CONFIG, roots / "docker.tar"),
        buildahs(buildah, context, CONFIG, roots / "buildah.tar", "--identity-label=false"),
    ):
        assert variables(mine) == variables(theirs)
        for field in FIELDS:
            assert (field, mine.config["config"].get(field) or None) == (
                field,
                theirs.config["config"].get(field) or None,
            )
    assert [step["created_by"] for step in mine.config["history"]][3:] == [
        "LABEL one=1 two=t w o",
        "LABEL one=uno",
        "ENV X=1 Y=a b",
        "ENV X=1:2 Z=d",
        "ENV OLD=old style",
        "EXPOSE [80/tcp 53/udp 90/tcp]",
        "VOLUME [/data]",
        "VOLUME [/a b]",
        "USER app",
        "WORKDIR /x",
        "WORKDIR /x/y",
        "STOPSIGNAL SIGQUIT",
        "HEALTHCHECK {Test:[CMD ok] Interval:5s Timeout:2s StartPeriod:0s StartInterval:0s Retries:4}",
        'CMD ["never"]',
        'ENTRYPOINT ["/bin/sh" "-c" "run it"]',
        'CMD ["a" "b c"]',
        "ONBUILD RUN echo hi",
    ]
