"""The instructions of one stage, done in their order."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from veloci.build import expand, run
from veloci.build.cache import key
from veloci.build.context import Tree, held
from veloci.build.copy import Target, archive
from veloci.build.execute import located
from veloci.build.ignore import Ignore
from veloci.build.modes import mode
from veloci.bundle.users import resolve
from veloci.errors import InvalidInput, NotFound, Unsupported
from veloci.kernel.files import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veloci.build.cache import Layer
    from veloci.build.execute import Build, Shown
    from veloci.build.graph import Stage as Outline
    from veloci.build.instructions import Instruction
    from veloci.build.stage import Stage

LARGEST = 1 << 20  # bytes of a passwd or group file that are read


class Source:
    """What one COPY reads of one tree. paths: what the patterns named. pivots: how much of each --parents drops."""

    def __init__(self, tree: Tree, paths: Sequence[str], digest: str) -> None:
        self.tree, self.paths, self.digest = tree, paths, digest


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
        return f"[{self.outline.title()} {self.number}/{self.total}] {step.text}"

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
        image = self.stage.configuration
        words = [image.word(word, step) for word in step.words]
        *sources, destination = words
        for source in sources:
            if step.keyword == "ADD" and _remote(source):
                raise Unsupported(f"ADD {source}: a URL or a Git repository is not supported yet", where=step.where)
        heredocs = {heredoc.word: heredoc for heredoc in step.heredocs}
        files = {heredocs[raw].name: heredocs[raw] for raw in step.words[:-1] if raw in heredocs}
        named = [word for raw, word in zip(step.words, sources, strict=False) if raw not in heredocs]
        into = destination.endswith(("/", "/.")) or destination == "."
        if len(sources) > 1 and not into:
            raise InvalidInput(
                f"when using {step.keyword} with more than one source file, the destination must be a directory and "
                "end with a /",
                where=step.where,
            )
        origin = expand.word(step.flag("from"), image.variables, escape=image.escape, where=step.where)
        with ExitStack() as stack:
            opened = stack.enter_context(self.build.source(origin, self.outline.number, step)) if named else None

            def find(shown: Shown) -> list[Source]:
                with located(step):
                    found = [self._heredocs(files, step, stack)] if files else []
                    return [*found, self._source(*opened, named, step, shown)] if opened else found

            self._copied(step, find, destination, into=into)

    def _heredocs(self, files, step, stack) -> Source:  # type: ignore[no-untyped-def] # noqa: ANN001
        directory = self.build.fresh("heredoc")
        os.mkdir(directory, 0o755)
        for name, heredoc in files.items():
            text = heredoc.text()
            if heredoc.expand:
                text = expand.body(text, self.stage.configuration.variables, where=step.where)
            with open(f"{directory}/{name}", "w", encoding="utf-8", newline="") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
        tree = stack.enter_context(Tree(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), name="the here-documents"))
        return Source(tree, list(files), tree.digest(list(files)))

    def _source(self, tree: Tree, chain: str, named: Sequence[str], step: Instruction, shown: Shown) -> Source:
        """What the patterns find; of a stage, whose files never change, the answer is remembered."""
        exclude = self._excluded(step)
        remembered = key("source", chain, list(named), list(step.every("exclude")))
        known = self.build.parts.cache.get(remembered) if chain else None
        if isinstance(known, dict) and isinstance(known.get("digest"), str):
            return Source(tree, list(known["paths"]), known["digest"])
        try:
            paths = [path for pattern in named for path in tree.matches(pattern)]
            digest = digest_of(tree, paths, exclude, shown)
        except NotFound as error:
            hint = error.hint or f"see what is there, and {step.where.rpartition(':')[0]}'s .dockerignore"
            raise NotFound(f"{step.keyword} {error.args[0]}", where=step.where, hint=hint) from None
        if chain:
            self.build.parts.cache.put(remembered, {"digest": digest, "paths": paths})
        return Source(tree, paths, digest)

    def _excluded(self, step: Instruction) -> Ignore:
        return Ignore((self.stage.configuration.word(text, step), step.where) for text in step.every("exclude"))

    def _copied(
        self, step: Instruction, find: Callable[[Shown], list[Source]], destination: str, *, into: bool
    ) -> None:
        image = self.stage.configuration
        path = image.absolute(destination)
        owner, chmod = image.word(step.flag("chown"), step), image.word(step.flag("chmod"), step)
        change = mode(chmod, where=step.where) if chmod else None
        link, parents = bool(step.flag("link")), bool(step.flag("parents"))
        title = self.title(step)
        image.note(step.text, empty=False)
        found: list[Source] = []

        def key(shown: Shown) -> str:
            found.extend(find(shown))
            ground = "" if link and not owner else self.stage.chain_id
            digests = [source.digest for source in found]
            what = [step.keyword, ground, digests, path, into, owner, chmod, link, parents]
            return self.build.key(*what, *([[source.paths for source in found]] if parents else []))

        def make(shown: Shown) -> Layer:
            below = self.build.unpacked(self.stage, shown)
            ids = self._owner(owner, below, step)
            with self.build.writable("" if link else below) as name:
                with held(self.build.parts.snapshots.mount(name)) as root:
                    for source in found:
                        target = Target(root, owner=ids or (None if source.tree.owners else (0, 0)), mode=change)
                        for item in source.paths:
                            self._one(step, target, source.tree, item, path, into=into, parents=parents)
                return self.build.taken(name, title, shown, alone=link)

        self.add(title, key, make)

    def _one(
        self, step: Instruction, target: Target, tree: Tree, item: str, path: str, *, into: bool, parents: bool
    ) -> None:
        exclude = self._excluded(step)
        tar = archive(tree, item) if step.keyword == "ADD" else None
        if tar is not None:
            self._unpack(target, tar, path)
            return
        if parents:
            kept = item.partition("/./")[2] or item
            directory = tree.is_directory(item)
            place = kept if directory else kept.rpartition("/")[0]
            path, into = f"{path.rstrip('/')}/{place.strip('/')}".rstrip("/") or "/", True
        target.copy(tree, item, path, into=into, exclude=exclude)

    def _unpack(self, target: Target, tar: Callable[[], object], path: str) -> None:
        from veloci.layer.apply import apply

        if target.mode is None and target.owner in (None, (0, 0)):
            with held(target.directory(path)) as directory:
                apply(tar(), directory, overlay=False)  # type: ignore[arg-type]
            return
        place = self.build.fresh("tar")  # owners and modes are changed on the way in
        os.mkdir(place, 0o755)
        with Tree(os.open(place, os.O_RDONLY | os.O_DIRECTORY), name="the archive", owners=True) as unpacked:
            apply(tar(), unpacked.root, overlay=False)  # type: ignore[arg-type]
            target.copy(unpacked, ".", path, into=True)

    def _owner(self, text: str, below: str, step: Instruction) -> tuple[int, int] | None:
        """--chown's uid and gid, names looked up in the image. A number alone is both; a name has its own group."""
        if not text:
            return None
        user, colon, _ = text.partition(":")
        with held(self.build.parts.snapshots.view(below)) as root, located(step):
            account = resolve(text, *accounts(root))
        return account.uid, account.uid if not colon and user.isdecimal() else account.gid


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


def _remote(source: str) -> bool:
    return source.startswith(("http://", "https://", "git@", "git://", "ssh://")) or ".git#" in source


_LAYERS = {"ADD": Steps.copy, "COPY": Steps.copy, "RUN": Steps.run, "WORKDIR": Steps.workdir}
