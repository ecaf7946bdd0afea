"""The instructions of one stage, done in their order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from veloci.build import run
from veloci.build.context import held
from veloci.build.copy import Target
from veloci.build.execute import located
from veloci.bundle.users import resolve
from veloci.kernel.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veloci.build.cache import Layer
    from veloci.build.context import Tree
    from veloci.build.execute import Build, Shown
    from veloci.build.graph import Stage as Outline
    from veloci.build.ignore import Ignore
    from veloci.build.instructions import Instruction
    from veloci.build.stage import Stage

LARGEST = 1 << 20  # bytes of a passwd or group file that are read


class Steps:
    """A stage's instructions on its growing configuration and layers."""

    def __init__(self, build: Build, stage: Stage, outline: Outline, triggers: Sequence[Instruction]) -> None:
        self.build, self.stage, self.outline = build, stage, outline
        self.steps = [*triggers, *outline.steps]
        self.total = 1 + sum(step.keyword in _LAYERS for step in self.steps)
        self.number = 1

    @property
    def image(self):  # type: ignore[no-untyped-def] # noqa: ANN201
        """The configuration."""
        return self.stage.configuration

    def do(self) -> None:
        """Do them all. Raises VelociError with file and line."""
        for step in self.steps:
            with located(step):
                if step.keyword in _LAYERS:
                    self.number += 1
                    _LAYERS[step.keyword](self, step)
                else:
                    self.stage.configuration.apply(step)

    def title(self, step: Instruction) -> str:
        """How progress calls the step."""
        return self.build.title(self.outline, self.number, self.total, step.text)

    def workdir(self, step: Instruction) -> None:
        """WORKDIR: set it, and make it unless it is the root."""
        image = self.stage.configuration
        path = image.absolute(image.word(step.words[0], step))
        image.config["WorkingDir"] = path
        image.note(f"WORKDIR {path}", empty=path == "/")
        if path == "/":
            return
        parent, title = self.stage.chain_id, self.title(step)
        user = image.config.get("User") or ""

        def make(shown: Shown) -> Layer:
            with self.build.writable(self.build.unpacked(self.stage, shown)) as name:
                with held(self.build.parts.snapshots.mount(name)) as root:
                    account = resolve(user, *accounts(root))
                    os.close(Target(root, owner=(account.uid, account.gid)).directory(path))
                return self.build.taken(name, title, shown)

        self.add(title, lambda _shown: self.build.key("WORKDIR", parent, path, user), make)

    def add(self, title: str, key: Callable[[Shown], str], make: Callable[[Shown], Layer]) -> None:
        """Put the step's layer on the stage: a cached one, or what `make` gives."""
        options = self.build.options
        again = options.no_cache or self.outline.name in options.fresh or str(self.outline.number) in options.fresh
        self.stage.add(self.build.layer(title, key, make, cached=not again))

    def run(self, step: Instruction) -> None:
        """RUN."""
        run.run(self, step)

    def copy(self, step: Instruction) -> None:
        """COPY and ADD."""
        from veloci.build.copying import Copying

        Copying(self, step).do()


def digest_of(tree: Tree, paths: Sequence[str], exclude: Ignore | None, shown: Shown) -> str:
    """The digest of what would be copied, its reading on show."""
    transfers, key = shown.transfers, f"reading {tree.name}"
    transfers.start(key, "bytes")
    digest = tree.digest(paths, exclude, lambda count: transfers.advance(key, count))
    transfers.done(key, "")
    return digest


def accounts(root: int) -> tuple[bytes, bytes]:
    """The passwd and group files below `root`; b"" for one that is missing."""
    found: list[bytes] = []
    for path in ("/etc/passwd", "/etc/group"):
        try:
            with held(open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)) as file:
                found.append(os.read(file, LARGEST))
        except OSError:
            found.append(b"")
    return found[0], found[1]


_LAYERS = {"ADD": Steps.copy, "COPY": Steps.copy, "RUN": Steps.run, "WORKDIR": Steps.workdir}
