"""RUN: one process in a writable snapshot, with an environment built from nothing.

https://docs.docker.com/reference/dockerfile/#run
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from veloci.build import mounts, stubs
from veloci.build.cache import remove
from veloci.build.context import held
from veloci.build.copy import Target
from veloci.build.execute import located
from veloci.build.graph import PROXIES
from veloci.bundle import hostfiles
from veloci.bundle.configure import configure
from veloci.bundle.options import Options
from veloci.errors import InvalidInput, NotFound
from veloci.spec.image import ImageConfig, RootFs

if TYPE_CHECKING:
    from typing import Any

    from veloci.build.cache import Layer
    from veloci.build.context import Tree
    from veloci.build.execute import Shown
    from veloci.build.instructions import Instruction
    from veloci.build.mounts import Wanted
    from veloci.build.steps import Steps

    Json = dict[str, Any]

NETWORKS = {"default": "bridge", "bridge": "bridge", "host": "host", "none": "none"}


def run(steps: Steps, step: Instruction) -> None:
    """Add the layer of a RUN to the stage. Raises VelociError with its line."""
    build, stage = steps.build, steps.stage
    image = stage.configuration
    network = step.flag("network") or build.options.network
    if network not in NETWORKS:
        raise InvalidInput(f"unknown network mode {network!r}", where=step.where, hint="default, host or none")
    args, script = _arguments(step, image.command(step))
    wanted = mounts.wanted(step, image)
    title = steps.title(step)
    environment = image.arguments | image.environment
    with ExitStack() as stack:
        binds = [_bind(steps, step, want, stack) for want in wanted]

        def key(shown: Shown) -> str:
            with located(step):
                digests = [bind.digest(shown) for bind in binds if bind]
            what = [
                args, script, sorted(environment.items()), image.config.get("User") or "", image.workdir,
                NETWORKS[network], [want.effect() for want in wanted], digests,
            ]  # fmt: skip
            return build.key("RUN", stage.chain_id, *what)

        def make(shown: Shown) -> Layer:
            below = build.unpacked(stage, shown)
            with build.writable(below) as name:
                mounted = list(zip(wanted, binds, strict=True))
                _Process(steps, step, name).run(args, script, mounted, network, shown.number)
                return build.taken(name, title, shown)

        declared = [f"{name}={value}" for name, value in image.arguments.items()]
        prefix = f"|{len(declared)} {' '.join(declared)} " if declared else ""
        image.note(f"RUN {prefix}{' '.join(image.command(step))}", empty=False)
        steps.add(title, key, make)


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


class _Bind:
    """What a bind mount shows: a copy of its source, made when the step runs; so writes never reach it."""

    def __init__(self, source: Tree, path: str, chain: str) -> None:
        self.source, self.path, self.chain = source, path, chain

    def digest(self, shown: Shown) -> str:
        """What decides about its content: a stage's layers, or the files of the context."""
        from veloci.build.steps import digest_of

        return self.chain or digest_of(self.source, [self.path], None, shown)


def _bind(steps: Steps, step: Instruction, want: Wanted, stack: ExitStack) -> _Bind | None:
    if want.kind != "bind":
        return None
    tree, chain = stack.enter_context(steps.build.source(want.options.get("from", ""), steps.outline.number, step))
    return _Bind(tree, want.options.get("source", "/"), chain)


