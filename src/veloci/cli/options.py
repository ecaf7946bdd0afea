"""A function's signature as its option table, its docstring as its help.

    def run(image: str, /, *command: str, detach: bool = False,
            env: tuple[str, ...] = (), memory: str | None = None) -> int:
        \"\"\"Run a command in a new container.

        -d, --detach         run in the background, print the container's ID
        -e, --env KEY=VALUE  set an environment variable; may be repeated
        -m, --memory SIZE    at most this much memory (512m, 2g)
        \"\"\"

Before `/`: positional arguments, those with a default may be left out. `*name`: the
rest; called `command`, the first of them ends the options (`veloci run img ls -l`),
else options may stand anywhere (`veloci rm web -f`). After `*`: options; bool takes no
value (--tty=false turns it off), tuple repeats, the last of a str or int wins. A
docstring line gives an option's one-letter and other names. An option whose type is a
Document is a group: each of its fields is an option, its docstring describes them, and
the command gets one value, so that several commands share one list. No argparse: it
costs 10 ms and cannot stop at the image.
"""

from __future__ import annotations

from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

_MISUSE = 125  # docker's exit status when an option is wrong, whatever the command


def open_streams() -> None:
    """Have the null device at each of 0, 1 and 2 that the caller has closed.

    What is opened first would have that number, and be taken for a standard stream: ours, or a container's.
    """
    import sys

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            import posix

            null = posix.open("/dev/null", posix.O_RDWR)
            if null == number:
                posix.set_inheritable(null, True)
            else:
                posix.dup2(null, number)
                posix.close(null)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 -- to the end


def leave(status: int) -> NoReturn:
    """End the process with `status`, without taking the interpreter apart: that costs 1 to 15 ms."""
    import posix
    import sys

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = 141  # as a program that SIGPIPE ended
    sys.stderr.flush()
    if exits := sys.modules.get("atexit"):
        exits._run_exitfuncs()
    posix._exit(status)


class Usage:
    """How a command is called, read from its function."""

    def __init__(self, command: Callable[..., int | None], program: str) -> None:
        code = command.__code__
        kinds = command.__annotations__
        self.command, self.program = command, program
        self.positional = code.co_varnames[: code.co_posonlyargcount]
        self.required = len(self.positional) - len(command.__defaults__ or ())
        end = code.co_argcount + code.co_kwonlyargcount
        self.kinds: dict[str, str] = {}
        self.groups: dict[str, Any] = {}  # an argument that is a group -> its class
        names = code.co_varnames[code.co_argcount : end]
        for name in names:
            group = command.__globals__.get(kinds[name])
            if hasattr(group, "_names"):
                self.groups[name] = group
            else:
                self.kinds[name] = str(kinds[name]).removesuffix(" | None")
        self.needed = [name for name in self.kinds if name not in (command.__kwdefaults__ or {})]
        for group in self.groups.values():
            self.kinds |= {name: str(kind).removesuffix(" | None") for name, kind in group.__annotations__.items()}
        self.rest = code.co_varnames[end] if code.co_flags & 0x04 else ""  # CO_VARARGS: it has a *rest
        self.flags = {f"--{_spelled(name)}": name for name in self.kinds}
        for words in _option_lines(self.text()):
            known = next((self.flags[word] for word in words if word in self.flags), None)
            if known:
                self.flags.update(dict.fromkeys(words, known))

    def line(self) -> str:
        """How to call it, in one line: `veloci rm [OPTIONS] CONTAINER [CONTAINER...]`."""
        words = [self.program, "[OPTIONS]"] if self.kinds else [self.program]
        for index, name in enumerate(self.positional):
            word = _spelled(name).upper()
            words.append(word if index < self.required else f"[{word}]")
        if self.rest == "command":
            words.append("[COMMAND] [ARG...]")
        elif self.rest:
            words.append(f"[{self.rest.rstrip('s').upper()}...]")
        return " ".join(words)

    def help(self) -> str:
        """The whole help text."""
        return f"Usage: {self.line()}\n\n{self.text()}"

    def text(self) -> str:
        """What the docstrings say: the command's, and of each group's what follows its first paragraph."""
        texts = [self.command.__doc__ or ""]
        texts += [(group.__doc__ or "").partition("\n\n")[2] for group in self.groups.values()]
        first, *others = [text.strip() for text in texts if text.strip()]
        if others and "\n\n" not in first:
            first += "\n"
        lines = "\n".join([first, *others]).splitlines()
        return "\n".join(line.removeprefix("    ") for line in lines)

    def grouped(self, chosen: dict[str, object]) -> dict[str, object]:
        """The arguments of the command from what was `chosen` of all options."""
        found = dict(chosen)
        for argument, group in self.groups.items():
            found[argument] = group(**{name: found.pop(name) for name in group.__annotations__ if name in found})
        return found


