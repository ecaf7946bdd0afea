"""The whole path, once: from a Dockerfile to `curl`, with veloci alone.

    make demo                      Java, from Debian's packages
    python demo.py --quick         the same steps with busybox, in seconds

Every step says what it does, shows the commands and their real output, checks the result,
and stops with an error if it is wrong. All state is in a directory of its own, which is
removed at the end; --keep leaves it. A step that fails leaves its files, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import host
from peers import LIMITS, docker, forget, hugetlb, podman

HERE = Path(__file__).resolve().parent
APP = "oci-demo-app:v0"


class Wrong(Exception):
    """A result is not what the step promised."""


class Demo:
    """The commands of one walk, in one working directory."""

    def __init__(self, work: Path, *, quick: bool) -> None:
        self.work, self.quick = work, quick
        self.processes: list[subprocess.Popen[bytes]] = []
        self.registry = f"127.0.0.1:{free_port()}"
        self.environment = os.environ | {
            "VELOCI_ROOT": str(work / "data"),
            "VELOCI_RUN": str(work / "run"),
            "PYTHONUNBUFFERED": "1",
        }

    def sh(self, command: str, *, expect: str = "", status: int = 0, show: bool = True) -> str:
        """Run `command` with the shell, show it and what it says. Raises Wrong.

        expect: what its output must contain. status: the exit status it must have.
        """
        print(f"\033[1m$ {command}\033[0m" if sys.stdout.isatty() else f"$ {command}", flush=True)
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        if show or done.returncode != status:
            print(text, end="" if text.endswith("\n") or not text else "\n", flush=True)
        if done.returncode != status:
            raise Wrong(f"`{command}` ended with status {done.returncode}, not {status}")
        if expect not in text:
            raise Wrong(f"`{command}` did not say {expect!r}")
        return text

    def start(self, command: str, ready: str) -> subprocess.Popen[bytes]:
        """Start a server in the background; wait until `ready`, a command, succeeds."""
        print(f"$ {command} &", flush=True)
        log = self.work / f"server-{len(self.processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command.split(), cwd=self.work, env=self.environment, stdout=out, stderr=out)
        self.processes.append(process)
        try:
            self.wait(ready)
        except Wrong:
            print(log.read_text())
            raise
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a server that `start` started."""
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        self.processes.remove(process)

    def wait(self, command: str, *, seconds: float = 30) -> None:
        """Try `command` until it succeeds. Raises Wrong."""
        end = time.monotonic() + seconds
        while subprocess.run(
            ["bash", "-c", command], cwd=self.work, env=self.environment, capture_output=True, check=False
        ).returncode:
            if time.monotonic() > end:
                raise Wrong(f"`{command}` did not succeed within {seconds:g} s")
            time.sleep(0.1)

    def curl(self, address: str) -> None:
        """Ask the service, once it listens."""
        self.wait(f"curl -fs --max-time 2 {address}/hello")
        self.sh(f"curl -s {address}/hello", expect="hello world")

    def give_up(self) -> None:
        """Take away what a step that failed may have left on the host: containers, wires, bridges."""
        for command in (
            "for id in $(veloci-runtime --root run/demo-runtime list -q); do"
            " veloci-runtime --root run/demo-runtime delete --force $id; done",
            "for id in $(veloci ps -aq); do veloci rm -f $id; done",
            "veloci network detach vlo-demo vlo-demo",
            "veloci network namespace vlo-demo --rm",
            "veloci network bridge vlo-demo --rm",
        ):
            subprocess.run(
                ["bash", "-c", command], cwd=self.work, env=self.environment, capture_output=True, check=False
            )

    def json(self, command: str) -> dict:
        """What `command` prints, as JSON."""
        return json.loads(self.sh(command, show=False))


def check(condition: object, message: str) -> None:
    """Stop the demo unless `condition` holds."""
    if not condition:
        raise Wrong(message)
    print(f"  ✓ {message}", flush=True)