class _Process:
    """One RUN on the snapshot `name`."""

    def __init__(self, steps: Steps, step: Instruction, name: str) -> None:
        self.steps, self.step, self.name = steps, step, name
        self.build, self.image = steps.build, steps.stage.configuration
        self.directory = f"{self.build.work}/{name}"

    def run(
        self, args: list[str], script: str, wanted: list[tuple[Wanted, _Bind | None]], network: str, number: int
    ) -> None:
        """Run it. Raises InvalidInput for an exit status other than 0."""
        os.mkdir(self.directory, 0o700)
        mode = NETWORKS[network]
        listed = [*self._host_files(mode), *self._script(args, script)]
        secrets: list[str] = []
        for index, (want, bind) in enumerate(wanted):
            listed += self._mount(want, bind, index, secrets)
        config = self._config(args, listed, mode, secrets)
        places = [(mount["destination"], _is_directory(mount)) for mount in config["mounts"]]
        with held(self.build.parts.snapshots.mount(self.name)) as root:
            made = stubs.make(root, places)
        try:
            status = self.build.parts.run_step(
                self.name,
                config,
                bundle=f"{self.directory}/bundle",
                output=lambda data: self.build.parts.progress.output(number, data),
                network=mode,
            )
        finally:
            with held(self.build.parts.snapshots.mount(self.name)) as root:
                stubs.remove(root, made)
            remove(f"{self.build.parts.private}/{self.build.token}")
        if status:
            raise InvalidInput(f"{self.step.text}: exit status {status}", where=self.step.where, exit_status=1)

    def _config(self, args: list[str], listed: list[Json], mode: str, secrets: list[str]) -> Json:
        from veloci.build.steps import accounts

        proxies = {name: value for name, value in self.build.options.arguments.items() if name in PROXIES}
        environment = proxies | self.image.arguments | self.image.environment
        options = Options(
            args=tuple(args),
            entrypoint=(),
            env=(*(f"{name}={value}" for name, value in environment.items()), *secrets),
            user=self.image.config.get("User") or "",
            workdir=self.image.workdir,
            hostname="build",
            mounts=tuple(listed),
            namespaces={"network": "host"} if mode == "host" else {},
        )
        empty = ImageConfig(architecture=self.build.platform.architecture, os="linux", rootfs=RootFs(type="layers"))
        with held(self.build.parts.snapshots.mount(self.name)) as root:
            passwd, group = accounts(root)
        return configure(empty, options, id=self.name, passwd=passwd, group=group)

    def _written(self, name: str, data: bytes, mode: int, directory: str = "") -> str:
        path = f"{directory or self.directory}/{name}"
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        return path

    def _host_files(self, mode: str) -> list[Json]:
        """resolv.conf and hosts, bound over the image's."""
        own = mode != "host"
        resolv = hostfiles.resolv(_read("/etc/resolv.conf"), own_network=own)
        base = "" if own else _read("/etc/hosts")
        hosts = hostfiles.hosts([] if mode == "host" else [("127.0.0.1", "build")], base=base)
        return [
            _bound(self._written("resolv.conf", resolv.encode(), 0o644), "/etc/resolv.conf", "ro"),
            _bound(self._written("hosts", hosts.encode(), 0o644), "/etc/hosts", "ro"),
        ]

    def _script(self, args: list[str], script: str) -> list[Json]:
        if not script:
            return []
        return [_bound(self._written("script", script.encode(), 0o755), args[-1], "ro")]

    def _mount(self, want: Wanted, bind: _Bind | None, index: int, secrets: list[str]) -> list[Json]:
        if bind is not None:
            return [_bound(self._copied(bind, index), want.target, "rw" if want.true("rw") else "ro")]
        if want.kind == "tmpfs":
            size = [f"size={want.options['size']}"] if "size" in want.options else []
            options = ["nosuid", "nodev", *size]
            return [{"destination": want.target, "type": "tmpfs", "source": "tmpfs", "options": options}]
        if want.kind == "secret":
            return self._secret(want, index, secrets)
        return [_bound(self._cache(want), want.target, "ro" if want.true("ro") else "rw")]

    def _copied(self, bind: _Bind, index: int) -> str:
        place = f"{self.directory}/bind-{index}"
        os.mkdir(place, 0o755)
        with held(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            target = Target(root, owner=None if bind.source.owners else (0, 0))
            directory = bind.source.is_directory(bind.path)
            target.copy(bind.source, bind.path, "/" if directory else "/file", into=False)
        return place if directory else f"{place}/file"

    def _cache(self, want: Wanted) -> str:
        directory = self.build.parts.cache.mount(want.options.get("id") or want.target)
        if not os.path.isdir(directory):
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, want.number("mode", 0o755, 8))
            os.chown(directory, want.number("uid", 0), want.number("gid", 0))
        return directory

    def _secret(self, want: Wanted, index: int, secrets: list[str]) -> list[Json]:
        identity = want.options["id"]
        value = self.build.options.secrets.get(identity)
        if value is None:
            if want.true("required"):
                hint = f"veloci build --secret id={identity},src=FILE"
                raise NotFound(f"secret {identity}: not found", where=self.step.where, hint=hint)
            return []
        if "env" in want.options:
            name = want.options["env"] if want.options["env"] != "true" else identity
            secrets.append(f"{name}={value.decode(errors='surrogateescape')}")
        if not want.target:
            return []
        private = f"{self.build.parts.private}/{self.build.token}/{self.name}"  # never on a disk
        os.makedirs(private, 0o700, exist_ok=True)
        path = self._written(f"secret-{index}", value, want.number("mode", 0o400, 8), private)
        os.chown(path, want.number("uid", 0), want.number("gid", 0))
        return [_bound(path, want.target, "ro")]


def _bound(source: str, destination: str, access: str) -> Json:
    options = ["rbind", "rprivate", access]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _is_directory(mount: Json) -> bool:
    bind = mount.get("type") == "bind" or "bind" in mount.get("options", ()) or "rbind" in mount.get("options", ())
    return not bind or os.path.isdir(mount["source"])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