def call(command: Callable[..., int | None], words: Sequence[str], *, program: str, named: bool = False) -> int:
    """Call `command` with what `words` say. Returns its exit status.

    program: what the user typed to get here, for messages. named: the help begins with the name, as runc's.
    Raises InvalidInput naming the word.
    """
    usage = Usage(command, program)
    positional: list[str] = []
    chosen: dict[str, object] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if usage.rest == "command" and len(positional) == len(usage.positional):
            positional += [word, *queue]
            break
        if word == "--":
            positional += queue
            break
        if word in ("--help", "-h") and word not in usage.flags:
            if named:
                print(f"NAME:\n   {program} - {usage.text().splitlines()[0]}\n")
            print(usage.help())
            return 0
        if word.startswith("-") and word != "-":
            _option(word, queue, usage, chosen)
        else:
            positional.append(word)
    if len(positional) < usage.required or (len(positional) > len(usage.positional) and not usage.rest):
        raise InvalidInput(
            f"takes {usage.line().removeprefix(program).removeprefix(' [OPTIONS]').strip() or 'no arguments'}",
            where=program.partition(" ")[2],
            hint=f"{program} --help",
            exit_status=1,
        )
    for name in usage.needed:
        if name not in chosen:
            raise InvalidInput("is needed", where=f"--{_spelled(name)}", hint=f"{program} --help", exit_status=1)
    return command(*positional, **usage.grouped(chosen)) or 0


def _spelled(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _option_lines(text: str) -> list[list[str]]:
    """The names on each line of `text` that describes an option: [["-e", "--env"], …]."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0].startswith("-"):
            names = []
            for word in words:
                if not word.startswith("-"):
                    break
                names.append(word.rstrip(","))
                if not word.endswith(","):
                    break
            found.append(names)
    return found


def _option(word: str, queue: list[str], usage: Usage, chosen: dict[str, object]) -> None:
    """Put what `word` means into `chosen`, taking its value from `queue` if it needs one."""
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
        flag, cluster = word[:2], word[2:]
    else:
        cluster = ""
    name = usage.flags.get(flag, "")
    if not name:
        from veloci.cli.refused import refusal

        unknown = InvalidInput("unknown option", where=flag, hint=f"{usage.program} --help", exit_status=_MISUSE)
        raise refusal(usage.program, flag) or unknown
    kind = usage.kinds[name]
    if cluster:  # -it is -i -t; -eA=1 and -e=A=1 are -e A=1
        if kind == "bool" and not cluster.startswith("="):
            queue.insert(0, "-" + cluster)
            equals = ""
        else:
            equals, value = "=", cluster.removeprefix("=")
    if kind == "bool":
        chosen[name] = not equals or _truth(value, flag)
        return
    if not equals:
        if not queue:
            raise InvalidInput(
                "flag needs an argument", where=flag, hint=f"{usage.program} --help", exit_status=_MISUSE
            )
        value = queue.pop(0)
    chosen[name] = _value(kind, value, flag, chosen.get(name, ()))


def _truth(value: str, flag: str) -> bool:
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise InvalidInput(f"{value!r} is neither true nor false", where=flag, exit_status=_MISUSE)


def _value(kind: str, value: str, flag: str, earlier: object) -> object:
    if kind.startswith("int"):
        try:
            return int(value)
        except ValueError:
            raise InvalidInput(f"{value!r} is not a whole number", where=flag, exit_status=_MISUSE) from None
    if kind.startswith("tuple"):
        return (*earlier, value) if isinstance(earlier, tuple) else (value,)
    return value
