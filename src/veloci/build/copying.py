"""COPY and ADD: what they read, the key it makes, the layer it gives.

https://docs.docker.com/reference/dockerfile/#add
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from veloci.build import expand
from veloci.build.cache import key
from veloci.build.context import LazyTree, Tree, held
from veloci.build.copy import Target, archive
from veloci.build.execute import located
from veloci.build.git import Git, repository
from veloci.build.ignore import Ignore
from veloci.build.modes import mode
from veloci.build.steps import accounts, digest_of
from veloci.bundle.users import resolve
from veloci.errors import InvalidInput, NotFound
from veloci.spec import digest as digests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from veloci.build.cache import Layer
    from veloci.build.execute import Shown
    from veloci.build.git import Repository
    from veloci.build.instructions import Instruction
    from veloci.build.steps import Steps


class Source:
    """What one COPY reads of one tree: the paths that its words named. unpack: archives are unpacked."""

    def __init__(self, tree: Tree, paths: Sequence[str], digest: str, *, unpack: bool = False) -> None:
        self.tree, self.paths, self.digest, self.unpack = tree, paths, digest, unpack


class Copying:
    """One COPY or ADD of a stage."""

    def __init__(self, steps: Steps, step: Instruction) -> None:
        self.steps, self.step = steps, step
        self.build, self.stage, self.image = steps.build, steps.stage, steps.stage.configuration
        self.adds = step.keyword == "ADD"

    def do(self) -> None:
        """Add its layer to the stage. Raises VelociError with its line."""
        step = self.step
        *sources, destination = [self.image.word(word, step) for word in step.words]
        heredocs = {heredoc.word: heredoc for heredoc in step.heredocs}
        into = destination.endswith(("/", "/.")) or destination == "."
        if len(sources) > 1 and not into:
            raise InvalidInput(
                f"when using {step.keyword} with more than one source file, the destination must be a directory and "
                "end with a /",
                where=step.where,
            )
        files = [heredocs[raw].word for raw in step.words[:-1] if raw in heredocs]
        named = [word for raw, word in zip(step.words, sources, strict=False) if raw not in heredocs]
        remote = [word for word in named if self.adds and _is_remote(word)]
        local = [word for word in named if word not in remote]
        checksum = self._checksum(sources, remote)
        with ExitStack() as stack:
            opened = stack.enter_context(self._origin()) if local else None

            def find(shown: Shown) -> list[Source]:
                with located(step):
                    found = [self._heredocs(files, stack)] if files else []
                    found += [self._source(*opened, local, shown)] if opened else []
                    return found + [self._remote(word, checksum, shown, stack) for word in remote]

            self._copied(find, destination, into=into)

    def _origin(self) -> AbstractContextManager[tuple[Tree, str]]:
        text = self.step.flag("from")
        name = expand.word(text, self.image.variables, escape=self.image.escape, where=self.step.where)
        return self.build.source(name, self.steps.outline.number, self.step)

    def _checksum(self, sources: Sequence[str], remote: Sequence[str]) -> str:
        text = self.image.word(self.step.flag("checksum"), self.step)
        if not text:
            return ""
        if len(sources) > 1:
            raise InvalidInput("checksum can't be specified for multiple sources", where=self.step.where)
        if not remote:
            raise InvalidInput("checksum requires HTTP(S) or Git sources", where=self.step.where)
        wanted = repository(remote[0])
        right = not text.strip("0123456789abcdef") and len(text) >= 7 if wanted else digests.valid(text)
        if not right:
            hint = "a commit" if wanted else "sha256:…"
            raise InvalidInput(f"invalid checksum {text!r}", where=self.step.where, hint=hint)
        return text

    def _heredocs(self, words: Sequence[str], stack: ExitStack) -> Source:
        directory = self.build.fresh("heredoc")
        os.mkdir(directory, 0o755)
        heredocs = {heredoc.word: heredoc for heredoc in self.step.heredocs}
        names = [heredocs[word].name for word in words]
        for word, name in zip(words, names, strict=True):
            text = heredocs[word].text()
            if heredocs[word].expand:
                text = expand.body(text, self.image.variables, where=self.step.where)
            with open(f"{directory}/{name}", "w", encoding="utf-8", newline="") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
        tree = stack.enter_context(Tree(os.open(directory, os.O_RDONLY | os.O_DIRECTORY), name="the here-documents"))
        return Source(tree, names, tree.digest(names))

    def _source(self, tree: Tree, chain: str, named: Sequence[str], shown: Shown) -> Source:
        """What the patterns find; of a stage, whose files never change, the answer is remembered."""
        step = self.step
        unpack = self.adds and step.flag("unpack") != "false"

        def find() -> dict[str, Any]:
            try:
                paths = [path for pattern in named for path in tree.matches(pattern)]
                return {"digest": digest_of(tree, paths, self._excluded(), shown), "paths": paths}
            except NotFound as error:
                hint = error.hint or f"see what is there, and {step.where.rpartition(':')[0]}'s .dockerignore"
                raise NotFound(f"{step.keyword} {error.args[0]}", where=step.where, hint=hint) from None

        name = key("source", chain, list(named), list(step.every("exclude")))
        found = self.build.remembered(name, find) if chain else find()
        return Source(tree, list(found["paths"]), found["digest"], unpack=unpack)

    def _remote(self, text: str, checksum: str, shown: Shown, stack: ExitStack) -> Source:
        wanted = repository(text)
        if wanted is not None:
            return self._git(wanted, checksum, shown, stack)
        downloads = self.build.parts.downloads
        found = downloads.get(text, shown.transfers, checksum)
        path = downloads.path(found.digest)
        unpack = self.step.on("unpack")

        def place() -> int:
            directory = self.build.fresh("download")
            os.mkdir(directory, 0o755)
            with open(path, "rb") as body, open(f"{directory}/{found.name}", "xb") as copy:
                os.fchmod(copy.fileno(), 0o600)
                while os.sendfile(copy.fileno(), body.fileno(), None, 8 << 20):
                    pass
            os.utime(f"{directory}/{found.name}", (found.modified, found.modified))
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

        tree = stack.enter_context(LazyTree(place, text, owners=False))
        digest = key("http", found.digest, found.name, found.modified, unpack)
        return Source(tree, [found.name], digest, unpack=unpack)

    def _git(self, wanted: Repository, checksum: str, shown: Shown, stack: ExitStack) -> Source:
        git = Git(wanted, agent=self.build.options.agent)
        if checksum and not git.commit.startswith(checksum):
            raise InvalidInput(
                f"expected checksum {checksum}, but {wanted.url} {wanted.ref or 'HEAD'} is at commit {git.commit}",
                where=self.step.where,
            )
        keep = self.step.on("keep-git-dir")

        def place() -> int:
            directory = self.build.fresh("git")
            os.mkdir(directory, 0o755)
            git.checkout(directory, keep=keep, told=lambda text: self.build.parts.progress.note(shown.number, text))
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

        tree = stack.enter_context(LazyTree(place, wanted.url, owners=False))
        path = wanted.directory or "."
        return Source(tree, [path], key("git", git.commit, path, keep))

    def _excluded(self) -> Ignore:
        return Ignore((self.image.word(text, self.step), self.step.where) for text in self.step.every("exclude"))

    def _copied(self, find: Callable[[Shown], list[Source]], destination: str, *, into: bool) -> None:
        step, image, build = self.step, self.image, self.build
        path = image.absolute(destination)
        owner, chmod = image.word(step.flag("chown"), step), image.word(step.flag("chmod"), step)
        change = mode(chmod, where=step.where) if chmod else None
        link, parents = step.on("link"), step.on("parents")
        title = self.steps.title(step)
        image.note(step.text, empty=False)
        found: list[Source] = []

        def name(shown: Shown) -> str:
            found.extend(find(shown))
            ground = "" if link and not owner else self.stage.chain_id
            digests = [source.digest for source in found]
            what = [step.keyword, ground, digests, path, into, owner, chmod, link, parents]
            what += [[source.paths for source in found]] if parents else []
            return build.key(*what, *(["packed"] if step.flag("unpack") == "false" else []))

        def make(shown: Shown) -> Layer:
            below = build.unpacked(self.stage, shown)
            ids = self._owner(owner, below)
            with build.writable("" if link else below) as snapshot:
                with held(build.parts.snapshots.mount(snapshot)) as root, located(step):
                    for source in found:
                        target = Target(root, owner=ids or (None if source.tree.owners else (0, 0)), mode=change)
                        for item in source.paths:
                            self._one(target, source, item, path, into=into, parents=parents)
                return build.taken(snapshot, title, shown, alone=link)

        self.steps.add(title, name, make)

    def _one(self, target: Target, source: Source, item: str, path: str, *, into: bool, parents: bool) -> None:
        tree = source.tree
        tar = archive(tree, item) if source.unpack else None
        if tar is not None:
            self._unpack(target, tar, path)
            return
        if parents:
            kept = item.partition("/./")[2] or item
            directory = tree.is_directory(item)
            place = kept if directory else kept.rpartition("/")[0]
            path, into = f"{path.rstrip('/')}/{place.strip('/')}".rstrip("/") or "/", True
        target.copy(tree, item, path, into=into, exclude=self._excluded())

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

    def _owner(self, text: str, below: str) -> tuple[int, int] | None:
        """--chown's uid and gid, names looked up in the image. A number alone is both; a name has its own group."""
        if not text:
            return None
        user, colon, _ = text.partition(":")
        with held(self.build.parts.snapshots.view(below)) as root, located(self.step):
            account = resolve(text, *accounts(root))
        return account.uid, account.uid if not colon and user.isdecimal() else account.gid


def _is_remote(source: str) -> bool:
    return repository(source) is not None or source.startswith(("http://", "https://"))
