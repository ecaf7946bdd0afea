"""Bad input, for every command that can meet it: one line that says what and where, a way out, the peer's status.

Each case is run by veloci and, where it has the command, by its peer: docker for docker's verbs, skopeo for
`copy`, runc for `veloci-runtime`. Nothing may be left behind: the files of our roots, mounts, links, network
namespaces, firewall rules and control groups are the same before and after.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import Built, Dockerd, Scripted, Serving, busybox, digest, own_network, tar

from veloci.cli.main import COMMANDS

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox", "ip")
PROGRAMS = Path(sys.executable).parent
LIMIT = 60  # seconds that a command may take
# What a command says before it fails: a build's steps, a pull's layers, a warning.
PROGRESS = re.compile(r"#|[0-9a-f]{12}: |Unable to find image |veloci: warning: ")

# Where a word of a case stands in braces, it is one of these.
#   down      a loopback address where nothing listens     busy      a port that something listens on
#   up        a registry with bb:v0                        bad       one whose layers are not what their digests say
#   here      a scratch directory with what `world` made there
UNKNOWN_IMAGE = "no such image: nosuch:latest\n  try: veloci pull nosuch:latest"
UPPER = "invalid reference 'UPPER': a repository's name must be lower case\n  try: library/upper"
REFUSED = "cannot reach {down}: connection refused\n  try: is the registry up?"
NO_CONTAINER = "no such container: nosuch\n  try: veloci ps -a"
UNKNOWN_TAG = "{up}/nope:v0: manifest unknown\n  try: check the name, the tag and the registry"
DAMAGED = "* expected sha256:*, got *\n  try: the copy is damaged; fetch it again"
BUSY = "*127.0.0.1:{busy}*\n  try: *"
PUBLISH = "-p 127.0.0.1:{busy}:80"

# (the bad input, veloci's words, the message after `veloci: ` as a pattern, exit status, docker's words: "=" the
# same, "" none that can be compared)
DOCKERS = [
    # an image that is not there
    ("unknown image", "run --pull never nosuch", UNKNOWN_IMAGE, 125, "="),
    ("unknown image", "create --pull never nosuch", UNKNOWN_IMAGE, 1, ""),  # this docker has no such flag
    ("unknown image", "run {up}/nope:v0", UNKNOWN_TAG, 125, "="),
    ("unknown image", "create {up}/nope:v0", UNKNOWN_TAG, 1, "="),
    ("unknown image", "pull {up}/nope:v0", UNKNOWN_TAG, 1, "="),
    ("unknown image", "push nosuch", "An image does not exist locally with the tag: nosuch\n  try: veloci images", 1, "="),
    ("unknown image", "save -o {here}/x.tar nosuch", UNKNOWN_IMAGE, 1, "="),
    ("unknown image", "tag nosuch other", UNKNOWN_IMAGE, 1, "="),
    ("unknown image", "rmi nosuch", UNKNOWN_IMAGE, 1, "="),
    ("unknown image", "history nosuch", UNKNOWN_IMAGE, 1, "="),
    ("unknown image", "inspect nosuch", "no such object: nosuch\n  try: veloci ps -a", 1, "="),
    ("unknown image", "image inspect nosuch", "no such *: nosuch\n  try: veloci *", 1, "="),
    ("unknown image", "unpack nosuch {here}/x", UNKNOWN_IMAGE, 1, ""),
    ("unknown image", "build {here}/from-unknown", "*{up}/nope:v0: manifest unknown\n  try: *", 1, "="),
    # a reference that breaks the grammar
    ("bad reference", "run UPPER", UPPER, 125, "="),
    ("bad reference", "create UPPER", UPPER, 1, "="),
    ("bad reference", "pull UPPER", UPPER, 1, "="),
    ("bad reference", "push UPPER", UPPER, 1, "="),
    ("bad reference", "save -o {here}/x.tar UPPER", UPPER, 1, "="),
    ("bad reference", "tag bb UPPER", UPPER, 1, "="),
    ("bad reference", "tag UPPER other", UPPER, 1, "="),
    ("bad reference", "rmi UPPER", UPPER, 1, "="),
    ("bad reference", "history UPPER", UPPER, 1, "="),
    ("bad reference", "image inspect UPPER", "no such object: UPPER\n  try: *", 1, "="),
    ("bad reference", "import {here}/tree.tar UPPER", UPPER, 1, "="),
    ("bad reference", "unpack UPPER {here}/x", UPPER, 1, ""),
    ("bad reference", "build -t UPPER {here}/good", "--tag: " + UPPER, 125, "="),
    ("bad reference", "build {here}/from-upper", "Dockerfile:1: " + UPPER, 1, "="),
    ("bad reference", "pull {up}/x:tag:tag", "invalid reference '{up}/x:tag:tag': *\n  try: *", 1, "="),
    ("bad reference", "pull {up}/x@sha256:beef", "invalid reference '{up}/x@sha256:beef': *\n  try: *", 1, "="),
    # a Dockerfile that does not parse, and what it names and is not there
    ("Dockerfile", "build {here}/unknown-instruction", "Dockerfile:3: unknown instruction: COPI (did you mean COPY?)", 1, "="),
    ("Dockerfile", "build {here}/one-argument", "Dockerfile:2: COPY requires at least two arguments, *", 1, "="),
    ("Dockerfile", "build {here}/bad-json", "Dockerfile:2: SHELL requires the arguments to be in JSON form\n  try: *", 1, "="),
    ("Dockerfile", "build {here}/no-stage", "Dockerfile:1: no build stage before RUN\n  try: start with FROM IMAGE", 1, "="),
    ("Dockerfile", "build {here}/empty", "Dockerfile: file with no instructions\n  try: start it with FROM IMAGE", 1, "="),
    ("Dockerfile", "build -f {here}/unknown-instruction/Dockerfile {here}/good", "*Dockerfile:3: unknown instruction: COPI (did *", 1, ""),
    ("Dockerfile", "build {here}/none", "{here}/none/Dockerfile not found\n  try: name the Dockerfile by -f FILE", 1, "="),
    ("Dockerfile", "build {here}/nowhere", "build context '{here}/nowhere' not found", 1, "="),
    ("missing file in COPY", "build {here}/copy-missing", "Dockerfile:2: COPY nope: not in the build context\n  try: *", 1, "="),
    ("missing file in COPY", "build {here}/copy-from-missing", "Dockerfile:4: COPY nope: not in *\n  try: *", 1, "="),
    # a port that is taken (docker has no network here: its status is measured)
    ("port in use", f"run --rm {PUBLISH} bb true", BUSY, 125, ""),
    ("port in use", "registry serve --root {here}/x --listen 127.0.0.1:{busy}", BUSY, 1, ""),
    # a registry that does not answer
    ("registry down", "run {down}/x", REFUSED, 125, "="),
    ("registry down", "create {down}/x", REFUSED, 1, "="),
    ("registry down", "pull {down}/x", REFUSED, 1, "="),
    ("registry down", "pull -a {down}/x", REFUSED, 1, "="),
    ("registry down", "push {down}/x:v0", REFUSED, 1, "="),
    ("registry down", "login -u me -p secret {down}", REFUSED, 1, "="),
    ("registry down", "build {here}/from-down", "*" + REFUSED, 1, "="),
    ("registry down", "unpack docker://{down}/x {here}/x", REFUSED, 1, ""),
    # bytes that are not what their digest says
    ("digest mismatch", "run {bad}/x:v0", DAMAGED, 125, "="),
    ("digest mismatch", "create {bad}/x:v0", DAMAGED, 1, "="),
    ("digest mismatch", "pull {bad}/x:v0", DAMAGED, 1, "="),
    ("digest mismatch", "build {here}/from-bad", DAMAGED, 1, "="),
    ("digest mismatch", "load -i {here}/damaged.tar", DAMAGED, 1, "="),
    ("digest mismatch", "load -i {here}/damaged", DAMAGED, 1, ""),
    ("digest mismatch", "unpack oci:{here}/damaged:v0 {here}/x", DAMAGED, 1, ""),
    ("digest mismatch", "unpack docker://{bad}/x:v0 {here}/x", DAMAGED, 1, ""),
    # files that are not there, or are something else
    ("file", "load -i {here}/nowhere", "{here}/nowhere: no such file", 1, "="),
    ("file", "load -i {here}/text", "{here}/text: not a tar file: *", 1, "="),
    ("file", "import {here}/nowhere x", "open {here}/nowhere: No such file or directory", 1, "="),
    ("file", "import {here}/text x", "{here}/text: not a root file system's tar: *\n  try: *", 1, ""),
    ("file", "save -o {here}/nowhere/x bb", "*{here}/nowhere*: No such file or directory", 1, ""),
    ("file", "run --env-file {here}/nowhere bb", "--env-file: {here}/nowhere: No such file or directory", 125, "="),
    ("file", "run --cidfile {here}/nowhere/id bb true", "*{here}/nowhere*: No such file or directory", 125, ""),  # docker: 127, by chance
    ("file", "unpack bb {here}/nowhere/x", "there is no directory {here}/nowhere\n  try: mkdir -p {here}/nowhere", 1, ""),
    ("file", "unpack bb {here}/good", "{here}/good is there already\n  try: choose another directory", 1, ""),
    # a container that is not there
    *(
        ("unknown container", words, NO_CONTAINER, 1, "=")
        for words in (
            "start nosuch", "stop nosuch", "restart nosuch", "kill nosuch", "rm nosuch", "wait nosuch", "port nosuch",
            "rename nosuch other", "logs nosuch", "exec nosuch true", "export nosuch",
        )
    ),
    ("unknown container", "run --rm --network container:nosuch bb true", NO_CONTAINER, 125, "="),
    # a flag's grammar
    ("flag", "create --memory x bb", "--memory: 'x' is not a size\n  try: *", 125, "="),
    ("flag", "create -p 1:2:3:4:5 bb", "--publish 1:2:3:4:5: an IPv6 address stands in [ ]\n  try: *", 125, "="),
    # networks
    ("unknown network", "network inspect nosuch", "no network nosuch\n  try: list them: veloci network ls", 1, "="),
    ("unknown network", "network rm nosuch", "no network nosuch\n  try: list them: veloci network ls", 1, "="),
    ("unknown network", "run --rm --network nosuch bb true", "network nosuch not found\n  try: veloci network create nosuch", 125, "="),
    ("network", "network create --subnet nonsense x", "--subnet: 'nonsense' is not an address with a prefix\n  try: *", 1, ""),
    ("network", "network bridge vtbad --address nonsense", "--address: 'nonsense' is not an address with a prefix\n  try: *", 1, ""),
    ("network", "network bridge a-name-that-is-too-long", "bridge: 'a-name-that-is-too-long' has 23 bytes; *", 1, ""),
    ("network", "network bridge vtnone --rm", "no bridge vtnone\n  try: make it: *", 1, ""),
    ("network", "network namespace vtnone --rm", "no network namespace /run/netns/vtnone\n  try: make one: *", 1, ""),
    ("network", "network attach vtnone vtnone --address 10.0.0.2/24", "no network namespace /run/netns/vtnone\n  try: *", 1, ""),
    ("network", "network detach vtnone vtnone", "no network namespace /run/netns/vtnone\n  try: *", 1, ""),
    ("network", "network show vtnone", "no network namespace /run/netns/vtnone\n  try: *", 1, ""),
    # words that no command takes
    *(
        ("misuse", f"{command} --nonsense x", f"--nonsense: unknown option\n  try: veloci {command} --help", 125, "=")
        for command in (
            "run create start stop restart kill rm wait port rename logs exec export ps images history tag rmi import "
            "inspect save load pull push build login logout version"
        ).split()
    ),
    *(
        ("misuse", command, f"{command}: takes *\n  try: veloci {command} --help", 1, "=")
        for command in (
            "run", "create", "start", "stop", "restart", "kill", "rm", "wait", "port", "rename", "logs", "exec",
            "export", "history", "tag", "rmi", "inspect", "pull", "network create", "network rm", "network inspect",
        )
    ),
    ("misuse", "nonsense", "no command 'nonsense'\n  try: veloci --help", 1, "="),
    ("misuse", "network nonsense", "no command 'network nonsense'\n  try: veloci --help", 1, "="),
    ("misuse", "--nonsense", "--nonsense: unknown option\n  try: veloci --help", 125, "="),
    ("misuse", "run --name", "--name: flag needs an argument\n  try: veloci run --help", 125, "="),
    ("misuse", "stop -t soon bb", "-t: 'soon' is not a whole number", 125, "="),
    ("misuse", "run --memory much bb", "--memory: 'much' is not a size\n  try: *", 125, "="),
    ("misuse", "run -p nonsense bb", "--publish nonsense: 'nonsense' is not a container port\n  try: *", 125, "="),
    ("misuse", "run --rm --user nosuch bb true", "--user: unable to find user nosuch: *\n  try: *", 125, "="),
    ("misuse", "run --rm --runtime nosuch bb true", "--runtime: no runtime 'nosuch'\n  try: *", 125, "="),
    ("misuse", "run --cap-add NOSUCH bb true", "--cap-add: unknown capability 'NOSUCH'\n  try: *", 125, "="),
    ("misuse", "run --restart nosuch bb true", "--restart: 'nosuch' is not a restart policy\n  try: *", 125, "="),
    ("misuse", "run --stop-signal NOSUCH bb true", "--stop-signal: unknown signal 'NOSUCH'\n  try: *", 125, "="),
    ("misuse", "run --dns nosuch bb true", "--dns: 'nosuch' is not an address", 125, "="),
    ("misuse", "run --add-host nosuch bb true", "--add-host: 'nosuch' is not a host\n  try: NAME:ADDRESS", 125, "="),
    ("misuse", "run --shm-size nosuch bb true", "--shm-size: 'nosuch' is not a size\n  try: *", 125, "="),
    ("misuse", "run --shm-size -1 bb true", "--shm-size: '-1' is not a size\n  try: *", 125, "="),
    ("misuse", "run -w relative bb true", "--workdir: the working directory 'relative' is invalid, *", 125, "="),
    ("misuse", "run --name !bad bb true", "invalid container name '!bad'\n  try: *", 125, "="),
    ("misuse", "run --mount type=bind,src={here}/nowhere,dst=/x bb true", "--mount: bind source path does not exist: {here}/nowhere", 125, "="),
    ("misuse", "run -v a:b:c:d bb true", "--volume: 'a:b:c:d' is not a volume\n  try: *", 125, "="),
    ("misuse", "kill -s NOSUCH nosuch", "*unknown signal 'NOSUCH'\n  try: *", 1, "="),
    ("misuse", "ps --filter nonsense", "--filter: *'nonsense'*\n  try: *", 125, "="),
    ("misuse", "images --filter nonsense", "--filter: *'nonsense'*\n  try: *", 125, "="),
    ("misuse", "ps --format {{{{", "template parsing error: template: *", 1, "="),
    ("a program that is not there", "run --rm --network none bb nosuch", 'exec: "nosuch": executable file not found in $PATH', 127, "="),
    ("a program that cannot run", "run --rm --network none bb /bin", 'exec: "/bin": permission denied', 126, "="),
]  # fmt: skip

SKOPEOS = [
    ("unknown image", "oci:{here}/layout:nosuch dir:{here}/x", "{here}/layout: no image is named 'nosuch'\n  try: it has v0"),
    ("unknown image", "docker://{up}/nope:v0 dir:{here}/x", UNKNOWN_TAG),
    ("unknown place", "oci:{here}/nowhere:v0 dir:{here}/x", "{here}/nowhere: there is no OCI image layout (no index.json)"),
    ("unknown place", "oci-archive:{here}/nowhere dir:{here}/x", "{here}/nowhere: no such file"),
    ("unknown place", "docker-archive:{here}/text dir:{here}/x", "{here}/text: not a tar file: *"),
    ("unknown place", "dir:{here}/good dir:{here}/x", "{here}/good: there is no image (no manifest.json)"),
    ("unknown place", "nosuch:x dir:{here}/x", "no such image: nosuch:x\n  try: *"),
    ("unknown place", "oci:{here}/layout:v0 nosuch://x", "'nosuch://x' names no kind of place\n  try: one of docker:// oci: *"),
    ("bad reference", "docker://UPPER dir:{here}/x", UPPER),
    ("bad reference", "oci:{here}/layout:v0 docker://{up}/UPPER", "invalid reference '{up}/UPPER': *\n  try: *"),
    ("registry down", "docker://{down}/x dir:{here}/x", REFUSED),
    ("registry down", "oci:{here}/layout:v0 docker://{down}/x", REFUSED),
    ("digest mismatch", "docker://{bad}/x:v0 dir:{here}/x", DAMAGED),
    ("digest mismatch", "docker://{bad}/x:v0 oci:{here}/x:v0", DAMAGED),
    ("digest mismatch", "docker://{bad}/x:v0 docker-archive:{here}/x", DAMAGED),
    ("digest mismatch", "oci:{here}/damaged:v0 dir:{here}/x", DAMAGED),
    ("digest mismatch", "oci:{here}/damaged:v0 docker://{up}/damaged:v0", "* the upload's digest is sha256:*, not sha256:*\n  try: the copy here is damaged; fetch it again"),
    ("malformed manifest", "oci:{here}/malformed:v0 dir:{here}/x", "manifest *: $*"),
    ("file", "oci:{here}/layout:v0 docker-archive:{here}/text/x:v0", "*{here}/text*: Not a directory"),
]  # fmt: skip

FAILED = "veloci-runtime run failed: config.json: "
ANOTHER = '{"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"%s"},"mounts":[{"destination":"/dev","type":"tmpfs","source":"dev"}],"linux":{"namespaces":[{"type":"mount"}%s]}}'
RUNCS = [
    ("malformed config.json", "run --bundle {bundle} x", "{", FAILED + "not JSON: Expecting property name *"),
    ("malformed config.json", "run --bundle {bundle} x", "[]", FAILED + "$: expected an object, got []"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER.replace('["true"]', '"true"') % ("rootfs", ""), FAILED + "$.process.args: expected *"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER.replace('"/"', '"relative"') % ("rootfs", ""), FAILED + "$.process.cwd: 'relative' is not an absolute path"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER.replace('["true"]', "[]") % ("rootfs", ""), FAILED + "$.process.args: *"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER % ("nowhere", ""), FAILED + "$.root.path: invalid rootfs: {bundle}/nowhere is no directory"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER % ("rootfs", ',{"type":"nosuch"}'), FAILED + "$.linux.namespaces[1].type: expected one of *"),
    ("malformed config.json", "run --bundle {bundle} x", ANOTHER % ("rootfs", ',{"type":"network","path":"/nowhere"}'), FAILED + "$.linux.namespaces[1]*/nowhere*"),
    ("malformed config.json", "create --bundle {bundle} x", "{", "veloci-runtime create failed: config.json: not JSON: *"),
    ("no config.json", "run --bundle {bundle}/rootfs x", "{}", "veloci-runtime run failed: JSON specification file {bundle}/rootfs/config.json not found\n  try: veloci-runtime spec makes one"),
    ("no bundle", "run --bundle {bundle}/nowhere x", "{}", "veloci-runtime run failed: JSON specification file {bundle}/nowhere/config.json not found\n  try: veloci-runtime spec makes one"),
    ("unknown program", "run --bundle {bundle} x", ANOTHER % ("rootfs", ""), 'veloci-runtime run failed: unable to start container process: exec: "true": executable file not found in $PATH'),
    ("bad id", "run --bundle {bundle} bad/id", ANOTHER % ("rootfs", ""), "veloci-runtime run failed: invalid container ID format: 'bad/id'\n  try: use letters, digits, _ + - and ."),
    ("file", "run --bundle {bundle} --console-socket {bundle}/nowhere x", ANOTHER % ("rootfs", ""), "veloci-runtime run failed: cannot use console socket if veloci-runtime will not detach or allocate tty"),
    ("file", "spec --bundle {bundle}/nowhere", "{}", "{bundle}/nowhere/config.json: No such file or directory"),
    ("file", "spec --bundle {bundle}", "{}", "File {bundle}/config.json exists. Remove it first"),
    ("file", "--log {bundle}/nowhere/log list", "{}", "{bundle}/nowhere/log: No such file or directory"),
    ("file", "update -r {bundle}/nowhere nosuch", "{}", "*"),
    *(("unknown container", f"{verb} nosuch", "{}", "container does not exist") for verb in "state start kill delete pause resume ps update".split()),
    ("unknown container", "exec nosuch true", "{}", "exec failed: container does not exist"),
    *(("misuse", f"{verb} --nonsense", "{}", "--nonsense: unknown option\n  try: veloci-runtime * --help") for verb in "state start kill delete pause resume ps update list spec".split()),
    *(("misuse", verb, "{}", f"{verb}: takes *\n  try: veloci-runtime {verb} --help") for verb in "state start kill delete pause resume ps update".split()),
    ("misuse", "nonsense", "{}", "No help topic for 'nonsense'\n  try: veloci-runtime --help"),
    ("misuse", "--nonsense list", "{}", "--nonsense: unknown option\n  try: veloci-runtime --help"),
    ("misuse", "list --format nonsense", "{}", "--format: invalid format option\n  try: table or json"),
]  # fmt: skip


def pattern(text, **values):
    """A message in which * is anything on one line and {name} one of `values`, as a regular expression."""
    return re.escape(text.format(**values)).replace(r"\*", ".*")


DOCKERFILES = {
    "good": "FROM scratch\nCOPY Dockerfile /\n",
    "unknown-instruction": "FROM scratch\n\nCOPI a b\n",
    "one-argument": "FROM scratch\nCOPY a\n",
    "bad-json": "FROM scratch\nSHELL /bin/sh\n",
    "no-stage": "RUN true\n",
    "empty": "",
    "copy-missing": "FROM scratch\nCOPY nope /\n",
    "copy-from-missing": "FROM bb AS base\n\nFROM scratch\nCOPY --from=base nope /\n",
    "from-upper": "FROM UPPER\n",
    "from-unknown": "FROM {up}/nope:v0\n",
    "from-down": "FROM {down}/x\n",
    "from-bad": "FROM {bad}/x:v0\n",
}


class World:
    """A store with an image, what is wrong beside it, and what commands leave of it."""

    def __init__(self, here, leaks, **places):
        self.here, self.leaks, self.places = here, leaks, {"here": here, "bundle": here / "bundle", **places}
        self.environment = os.environ | {
            "VELOCI_ROOT": str(here / "data"),
            "VELOCI_RUN": str(here / "run"),
            "DOCKER_CONFIG": str(here / "docker-config"),
            "DOCKER_BUILDKIT": "0",
            "HOME": str(here),
        }

    def run(self, *words, cwd=None):
        return subprocess.run(
            [str(word) for word in words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=LIMIT, cwd=cwd,
        )  # fmt: skip

    def words(self, text):
        return text.format(**self.places).split(" ")

    def traces(self):
        """The files below our roots but whole blobs, and what of the host names us or is in this network namespace."""
        state = self.leaks.state()
        state["links"] = {name for _, name in socket.if_nameindex()}
        state["network namespaces"] = {name for name in state["network namespaces"] if name.startswith("vt")}
        state["mounts"] = {line for line in state["mounts"] if "veloci" in line or str(self.here) in line}
        # Another's group may come and go; one of ours that is left has no process.
        state["cgroups"] = {path for path in state["cgroups"] if "/veloci-" in path and not pids(path)}
        state["files"] = {str(path) for path in self.here.rglob("*") if not path.is_dir() and not verified(path)}
        return state

    def left(self, before):
        """What is there now and was not, and the other way round; the kernel may take a moment to let go."""
        for _ in range(20):
            if not (found := self.leaks.changes(before, self.traces())):
                break
            time.sleep(0.05)
        return found

    def judged(self, program, words, message, status):
        """Run it; its message, its status, and that nothing is left."""
        shutil.rmtree(self.here / "x", ignore_errors=True)
        before = self.traces()
        done = self.run(PROGRAMS / program, *self.words(words))
        said = "\n".join(line for line in done.stderr.splitlines() if not PROGRESS.match(line))
        whole = message if message.startswith(f"{program} ") else f"{program}: {message}"
        fits = re.fullmatch(pattern(whole, **self.places), said) is not None
        assert fits, done.stderr
        assert done.returncode == status
        assert self.left(before) == []


def verified(path):
    """Whether it is a blob that is what its name says: the next attempt begins with it, or a collection removes it."""
    return len(path.name) == 64 and digest(path.read_bytes()) == f"sha256:{path.name}"


def pids(group):
    try:
        return (Path(group) / "cgroup.procs").read_text()
    except OSError:
        return ""  # gone, or of a threaded kind


@contextlib.contextmanager
def port(*, listening):
    """A loopback address that is taken: something listens there, or nothing does and nothing else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        yield taken.getsockname()[1]


