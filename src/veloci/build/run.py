"""RUN: one process in a writable snapshot, with an environment built from nothing.

https://docs.docker.com/reference/dockerfile/#run
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from veloci.build import mounts, stubs
from veloci.build.cache import remove
from veloci.build.context import held
from veloci.build.execute import located
from veloci.build.graph import PROXIES
from veloci.build.run_mounts import Mounting, bound, origin, written
from veloci.bundle import hostfiles
from veloci.bundle.configure import configure
from veloci.bundle.options import Options
from veloci.errors import Denied, InvalidInput
from veloci.spec.image import ImageConfig, RootFs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from veloci.build.cache import Layer
    from veloci.build.execute import Shown
    from veloci.build.instructions import Instruction
    from veloci.build.mounts import Wanted
    from veloci.build.parts import Options as BuildOptions
    from veloci.build.run_mounts import Origin
    from veloci.build.steps import Steps

    Json = dict[str, Any]

NETWORKS = {"default": "bridge", "bridge": "bridge", "host": "host", "none": "none"}


def run(steps: Steps, step: Instruction) -> None:
    """Add the layer of a RUN to the stage. Raises VelociError with its line."""
    build, stage = steps.build, steps.stage
    image = stage.configuration
    network = _allowed(step, build.options)
    args, script = _arguments(step, image.command(step))
    wanted = mounts.wanted(step, image)
    title = steps.title(step)
    environment = image.arguments | image.environment
    with ExitStack() as stack:
        origins = [origin(steps, step, want, stack) for want in wanted]

        def key(shown: Shown) -> str:
            with located(step):
                digests = [one.digest(shown) for one in origins if one]
            what = [
                args, script, sorted(environment.items()), image.config.get("User") or "", image.workdir,
                NETWORKS[network], [want.effect() for want in wanted], digests,
            ]  # fmt: skip
            if step.flag("security") == "insecure":
                what.append("insecure")
            return build.key("RUN", stage.chain_id, *what)

        def make(shown: Shown) -> Layer:
            with located(step):
                _privileged()
            below = build.unpacked(stage, shown)
            with build.writable(below) as name:
                process = _Process(steps, step, name)
                process.run(args, script, list(zip(wanted, origins, strict=True)), network, shown.number)
                return build.taken(name, title, shown)

        declared = [f"{name}={value}" for name, value in image.arguments.items()]
        prefix = f"|{len(declared)} {' '.join(declared)} " if declared else ""
        image.note(f"RUN {prefix}{' '.join(image.command(step))}", empty=False)
        steps.add(title, key, make)


def _privileged() -> None:
    if os.geteuid() != 0:
        raise Denied("RUN needs root: it makes a container", hint="sudo veloci …")


def _allowed(step: Instruction, options: BuildOptions) -> str:
    """The step's network, if it and the step's security are what the user allows. Raises InvalidInput, Denied."""
    network = step.flag("network") or options.network
    if network not in NETWORKS:
        raise InvalidInput(f"unknown network mode {network!r}", where=step.where, hint="default, host or none")
    security = step.flag("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise InvalidInput(f"security {security!r} is not valid", where=step.where, hint="sandbox or insecure")
    wanted = {
        "network.host": network == "host" and options.network != "host",
        "security.insecure": security == "insecure",
    }
    for name, needed in wanted.items():
        if needed and name not in options.allow:
            raise Denied(f"{name} is not allowed", where=step.where, hint=f"veloci build --allow {name}")
    return network


def _arguments(step: Instruction, command: list[str]) -> tuple[list[str], str]:
    """The words to run, and the text of a script that is one of them (`RUN <<EOF` with `#!`)."""
    if not step.heredocs or step.json:
        return command, ""
    *shell, line = command
    first = step.heredocs[0]
    if line.strip() == first.word:
        if first.content.startswith("#!"):
            return [*shell, f"/dev/pipes/{first.name}"], first.text()
        return [*shell, first.text()], ""
    return [*shell, "\n".join([line, *(heredoc.content + heredoc.name for heredoc in step.heredocs)])], ""


class _Process:
    """One RUN on the snapshot `name`."""

    def __init__(self, steps: Steps, step: Instruction, name: str) -> None:
        self.steps, self.step, self.name = steps, step, name
        self.build, self.image = steps.build, steps.stage.configuration
        self.directory = f"{self.build.work}/{name}"

    def run(
        self, args: list[str], script: str, wanted: list[tuple[Wanted, Origin | None]], network: str, number: int
    ) -> None:
        """Run it. Raises InvalidInput for an exit status other than 0."""
        os.mkdir(self.directory, 0o700)
        mode = NETWORKS[network]
        private = f"{self.build.parts.private}/{self.build.token}/{self.name}"
        with ExitStack() as stack:
            stack.callback(remove, private)
            mounting = Mounting(self.steps, self.step, number, self.directory, private, stack)
            mounting.add(wanted)
            listed = [*self._host_files(mode), *self._script(args, script), *mounting.listed]
            config = self._config(args, listed, mode, mounting.environment)
            places = [(mount["destination"], _is_directory(mount)) for mount in config["mounts"]]
            stack.enter_context(self._stubs(places))
            status = self.build.parts.run_step(
                self.name,
                config,
                bundle=f"{self.directory}/bundle",
                output=lambda data: self.build.parts.progress.output(number, data),
                network=mode,
                views=mounting.views,
            )
        if status:
            raise InvalidInput(f"{self.step.text}: exit status {status}", where=self.step.where, exit_status=1)

    @contextmanager
    def _stubs(self, places: list[tuple[str, bool]]) -> Iterator[None]:
        """What is mounted on, there as long as the process runs."""
        with held(self.build.parts.snapshots.mount(self.name)) as root:
            made = stubs.make(root, places)
        try:
            yield
        finally:
            with held(self.build.parts.snapshots.mount(self.name)) as root:
                stubs.remove(root, made)

    def _config(self, args: list[str], listed: list[Json], mode: str, more: list[str]) -> Json:
        from veloci.build.steps import accounts

        proxies = {name: value for name, value in self.build.options.arguments.items() if name in PROXIES}
        environment = proxies | self.image.arguments | self.image.environment
        options = Options(
            args=tuple(args),
            entrypoint=(),
            env=(*(f"{name}={value}" for name, value in environment.items()), *more),
            user=self.image.config.get("User") or "",
            workdir=self.image.workdir,
            hostname="build",
            mounts=tuple(listed),
            shm_size=self.build.options.shm_size,
            rlimits=self.build.options.ulimits,
            cgroup_parent=self.build.options.cgroup_parent,
            privileged=self.step.flag("security") == "insecure",
            namespaces={"network": "host"} if mode == "host" else {},
        )
        empty = ImageConfig(architecture=self.build.platform.architecture, os="linux", rootfs=RootFs(type="layers"))
        with held(self.build.parts.snapshots.mount(self.name)) as root:
            passwd, group = accounts(root)
        return configure(empty, options, id=self.name, passwd=passwd, group=group)

    def _host_files(self, mode: str) -> list[Json]:
        """resolv.conf and hosts, bound over the image's."""
        own = mode != "host"
        resolv = hostfiles.resolv(_read("/etc/resolv.conf"), own_network=own)
        base = "" if own else _read("/etc/hosts")
        mine = [] if mode == "host" else [("127.0.0.1", "build")]
        hosts = hostfiles.hosts([*mine, *self.build.options.hosts], base=base)
        return [
            bound(written(f"{self.directory}/resolv.conf", resolv.encode(), 0o644), "/etc/resolv.conf", "ro"),
            bound(written(f"{self.directory}/hosts", hosts.encode(), 0o644), "/etc/hosts", "ro"),
        ]

    def _script(self, args: list[str], script: str) -> list[Json]:
        if not script:
            return []
        return [bound(written(f"{self.directory}/script", script.encode(), 0o755), args[-1], "ro")]


def _is_directory(mount: Json) -> bool:
    bind = mount.get("type") == "bind" or "bind" in mount.get("options", ()) or "rbind" in mount.get("options", ())
    return not bind or os.path.isdir(mount["source"])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
