"""Builds through the engine: a context and a Dockerfile to a named image."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import count

from veloci.build.cache import Cache, remove
from veloci.build.download import Downloads
from veloci.build.execute import Build
from veloci.build.graph import context_name, graph
from veloci.build.lint import Base
from veloci.build.lint import lint as linted
from veloci.build.parse import parse
from veloci.build.parts import Options, Parts
from veloci.engine import build_cache, build_output
from veloci.engine.build_cache import Remote  # noqa: TC001 -- a field's type is looked up
from veloci.engine.build_context import Contexts, Late
from veloci.engine.build_output import Output, Part
from veloci.engine.build_step import Running, step
from veloci.errors import InvalidInput, NotFound, VelociError
from veloci.image.assemble import assemble
from veloci.image.image import Image
from veloci.spec import media
from veloci.spec import platform as platforms
from veloci.spec.document import Document, Json, dumps
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from veloci.build.context import Tree
    from veloci.build.graph import Graph
    from veloci.build.lint import Warning
    from veloci.build.parts import Progress, Transfers
    from veloci.engine.build_context import Opened
    from veloci.engine.engine import Engine

_IMAGE, _LAYOUT = "docker-image://", "oci-layout://"


class Request(Document):
    """What `build` is asked for.

    context: a directory, - for standard input, a Git repository or a server's file. contexts: further ones, by name,
    also docker-image://NAME and oci-layout://DIRECTORY[:TAG]. file: the Dockerfile's path; "" is Dockerfile in the
    context, - is standard input. tags: names of the result. pull: take the bases from their registry even if they
    are here. epoch: SOURCE_DATE_EPOCH. format: oci or docker. ssh: sockets of agents by id. fresh: stages whose steps
    are all done again. allow: network.host, security.insecure. outputs: none is an image of the store.
    annotations: the manifest's. hosts: (address, name) for /etc/hosts. shm_size: bytes. ulimits: as config.json's.
    """

    context: str
    contexts: dict[str, str] = {}
    file: str = ""
    tags: tuple[str, ...] = ()
    arguments: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    secrets: dict[str, bytes] = {}
    target: str = ""
    platform: str = ""
    network: str = "default"
    no_cache: bool = False
    pull: bool = False
    epoch: int | None = None
    format: str = "oci"
    ssh: dict[str, str] = {}
    fresh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    cache_from: tuple[Remote, ...] = ()
    cache_to: tuple[Remote, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20
    ulimits: tuple[Json, ...] = ()
    cgroup_parent: str = ""


class Built:
    """What a build made. descriptor: the manifest's, or the index's of several platforms' images. id: the image's."""

    def __init__(self, engine: Engine, parts: list[Part]) -> None:
        self.descriptor = parts[0].descriptor
        if len(parts) == 1:
            self.id = Image(engine.store, self.descriptor).id
            return
        docker = self.descriptor.media_type == media.DOCKER_MANIFEST
        kind = media.DOCKER_LIST if docker else media.INDEX
        entries = [part.descriptor.replace(platform=part.build.platform).plain() for part in parts]
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
        self.descriptor = engine.store.put(dumps(index), kind)
        self.id = self.descriptor.digest


class Builds:
    """Builds on an engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(
        self,
        request: Request,
        progress: Progress,
        *,
        warn: Callable[[str], None],
        lint: Callable[[list[Warning]], None] = lambda _warnings: None,
    ) -> Built:
        """Build an image for each platform, and give them to the outputs; stored under their names if one is the store.

        warn: told what is odd but no failure; lint: of what the Dockerfile's author seldom means. Raises
        VelociError; a mistake in the Dockerfile has file and line.
        """
        names = [*request.tags, *(name for output in request.outputs for name in output.names)]
        tags = [Reference.parse(name).with_default_tag() for name in names]
        wanted = _platforms(request)
        engine = self._engine
        cache = Cache(f"{engine.root}/build")
        with (
            cache.active(self._forget) as token,
            closing(engine.snapshots.lease()) as lease,
            ExitStack() as stack,
        ):
            stack.callback(remove, f"{engine.run_root}/build/{token}")
            contexts = self._contexts(request, cache, token, progress)
            found = contexts.main(request.context, request.file)
            stack.callback(found.tree.close)
            outlines = [self._outline(found, request, wanted[0], warn, lint)]
            outlines += [self._outline(found, request, each, _unheard, _unheard) for each in wanted[1:]]
            named = {
                context_name(name): stack.enter_context(contexts.named(name, text))
                for name, text in request.contexts.items()
                if not text.startswith((_IMAGE, _LAYOUT))
            }
            parts = self._parts(request, cache, found.tree, named, progress, stack, warn)
            options, counter = _options(engine, request), count(1)
            builds = [
                Build(
                    outline,
                    parts,
                    options,
                    platform=platform,
                    token=token,
                    lease=lease,
                    counter=counter,
                    prefix=f"{platform} " if len(wanted) > 1 else "",
                )
                for outline, platform in zip(outlines, wanted, strict=True)
            ]
            return self._finish(builds, request, tags)

    def check(self, request: Request, progress: Progress) -> tuple[list[Warning], list[str], str]:
        """Look at the Dockerfile alone. Returns the warnings, the file's lines, and its name. Raises VelociError."""
        cache = Cache(f"{self._engine.root}/build")
        platform = _platforms(request)[0]
        warnings: list[Warning] = []
        with cache.active(self._forget) as token:
            found = self._contexts(request, cache, token, progress).main(request.context, request.file)
            with found.tree:
                self._outline(found, request, platform, lambda _text: None, warnings.extend, fatal=False)
        return warnings, found.raw.decode(errors="replace").split("\n"), found.name

    def _outline(
        self,
        found: Opened,
        request: Request,
        platform: platforms.Platform,
        warn: Callable[[str], None],
        lint: Callable[[list[Warning]], None],
        *,
        fatal: bool = True,
    ) -> Graph:
        dockerfile = parse(found.raw, name=found.name)
        outline = graph(
            dockerfile,
            target=request.target,
            arguments=request.arguments,
            platform=platform,
            host=platforms.host(),
            contexts=tuple(context_name(name) for name in request.contexts),
        )
        outline.needed()
        if outline.unused:
            warn(f"one or more build arguments {list(outline.unused)} were not consumed")
        check = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK", "")
        warnings, rules = linted(dockerfile, outline, check=check, ignore=found.tree.ignore, base=self._known)
        lint(warnings)
        if warnings and rules.fatal and fatal:
            names = ", ".join(sorted({one.rule for one in warnings}))
            raise InvalidInput(
                f"lint violation found for rules: {names}", where=found.name, hint="veloci build --check"
            )
        return outline

    def _known(self, name: str) -> Base | None:
        """What the local store knows of a base image."""
        try:
            config = self._engine.images.resolve(name).config
        except VelociError:
            return None
        pairs = (entry.partition("=") for entry in config.config.env)
        return Base(environment={key: value for key, _, value in pairs}, platform=f"{config.os}/{config.architecture}")

    def _contexts(self, request: Request, cache: Cache, token: str, progress: Progress) -> Contexts:
        keep = request.arguments.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "0").lower() in ("1", "true")
        transfers = Late(progress)
        agent = request.ssh.get("default", "")
        return Contexts(cache.work(token), Downloads(cache.root), transfers, agent=agent, keep=keep)

    def _parts(
        self,
        request: Request,
        cache: Cache,
        tree: Tree,
        named: dict[str, Tree],
        progress: Progress,
        stack: ExitStack,
        warn: Callable[[str], None],
    ) -> Parts:
        from veloci.engine.tasks import parallel, spread

        engine = self._engine
        running = Running()
        imported = build_cache.Imported(engine, request.cache_from, warn)
        stack.callback(imported.close)
        return Parts(
            store=engine.store,
            snapshots=engine.snapshots,
            cache=cache,
            context=tree,
            contexts=named,
            elsewhere=imported,
            image=partial(self._image, request),
            run_step=partial(step, engine, running=running),
            agent=partial(_listening, request.ssh),
            stopped=lambda: running.stopped,
            progress=progress,
            parallel=parallel,
            together=partial(_together, running),
            spread=spread,
            private=f"{engine.run_root}/build",
        )

    def _image(self, request: Request, name: str, platform: platforms.Platform | None, transfers: Transfers) -> Image:
        """A base: what a named context says that it is, or from the store, or from its registry."""
        wanted = {context_name(key): text for key, text in request.contexts.items()}.get(context_name(name), "")
        if wanted.startswith(_LAYOUT):
            from veloci.image.image import select
            from veloci.transport import layout
            from veloci.transport.copy import copy
            from veloci.transport.store import StorePlace

            path, _, tag = wanted.removeprefix(_LAYOUT).partition(":")
            if "@" in path:
                path, _, tag = wanted.removeprefix(_LAYOUT).partition("@")
            engine = self._engine
            place = StorePlace(engine.store, engine.names, None)
            descriptor = copy(layout.folder(path, tag), place, platform=platform, progress=transfers)
            return select(engine.store, descriptor, platform)
        name = wanted.removeprefix(_IMAGE) or name
        pull = "always" if request.pull else "missing"
        return self._engine.images.get(name, pull=pull, platform=platform, progress=transfers)

    def _finish(self, builds: list[Build], request: Request, tags: list[Reference]) -> Built:
        engine = self._engine
        parts = [self._part(build, request) for build in builds]
        first = builds[0]
        note = first.parts.progress.note
        outputs = request.outputs or (Output(kind="image"),)
        with first.step("exporting to image" if build_output.keeps(outputs) else "exporting") as shown:
            built = Built(engine, parts)
            if build_output.keeps(outputs):
                note(shown.number, f"writing image {built.id} done")
                for tag in tags or (None,):
                    engine.images.name(tag, built.descriptor)
                    if tag is not None:
                        note(shown.number, f"naming to {tag} done")
            for output in outputs:
                build_output.write(engine, parts, built.descriptor, tags, output, shown)
        for remote in (each for each in request.cache_to if each.kind != "inline"):
            with first.step(f"exporting cache to {remote.place}"):
                build_cache.export(engine, builds, remote)
        return built

    def _part(self, build: Build, request: Request) -> Part:
        """Build one platform's image, and store its documents."""
        stage = build.target()
        document = stage.document(build.now())
        if request.labels:
            document["config"]["Labels"] = (document["config"].get("Labels") or {}) | request.labels
        if any(remote.kind == "inline" for remote in request.cache_to):
            document[build_cache.INLINE] = build_cache.inline(build)
        layers = [descriptor for descriptor, _ in stage.layers]
        annotations = dict(request.annotations)
        descriptor = assemble(self._engine.store, document, layers, format=request.format, annotations=annotations)
        return Part(build, stage, descriptor)

    def sweep(self) -> None:
        """Remove what builds left that were killed; the next build would do it too."""
        Cache(f"{self._engine.root}/build").sweep(self._forget)

    def _forget(self, token: str) -> None:
        """Remove what a build that was killed has left; its steps take their own back, unless they were killed too."""
        engine, mine = self._engine, f"build-{token}-"
        self._end(mine)
        for key in engine.snapshots.keys():  # noqa: SIM118 -- no dictionary
            if key.startswith(mine):
                engine.snapshots.remove(key)
        remove(f"{engine.run_root}/build/{token}")

    def _end(self, prefix: str) -> None:
        """Kill and remove the containers of a dead build's steps, and take their addresses back."""
        from veloci.runtime.container import Container

        left = False
        for container in Container.list(f"{self._engine.run_root}/runtime"):
            if container.id.startswith(prefix):
                left = True
                with suppress(NotFound):
                    container.delete(force=True)
        if left:
            self._engine.networks.reclaim(lambda id: not id.startswith(prefix))


