"""inspect: docker's JSON, templates on it, and what is said of what is not there."""

import json

import pytest
from peers import tar

from veloci.cli.inspect import typed
from veloci.cli.main import main
from veloci.cli.template import Template


@pytest.fixture
def ran(roots, capsys):
    path = roots / "rootfs.tar"
    path.write_bytes(tar({"etc/text": b"hello\n"}))
    assert main(["import", "-c", "LABEL tier=web", "-c", "ENV A=1", str(path), "app:v0"]) == 0
    capsys.readouterr()

    def run(*words):
        status = main(["inspect", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_an_image_is_an_object_in_a_list(ran):
    status, out, err = ran("--type", "image", "app:v0")
    assert (status, err) == (0, "")
    [found] = json.loads(out)
    assert found["RepoTags"] == ["app:v0"]
    assert found["Config"]["Env"] == ["A=1"]
    assert out.startswith('[\n    {\n        "Id": "sha256:')


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.RepoTags}}", "[app:v0]"),
        ('{{index .Config.Labels "tier"}}', "web"),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "tier=web"),
        ("{{json .Config.Volumes}}", "null"),
        ("{{len .RootFS.Layers}}", "1"),
        ("{{.Config.Env}}\\t{{.Os}}", "[A=1]\tlinux"),
    ],
)
def test_a_template_on_an_image(ran, template, text):
    assert ran("--type", "image", "-f", template, "app:v0") == (0, text + "\n", "")


def test_a_field_that_no_image_has_is_an_error(ran):
    status, out, err = ran("--type", "image", "-f", "{{.Nonsense}}", "app:v0")
    assert (status, out) == (1, "")
    assert err.startswith("veloci: template parsing error: template: :1:2: executing")


def test_json_is_one_line(ran):
    status, out, _err = ran("--type", "image", "-f", "json", "app:v0")
    assert status == 0
    assert out.count("\n") == 1
    assert json.loads(out)[0]["RepoTags"] == ["app:v0"]


@pytest.mark.parametrize("kind", ["image", "network"])
def test_what_is_not_there_is_an_empty_list_and_a_line(ran, kind):
    status, out, err = ran("--type", kind, "nope")
    assert (status, out) == (1, "[]\n")
    assert err.startswith(f"veloci: no such {kind}: nope\n")


def test_what_is_there_is_shown_beside_what_is_not(ran):
    status, out, err = ran("--type", "image", "nope", "app:v0")
    assert status == 1
    assert [each["RepoTags"] for each in json.loads(out)] == [["app:v0"]]
    assert err.startswith("veloci: no such image: nope\n")


def test_an_unknown_type_is_refused(ran):
    assert ran("--type", "secret", "x") == (
        1,
        "",
        "veloci: --type: 'secret' is not a valid value for --type\n  try: container, image, network, volume\n",
    )


def test_maps_give_no_value_and_structs_an_error():
    data = typed({"State": {"Pid": 7}, "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": "8080"}]}}})
    ports = '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}'
    assert Template("{{.State.Pid}} " + ports).render(data) == "7 8080"
    assert Template("{{.NetworkSettings.Ports.none}}").render(data) == "<no value>"