def furnish(world):
    """What the cases name below `here`."""
    here = world.here
    for name, text in DOCKERFILES.items():
        (here / name).mkdir()
        (here / name / "Dockerfile").write_text(text.format(**world.places))
    (here / "none").mkdir()
    (here / "text").write_text("this is a text, and no archive of any kind\n" * 40)
    (here / "tree.tar").write_bytes(tar({"bin/busybox": Path("/bin/busybox").read_bytes()}))
    (here / "bundle/rootfs/dev").mkdir(parents=True)
    other = [tar({"a": b"other"}), tar({"b": os.urandom(3000)})]
    damaged = Built(here / "damaged", other)
    layer = here / "damaged/blobs/sha256" / digest(damaged.layers[1])[7:]
    layer.write_bytes(bytes(layer.stat().st_size))
    malformed = Built(here / "malformed")
    malformed.manifest = b'{"schemaVersion":2,"config":5,"layers":[]}'
    malformed.write([(malformed.manifest, malformed.document["mediaType"], "v0")])
    manifest = [{"Config": "config.json", "RepoTags": ["damaged:v0"], "Layers": ["0.tar", "1.tar"]}]
    archive = {"0.tar": other[0], "1.tar": tar({"b": b"bytes"}), "config.json": damaged.config}
    (here / "damaged.tar").write_bytes(tar({**archive, "manifest.json": json.dumps(manifest).encode()}))


