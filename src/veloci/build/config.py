"""What instructions do to an image's configuration and history. Pure.

https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
"""

from __future__ import annotations

from posixpath import join, normpath
from typing import TYPE_CHECKING

from veloci.build import expand
from veloci.errors import InvalidInput
from veloci.spec import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from veloci.build.instructions import Instruction

    Json = dict[str, Any]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ("/bin/sh", "-c")
COMMENT = "veloci.dockerfile.v0"
_KEPT = ("architecture", "os", "variant", "os.version", "os.features", "author")


class Configuration:
    """The configuration of a stage as it grows, with the variables that its next instruction sees.

    arguments: the stage's declared ARGs that have a value, in the order of their declaration.
    given: what --build-arg passed. known: what was set before the first FROM.
    """

    def __init__(self, base: Json, *, given: Mapping[str, str], known: Mapping[str, str], escape: str) -> None:
        """base: an image's configuration, or a stage's."""
        self.head: Json = {key: base[key] for key in _KEPT if key in base}
        self.config: Json = dict(base.get("config") or {})
        self.history: list[Json] = list(base.get("history") or ())
        self.first = len(self.history)  # what follows is this build's
        self.arguments: dict[str, str] = {}
        self.given, self.known, self.escape = given, known, escape
        self._has_command = False
        if not any(entry.startswith("PATH=") for entry in self.config.get("Env") or ()):
            self.config["Env"] = [*(self.config.get("Env") or ()), f"PATH={PATH}"]

    @property
    def environment(self) -> dict[str, str]:
        """The image's ENV."""
        pairs = (entry.partition("=") for entry in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def variables(self) -> dict[str, str]:
        """What `$NAME` finds: ENV wins over ARG, as documented."""
        return self.arguments | self.environment

    @property
    def workdir(self) -> str:
        """The working directory, absolute."""
        return self.config.get("WorkingDir") or "/"

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs an instruction in shell form."""
        return tuple(self.config.get("Shell") or SHELL)

    def triggers(self) -> list[str]:
        """The base's ONBUILD instructions, taken out of the configuration."""
        return list(self.config.pop("OnBuild", None) or ())

    def absolute(self, path: str) -> str:
        """`path` from the working directory, clean."""
        return normpath(join(self.workdir, path)).replace("//", "/")

    def word(self, text: str, step: Instruction) -> str:
        """`text` of `step` with its variables replaced."""
        return expand.word(text, self.variables, escape=self.escape, where=step.where)

    def command(self, step: Instruction) -> list[str]:
        """The arguments of a RUN, CMD or ENTRYPOINT; those in shell form behind the shell."""
        return list(step.words) if step.json else [*self.shell, *step.words]

    def note(self, text: str, *, empty: bool = True) -> None:
        """Add an entry to the history; when it was made is settled at the end."""
        self.history.append({"created_by": text, "comment": COMMENT, **({"empty_layer": True} if empty else {})})

    def apply(self, step: Instruction) -> None:
        """Do what a configuration-only instruction says. Raises InvalidInput with its line."""
        self.note(_HANDLERS[step.keyword](self, step))

    def document(self, created: Sequence[str], diff_ids: Sequence[str], *, fallback: str) -> Json:
        """The whole configuration, in docker's order of keys.

        created: when each layer of this build was made, RFC 3339, base's left out. fallback: for a build without.
        An entry without a layer takes the time of the layer before it, so a cached build gives the same bytes.
        """
        times = iter(created)
        base = next((entry["created"] for entry in reversed(self.history[: self.first]) if entry.get("created")), "")
        now = created[0] if created else base or fallback
        history = self.history[: self.first]
        for entry in self.history[self.first :]:
            now = now if entry.get("empty_layer") else next(times)
            history.append({"created": now, **entry})
        head = dict(self.head)
        author = {"author": head.pop("author")} if "author" in head else {}
        config = {key: value for key, value in self.config.items() if value is not None}
        return {
            "created": now,
            **author,
            **head,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": history,
        }


def _env(image: Configuration, step: Instruction) -> str:
    # Every value sees the variables as they were before this line.
    pairs = [(image.word(name, step), image.word(value or "", step)) for name, value in step.pairs]
    image.config["Env"] = [f"{name}={value}" for name, value in (image.environment | dict(pairs)).items()]
    return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)


def _label(image: Configuration, step: Instruction) -> str:
    pairs = [(image.word(name, step), image.word(value or "", step)) for name, value in step.pairs]
    image.config["Labels"] = (image.config.get("Labels") or {}) | dict(pairs)
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def _arg(image: Configuration, step: Instruction) -> str:
    words: list[str] = []
    for name, default in step.pairs:
        value = image.known.get(name) if default is None else image.word(default, step)
        value = image.given.get(name, value)
        if value is not None:
            image.arguments[name] = value
        words.append(name if value is None else f"{name}={value}")
    return "ARG " + " ".join(words)


