"""docs/images.md beside the peers' own help: every command of theirs is on the page, and every option is there or ours."""

import importlib
import re
from pathlib import Path

import pytest
from peers import run

import veloci
from veloci.cli.main import ALIASES, COMMANDS
from veloci.cli.options import Usage

PAGE = Path(veloci.__path__[0]).parents[1] / "docs/images.md"
# A peer's command, and the one of ours whose options stand for its own.
SKOPEO = {
    "copy": "copy",
    "inspect": "inspect",
    "list-tags": "list-tags",
    "delete": "delete",
    "sync": "sync",
    "login": "login",
    "logout": "logout",
    "manifest-digest": "digest",
    "standalone-sign": "",
    "standalone-verify": "",
}
UMOCI = {
    "config": "image config",
    "unpack": "unpack",
    "repack": "repack",
    "new": "image new",
    "tag": "copy",
    "list": "layout ls",
    "remove": "layout rm",
    "stat": "stat",
    "gc": "layout gc",
    "init": "layout init",
    "insert": "image append",
    "raw unpack": "unpack",
    "raw add-layer": "image append",
    "raw runtime-config": "unpack",
}
EVERYWHERE = {"--help", "--image", "--layout"}  # of umoci, every image's place is one word
CASES = [("skopeo", *pair) for pair in SKOPEO.items()] + [("umoci", *pair) for pair in UMOCI.items()]


def section(peer):
    return re.search(rf"^## {peer}\n(.*?)(?=^## )", PAGE.read_text(), re.DOTALL | re.MULTILINE).group(1)


def options(peer, *words):
    return set(re.findall(r"^ +(?:-\w, )?(--[\w.-]+)", run(peer, *words, "--help"), re.MULTILINE))


def ours(name):
    name = ALIASES.get(name, name)
    module, _, attribute = COMMANDS[name].partition(":")
    return set(Usage(getattr(importlib.import_module(f"veloci.cli.{module}"), attribute), f"veloci {name}").flags)


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize(("peer", "command", "mine"), CASES)
def test_an_option_is_ours_too_or_the_page_says_what_to_do(peer, command, mine):
    text = section(peer)
    assert re.search(rf"`(umoci |skopeo )?{command}\b|`{peer} {command}\b", text)
    missing = options(peer, *command.split()) - (ours(mine) if mine else set()) - EVERYWHERE
    assert sorted(option for option in missing if not re.search(rf"{re.escape(option)}\b(?!-)", text)) == []


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize("peer", ["skopeo", "umoci"])
def test_a_global_option_is_ours_too_or_the_page_says_what_to_do(peer):
    text = section(peer)
    missing = options(peer) - {"--help", "--version"}
    assert sorted(option for option in missing if not re.search(rf"{re.escape(option)}\b(?!-)", text)) == []


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize(("peer", "known"), [("skopeo", SKOPEO), ("umoci", UMOCI)])
def test_no_command_of_theirs_is_left_out(peer, known):
    shown = re.findall(r"^ +([a-z][\w-]+)(?:, \w+)?  +\S", run(peer, "--help"), re.MULTILINE)
    assert set(shown) - {*known, "help", "raw"} - {"h"} == set()
