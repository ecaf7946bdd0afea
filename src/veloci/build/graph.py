"""A Dockerfile's stages, and which of them the target needs. Pure.

    FROM jdk AS build      0 build ──┐ COPY --from=build
    FROM jre               1 ◀───────┘ target          a stage nothing points at is never looked at

https://docs.docker.com/build/building/multi-stage/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.build import expand
from veloci.build.instructions import Instruction, instruction
from veloci.errors import InvalidInput, NotFound
from veloci.spec.document import Document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veloci.build.parse import Dockerfile
    from veloci.spec.platform import Platform

SCRATCH = "scratch"
PROXIES = tuple(
    case(f"{name}_proxy") for name in ("http", "https", "ftp", "no", "all") for case in (str.upper, str.lower)
)
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz")
_LATER = _FIRST | frozenset("0123456789-_.")


class Stage(Document):
    """One FROM and what follows it.

    base: a stage's index, or an image's name ("scratch" is the empty one). number: its index.
    """

    number: int
    name: str  # lower case; "" when it has none
    base: int | str
    platform: str
    start: Instruction  # the FROM
    steps: tuple[Instruction, ...]

    def title(self) -> str:
        """How progress lines call it."""
        return self.name or f"stage-{self.number}"


class Graph(Document):
    """All stages, the one to build, and the arguments known before the first FROM."""

    escape: str
    stages: tuple[Stage, ...]
    target: int
    arguments: dict[str, str]  # global ARGs and the platform's, by name
    unused: tuple[str, ...]  # build arguments that no ARG declares
    contexts: tuple[str, ...] = ()  # names that stand for neither a stage nor an image

    def source(self, text: str, before: int, *, where: str) -> int | str:
        """What `--from=text` in stage `before` names: an earlier stage's index, or an image or a context.

        Raises InvalidInput.
        """
        if context_name(text) in self.contexts:
            return text
        if text.isdecimal():
            if int(text) >= before:
                raise InvalidInput(f"invalid from flag value {text}: stage {text} is not before this one", where=where)
            return int(text)
        return _earlier(self.stages[:before], text)

    def needed(self) -> tuple[int, ...]:
        """The stages which the target needs, itself too, in the file's order."""
        seen: set[int] = set()
        queue = [self.target]
        while queue:
            number = queue.pop()
            if number not in seen:
                seen.add(number)
                queue += self._uses(self.stages[number])
        return tuple(sorted(seen))

    def _uses(self, stage: Stage) -> list[int]:
        used = [stage.base] if isinstance(stage.base, int) else []
        known = dict(self.arguments)
        for step in stage.steps:
            if step.keyword in ("ARG", "ENV"):
                known.update((key, value or known.get(key, "")) for key, value in step.pairs)
            names = [step.flag("from")] if step.keyword == "COPY" else _mounted(step)
            for name in filter(None, names):
                text = expand.word(name, known, escape=self.escape, where=step.where)
                source = self.source(text, stage.number, where=step.where)
                if isinstance(source, int):
                    used.append(source)
        return used


def graph(
    dockerfile: Dockerfile,
    *,
    target: str = "",
    arguments: Mapping[str, str] | None = None,
    platform: Platform,
    host: Platform,
    contexts: tuple[str, ...] = (),
) -> Graph:
    """The stages of `dockerfile`.

    target: a stage's name or number; "" is the last. arguments: what --build-arg gave. contexts: --build-context's.
    platform: built for; host: built on. Raises InvalidInput with file and line, NotFound for the target.
    """
    given = dict(arguments or {})
    steps = [instruction(line, name=dockerfile.name, escape=dockerfile.escape) for line in dockerfile.lines]
    known = platforms(platform, host)
    head = next((index for index, step in enumerate(steps) if step.keyword == "FROM"), len(steps))
    for step in steps[:head]:
        if step.keyword != "ARG":
            raise InvalidInput(f"no build stage before {step.keyword}", where=step.where, hint="start with FROM IMAGE")
        for name, default in step.pairs:
            text = expand.word(default or "", known, escape=dockerfile.escape, where=step.where)
            known[name] = given.get(name, text)
    stages = _stages(steps[head:], known, dockerfile.escape, contexts)
    if not stages:
        raise InvalidInput("there is no FROM", where=dockerfile.name, hint="start with FROM IMAGE")
    declared = {name for step in steps if step.keyword == "ARG" for name, _ in step.pairs}
    unused = tuple(sorted(given.keys() - declared - set(PROXIES) - _SPECIAL))
    number = _target(stages, target, dockerfile.name)
    return Graph(
        escape=dockerfile.escape, stages=stages, target=number, arguments=known, unused=unused, contexts=contexts
    )


def context_name(text: str) -> str:
    """The name under which a named context replaces an image or a stage."""
    return text.lower().removeprefix("docker.io/").removeprefix("library/").removesuffix(":latest")


_SPECIAL = {
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_SYNTAX",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_DOCKERFILE_CHECK",
}


def platforms(platform: Platform, host: Platform) -> dict[str, str]:
    """TARGETPLATFORM, TARGETOS, … BUILDVARIANT."""
    return {
        f"{which}{part}": value
        for which, of in (("TARGET", platform), ("BUILD", host))
        for part, value in (
            ("PLATFORM", str(of)),
            ("OS", of.os),
            ("ARCH", of.architecture),
            ("VARIANT", of.variant or ""),
        )
    }


def _stages(
    steps: list[Instruction], known: Mapping[str, str], escape: str, contexts: tuple[str, ...]
) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    starts = [index for index, step in enumerate(steps) if step.keyword == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=False):
        first = steps[start]
        base = expand.word(first.words[0], known, escape=escape, where=first.where)
        if not base:
            raise InvalidInput(
                f"base name ({first.words[0]}) should not be blank",
                where=first.where,
                hint="give the ARG before the first FROM a default, or pass --build-arg",
            )
        stages.append(
            Stage(
                number=len(stages),
                name=_name(first),
                base=base if context_name(base) in contexts else _earlier(stages, base),
                platform=expand.word(first.flag("platform"), known, escape=escape, where=first.where),
                start=first,
                steps=tuple(steps[start + 1 : end]),
            )
        )
    return tuple(stages)


def _name(start: Instruction) -> str:
    if len(start.words) == 1:
        return ""
    name = start.words[1].lower()
    if name[0] not in _FIRST or not _LATER.issuperset(name):
        raise InvalidInput(
            f"invalid name for build stage: {start.words[1]!r}",
            where=start.where,
            hint="a letter, then letters, digits, - _ .",
        )
    if name == SCRATCH:
        raise InvalidInput("a stage cannot be called scratch: it is the empty image", where=start.where)
    return name


def _earlier(stages: tuple[Stage, ...] | list[Stage], text: str) -> int | str:
    """The last stage called `text`, else `text` itself: an image."""
    return next((stage.number for stage in reversed(stages) if stage.name and stage.name == text.lower()), text)


def _target(stages: tuple[Stage, ...], target: str, name: str) -> int:
    if not target:
        return stages[-1].number
    found = int(target) if target.isdecimal() and int(target) < len(stages) else _earlier(stages, target)
    if isinstance(found, str):
        names = ", ".join(stage.name for stage in stages if stage.name) or "none has a name"
        raise NotFound(f"no build stage {target!r}", where=name, hint=f"--target takes one of: {names}")
    return found


def _mounted(step: Instruction) -> list[str]:
    """The `from` of each RUN --mount."""
    parts = [part for mount in step.every("mount") for part in mount.split(",")]
    return [part.removeprefix("from=") for part in parts if part.startswith("from=")]
