import pytest

from veloci.cli.options import Usage, call
from veloci.errors import InvalidInput
from veloci.spec.document import Document


def run(
    image: str,
    /,
    *command: str,
    interactive: "bool" = False,
    tty: "bool" = False,
    env: "tuple[str, ...]" = (),
    number: "int" = 0,
    network: "str | None" = None,
) -> "int":
    """Run it.

    -i, --interactive      keep standard input open
    -t, --tty              a terminal
    -e, --env KEY=VALUE    set a variable
    -n, --number N         how many
    --network, --net NAME  which network
    """
    SEEN.append((image, command, interactive, tty, env, number, network))
    return 3


def remove(container: str, /, *containers: str, force: "bool" = False) -> None:
    """Remove.

    -f, --force  also when it runs
    """
    SEEN.append((container, containers, force))


def store(source: str, name: str = "none", /) -> None:
    """Store."""
    SEEN.append((source, name))


class Limits(Document):
    """What two commands take.

    -m, --memory SIZE  how much
    --tag NAME         a name; may be repeated
    """

    memory: "str | None" = None
    tag: "tuple[str, ...]" = ()


def update(container: str, /, *, force: "bool" = False, limits: "Limits" = Limits()) -> None:  # noqa: B008
    """Change.

    -f, --force  now
    """
    SEEN.append((container, force, limits))


SEEN: list = []


@pytest.fixture(autouse=True)
def _forget():
    SEEN.clear()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("img", ("img", (), False, False, (), 0, None)),
        ("-it img ls -l", ("img", ("ls", "-l"), True, True, (), 0, None)),
        ("-e A=1 --env B=2 -eC=3 img", ("img", (), False, False, ("A=1", "B=2", "C=3"), 0, None)),
        ("--number 5 --tty=false img", ("img", (), False, False, (), 5, None)),
        ("-tn5 --net host img", ("img", (), False, True, (), 5, "host")),
        ("img -- --env", ("img", ("--", "--env"), False, False, (), 0, None)),
    ],
)
def test_words_become_arguments(words, expected):
    assert call(run, words.split(), program="veloci run") == 3
    assert [expected] == SEEN


def test_options_may_follow_when_no_command_does():
    assert call(remove, ["a", "-f", "b"], program="veloci rm") == 0
    assert SEEN == [("a", ("b",), True)]


def test_a_default_makes_an_argument_optional():
    call(store, ["-"], program="veloci import")
    call(store, ["-", "x"], program="veloci import")
    assert SEEN == [("-", "none"), ("-", "x")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "run: takes IMAGE [COMMAND] [ARG...]"),
        ("--nope img", "--nope: unknown option"),
        ("-x img", "-x: unknown option"),
        ("--number x img", "--number: 'x' is not a whole number"),
        ("--tty=maybe img", "--tty: 'maybe' is neither true nor false"),
        ("--number", "--number: flag needs an argument"),
    ],
)
def test_wrong_words_are_named(words, message):
    with pytest.raises(InvalidInput) as failure:
        call(run, words.split(), program="veloci run")
    assert str(failure.value) == message
    assert not SEEN


def test_help_is_the_docstring_under_a_usage_line(capsys):
    assert call(remove, ["--help"], program="veloci rm") == 0
    assert capsys.readouterr().out == (
        "Usage: veloci rm [OPTIONS] CONTAINER [CONTAINER...]\n\nRemove.\n\n-f, --force  also when it runs\n"
    )
    assert Usage(store, "veloci import").line() == "veloci import SOURCE [NAME]"


def test_a_group_of_options_is_one_value():
    assert call(update, ["-m", "5m", "a", "--tag", "x", "--tag=y", "-f"], program="veloci update") == 0
    call(update, ["a"], program="veloci update")
    assert [("a", True, Limits(memory="5m", tag=("x", "y"))), ("a", False, Limits())] == SEEN
    assert Usage(update, "veloci update").help() == (
        "Usage: veloci update [OPTIONS] CONTAINER\n\nChange.\n\n-f, --force  now\n"
        "-m, --memory SIZE  how much\n--tag NAME         a name; may be repeated"
    )


def test_an_option_without_a_default_is_needed():
    def attach(name: str, /, *, kind: str) -> None:
        """Attach.

        --kind KIND  what it is
        """

    with pytest.raises(InvalidInput) as failure:
        call(attach, ["x"], program="veloci attach")
    assert (str(failure.value), failure.value.hint) == ("--kind: is needed", "veloci attach --help")
    assert call(attach, ["x", "--kind", "y"], program="veloci attach") == 0
