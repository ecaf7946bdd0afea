"""What a RUN's --mount options put into its container, as mounts of config.json.

A stage's files are mounted by the step's own process, as descriptors and in a mount namespace that
only it has; files of the context are copied, for .dockerignore hides some of them. No path that a
Dockerfile names is looked up outside its tree (CVE-2024-1753, CVE-2024-23651).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from veloci.build.cache import key
from veloci.build.context import held
from veloci.build.copy import Target
from veloci.errors import NotFound
from veloci.spec.document import Document

if TYPE_CHECKING:
    from contextlib import ExitStack
    from typing import Any

    from veloci.build.context import Tree
    from veloci.build.execute import Shown
    from veloci.build.instructions import Instruction
    from veloci.build.mounts import Wanted
    from veloci.build.steps import Steps

    Json = dict[str, Any]


class View(Document):
    """Files of layers that the step's process mounts on `place`, a file or a directory that is there.

    chain: the layers' chain ID; or key: a writable snapshot on them. path: within.
    """

    place: str
    path: str
    chain: str = ""
    key: str = ""


class Origin:
    """What a bind mount shows, or a new cache mount begins with."""

    def __init__(self, tree: Tree, path: str, chain: str) -> None:
        self.tree, self.path, self.chain = tree, path, chain

    def digest(self, shown: Shown) -> str:
        """What decides about its content: a stage's layers, or the files of the context."""
        from veloci.build.steps import digest_of

        return self.chain or digest_of(self.tree, [self.path], None, shown)


def origin(steps: Steps, step: Instruction, want: Wanted, stack: ExitStack) -> Origin | None:
    """Where the mount's files come from; None if it starts empty."""
    name = want.options.get("from", "")
    if want.kind != "bind" and not (want.kind == "cache" and name):
        return None
    tree, chain = stack.enter_context(steps.build.source(name, steps.outline.number, step))
    return Origin(tree, want.options.get("source", "/"), chain)


class Mounting:
    """The mounts of one step, which progress calls `number`. directory: its own; private: one on a tmpfs, not made yet.

    listed: mounts of config.json. environment: of secrets. views: what the step's process mounts before.
    """

    def __init__(
        self, steps: Steps, step: Instruction, number: int, directory: str, private: str, stack: ExitStack
    ) -> None:
        self.build, self.step, self.number, self.stack = steps.build, step, number, stack
        self.directory, self.private = directory, private
        self.listed: list[Json] = []
        self.environment: list[str] = []
        self.views: list[View] = []

    def add(self, wanted: list[tuple[Wanted, Origin | None]]) -> None:
        """Take them all; what lasts as long as the step is on the stack. Raises NotFound."""
        # Cache mounts that are used alone are locked in one order by all builds.
        caches = sorted((want for want, _ in wanted if want.kind == "cache"), key=lambda want: want.identity)
        origins = {id(want): one for want, one in wanted}
        directories = {id(want): self._cache(want, origins[id(want)]) for want in caches}
        for index, (want, one) in enumerate(wanted):
            access = "ro" if want.true("ro") else "rw"
            if want.kind == "bind":
                assert one is not None
                access = "rw" if want.true("rw") else "ro"
                self.listed.append(bound(self._bind(one, index, access), want.target, access))
            elif want.kind == "tmpfs":
                size = [f"size={want.options['size'].lower().removesuffix('b')}"] if "size" in want.options else []
                options = ["nosuid", "nodev", *size]
                self.listed.append({"destination": want.target, "type": "tmpfs", "source": "tmpfs", "options": options})
            elif want.kind == "cache":
                self.listed.append(bound(directories[id(want)], want.target, access))
            else:
                (self._secret if want.kind == "secret" else self._agent)(want, index)

    def _bind(self, one: Origin, index: int, access: str) -> str:
        place = f"{self.directory}/bind-{index}"
        directory = one.tree.is_directory(one.path)
        if one.chain and directory:
            os.mkdir(place, 0o755)
        elif one.chain:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        else:
            return self._copied(one, place, directory=directory)
        if access == "ro":
            self.views.append(View(place=place, path=one.path, chain=one.tree.chain_id))
        else:
            name = self.stack.enter_context(self.build.writable(one.tree.chain_id))  # gone with the step
            self.views.append(View(place=place, path=one.path, key=name))
        return place

    def _copied(self, one: Origin, place: str, *, directory: bool) -> str:
        os.mkdir(place, 0o755)
        with held(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            target = Target(root, owner=None if one.tree.owners else (0, 0))
            target.copy(one.tree, one.path, "/" if directory else "/file", into=False)
        return place if directory else f"{place}/file"

    def _cache(self, want: Wanted, one: Origin | None) -> str:
        def fill(place: str) -> None:
            with held(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
                if one is not None:
                    Target(root).copy(one.tree, one.path, "/", into=True)
                os.fchmod(root, want.number("mode", 0o755, 8))
                os.fchown(root, want.number("uid", 0), want.number("gid", 0))

        begins = "" if one is None else key(one.chain, one.path)
        sharing = want.options.get("sharing", "shared")
        wait = self.build.waiting(self.number, f"waiting for the cache mount {want.target}")
        return self.stack.enter_context(self.build.parts.mounts.used(want.identity, begins, sharing, fill, wait))

    def _secret(self, want: Wanted, index: int) -> None:
        identity = want.options["id"]
        value = self.build.options.secrets.get(identity)
        if value is None:
            if want.true("required"):
                hint = f"veloci build --secret id={identity},src=FILE"
                raise NotFound(f"secret {identity}: not found", where=self.step.where, hint=hint)
            return
        if "env" in want.options:
            name = want.options["env"] if want.options["env"] != "true" else identity
            self.environment.append(f"{name}={value.decode(errors='surrogateescape')}")
        if want.target:
            os.makedirs(self.private, 0o700, exist_ok=True)  # never on a disk
            path = written(f"{self.private}/secret-{index}", value, want.number("mode", 0o400, 8))
            os.chown(path, want.number("uid", 0), want.number("gid", 0))
            self.listed.append(bound(path, want.target, "ro"))

    def _agent(self, want: Wanted, index: int) -> None:
        """A socket of ours that passes on to the user's SSH agent."""
        identity = want.options.get("id", "default")
        os.makedirs(self.private, 0o700, exist_ok=True)
        path = f"{self.private}/agent-{index}"
        listening = self.build.parts.agent(identity, path)
        if listening is None:
            if want.true("required"):
                hint = f"veloci build --ssh {identity}"
                raise NotFound(f"SSH agent {identity}: not found", where=self.step.where, hint=hint)
            return
        self.stack.enter_context(listening)
        os.chmod(path, want.number("mode", 0o600, 8))
        os.chown(path, want.number("uid", 0), want.number("gid", 0))
        self.listed.append(bound(path, want.target, "rw"))
        if not any(text.startswith("SSH_AUTH_SOCK=") for text in self.environment):
            self.environment.append(f"SSH_AUTH_SOCK={want.target}")


def bound(source: str, destination: str, access: str) -> Json:
    """A bind mount of config.json. access: ro or rw."""
    options = ["rbind", "rprivate", access]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def written(path: str, data: bytes, mode: int) -> str:
    """A new file; returns its path."""
    with open(path, "xb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
    return path