def free_port() -> int:
    """A TCP port of the loopback that nothing uses now."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def base_images(demo: Demo) -> None:
    """Base images from nothing: a root file system made of Debian's packages becomes an image."""
    tree = demo.work / "busybox/bin"
    tree.mkdir(parents=True)
    shutil.copy("/bin/busybox", tree)
    for name in subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (tree / name).symlink_to("busybox")
    demo.sh("tar -C busybox -cf busybox.tar . && veloci import busybox.tar busybox", expect="sha256:")
    if demo.quick:
        return
    # The host's own sources and apt's settings travel, so that a mirror or a proxy of the host serves here too.
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
    kept = ("Acquire::Check-", "Acquire::http::Proxy ", "Acquire::https::Proxy ")
    options = "".join(f" --aptopt='{line.rstrip(';')}'" for line in settings if line.startswith(kept))
    sources = "/etc/apt/sources.list.d/debian.sources"
    where = sources if os.path.exists(sources) else ""
    demo.sh(f"mmdebstrap --quiet --variant=minbase{options} bookworm rootfs.tar {where}", show=False)
    demo.sh("veloci import rootfs.tar debian:12", expect="sha256:")
    demo.sh(f"veloci build -t jre:17 {HERE}/jre", show=False)
    demo.sh("veloci images", expect="jre")


def build(demo: Demo) -> None:
    """Build a Dockerfile of two stages; the second time every step comes from the cache."""
    context = HERE / ("quick" if demo.quick else "app")
    demo.sh(f"cat {context}/Dockerfile")
    demo.sh(f"veloci build -t {APP} {context}")
    again = demo.sh(f"veloci build -t {APP} {context}", expect="CACHED")
    steps = [line for line in again.splitlines() if "] RUN" in line or "] COPY" in line]
    check(steps and again.count("CACHED") >= len(steps), "the second build ran nothing")
    demo.sh("veloci images", expect="oci-demo-app")
    demo.sh(f"veloci history {APP}", expect="ENTRYPOINT")


def ship(demo: Demo) -> None:
    """An embedded registry: push, remove, pull back; a second push transfers nothing."""
    remote = f"{demo.registry}/{APP}"
    demo.start(
        f"veloci registry serve --root registry --listen {demo.registry}", f"curl -fs http://{demo.registry}/v2/"
    )
    demo.sh(f"veloci tag {APP} {remote}")
    demo.sh(f"veloci push {remote}", expect="digest: sha256:")
    before = demo.sh(f"veloci inspect --format '{{{{.Id}}}}' {remote}")
    demo.sh(f"veloci rmi {remote} {APP}", expect="Untagged")
    demo.sh(f"veloci inspect {APP}", status=1)
    demo.sh(f"veloci pull {remote}", expect="Downloaded newer image")
    check(demo.sh(f"veloci inspect --format '{{{{.Id}}}}' {remote}") == before, "the same image came back")
    again = demo.sh(f"veloci push {remote}", expect="Layer already exists")
    check("Pushed" not in again, "pushing again transferred nothing")
    demo.sh(f"veloci tag {remote} {APP}")


def archives(demo: Demo) -> None:
    """Docker's archive form, written and read; podman and docker read it, and we read theirs."""
    demo.sh(f"veloci save -o app.tar {APP}")
    demo.sh("tar -tf app.tar", expect="manifest.json")
    manifest = demo.json("tar -xOf app.tar manifest.json")[0]
    check({"Config", "RepoTags", "Layers"} <= manifest.keys(), "manifest.json names config, tags and layers")
    check(manifest["RepoTags"] == [APP], f"its tag is {APP}")
    demo.sh("tar -xOf app.tar repositories", expect="oci-demo-app")
    demo.sh("veloci load -i app.tar", expect=f"Loaded image: {APP}")
    demo.sh(f"{podman(demo)} load -i app.tar", expect="oci-demo-app:v0")
    demo.sh(f"{podman(demo)} save -o podman.tar {APP}", show=False)
    demo.sh("veloci load -i podman.tar", expect="Loaded image")


def export(demo: Demo) -> None:
    """The merged root file system of a container, as a tar."""
    container = demo.sh(f"veloci create {APP}").strip()
    demo.sh(f"veloci export {container} > rootfs-merged.tar")
    wanted = "www/hello" if demo.quick else "app.jar"
    demo.sh("tar -tf rootfs-merged.tar | wc -l")
    demo.sh(f"tar -tf rootfs-merged.tar | grep -x '\\(./\\)\\?{wanted}'", expect=wanted)
    demo.sh(f"veloci rm {container}")