def damaging(built):
    """A registry's answers that are right but for the layers' bytes."""

    def answer(request):
        if "manifests" in request.path:
            kind = built.document["mediaType"]
            return request.reply(200, built.manifest, Content_Type=kind, Docker_Content_Digest=digest(built.manifest))
        if digest(built.config) in request.path:
            return request.reply(200, built.config)
        for layer in built.layers:
            if digest(layer) in request.path:
                return request.reply(200, bytes(len(layer)))
        return request.reply(200, b"{}")

    return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory, leaks):
    here = tmp_path_factory.mktemp("bad")
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_network())
        Built(here / "layout", busybox())
        up, _ = stack.enter_context(Serving(here / "registry"))
        bad = stack.enter_context(Scripted(damaging(Built(here / "remote")))).address
        busy, down = (stack.enter_context(port(listening=each)) for each in (True, False))
        made = World(here, leaks, up=up, bad=bad, busy=busy, down=f"127.0.0.1:{down}")
        furnish(made)
        veloci = PROGRAMS / "veloci"
        for words in (
            "copy -q oci:{here}/layout:v0 bb", "tag bb {down}/x:v0", "tag bb {up}/bb:v0", "push -q {up}/bb:v0", "run --rm bb busybox true", "build -q {here}/good",
            "rmi {up}/bb:v0",
        ):  # fmt: skip
            done = made.run(veloci, *made.words(words))
            assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture(scope="module")
