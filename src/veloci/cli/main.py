"""Find the command, import its module, call it, print the failure."""

from __future__ import annotations

import sys

from veloci.errors import HostError, InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

# What is typed: module and function, below veloci.cli. Only the module asked for is imported.
COMMANDS = {
    "attach": "attach:attach",
    "artifact attach": "artifact:attach",
    "artifact copy": "artifact:copy",
    "artifact discover": "artifact:discover",
    "artifact pull": "artifact:pull",
    "artifact push": "artifact:push",
    "build": "build:build",
    "builder prune": "prune:builder",
    "catalog": "catalog:catalog",
    "container prune": "prune:container",
    "commit": "changes:commit",
    "copy": "copy:copy",
    "cp": "cp:cp",
    "create": "run:create",
    "delete": "delete:delete",
    "diff": "changes:diff",
    "digest": "digest:digest",
    "events": "events:events",
    "exec": "exec:exec",
    "explore": "explore:explore",
    "export": "export:export",
    "help": "help:help",
    "history": "images:history",
    "image annotate": "image_config:annotate",
    "image append": "image:append",
    "image blob": "image_read:blob",
    "image config": "image_config:config",
    "image convert": "image:convert",
    "image diff": "image_read:diff",
    "image export": "image:export",
    "image files": "image_read:files",
    "image flatten": "image:flatten",
    "image prune": "prune:image",
    "image new": "image:new",
    "image rebase": "image:rebase",
    "image recompress": "image:recompress",
    "image squash": "image:squash",
    "image stat": "image_read:stat",
    "image validate": "image_read:validate",
    "images": "images:images",
    "index add": "index:add",
    "index annotate": "index:annotate",
    "index create": "index:create",
    "index push": "index:push",
    "index remove": "index:remove",
    "import": "images:import_",
    "info": "info:info",
    "inspect": "inspect:inspect",
    "kill": "containers:kill",
    "list-tags": "list_tags:list_tags",
    "layout gc": "layout:gc",
    "layout init": "layout:init",
    "layout ls": "layout:ls",
    "layout rm": "layout:rm",
    "load": "archive:load",
    "login": "login:login",
    "logout": "login:logout",
    "logs": "logs:logs",
    "network attach": "network:attach",
    "network bridge": "network:bridge",
    "network create": "network:create",
    "network detach": "network:detach",
    "network inspect": "network:inspect",
    "network ls": "network:ls",
    "network namespace": "network:namespace",
    "network prune": "prune:network",
    "network rm": "network:rm",
    "network show": "network:show",
    "pause": "pause:pause",
    "port": "containers:port",
    "ps": "ps:ps",
    "pull": "pull:pull",
    "push": "push:push",
    "registry serve": "registry:serve",
    "rename": "containers:rename",
    "repack": "repack:repack",
    "restart": "containers:restart",
    "rm": "containers:rm",
    "rmi": "images:rmi",
    "run": "run:run",
    "save": "archive:save",
    "start": "containers:start",
    "stats": "stats:stats",
    "stop": "containers:stop",
    "system check": "system:check",
    "system df": "system:df",
    "system prune": "prune:system",
    "sync": "sync:sync",
    "tag": "images:tag",
    "top": "top:top",
    "unpack": "unpack:unpack",
    "unpause": "pause:unpause",
    "update": "update:update",
    "version": "help:version",
    "volume create": "volume:create",
    "volume inspect": "volume:inspect",
    "volume ls": "volume:ls",
    "volume prune": "volume:prune",
    "volume rm": "volume:rm",
    "wait": "containers:wait",
}
_CONTAINER = "attach create exec export inspect kill logs port rename restart rm run start stop wait"
ALIASES = {
    "builder build": "build",
    "buildx build": "build",
    "buildx prune": "builder prune",
    "container ls": "ps",
    "image ls": "images",
    "network list": "network ls",
    "network remove": "network rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    **{
        f"container {name}": name
        for name in (
            "attach commit cp create diff exec export inspect kill logs pause port rename restart rm run start stats "
            "stop top unpause update wait"
        ).split()
    },
    **{f"image {name}": name for name in "build history import inspect load pull push save tag".split()},
    "image rm": "rmi",
    "gc": "layout gc",
    "system info": "info",
    "stat": "image stat",
}
GROUPS = {name.partition(" ")[0] for name in (*COMMANDS, *ALIASES) if " " in name}
FAILURE = {"run": 125}  # docker's exit status when the engine fails; 1 for the others