def _cmd(image: Configuration, step: Instruction) -> str:
    words = image.command(step) if step.words else []
    image.config["Cmd"] = words or None
    image._has_command = True
    return f"CMD {_quoted(words)}"


def _entrypoint(image: Configuration, step: Instruction) -> str:
    words = image.command(step) if step.words else []
    image.config["Entrypoint"] = words
    if not image._has_command:
        image.config["Cmd"] = None
    return f"ENTRYPOINT {_quoted(words)}"


def _expose(image: Configuration, step: Instruction) -> str:
    ports: list[str] = []
    for word in step.words:
        for text in expand.words(word, image.variables, escape=image.escape, where=step.where):
            ports += _ports(text, step)
    known: Json = image.config.get("ExposedPorts") or {}
    image.config["ExposedPorts"] = known | {port: {} for port in sorted(ports)}
    return f"EXPOSE [{' '.join(ports)}]"


def _ports(text: str, step: Instruction) -> list[str]:
    """`80`, `53/UDP`, `8000-8010` as the configuration spells them."""
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    first, dash, last = numbers.rpartition(":")[2].partition("-")
    last = last if dash else first
    right = all(number.isdecimal() and int(number) < 65536 for number in (first, last))
    if not right or protocol not in ("tcp", "udp", "sctp") or int(first) > int(last):
        raise InvalidInput(f"invalid port {text!r}", where=step.where, hint="EXPOSE PORT[-PORT][/tcp|udp|sctp]")
    return [f"{number}/{protocol}" for number in range(int(first), int(last) + 1)]


def _volume(image: Configuration, step: Instruction) -> str:
    paths = [image.word(word, step) for word in step.words]
    image.config["Volumes"] = (image.config.get("Volumes") or {}) | {path: {} for path in paths}
    return f"VOLUME [{' '.join(paths)}]"


def _user(image: Configuration, step: Instruction) -> str:
    image.config["User"] = image.word(step.words[0], step)
    return f"USER {image.config['User']}"


def _stop_signal(image: Configuration, step: Instruction) -> str:
    import signal

    text = image.word(step.words[0], step)
    name = text.upper().removeprefix("SIG").partition("+")[0].partition("-")[0]
    known = hasattr(signal, f"SIG{name}") or (text.isdecimal() and 0 < int(text) < 65)
    if not known:
        raise InvalidInput(f"invalid signal {text!r}", where=step.where, hint="a name such as SIGTERM, or a number")
    image.config["StopSignal"] = text
    return f"STOPSIGNAL {text}"


def _shell(image: Configuration, step: Instruction) -> str:
    image.config["Shell"] = list(step.words)
    return f"SHELL [{' '.join(step.words)}]"


def _maintainer(image: Configuration, step: Instruction) -> str:
    image.head["author"] = step.words[0]
    return f"MAINTAINER {step.words[0]}"


def _on_build(image: Configuration, step: Instruction) -> str:
    text = "\n".join([step.words[0], *(f"{heredoc.content}{heredoc.name}" for heredoc in step.heredocs)])
    image.config["OnBuild"] = [*(image.config.get("OnBuild") or ()), text]
    return f"ONBUILD {step.words[0]}"


def _health(image: Configuration, step: Instruction) -> str:
    test = list(step.words)
    found: Json = {"Test": test}
    for flag, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        if text := step.flag(flag):
            found[key] = _nanoseconds(text, flag, step)
    if retries := step.flag("retries"):
        if not retries.isdecimal():
            raise InvalidInput(f"--retries {retries!r} is not a whole number", where=step.where)
        found["Retries"] = int(retries)
    image.config["Healthcheck"] = {key: value for key, value in found.items() if value}
    times = ("Interval", "Timeout", "StartPeriod", "StartInterval")
    shown = [f"{key}:{duration.shown(found.get(key, 0))}" for key in times]
    return f"HEALTHCHECK {{Test:[{' '.join(test)}] {' '.join(shown)} Retries:{found.get('Retries', 0)}}}"


def _nanoseconds(text: str, flag: str, step: Instruction) -> int:
    value = duration.parse(text)
    if value is None:
        raise InvalidInput(f"--{flag} {text!r} is not a duration", where=step.where, hint="write it as 30s or 1m30s")
    if value < duration.MILLISECOND and value:
        raise InvalidInput(f"--{flag} cannot be less than 1ms", where=step.where)
    return value


def _quoted(words: Sequence[str]) -> str:
    """As Go prints a list of strings with %q: `["java" "-jar"]`."""
    from veloci.spec.document import dumps

    return f"[{' '.join(dumps(word).decode() for word in words)}]"


_HANDLERS: dict[str, Callable[[Configuration, Instruction], str]] = {
    "ARG": _arg,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}
