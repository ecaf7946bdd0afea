"""buildkit's checks, each broken and each kept; https://docs.docker.com/reference/build-checks/."""

import pytest

from veloci.build.graph import graph
from veloci.build.ignore import Ignore
from veloci.build.lint import Base, lint, shown
from veloci.build.parse import parse
from veloci.errors import InvalidInput
from veloci.spec.platform import Platform

AMD64 = Platform(architecture="amd64", os="linux")
ARM64 = Base(environment={"GOPATH": "/go"}, platform="linux/arm64")


def warned(text, ignore="", **options):
    dockerfile = parse(text.encode())
    outline = graph(dockerfile, platform=AMD64, host=AMD64)
    rules = Ignore.read(ignore.encode(), name=".dockerignore")
    return lint(dockerfile, outline, ignore=rules, **options)[0]


def short(text, **options):
    return [one.short() for one in warned(text, **options)]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("FROM a AS Base", "StageNameCasing: Stage name 'Base' should be lowercase (line 1)"),
        ("FROM a as base", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"),
        ("from a AS base", "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"),
        ("FROM a\nRUN x \\\n\n  y", "NoEmptyContinuation: Empty continuation line (line 2)"),
        ("FROM a\nRun x", "ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (uppercase) (line 2)"),
        ("from a\nrun x\nRUN y", "ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase) (line 3)"),
        ("FROM a AS b\nFROM c AS b", 'DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)'),
        ("FROM a AS context", 'ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 1)'),
        ("FROM a\nCMD x", "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)"),
        ("FROM a\nENTRYPOINT x", "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals (line 2)"),
        ("FROM a\nMAINTAINER me", "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"),
        ("ARG VARIANT=1\nFROM a:${VARIAN}x", "UndefinedArgInFrom: FROM argument 'VARIAN' is not declared (did you mean VARIANT?) (line 2)"),
        ("FROM scratch\nWORKDIR app", 'WorkdirRelativePath: Relative workdir "app" can have unexpected results if the base image changes (line 2)'),
        ("FROM scratch\nARG foo\nCOPY $fo .", "UndefinedVar: Usage of undefined variable '$fo' (line 3)"),
        ("FROM scratch\nENV DIR=/x\nCOPY a $DIRR", "UndefinedVar: Usage of undefined variable '$DIRR' (did you mean $DIR?) (line 3)"),
        ('FROM a\nCMD ["x"]\nCMD ["y"]', "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)"),
        ("FROM a\nENV k v", 'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)'),
        ("FROM a\nLABEL k v", 'LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format (line 2)'),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)"),
        ("FROM a\nARG API_TOKEN", 'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_TOKEN") (line 2)'),
        ("FROM a\nENV password=x", 'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "password") (line 2)'),
        ("ARG TAG=x y\nARG BASE=A:b:c\nFROM a", ""),
        ("FROM --platform=linux/arm64 a", 'FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64" (line 1)'),
        ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)"),
        ("FROM a\nEXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 2)"),
    ],
)  # fmt: skip
def test_each_rule_has_buildkits_words(text, warning):
    assert short(text + "\n") == ([warning] if warning else [])


@pytest.mark.parametrize(
    "text",
    [
        'FROM a AS base\nWORKDIR /x\nWORKDIR y\nCMD ["x"]',
        'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x',
        "FROM scratch\nARG A\nENV PATH=$PATH:/x B=$A\nCOPY x $B\nCOPY y $HTTP_PROXY/",
        "FROM a\nCOPY x $anything",
        "FROM --platform=linux/arm64 a AS build-arm64",
        "ARG V=1\nFROM a:$V\nARG PUBLIC_KEY\nENV TOKEN_FILE=/x",
        "FROM a AS b\nCMD x\nFROM c",
        "FROM a\nEXPOSE 80 8000-8010/udp $PORTS",
        "FROM a\nRUN x \\\n# why\n  y",
    ],
)  # fmt: skip
def test_what_is_right_is_not_warned_of(text):
    assert short(text + "\n") == []


def test_the_base_images_variables_and_platform_count():
    text = "FROM go\nCOPY x $GOPATH\nCOPY y $GOROOT\n"
    assert short(text, base=lambda _name: Base(environment={"GOPATH": "/go"}, platform="linux/amd64")) == [
        "UndefinedVar: Usage of undefined variable '$GOROOT' (line 3)"
    ]
    assert short("FROM go\n", base=lambda _name: ARM64) == [
        'InvalidBaseImagePlatform: Base image go was pulled with platform "linux/arm64", expected "linux/amd64" for current build (line 1)'
    ]


def test_a_default_that_names_no_image_is_warned_of():
    dockerfile = parse(b"ARG NAME\nFROM busybox${NAME}:A:b\n")
    outline = graph(parse(b"ARG NAME\nFROM a\n"), platform=AMD64, host=AMD64)
    outline = outline.replace(
        stages=(outline.stages[0].replace(start=outline.stages[0].start.replace(words=("b:A:b",))),)
    )
    assert [one.rule for one in lint(dockerfile, outline)[0]] == ["InvalidDefaultArgInFrom"]


def test_copies_of_what_is_ignored_are_warned_of():
    text = "FROM a\nCOPY Dockerfile .\nADD ./tmp/x .\nCOPY . /\nCOPY --from=b Dockerfile /\n"
    assert short(text, ignore="Dockerfile\ntmp\n") == [
        'CopyIgnoredFile: Attempting to Copy file "Dockerfile" that is excluded by .dockerignore (line 2)',
        'CopyIgnoredFile: Attempting to Add file "tmp/x" that is excluded by .dockerignore (line 3)',
    ]
    assert short(text, ignore="*\n!Dockerfile\n") == []


def test_the_check_directive_chooses():
    text = "# check=skip=JSONArgsRecommended,StageNameCasing\nFROM a AS B\nCMD x\nMAINTAINER y\n"
    assert [one.rule for one in warned(text)] == ["MaintainerDeprecated"]
    assert warned("# check=skip=all\nFROM a AS B\n") == []
    described = "# which one\nARG version=latest\n# base is first\nFROM a AS base\n"
    assert warned(described) == []
    assert short("# check=experimental=all\n\n" + described) == [
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# version <description>` (line 4)"
    ]
    assert warned("FROM a AS B\n", check="skip=StageNameCasing") == []
    with pytest.raises(InvalidInput, match=r"^Dockerfile: invalid check option 'nope'$"):
        warned("# check=nope\nFROM a\n")


def test_a_warning_is_shown_with_its_lines():
    text = "FROM a\nRUN x\nCMD x \\\n  y\n"
    (one,) = warned(text)
    assert shown(one, text.split("\n"), "Dockerfile") == (
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:3\n--------------------\n"
        "   2 |     RUN x\n   3 | >>> CMD x \\\n   4 | >>>   y\n   5 |     \n--------------------"
    )
