"""docs/images.md beside the peers' own help: every command of theirs is on the page, and every option is there or ours.

What the page says to type instead is run, as it stands there.
"""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from peers import Built, Serving, digest, inside, run, tar

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
    return re.search(rf"^## {peer}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE).group(1)


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


# What the page's capital words stand for; {at} is a registry with images src, gone, img, base, base2 and an index, both.
PLACES = {
    "skopeo": {
        "SRC": "docker://{at}/src",
        "DST": "docker://{at}/dst",
        "IMAGE": "docker://{at}/gone",
        "REPOSITORY": "{at}/src",
        "FILE": "all.yaml",
    },
    "crane": {
        "SRC": "docker://{at}/src",
        "DST": "docker://{at}/dst",
        "IMAGE": "docker://{at}/img",
        "NAME": "{at}/img",
        "TAG": "two",
        "BASE": "{at}/base",
        "LAYER": "layer.tar",
        "PLACE": "oci:fresh:v0",
        "FILE": "file.tar",
        "A": "docker://{at}/base",
        "B": "docker://{at}/base2",
    },
    "oras": {
        "REF": "docker://{at}/ref",
        "FILE": "notes",
        "TYPE": "text/plain",
        "DIR": "out",
        "T": "example/t",
        "SRC": "docker://{at}/ref",
        "DST": "docker://{at}/dst",
        "NAME": "{at}/many",
        "IMAGE": "docker://{at}/img",
    },
    "umoci": {"DIR": "made", "TAG": "v0", "NEW": "v1", "BUNDLE": "bundle", "SRC": "src", "LAYER": "layer.tar"},
    "Beyond them": {
        "A": "docker://{at}/base",
        "B": "docker://{at}/base2",
        "IMAGE": "docker://{at}/img",
        "FILE": "page.html",
    },
}
# Where the page names no image, or not all of it.
ENDS = {
    "veloci artifact copy --referrers": "docker://{at}/ref docker://{at}/beside",
    "veloci catalog": "{at}",
    "veloci copy": "docker://{at}/img docker://{at}/img:three",
    "veloci copy --compress none": "docker://{at}/src dir:plain",
    "veloci copy --compress zstd:9": "docker://{at}/src docker://{at}/zstd",
    "veloci copy --platform linux/arm64/v8": "docker://{at}/both dir:arm",
    "veloci delete": "docker://{at}/gone",
    "veloci digest": "docker://{at}/img",
    "veloci image append": "docker://{at}/img layer.tar",
    "veloci image append --author a --comment c --created-by x": "oci:made:v0 layer.tar",
    "veloci image blob": "docker://{at}/base {config}",
    "veloci image config --author": "me oci:made:v0",
    "veloci image config --entrypoint": "/e oci:made:v0",
    "veloci image config --history-author a --history-comment c --history-created-by x": "oci:made:v0",
    "veloci image config --os linux --architecture arm64": "--to docker://{at}/arm docker://{at}/img",
    "veloci image config --to oci:DIR:NEW": "--env A=b oci:made:v0",
    "veloci image convert": "docker://{at}/img",
    "veloci image flatten": "--to docker://{at}/flat docker://{at}/img",
    "veloci image recompress": "docker://{at}/img",
    "veloci image squash -n 3": "--to docker://{at}/flat docker://{at}/img",
    "veloci index add": "docker://{at}/both docker://{at}/base2",
    "veloci index remove": "docker://{at}/both linux/arm64",
    "veloci inspect --raw": "docker://{at}/img",
    "veloci inspect --raw --config": "docker://{at}/img",
    "veloci list-tags": "{at}/img",
    "veloci repack": "bundle oci:made:v2",
    "veloci sync --creds": "a:b docker://{at}/src docker://{at}/known",
    "veloci unpack": "oci:made:v0 whole",
    "veloci unpack --raw": "oci:made:v0 raw",
}
# Where a word stands for two things, or for none.
INSTEAD = {
    "veloci sync docker://SRC dir:DST": "veloci sync docker://{at}/src dir:stick",
    "veloci image config --env A=b --label k=v --entrypoint … --user … IMAGE": "veloci image config --env A=b --label k=v --entrypoint /e --user u docker://{at}/img",
    "veloci image blob IMAGE DIGEST": "veloci image blob docker://{at}/base {config}",
    "veloci copy docker://A oci:DIRECTORY:A": "veloci copy docker://{at}/base oci:layout:base",
    "veloci artifact copy --referrers docker://REF oci:DIRECTORY:NAME": "veloci artifact copy --referrers docker://{at}/ref oci:kept:v0",
}
# Of a terminal, the store, a process that stays, another section.
ELSEWHERE = {"login", "login --get-login", "logout", "save A B", "registry serve", "layout rm"}
LAST = ("veloci delete", "veloci layout rm", "veloci layout gc")  # what takes away what others need


def written(name):
    """The commands of a section of the page, in its order."""
    found = list(dict.fromkeys(re.findall(r"`(veloci [^`]*)`", section(name))))
    found = [each for each in found if each.removeprefix("veloci ") not in ELSEWHERE]
    return sorted(found, key=lambda each: each.startswith(LAST))


def typed(text, name, **values):
    """The words after `veloci` of a command of the page, with real places for its capital words."""
    if text in INSTEAD:
        return shlex.split(INSTEAD[text].format(**values))[1:]

    def place(match):
        return match[1] + PLACES[name][match[2]].format(**values).removeprefix(match[1])

    real = re.sub(r"(docker://|)\b([A-Z]{2,}|[ABT])\b(?!=)", place, text.replace(" …", ""))
    return shlex.split(f"{real} {ENDS.get(text, '').format(**values)}")[1:]


def peer_sees(name, at):
    """What the section's commands have left is what a peer finds."""

    def inspected(place, *options):
        tls = ["--tls-verify=false"] if place.startswith("docker://") else []
        return json.loads(run("skopeo", "inspect", *tls, *options, place))

    if name == "skopeo":
        assert inspected("dir:stick/src:latest")["Digest"] == inspected(f"docker://{at}/dst")["Digest"]
        assert inspected("dir:arm", "--config")["architecture"] == "arm64"
        assert inspected(f"docker://{at}/dst/src")["Digest"] == inspected(f"docker://{at}/known/src")["Digest"]
        kinds = [layer["mediaType"] for layer in inspected(f"docker://{at}/zstd", "--raw")["layers"]]
        assert [kind.rpartition("+")[2] for kind in kinds] == ["zstd", "zstd"]
    elif name == "crane":
        config = inspected(f"docker://{at}/img", "--config")
        assert (config["config"]["User"], config["config"]["Labels"]) == ("u", {"k": "v"})
        assert inspected(f"docker://{at}/img")["RepoTags"] == ["latest", "two"]
        assert len(inspected(f"docker://{at}/flat")["Layers"]) == 1
        assert inspected(f"docker://{at}/dst/src")["Digest"] == inspected(f"docker://{at}/dst")["Digest"]
        assert inspected("oci:layout:base")["Digest"] == inspected(f"docker://{at}/base")["Digest"]
    elif name == "oras":
        assert Path("out/notes").read_text() == "text"
        raw = inspected(f"docker://{at}/ref", "--raw")
        assert inspected(f"docker://{at}/dst", "--raw") == inspected("oci:kept:v0", "--raw") == raw
        assert len(inspected(f"docker://{at}/many", "--raw")["manifests"]) == 1
    elif name == "umoci":
        assert sorted(run("umoci", "ls", "--layout", "made").split()) == ["v1", "v2"]
        run("umoci", "unpack", "--image", "made:v1", "theirs")
        assert Path("theirs/rootfs/target/file").read_text() == "5"
        assert Path("theirs/rootfs/etc/more").read_text() == "4"
        assert Path("theirs/rootfs/changed").read_text() == "bundle"
    else:
        assert Path("page.html").read_text().lower().startswith("<!doctype html>")


@pytest.mark.needs("root", "skopeo", "umoci")
@pytest.mark.parametrize("name", PLACES)
def test_what_the_page_says_to_type_does_it(roots, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    built = Built("here", [tar({"etc/base": b"1"}), tar({"old/file": b"2"})])
    Built("there", [tar({"etc/base": b"3"}), tar({"old/file": b"2"})])
    Built("arm", [tar({"etc/base": b"6"})], architecture="arm64")
    Path("layer.tar").write_bytes(tar({"etc/more": b"4", "etc/passwd": b"u:x:7:7::/:/bin/sh\n"}))
    Path("src").mkdir()
    Path("src/file").write_text("5")
    Path("notes").write_text("text")
    with Serving(tmp_path / "registry") as (at, _):
        for repository in ("src", "gone", "img", "base"):
            inside("copy", "-q", "oci:here:v0", f"docker://{at}/{repository}")
        inside("copy", "-q", "oci:there:v0", f"docker://{at}/base2")
        inside("index", "create", "-q", f"docker://{at}/both", "oci:here:v0", "oci:arm:v0")
        Path("all.yaml").write_text(f'"{at}":\n  tls-verify: false\n  images:\n    src: []\n')
        for text in written(name):
            words = typed(text, name, at=at, config=digest(built.config))
            done = inside(*words, check=False)
            assert done.returncode == 0, f"{text}: {words}: {done.stderr}"
            if words[0] == "unpack":
                Path(words[-1], "rootfs/changed").write_text(words[-1])
            if "image blob" in text:
                assert done.stdout.encode() == built.config
        peer_sees(name, at)