def program() -> NoReturn:
    """Run the command line of this process, and end it."""
    import gc

    from veloci.cli.options import leave, open_streams

    open_streams()
    gc.set_threshold(20_000, 20, 50)  # a command makes little garbage: searching for it while we import takes 2 ms
    leave(main())


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns the exit status.

    words: the command line without the program's name; None takes sys.argv.
    """
    words = sys.argv[1:] if words is None else words
    name = ""
    try:
        name, rest = _split(_global_options(list(words)))
        return _function(name)(rest)
    except VelociError as error:
        complain(error)
        if error.exit_status is not None:
            return error.exit_status
        misuse = name == "create" and isinstance(error, InvalidInput) and error.where.startswith("-")
        return 125 if misuse else FAILURE.get(name, 1)  # docker's, when a flag's grammar is wrong
    except BrokenPipeError:
        return 141  # as a program that SIGPIPE ended
    except OSError as error:
        complain(HostError.unforeseen(error))
        return FAILURE.get(name, 1)
    except KeyboardInterrupt:
        return 130


def complain(error: VelociError) -> None:
    """Print what failed and what to do, each on a line, to standard error."""
    print(f"veloci: {escaped(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  try: {escaped(error.hint)}", file=sys.stderr)


def each(function: Callable[[str], None], words: Iterable[str]) -> int:
    """Call `function` for every word; a failure is printed and the others go on. Returns the exit status, 0 or 1."""
    status = 0
    for word in words:
        try:
            function(word)
        except VelociError as error:
            sys.stdout.flush()
            complain(error)
            status = 1 if error.exit_status is None else error.exit_status
    return status


def escaped(text: str) -> str:
    """`text` on one line, with every control character shown and none obeyed: it may come from a registry or a tar."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if c != "\n" else "; " for c in text)


def _global_options(words: list[str]) -> list[str]:
    """Take the options before the command: they choose our directories, and how layers are kept."""
    from os import environ

    variables = {"--root": "VELOCI_ROOT", "--runroot": "VELOCI_RUN", "--snapshotter": "VELOCI_SNAPSHOTTER"}
    while words and words[0].startswith("-"):
        flag, equals, value = words[0].partition("=")
        if flag in ("--version", "-v", "--help", "-h"):
            return ["version", "--short"] if flag in ("--version", "-v") else ["help", *words[1:]]
        if flag not in variables:
            raise InvalidInput("unknown option", where=flag, hint="veloci --help", exit_status=125)
        if not equals and len(words) < 2:
            needed = "a name" if flag == "--snapshotter" else "a directory"
            raise InvalidInput(f"needs {needed}", where=flag, hint="veloci --help", exit_status=125)
        value = value if equals else words[1]
        if flag == "--snapshotter":
            from veloci.snapshot.drivers import checked

            environ[variables[flag]] = checked(value)
        else:
            from os.path import abspath

            environ[variables[flag]] = abspath(value)
        words = words[1 if equals else 2 :]
    return words or ["help"]


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and its own words."""
    size = 2 if words[0] in GROUPS else 1
    name = " ".join(words[:size])
    name = ALIASES.get(name, name)
    if name in COMMANDS:
        return name, words[size:]
    if size == 2 and (len(words) == 1 or words[1].startswith("-")):
        return "help", [words[0]]
    raise InvalidInput(f"no command {name!r}", hint="veloci --help")


def _function(name: str) -> Callable[[list[str]], int]:
    """The command, imported, as a function of its words."""
    module, _, attribute = COMMANDS[name].partition(":")
    __import__(f"veloci.cli.{module}")
    command = getattr(sys.modules[f"veloci.cli.{module}"], attribute)
    from veloci.cli.options import call

    return lambda words: call(command, words, program=f"veloci {name}")
