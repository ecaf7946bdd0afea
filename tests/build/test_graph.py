"""Instructions are checked before anything runs; stages are known by name, number and use."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.build.graph import graph
from veloci.build.parse import parse
from veloci.errors import InvalidInput, NotFound, Unsupported, VelociError
from veloci.spec import platform

AMD, ARM = platform.parse("linux/amd64"), platform.parse("linux/arm64")


def read(text, **options):
    return graph(parse(text.encode()), platform=ARM, host=AMD, **options)


TWO = "FROM jdk AS Build\nRUN x\nFROM other AS unused\nFROM jre\nCOPY --from=build /a /b\n"


def test_only_the_stages_that_the_target_uses_are_needed():
    found = read(TWO)
    assert [stage.title() for stage in found.stages] == ["build", "unused", "stage-2"]
    assert found.target == 2
    assert found.needed() == (0, 2)


def test_a_stage_is_chosen_by_name_or_number():
    assert read(TWO, target="BUILD").needed() == (0,)
    assert read(TWO, target="1").needed() == (1,)
    with pytest.raises(NotFound, match="no build stage 'nope'") as caught:
        read(TWO, target="nope")
    assert caught.value.hint == "--target takes one of: build, unused"


def test_a_stage_stands_on_a_stage_and_an_unknown_name_is_an_image():
    found = read("FROM a AS base\nFROM Base AS next\nFROM later\nFROM scratch AS later")
    assert [stage.base for stage in found.stages] == ["a", 0, "later", "scratch"]


def test_from_uses_the_arguments_before_it():
    text = "ARG V=1\nARG I=img:$V\nFROM ${I}-x AS a\nFROM --platform=$BUILDPLATFORM tool:${TARGETARCH}\n"
    assert [stage.base for stage in read(text).stages] == ["img:1-x", "tool:arm64"]
    assert read(text).stages[1].platform == "linux/amd64"
    assert read(text, arguments={"V": "2"}).stages[0].base == "img:2-x"


def test_a_stage_is_used_through_an_argument_and_a_mount():
    text = "FROM a AS one\nFROM b AS two\nFROM c\nARG S=one\nCOPY --from=$S /x /\nRUN --mount=from=two,target=/m ls\n"
    assert read(text).needed() == (0, 1, 2)


def test_build_arguments_that_nobody_declares_are_told():
    assert read("FROM a\nARG X", arguments={"X": "1", "Y": "2", "HTTP_PROXY": "p"}).unused == ("Y",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\n\nRUNN x", "Dockerfile:3: unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM a\nXYZZY", "Dockerfile:2: unknown instruction: XYZZY"),
        ("RUN x\nFROM a", "Dockerfile:1: no build stage before RUN"),
        ("ARG A", "Dockerfile: there is no FROM"),
        ("FROM a b", "Dockerfile:1: FROM requires either one or three arguments"),
        ("FROM $X", "Dockerfile:1: base name ($X) should not be blank"),
        ("FROM a AS 1x", "Dockerfile:1: invalid name for build stage: '1x'"),
        (
            "FROM a\nCOPY x",
            "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --form=b x y", "Dockerfile:2: unknown flag: --form (did you mean --from?)"),
        ("FROM a\nCOPY --from=b --from=c x y", "Dockerfile:2: duplicate flag specified: from"),
        ("FROM a\nCOPY --chown x y", "Dockerfile:2: missing a value on flag: chown"),
        ("FROM a\nCOPY --link=maybe x y", "Dockerfile:2: expecting boolean value for flag link, not: maybe"),
        ("FROM a\nCOPY --from=3 x y", "Dockerfile:2: invalid from flag value 3: stage 3 is not before this one"),
        ('FROM a\nCMD ["x", 1]', "Dockerfile:2: only string type is allowed in JSON format arrays, got 1"),
        ("FROM a\nSHELL sh", "Dockerfile:2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nENV A", "Dockerfile:2: ENV must have two arguments"),
        ("FROM a\nENV A=1 B", "Dockerfile:2: can't find = in 'B'"),
        ("FROM a\nENV", "Dockerfile:2: ENV requires at least one argument"),
        ("FROM a\nRUN", "Dockerfile:2: RUN requires at least one argument"),
        ("FROM a\nUSER", "Dockerfile:2: USER requires exactly one argument"),
        ("FROM a\nHEALTHCHECK X", "Dockerfile:2: unknown type 'X' in HEALTHCHECK"),
        ("FROM a\nONBUILD FROM x", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD ONBUILD RUN x", "Dockerfile:2: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD COPPY x y", "Dockerfile:2: unknown instruction: COPPY (did you mean COPY?)"),
    ],
)
def test_a_mistake_is_told_with_its_line(text, message):
    with pytest.raises(InvalidInput) as caught:
        read(text).needed()
    assert str(caught.value) == message


def test_a_flag_that_cannot_be_honoured_is_refused():
    with pytest.raises(Unsupported, match=r"^Dockerfile:2: RUN --device is not supported yet$"):
        read("FROM a\nRUN --device=vendor.com/gpu=all x")


def test_json_and_shell_form_are_told_apart():
    steps = read('FROM a\nCMD ["a b", "c"]\nCMD [a b]\nCMD\nHEALTHCHECK CMD x y\nHEALTHCHECK CMD ["x"]').stages[0].steps
    assert [(step.words, step.json) for step in steps] == [
        (("a b", "c"), True),
        (("[a b]",), False),
        ((), False),
        (("CMD-SHELL", "x y"), False),
        (("CMD", "x"), True),
    ]


def test_the_old_form_of_env_takes_the_rest_of_the_line():
    (step,) = read("FROM a\nENV ONE TWO= THREE=world").stages[0].steps
    assert step.pairs == (("ONE", "TWO= THREE=world"),)


@given(st.text(max_size=120))
def test_whatever_text_follows_only_our_errors_come_out(text):
    with contextlib.suppress(VelociError):
        read("FROM a\n" + text).needed()
