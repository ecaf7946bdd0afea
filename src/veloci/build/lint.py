"""What is legal in a Dockerfile and seldom meant: buildkit's checks, with its names and messages. Pure.

https://docs.docker.com/reference/build-checks/

    # check=skip=JSONArgsRecommended,StageNameCasing;error=true
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING

from veloci.build import expand
from veloci.build.graph import PROXIES, SCRATCH
from veloci.build.instructions import instruction
from veloci.errors import InvalidInput, VelociError
from veloci.spec.document import Document
from veloci.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from veloci.build.graph import Graph, Stage
    from veloci.build.ignore import Ignore
    from veloci.build.instructions import Instruction
    from veloci.build.parse import Dockerfile, Line

EXPERIMENTAL = ("InvalidDefinitionDescription",)
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_EXPANDED = ("ADD", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
_NAME = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Warning(Document):
    """A rule that lines `first` to `last` break."""

    rule: str
    detail: str
    first: int
    last: int

    def short(self) -> str:
        """It on one line."""
        return f"{self.rule}: {self.detail} (line {self.first})"

    def url(self) -> str:
        """Where the rule is explained; "" for one that is not."""
        if self.rule == "InvalidBaseImagePlatform":
            return ""
        return f"https://docs.docker.com/go/dockerfile/rule/{_NAME.sub('-', self.rule).lower()}/"


class Base(Document):
    """What is known of a base image: its variables, and its platform as OS/ARCHITECTURE."""

    environment: dict[str, str] = {}
    platform: str = ""


class Rules:
    """Which rules count, from the check directive. fatal: a warning is an error."""

    def __init__(self, text: str, *, where: str) -> None:
        """Raises InvalidInput for an option that is none."""
        self.skipped: set[str] = set()
        self.experimental: set[str] = set()
        self.fatal = False
        for part in filter(None, (part.strip() for part in text.split(";"))):
            key, equals, value = part.partition("=")
            names = {name.strip() for name in value.split(",")}
            if key.strip() == "skip" and equals:
                self.skipped |= names
            elif key.strip() == "experimental" and equals:
                self.experimental |= names
            elif key.strip() == "error" and value.strip().lower() in ("true", "false", "1", "0"):
                self.fatal = value.strip().lower() in ("true", "1")
            else:
                raise InvalidInput(f"invalid check option {part!r}", where=where, hint="skip=RULE,…;error=true")

    def count(self, rule: str) -> bool:
        """Whether the rule is asked for."""
        if rule in EXPERIMENTAL and not self.experimental & {rule, "all"}:
            return False
        return not self.skipped & {rule, "all"}


def lint(
    dockerfile: Dockerfile,
    graph: Graph,
    *,
    check: str = "",
    ignore: Ignore | None = None,
    base: Callable[[str], Base | None] = lambda _name: None,
) -> tuple[list[Warning], Rules]:
    """The warnings, in the order of lines, and the rules that counted.

    check: options instead of the directive's. ignore: of the context. base: what is known of an image; of None
    nothing is, and its stages' variables are not looked at. Raises InvalidInput for a wrong check directive.
    """
    rules = Rules(check or dockerfile.check, where=dockerfile.name)
    found = _Lint(dockerfile, graph, ignore, base).warnings()
    kept = {(one.first, one.rule, one.detail): one for one in found if rules.count(one.rule)}
    return sorted(kept.values(), key=lambda one: one.first), rules


class _Lint:
    """One look at one file."""

    def __init__(
        self, dockerfile: Dockerfile, graph: Graph, ignore: Ignore | None, base: Callable[[str], Base | None]
    ) -> None:
        self.dockerfile, self.graph, self.ignore, self.base = dockerfile, graph, ignore, base
        self.lines = {line.number: line for line in dockerfile.lines}
        self.environments: dict[int, dict[str, str] | None] = {}

    def warn(self, rule: str, line: int, detail: str) -> Warning:
        return Warning(rule=rule, detail=detail, first=line, last=self.lines[line].last)

    def warnings(self) -> Iterator[Warning]:
        yield from self._casing()
        head = [step for step in map(self._instruction, self.dockerfile.lines) if step is not None]
        head = head[: next((index for index, step in enumerate(head) if step.keyword == "FROM"), len(head))]
        for step in head:
            yield from self._argument(step)
        for line in self.dockerfile.lines:
            if line.hollow:
                yield self.warn("NoEmptyContinuation", line.number, "Empty continuation line")
            if line.keyword == "MAINTAINER":
                text = "Maintainer instruction is deprecated in favor of using label"
                yield self.warn("MaintainerDeprecated", line.number, text)
        names: set[str] = set()
        for stage in self.graph.stages:
            yield from self._from(stage, names, head)
        needed = self.graph.needed()
        for stage in self.graph.stages:
            if stage.number in needed:
                yield from self._stage(stage)

    def _instruction(self, line: Line) -> Instruction | None:
        try:
            return instruction(line, name=self.dockerfile.name, escape=self.dockerfile.escape)
        except VelociError:
            return None

    def _casing(self) -> Iterator[Warning]:
        lines = [line for line in self.dockerfile.lines if line.word]
        lower = sum(line.word == line.word.lower() for line in lines)
        upper = sum(line.word == line.word.upper() for line in lines)
        wanted, called = (str.lower, "lowercase") if lower > upper else (str.upper, "uppercase")
        for line in lines:
            if line.word != wanted(line.word):
                detail = f"Command '{line.word}' should match the case of the command majority ({called})"
                yield self.warn("ConsistentInstructionCasing", line.number, detail)

    def _argument(self, step: Instruction) -> Iterator[Warning]:
        for name, _ in step.pairs if step.keyword in ("ARG", "ENV") else ():
            if _SECRET.search(name) and not _HARMLESS.search(name):
                detail = f'Do not use ARG or ENV instructions for sensitive data ({step.keyword} "{name}")'
                yield self.warn("SecretsUsedInArgOrEnv", step.line, detail)
        if step.keyword == "ARG":
            yield from self._described(step.line, "ARG", [name for name, _ in step.pairs])

    def _described(self, number: int, what: str, names: list[str]) -> Iterator[Warning]:
        comment = self.lines[number].comment
        if comment and names and comment.split(" ")[0] not in names:
            example = names[0] if len(names) == 1 else "<arg_key>"
            detail = f"Comment for {what} should follow the format: `# {example} <description>`"
            yield self.warn("InvalidDefinitionDescription", number, detail)

    def _from(self, stage: Stage, names: set[str], head: list[Instruction]) -> Iterator[Warning]:
        start, line = stage.start, self.lines[stage.start.line]
        words = line.rest.split()
        words = [word for word in words if not word.startswith("--")]
        if len(words) == 3:
            keyword, name = words[1], words[2]
            if name != name.lower():
                yield self.warn("StageNameCasing", line.number, f"Stage name '{name}' should be lowercase")
            upper, lower = line.word == line.word.upper(), line.word == line.word.lower()
            if (lower and keyword != keyword.lower()) or (upper and not lower and keyword != keyword.upper()):
                detail = f"'{keyword}' and '{line.word}' keywords' casing do not match"
                yield self.warn("FromAsCasing", line.number, detail)
        if stage.name == "context":
            detail = 'Stage name should not use the same name as reserved stage "context"'
            yield self.warn("ReservedStageName", line.number, detail)
        if stage.name and stage.name in names:
            detail = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield self.warn("DuplicateStageName", line.number, detail)
        names.add(stage.name)
        if stage.name:
            yield from self._described(line.number, "FROM", [stage.name])
        yield from self._from_words(stage, start, head)

    def _from_words(self, stage: Stage, start: Instruction, head: list[Instruction]) -> Iterator[Warning]:
        known, escape = dict(self.graph.arguments), self.graph.escape
        declared = {name for step in head for name, _ in step.pairs}
        for text in (start.words[0], start.flag("platform")):
            for name in expand.missing(text, known, escape=escape):
                detail = f"FROM argument '{name}' is not declared{_meant(name, {*known, *declared})}"
                yield self.warn("UndefinedArgInFrom", start.line, detail)
        defaults = {name: value for name, value in known.items() if name not in declared}
        for step in head:
            for name, value in step.pairs:
                defaults[name] = expand.word(value or "", defaults, escape=escape)
        if not _is_reference(expand.word(start.words[0], defaults, escape=escape)):
            detail = f"Default value for ARG {start.words[0]} results in empty or invalid base image name"
            yield self.warn("InvalidDefaultArgInFrom", start.line, detail)
        yield from self._platform(stage, start)

    def _platform(self, stage: Stage, start: Instruction) -> Iterator[Warning]:
        text = start.flag("platform")
        if text in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            detail = f"Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            yield self.warn("RedundantTargetPlatform", start.line, detail)
        elif text and "$" not in text:
            parts = text.split("/")
            if not any(part in stage.name for part in parts[:2]):
                detail = f'FROM --platform flag should not use constant value "{text}"'
                yield self.warn("FromPlatformFlagConstDisallowed", start.line, detail)
        if isinstance(stage.base, str) and stage.base != SCRATCH:
            found, wanted = self.base(stage.base), stage.platform or self.graph.arguments.get("TARGETPLATFORM", "")
            if found and found.platform and found.platform.split("/")[:2] != wanted.split("/")[:2]:
                detail = (
                    f'Base image {stage.base} was pulled with platform "{found.platform}", '
                    f'expected "{wanted}" for current build'
                )
                yield self.warn("InvalidBaseImagePlatform", start.line, detail)

    def _stage(self, stage: Stage) -> Iterator[Warning]:
        variables = self._inherited(stage)
        declared: set[str] = set()
        shell = moved = False
        last: dict[str, int] = {}
        for step in stage.steps:
            yield from self._argument(step)
            if variables is not None:
                yield from self._variables(step, variables, declared)
            shell |= step.keyword == "SHELL"
            typed = self.lines[step.line].word
            if step.keyword in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
                if step.keyword in last:
                    detail = (
                        f"Multiple {typed} instructions should not be used in the same stage because only the last "
                        "one will be used"
                    )
                    yield self.warn("MultipleInstructionsDisallowed", last[step.keyword], detail)
                last[step.keyword] = step.line
            if step.keyword in ("CMD", "ENTRYPOINT") and step.words and not step.json and not shell:
                detail = f"JSON arguments recommended for {typed} to prevent unintended behavior related to OS signals"
                yield self.warn("JSONArgsRecommended", step.line, detail)
            if step.keyword == "WORKDIR":
                path = expand.word(step.words[0], variables or {}, escape=self.graph.escape)
                if not moved and not path.startswith("/") and (variables is not None or "$" not in step.words[0]):
                    detail = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    yield self.warn("WorkdirRelativePath", step.line, detail)
                moved = True
            yield from self._words(step)
            self._learn(step, variables, declared)
        self.environments[stage.number] = variables

    def _inherited(self, stage: Stage) -> dict[str, str] | None:
        """The variables that a stage begins with; None when its base is not known."""
        path = {"PATH": "/usr/bin"} | dict.fromkeys(PROXIES, "")
        if isinstance(stage.base, int):
            found = self.environments.get(stage.base)
            return None if found is None else dict(found)
        if stage.base == SCRATCH:
            return path
        known = self.base(stage.base)
        return None if known is None else path | known.environment

    def _variables(self, step: Instruction, variables: Mapping[str, str], declared: set[str]) -> Iterator[Warning]:
        texts: list[str] = []
        if step.keyword in _EXPANDED:
            texts += [*step.words, *(value or "" for _, value in step.pairs)]
            texts += [value for name, value in step.flags if name in ("chown", "chmod", "from")]
        elif step.keyword == "ARG":
            texts += [value or "" for _, value in step.pairs]
        elif step.keyword == "RUN":
            texts += list(step.every("mount"))
        for text in texts:
            try:
                names = expand.missing(text, variables, escape=self.graph.escape)
            except InvalidInput:
                continue  # the build says it
            for name in names:
                if name not in declared:
                    detail = f"Usage of undefined variable '${name}'{_meant(name, variables, '$')}"
                    yield self.warn("UndefinedVar", step.line, detail)

    def _learn(self, step: Instruction, variables: dict[str, str] | None, declared: set[str]) -> None:
        if step.keyword == "ARG":
            declared.update(name for name, _ in step.pairs)
        if variables is not None and step.keyword in ("ARG", "ENV"):
            for name, default in step.pairs:
                value = self.graph.arguments.get(name) if default is None else default
                if value is not None:
                    variables[name] = value

    def _words(self, step: Instruction) -> Iterator[Warning]:
        line = self.lines[step.line]
        if step.keyword in ("ENV", "LABEL") and "=" not in line.rest.split(None, 1)[0]:
            detail = f'"{line.word} key=value" should be used instead of legacy "{line.word} key value" format'
            yield self.warn("LegacyKeyValueFormat", step.line, detail)
        if step.keyword == "EXPOSE":
            for word in step.words:
                port, slash, protocol = word.partition("/")
                if slash and protocol != protocol.lower():
                    detail = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                    yield self.warn("ExposeProtoCasing", step.line, detail)
                if ":" in port and "$" not in port:
                    detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                    yield self.warn("ExposeInvalidFormat", step.line, detail)
        if step.keyword in ("ADD", "COPY") and not step.flag("from"):
            yield from self._ignored(step)

    def _ignored(self, step: Instruction) -> Iterator[Warning]:
        if self.ignore is None or self.ignore.returns:
            return
        heredocs = {heredoc.word for heredoc in step.heredocs}
        for word in step.words[:-1]:
            path = normpath("/" + word).lstrip("/")
            if word in heredocs or "://" in word or "$" in word or not path:
                continue
            if self.ignore.rule(path):
                detail = f'Attempting to {step.keyword.capitalize()} file "{path}" that is excluded by .dockerignore'
                yield self.warn("CopyIgnoredFile", step.line, detail)


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except InvalidInput:
        return False
    return True


def _meant(name: str, known: Mapping[str, str] | set[str], prefix: str = "") -> str:
    """` (did you mean X?)` for the nearest name that at most two letters are between."""
    best, least = "", 3
    for other in sorted(known):
        distance = _distance(name, other)
        if 0 < distance < least:
            best, least = other, distance
    return f" (did you mean {prefix}{best}?)" if best else ""


def _distance(one: str, two: str) -> int:
    """How many letters are to be added, taken away or changed (Levenshtein)."""
    before = list(range(len(two) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, other in enumerate(two, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (letter != other)))
        before = now
    return before[-1]


def shown(warning: Warning, source: list[str], name: str) -> str:
    """A warning with its lines in their surroundings, as buildkit prints it."""
    url = warning.url()
    first, last = warning.first, min(warning.last, len(source))
    lines = [
        f"WARNING: {warning.rule}{f' - {url}' if url else ''}",
        warning.detail,
        f"{name}:{warning.first}",
        "-" * 20,
    ]
    pad, more = (4 if first == last else 2), 0
    start, end = first, last
    while more < pad:
        if start > 1:
            start, more = start - 1, more + 1
        if end < len(source):
            end, more = end + 1, more + 1
        more += 1
    for number in range(start, end + 1):
        mark = ">>>" if first <= number <= last else "   "
        lines.append(f" {number:3} | {mark} {source[number - 1]}")
    return "\n".join([*lines, "-" * 20])