def _options(engine: Engine, request: Request) -> Options:
    hosts = request.hosts
    if any(address == "host-gateway" for address, _ in hosts):
        gateway = "127.0.0.1" if request.network == "host" else engine.networks.default().gateway
        hosts = tuple((gateway if address == "host-gateway" else address, name) for address, name in hosts)
    return Options(
        arguments=request.arguments,
        no_cache=request.no_cache,
        network=request.network,
        epoch=request.epoch,
        secrets=request.secrets,
        fresh=request.fresh,
        allow=request.allow,
        agent=request.ssh.get("default", ""),
        hosts=hosts,
        shm_size=request.shm_size,
        ulimits=request.ulimits,
        cgroup_parent=request.cgroup_parent,
    )


def _unheard(_told: object) -> None:
    """What the first platform's look has said already."""


def _platforms(request: Request) -> list[platforms.Platform]:
    """`linux/amd64,linux/arm64`; without, this machine's."""
    texts = [text.strip() for text in request.platform.split(",") if text.strip()]
    return [platforms.parse(text) for text in dict.fromkeys(texts)] or [platforms.host()]


def _listening(agents: dict[str, str], identity: str, path: str) -> AbstractContextManager[None] | None:
    from veloci.engine.build_agent import Agents  # sockets and threads, for those who ask

    return Agents(agents).listening(identity, path)


def _together(running: Running, function: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Call `function` with each of `numbers`, up to four at once. The first failure ends what the others run."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(4, "stage") as pool:
        futures = [pool.submit(function, number) for number in numbers]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            running.stop()
            raise
        finally:
            for future in futures:
                future.cancel()