def docker(world, tmp_path_factory):
    """Docker's client, with an image of the same name in its daemon."""
    with Dockerd(tmp_path_factory.mktemp("dockerd")) as command:
        assert world.run(*command, "import", world.here / "tree.tar", "bb").returncode == 0
        assert world.run(*command, "tag", "bb", f"{world.places['down']}/x:v0").returncode == 0
        yield command


@pytest.mark.parametrize(("kind", "words", "message", "status", "peer"), DOCKERS, ids=[case[1] for case in DOCKERS])
def test_a_command_says_what_is_wrong(world, kind, words, message, status, peer):
    world.judged("veloci", words, message, status)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("help", "version", "registry serve")])
def test_no_command_loses_its_countenance(world, command, tmp_path):
    """Whatever it makes of a word that nothing is called, and of two: its own lines, or success."""
    for words in (["nosuch"], ["nosuch", "x"]):
        done = world.run(PROGRAMS / "veloci", *command.split(), *words, cwd=tmp_path)
        lines = [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]
        assert [line for line in lines if not line.startswith(("veloci: ", "  try: "))] == []
        assert done.returncode in (0, 1, 125)
    if command in ("network namespace", "network bridge"):  # which make what has the name
        world.run(PROGRAMS / "veloci", *command.split(), "nosuch", "--rm")


