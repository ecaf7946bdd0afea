"""The program: options before the command, the command, and its failure in runC's words."""

from __future__ import annotations

import posix
import sys

from veloci.cli.options import call, leave, open_streams
from veloci.errors import HostError, InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from veloci.runtime.container import Container

OPTIONS = {
    "root": True,
    "log": True,
    "log-format": True,
    "debug": False,
    "explain": False,
    "rootless": True,
    "criu": True,
    "systemd-cgroup": False,
}
_PREFIX = {"create": "{} create failed: ", "run": "{} run failed: ", "exec": "exec failed: "}  # {}: the program's name
_FAILURE = {"exec": 255}
# command -> module beside this one, function
COMMANDS = {
    "checkpoint": ("checkpoint", "checkpoint"),
    "create": ("create", "create"),
    "delete": ("control", "delete"),
    "events": ("events", "events"),
    "exec": ("exec", "exec_"),
    "features": ("about", "features"),
    "help": ("about", "help_"),
    "kill": ("control", "kill"),
    "list": ("show", "list_"),
    "pause": ("control", "pause"),
    "plan": ("plan", "plan"),
    "ps": ("show", "ps"),
    "restore": ("checkpoint", "restore"),
    "resume": ("control", "resume"),
    "run": ("create", "run"),
    "spec": ("about", "spec"),
    "start": ("control", "start"),
    "state": ("show", "state"),
    "update": ("update", "update"),
    "version": ("about", "version"),
}
_chosen: dict[str, str] = {}
_name = "veloci-runtime"


def called() -> str:
    """The name that this program was called by: runc's, where it stands in its place."""
    return _name


def command(name: str) -> Callable[..., int]:
    """The function behind the command `name`. Raises InvalidInput if there is none."""
    if name not in COMMANDS:
        raise InvalidInput(f"No help topic for {name!r}", hint=f"{_name} --help", exit_status=3)
    module, function = COMMANDS[name]
    found: Callable[..., int] = getattr(__import__(f"veloci.cli.oci.{module}", fromlist=[function]), function)
    return found


def program() -> NoReturn:
    """Run the command line of this process, and end it."""
    global _name
    _name = sys.argv[0].rpartition("/")[2] or _name
    open_streams()
    leave(main())


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    name = ""
    try:
        rest = _globals(list(sys.argv[1:] if words is None else words))
        name = rest.pop(0)
        name = "help" if name == "h" else name
        function = command(name)
        if name != "exec":  # Go's flags may have one dash: containerd sends -no-subreaper
            rest = [f"-{word}" if word[:1] == "-" and len(word) > 3 and word[1:3].isalpha() else word for word in rest]
        if log := _chosen.get("log"):
            open(log, "ab").close()
        debug(f"{name} {' '.join(rest)}")
        status = call(function, rest, program=f"{_name} {name}", named=True)
        debug(f"{name} ended with status {status}")
        return status
    except VelociError as error:
        return _failed(name, error)
    except BrokenPipeError:
        return 141  # as a program that SIGPIPE ended
    except OSError as error:
        if error.filename is not None and error.filename == _chosen.get("log"):
            del _chosen["log"]  # say it to stderr
        return _failed(name, HostError.unforeseen(error))
    except KeyboardInterrupt:
        return 130


def _failed(name: str, error: VelociError) -> int:
    """Say it as runc's callers look for it. Returns the exit status; runc's is 3 for a command that there is not."""
    made = name in _PREFIX and str(error).startswith("exec: ")
    _report(
        _PREFIX.get(name, "").format(_name) + ("unable to start container process: " if made else "") + str(error),
        error.hint,
    )
    if "explain" in _chosen:
        from veloci.runtime.remedy import explained

        for line in explained(error):
            print(f"  {line}", file=sys.stderr)
    return 3 if error.exit_status == 3 else _FAILURE.get(name, 1)


def _globals(words: list[str]) -> list[str]:
    """Take the options before the command."""
    _chosen.clear()
    while words and words[0].startswith("-"):
        flag, equals, value = words.pop(0).partition("=")
        option = flag.lstrip("-")
        if option in ("version", "v"):
            return ["version"]
        if option in ("help", "h"):
            return ["help"]
        if option not in OPTIONS:
            raise InvalidInput("unknown option", where=flag, hint=f"{_name} --help")
        if OPTIONS[option] and not equals:
            if not words:
                raise InvalidInput("flag needs an argument", where=flag)
            value = words.pop(0)
        _chosen[option] = value
    _refuse()
    return words or ["help"]


def _refuse() -> None:
    """Name what is asked of all commands and cannot be done."""
    if _chosen.get("rootless", "auto") not in ("auto", "true", "false"):
        raise InvalidInput(f"{_chosen['rootless']!r} is none of auto, true and false", where="--rootless")
    if _chosen.get("log-format", "text") not in ("text", "json"):
        raise InvalidInput(f"invalid log-format: {_chosen['log-format']!r}", where="--log-format", hint="text or json")


def _report(message: str, hint: str) -> None:
    """To the log as logrus writes it, and in one line to stderr."""
    message = "".join(c if c.isprintable() else "; " if c == "\n" else f"\\x{ord(c):02x}" for c in message)
    if "log" in _chosen:
        _log("error", message)
    named = "log" in _chosen or message.startswith(f"{_name} ")  # as in `runc create failed`
    print(message if named else f"{_name}: {message}", file=sys.stderr)
    if hint and "log" not in _chosen:
        print(f"  try: {hint}", file=sys.stderr)


def debug(*messages: str) -> None:
    """Tell, if --debug asks for it, what has been done; in runc's words where its callers look for them."""
    if "debug" in _chosen:
        for message in messages:
            _log("debug", message)


def warn(message: str) -> None:
    """Log a warning."""
    _log("warning", message)


def _log(level: str, message: str) -> None:
    """A line in the log, or on stderr, in logrus's form."""
    from time import gmtime, strftime

    from veloci.spec.document import dumps

    time = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    if _chosen.get("log-format") == "json":
        line = dumps({"level": level, "msg": message, "time": time})
    else:
        quoted = message.replace("\\", "\\\\").replace('"', '\\"')
        line = f'time="{time}" level={level} msg="{quoted}"'.encode()
    path = _chosen.get("log")
    try:
        # Standard error as it is: /dev/stderr may be another user's file, or a socket, which none can open.
        file = posix.open(path, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC, 0o666) if path else 2
        try:
            posix.write(file, line + b"\n")
        finally:
            if path:
                posix.close(file)
    except OSError as error:  # a full disk stops no container: logrus too says so and goes on
        print(f"{_name}: write the log: {error.strerror}", file=sys.stderr)


def root() -> str:
    """The directory of all containers' state."""
    from veloci.runtime.container import ROOT

    if given := _chosen.get("root"):
        return given
    own = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode()
    return f"{own}/veloci-runtime" if own and rootless() else ROOT


def rootless() -> bool:
    """Whether containers are made without privilege over the host: --rootless, or as it is for who calls."""
    given = _chosen.get("rootless", "auto")
    return posix.geteuid() != 0 if given == "auto" else given == "true"


def value(flag: str, otherwise: str) -> str:
    """The value of the option `flag` before the command."""
    return _chosen.get(flag, otherwise)


def chosen(flag: str) -> bool:
    """Whether the switch `flag` stands before the command."""
    return _chosen.get(flag, "false") != "false"


def load(id: str) -> Container:
    """The container `id`. Raises NotFound, InvalidInput."""
    from veloci.runtime.container import Container

    return Container.load(id, root=root())