def layout(demo: Demo) -> None:
    """From the registry to an OCI layout: index, manifest, config, layers."""
    remote = f"{demo.registry}/{APP}"
    demo.sh(f"veloci copy docker://{remote} oci:{APP}")
    demo.sh("find oci-demo-app -type f | sort")
    demo.sh("cat oci-demo-app/oci-layout", expect="imageLayoutVersion")
    index = demo.json("cat oci-demo-app/index.json")
    print(json.dumps(index, indent=2))
    top = index["manifests"][0]
    check(top["annotations"]["org.opencontainers.image.ref.name"] == "v0", "the index names the image v0")
    manifest = demo.json(f"cat oci-demo-app/blobs/{top['digest'].replace(':', '/')}")
    print(json.dumps(manifest, indent=2))
    config = demo.json(f"cat oci-demo-app/blobs/{manifest['config']['digest'].replace(':', '/')}")
    print(json.dumps(config["config"], indent=2))
    check(len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]), "one diff ID for each layer")
    print("The same image, pushed once more in Docker's form (v2, schema 2):")
    docker = f"{demo.registry}/oci-demo-docker:v0"
    demo.sh(f"veloci tag {APP} {docker} && veloci push --format docker {docker}", expect="digest: sha256:")
    media = "application/vnd.docker.distribution.manifest.v2+json"
    theirs = demo.json(f"curl -fs -H 'Accept: {media}' http://{demo.registry}/v2/oci-demo-docker/manifests/v0")
    for ours, docker_layer in zip(manifest["layers"], theirs["layers"], strict=True):
        for layer in (ours, docker_layer):
            print(f"  {layer['digest'][:19]}…  {layer['mediaType']}")
    check([x["digest"] for x in manifest["layers"]] == [x["digest"] for x in theirs["layers"]], "equal layers")
    check(theirs["mediaType"] == media, "other media types")
    demo.sh(f"skopeo inspect oci:{APP}", expect="Layers", show=False)
    check(True, "skopeo reads the layout")


def unpack(demo: Demo) -> None:
    """From the layout to a bundle: rootfs and a config.json made of the image's configuration."""
    demo.sh(f"veloci unpack oci:{APP} bundle")
    demo.sh("ls bundle bundle/rootfs")
    config = demo.json("cat bundle/config.json")
    print(json.dumps(config["process"], indent=2))
    expected = "httpd" if demo.quick else "java"
    check(config["process"]["args"][0] == expected, f"the process is the image's entrypoint, {expected}")


def run_bundle(demo: Demo) -> None:
    """Our OCI runtime, with runC's commands; a fresh network namespace holds only `lo`."""
    demo.sh("mkdir -p empty && cd empty && veloci-runtime spec && head -n 12 config.json", expect="ociVersion")
    runtime = "veloci-runtime --root run/demo-runtime"
    # The container keeps the streams it is given: a file, as a pipe would never end.
    demo.sh(f"{runtime} run -d --bundle bundle web < /dev/null > run.log 2>&1")
    demo.sh(f"{runtime} list", expect="running")
    state = demo.json(f"{runtime} state web")
    print(json.dumps(state, indent=2))
    check(state["status"] == "running" and state["pid"] > 0, "it runs")
    lines = demo.sh(f"{runtime} exec web cat /proc/net/dev", expect="lo:").splitlines()
    check(sum(":" in line for line in lines) == 1, "only lo is there")
    demo.sh(f"{runtime} kill web KILL")
    demo.wait(f"{runtime} state web | grep -q stopped")
    demo.sh(f"{runtime} delete web")
    demo.sh(f"{runtime} list")
    demo.sh(f"{runtime} state web", status=1, expect="does not exist")


def two_phases(demo: Demo) -> None:
    """Create, then the network, then start; then a second bundle in the same network namespace: a pod."""
    runtime = "veloci-runtime --root run/demo-runtime"
    demo.sh("veloci network bridge vlo-demo --address 10.200.0.1/24")
    namespace = demo.sh("veloci network namespace vlo-demo").strip().splitlines()[-1]
    join(demo.work / "bundle/config.json", namespace)
    demo.sh(f"{runtime} create --bundle bundle web < /dev/null > web.log 2>&1")
    check(demo.json(f"{runtime} state web")["status"] == "created", "created, and not started")
    demo.sh("veloci network attach vlo-demo vlo-demo --address 10.200.0.2/24 --gateway 10.200.0.1")
    demo.sh("veloci network show vlo-demo", expect="10.200.0.2/24")
    demo.sh(f"{runtime} start web")
    demo.curl("10.200.0.2:8000")
    print("A second bundle shares the namespace, and reaches the service on localhost:")
    demo.sh("veloci unpack busybox pod")
    join(demo.work / "pod/config.json", namespace, ["wget", "-qO-", "http://127.0.0.1:8000/hello"])
    demo.sh(f"{runtime} run --bundle pod second", expect="hello world")
    demo.sh(f"{runtime} delete --force web")
    demo.sh("veloci network detach vlo-demo vlo-demo")
    demo.sh("veloci network namespace vlo-demo --rm && veloci network bridge vlo-demo --rm")