@pytest.mark.needs("docker", "dockerd")
@pytest.mark.parametrize(("words", "status"), [(case[1], case[3]) for case in DOCKERS if case[4]])
def test_its_exit_status_is_dockers(world, docker, words, status):
    done = world.run(*docker, *world.words(words))
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize(("kind", "words", "message"), SKOPEOS, ids=[case[1] for case in SKOPEOS])
def test_copy_says_what_is_wrong(world, kind, words, message):
    world.judged("veloci", f"copy -q {words}", message, 1)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("words", [case[1] for case in SKOPEOS])
def test_skopeo_refuses_it_too(world, words, tmp_path):
    where = {**world.places, "here": world.here}
    target = words.replace("{here}/x", f"{tmp_path}/x").format(**where)
    done = world.run(*"skopeo copy --src-tls-verify=false --dest-tls-verify=false".split(), *target.split(" "))
    assert done.returncode == 1, done.stderr


@pytest.mark.parametrize(("kind", "words", "config", "message"), RUNCS, ids=[case[1] for case in RUNCS])
def test_the_runtime_says_what_is_wrong(world, kind, words, config, message):
    (world.here / "bundle/config.json").write_text(config)
    status = 255 if words.startswith("exec") else 3 if words == "nonsense" else 1
    (world.here / "runtime").mkdir(exist_ok=True)
    world.judged("veloci-runtime", f"--root {world.here}/runtime {words}", message, status)


@pytest.mark.needs("runc")
@pytest.mark.parametrize(("words", "config"), [case[1:3] for case in RUNCS], ids=[case[1] for case in RUNCS])
def test_its_exit_status_is_runcs(world, words, config):
    (world.here / "bundle/config.json").write_text(config)
    done = world.run("runc", "--root", world.here / "runc", *world.words(words))
    status = 255 if words.startswith("exec") else 3 if words == "nonsense" else 1
    assert done.returncode == status, done.stderr
