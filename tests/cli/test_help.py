"""help and version: what there is, without importing what is not asked for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from peers import veloci

import veloci as package
from veloci.cli.help import usage
from veloci.cli.main import ALIASES, COMMANDS, main
from veloci.cli.oci import main as oci
from veloci.cli.options import Usage


def test_the_version_is_one_line():
    assert veloci("--version") == veloci("-v") == veloci("version", "--short")
    assert veloci("--version") == f"veloci version {package.__version__}\n"


def test_the_version_imports_almost_nothing():
    code = (
        f"import sys; sys.path.insert(0, {package.__path__[0].removesuffix('/veloci')!r})\n"
        "from veloci.cli.main import main\n"
        "main(['--version']); print(*sorted(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True).stdout
    modules = set(out.splitlines()[1].split())
    assert {name for name in modules if name.startswith("veloci")} == {
        "veloci",
        "veloci.cli",
        "veloci.cli.help",
        "veloci.cli.main",
        "veloci.cli.options",
        "veloci.errors",
    }
    assert modules & {"re", "json", "typing", "enum", "argparse", "pathlib", "threading", "subprocess", "rich"} == set()


def test_the_version_says_what_it_runs_on(capsys):
    assert main(["version"]) == 0
    lines = [line.split(":")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["veloci", "Version", "Python version", "OS/Arch", "Kernel"]


@pytest.mark.parametrize("template", ["{{.Version}}", "{{.Client.Version}}", "{{.Server.Version}}"])
def test_the_version_by_a_template(capsys, template):
    assert main(["version", "--format", template]) == 0
    assert capsys.readouterr().out == f"{package.__version__}\n"


def test_every_command_is_listed_with_a_line(capsys):
    assert main(["help"]) == 0
    listed = {line[2:].partition("  ")[0]: line for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
    here = {name for name, home in COMMANDS.items() if find_spec(f"veloci.cli.{home.partition(':')[0]}")}
    assert here == listed.keys() & COMMANDS.keys()
    for name in here:
        assert listed[name].rstrip().endswith("."), name


@pytest.mark.parametrize("words", [["help", "rmi"], ["rmi", "--help"], ["rmi", "-h"], ["help", "image", "rm"]])
def test_the_help_of_a_command(capsys, words):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: veloci rmi [OPTIONS] IMAGE [IMAGE...]"
    assert "-f, --force  also all names of an image given by its ID, and images that stopped containers use" in lines


@pytest.mark.parametrize("words", [["network"], ["network", "--help"], ["help", "network"]])
def test_the_help_of_a_group(capsys, words):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: veloci network COMMAND\n\nCommands:\n")
    shown = [line[2:].partition("  ")[0] for line in out.splitlines() if line[:2] == "  "]
    assert shown == sorted(name for name in (*COMMANDS, *ALIASES) if name.startswith("network "))


def test_an_unknown_command_is_said(capsys):
    assert main(["help", "nonsense"]) == 1
    assert capsys.readouterr().err == "veloci: no command 'nonsense'\n  try: veloci --help\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_how_it_is_used(capsys, name):
    assert main([*name.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: veloci {name}")
    assert [flag for flag in usage(name).flags if flag not in out] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_refused_by_every_command_with_dockers_status(capsys, name):
    assert main([*name.split(), "--nonsense"]) == 125
    assert capsys.readouterr() == ("", f"veloci: --nonsense: unknown option\n  try: veloci {name} --help\n")


def test_without_words_the_commands_are_listed(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: veloci ")


@pytest.mark.parametrize("name", oci.COMMANDS)
def test_every_command_of_the_runtime_tells_how_it_is_used(capsys, name):
    known = Usage(oci.command(name), f"veloci-runtime {name}")
    assert oci.main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"NAME:\n   veloci-runtime {name} - ")
    assert f"\nUsage: veloci-runtime {name}" in out
    described = {word.rstrip(",") for line in out.splitlines() if "  " in line.strip() for word in line.split()}
    assert set(known.flags) - described == set()


def test_the_runtime_lists_its_commands_and_options(capsys):
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert oci.main(words) == 0
        listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
        assert set(oci.COMMANDS) | {f"--{name}" for name in oci.OPTIONS} <= listed
