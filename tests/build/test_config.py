"""What instructions make of a configuration; modes; mounts."""

import pytest

from veloci.build.config import Configuration
from veloci.build.graph import graph
from veloci.build.modes import mode
from veloci.build.parse import parse
from veloci.errors import InvalidInput
from veloci.spec import platform

HOST = platform.parse("linux/amd64")


def configured(text, base=None, **given):
    outline = graph(parse(f"FROM x\n{text}\n".encode()), platform=HOST, host=HOST, arguments=given)
    image = Configuration(base or {}, given=given, known=outline.arguments, escape="\\")
    for step in outline.stages[0].steps:
        image.apply(step)
    return image


def test_instructions_fill_the_configuration():
    image = configured(
        "ARG V=1\nENV A=$V B='x y'\nLABEL l=$A\nEXPOSE 80 53/UDP 8000-8001\nVOLUME [\"/d\"]\nUSER me\nSTOPSIGNAL SIGTERM\n"
        'SHELL ["/bin/bash", "-c"]\nCMD a b\nHEALTHCHECK --interval=1m30s --retries=2 CMD x\nMAINTAINER Me\nONBUILD RUN y'
    )
    found = image.config
    assert found["Env"][1:] == ["A=1", "B=x y"]
    assert found["Labels"] == {"l": "1"}
    assert sorted(found["ExposedPorts"]) == ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]
    assert (found["Volumes"], found["User"], found["StopSignal"]) == ({"/d": {}}, "me", "SIGTERM")
    assert found["Cmd"] == ["/bin/bash", "-c", "a b"]
    assert found["Healthcheck"] == {"Test": ["CMD-SHELL", "x"], "Interval": 90 * 10**9, "Retries": 2}
    assert found["OnBuild"] == ["RUN y"]
    assert image.head["author"] == "Me"


def test_values_of_one_line_see_what_was_before_it_and_env_wins_over_arg():
    image = configured("ENV A=1\nENV A=2 B=$A\nARG A=3\nENV C=$A", A="4")
    assert image.config["Env"][1:] == ["A=2", "B=1", "C=2"]


def test_an_entrypoint_clears_an_inherited_command_but_not_its_own():
    base = {"config": {"Cmd": ["old"]}}
    assert configured('ENTRYPOINT ["e"]', base).config["Cmd"] is None
    assert configured('CMD ["c"]\nENTRYPOINT ["e"]', base).config["Cmd"] == ["c"]


def test_an_entry_without_a_layer_takes_the_time_of_the_layer_before_it():
    base = {"history": [{"created": "2001-01-01T00:00:00Z", "created_by": "base"}]}
    image = configured("ENV A=1", base)
    image.note("RUN x", empty=False)
    image.note("CMD y")
    found = image.document(["2002-01-01T00:00:00Z"], ["sha256:x"], fallback="now")
    assert [entry["created"][:4] for entry in found["history"]] == ["2001", "2002", "2002", "2002"]
    assert [entry.get("empty_layer", False) for entry in found["history"]] == [False, True, False, True]
    assert found["created"] == "2002-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPOSE 99999", "Dockerfile:2: invalid port '99999'"),
        ("STOPSIGNAL NOPE", "Dockerfile:2: invalid signal 'NOPE'"),
        ("HEALTHCHECK --interval=1x CMD y", "Dockerfile:2: --interval '1x' is not a duration"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(text, message):
    with pytest.raises(InvalidInput) as caught:
        configured(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "old", "directory", "new"),
    [
        ("755", 0o600, False, 0o755),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("a+x,g-w", 0o664, False, 0o755),
        ("+t", 0o755, True, 0o1755),
    ],
)
def test_modes_are_octal_or_symbols(text, old, directory, new):
    assert mode(text, where="")(old, directory) == new
