"""`veloci help` and `veloci version`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.cli.options import Usage


def help(*words: str) -> int:
    """Show what veloci does, or what a command does and takes.

    WORDS are a command's name: run, network create.
    """
    from veloci.cli.main import ALIASES, COMMANDS, GROUPS
    from veloci.cli.output import show
    from veloci.errors import InvalidInput

    name = " ".join(words)
    name = ALIASES.get(name, name)
    if not name:
        show(_overview(list(COMMANDS)))
    elif name in COMMANDS:
        show(usage(name).help() + "\n")
    elif name in GROUPS:
        show(_group(name))
    else:
        raise InvalidInput(f"no command {name!r}", hint="veloci --help")
    return 0


def version(*, short: bool = False, format: str | None = None) -> int:
    """Show veloci's version, and what it runs on.

    --short                `veloci version X` and nothing more, as `veloci --version`
    -f, --format TEMPLATE  json, or a Go template: .Version .PythonVersion .Os .Arch .KernelVersion
    """
    from veloci import __version__

    if short:
        print(f"veloci version {__version__}")
        return 0
    import sys
    from os import uname

    from veloci.cli.output import formatted, show
    from veloci.spec.platform import host

    found = {
        "Version": __version__,
        "PythonVersion": sys.version.partition(" ")[0],
        "Os": host().os,
        "Arch": host().architecture,
        "KernelVersion": uname().release,
    }
    if format:
        show(formatted([_both(found)], format, ""))
        return 0
    names = ("Version:", "Python version:", "OS/Arch:", "Kernel:")
    values = (__version__, found["PythonVersion"], f"{found['Os']}/{found['Arch']}", found["KernelVersion"])
    show("veloci\n" + "".join(f" {name:<16}{value}\n" for name, value in zip(names, values, strict=True)))
    return 0


def usage(name: str) -> Usage:
    """How the command of this name in COMMANDS is called; its module is imported."""
    import sys

    from veloci.cli.main import COMMANDS
    from veloci.cli.options import Usage

    module, _, attribute = COMMANDS[name].partition(":")
    __import__(f"veloci.cli.{module}")
    return Usage(getattr(sys.modules[f"veloci.cli.{module}"], attribute), f"veloci {name}")


def _both(found: dict[str, str]) -> dict[str, object]:
    """The fields, also below Client and Server, where docker has them: here one program is both."""
    from veloci.cli.template_print import Record

    return {**found, "Client": Record(found), "Server": Record(found)}


def _overview(names: list[str]) -> str:
    """Every command with the first line of its help."""
    head = (
        "Usage: veloci [--root DIR] [--runroot DIR] [--snapshotter NAME] COMMAND\n\n"
        "Builds, ships, opens, runs and connects containers, without a daemon.\n\n"
    )
    tail = (
        "\nOptions:\n"
        "  --root DIR           where images and containers are kept (VELOCI_ROOT)\n"
        "  --runroot DIR        where what a reboot may lose is kept (VELOCI_RUN)\n"
        "  --snapshotter NAME   how layers that come are kept: erofs, overlay or copy (VELOCI_SNAPSHOTTER);\n"
        "                       without it as the store has chosen: veloci info\n"
        "  -v, --version        show the version\n"
        "\nveloci COMMAND --help says more about a command.\n"
    )
    return f"{head}Commands:\n{_lines(names)}{tail}"


def _group(group: str) -> str:
    """The commands of a group: those named after it, and those that have another name in it."""
    from veloci.cli.main import ALIASES, COMMANDS

    names = sorted({name for name in (*COMMANDS, *ALIASES) if name.startswith(group + " ")})
    return f"Usage: veloci {group} COMMAND\n\nCommands:\n{_lines(names)}"


def _lines(names: list[str]) -> str:
    """A line for each command that this installation has: its name, and the first line of its help."""
    from importlib.util import find_spec

    from veloci.cli.main import ALIASES, COMMANDS

    known = {name: ALIASES.get(name, name) for name in names}
    here = [name for name in names if find_spec(f"veloci.cli.{COMMANDS[known[name]].partition(':')[0]}")]
    width = max(map(len, names)) + 3
    firsts = [(name, (usage(known[name]).command.__doc__ or "").strip()) for name in here]
    return "".join(f"  {name:<{width}}{text.partition(chr(10))[0]}\n" for name, text in firsts)