def join(path: Path, namespace: str, args: list[str] | None = None) -> None:
    """Write the namespace's path, and perhaps another command, into a config.json."""
    config = json.loads(path.read_text())
    for entry in config["linux"]["namespaces"]:
        if entry["type"] == "network":
            entry["path"] = namespace
    # They belong to a new network namespace; this one is shared.
    config["linux"].pop("sysctl", None)
    if args:
        config["process"]["args"] = args
    path.write_text(json.dumps(config, indent=2))
    print(f"  {path.parent.name}/{path.name}: the network namespace is {namespace}")


def one_command(demo: Demo) -> None:
    """All of it by one command, as with docker."""
    port = free_port() if demo.quick else 8000
    demo.sh(f"veloci run -d --name web -p {port}:8000 {APP}")
    demo.curl(f"127.0.0.1:{port}")
    demo.sh("veloci ps", expect=f"{port}->8000/tcp")
    demo.sh("veloci logs web", expect="" if demo.quick else "listening on 8000")
    demo.sh("veloci exec web cat /etc/hostname")
    demo.sh("veloci inspect --format '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web", expect="running")
    demo.sh("veloci stop -t 3 web", expect="web")
    demo.sh("veloci rm web", expect="web")
    demo.sh("veloci ps -a")


def any_runtime(demo: Demo) -> None:
    """The same run with other OCI runtimes, and our runtime under podman and docker."""
    with hugetlb():
        for name in ("runc", "crun"):
            demo.sh(f"veloci run --rm --runtime {name} busybox echo hello from {name}", expect=f"hello from {name}")
    # Debian's runsc takes new kernels' network namespaces for the host's, and refuses them.
    demo.sh("veloci run --rm --network none --runtime runsc busybox echo hello from runsc", expect="hello from runsc")
    ours = shutil.which("veloci-runtime", path=demo.environment["PATH"])
    demo.sh(f"veloci save -o busybox-image.tar busybox && {podman(demo)} load -i busybox-image.tar", show=False)
    demo.sh(
        f"{podman(demo)} --runtime {ours} run --rm --network none {LIMITS} busybox echo hello under podman",
        expect="hello under podman",
    )
    with docker(demo, ours) as client:
        demo.sh(f"{client} load -i busybox-image.tar", expect="Loaded image")
        demo.sh(
            f"{client} run --rm --network none --runtime veloci busybox echo hello under docker",
            expect="hello under docker",
        )
        demo.sh(
            f"{client} load -i app.tar && {client} save -o docker.tar {APP} && veloci load -i docker.tar",
            expect="Loaded image",
        )


STEPS = [
    base_images, build, ship, archives, export, layout, unpack, run_bundle, two_phases, one_command, any_runtime,
]  # fmt: skip


def main(words: list[str]) -> int:
    """Walk the steps. Returns the exit status."""
    if os.geteuid() != 0:
        print("demo: needs root: namespaces, mounts and bridges are made", file=sys.stderr)
        return 1
    before = host.state()
    work = Path(tempfile.mkdtemp(prefix="veloci-demo-"))
    demo = Demo(work, quick="--quick" in words)
    try:
        for number, step in enumerate(STEPS, 1):
            print(f"\n== {number}. {step.__doc__}", flush=True)
            step(demo)
    except Wrong as error:
        print(f"demo: step {number} failed: {error}\ndemo: what it made is in {work}", file=sys.stderr)
        demo.give_up()
        return 1
    finally:
        for process in reversed(demo.processes):
            process.terminate()
            process.wait()
    if "--keep" not in words:
        clean(demo)
        forget(before["cgroups"], host.state()["cgroups"])
    left = host.changes(before, host.state())
    print("\n== What is left behind:", *(left or ["nothing"]), sep="\n  ")
    return 1 if left and "--keep" not in words else 0


def clean(demo: Demo) -> None:
    """Remove what the peers and the demo made."""
    subprocess.run(f"{podman(demo)} system reset --force".split(), capture_output=True, check=False)
    shutil.rmtree(demo.work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
