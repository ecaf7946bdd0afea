"""What `inspect`, `history`, `images` say of images of every kind, beside docker and skopeo."""

import gzip
import json
import sys

import pytest
from peers import Dockerd, Serving, digest, run, tar

pytestmark = pytest.mark.needs("root", "overlay", "docker", "dockerd", "skopeo")

HISTORY = [
    {"created": "2024-05-06T07:08:09.123456789Z", "created_by": "/bin/sh -c #(nop) ADD file:abc in / ", "comment": "a"},
    {"created": "2024-05-06T07:08:10Z", "created_by": "CMD", "empty_layer": True, "author": "me"},
    {"created": "2024-05-06T09:08:11+02:00", "created_by": 'RUN echo "<a&b>" # buildkit', "comment": "b"},
]
FULL = {
    "Hostname": "abc", "User": "1000:1000", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Env": ["PATH=/bin", "A=b c"],
    "Cmd": ["sh"], "ArgsEscaped": True, "Volumes": {"/data": {}, "/b": {}}, "WorkingDir": "/w", "Entrypoint": ["/e"],
    "OnBuild": ["RUN x"], "Labels": {"b": "2", "a": "1"}, "StopSignal": "SIGINT", "Shell": ["/bin/sh", "-c"],
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 90000000000, "Timeout": 1500000000, "Retries": 3},
}  # fmt: skip
NULLS = dict.fromkeys(("Cmd", "Entrypoint", "Env", "Labels", "Volumes", "OnBuild"))
IMAGES = {
    "scratch": ({"config": {}}, "oci", 0),
    "plain": ({"created": "2024-05-06T07:08:11.5Z", "author": "me <a@b>", "config": {"Cmd": ["sh"], "Labels": {"k": "v"}},
               "history": HISTORY}, "oci", 2),
    "full": ({"created": "2024-05-06T09:08:11+02:00", "docker_version": "20.10.1", "config": FULL, "history": HISTORY,
              "variant": "v2"}, "docker", 2),
    "nulls": ({"created": None, "config": NULLS, "history": [{"created": None, "created_by": "x"}]}, "docker", 1),
}  # fmt: skip
KINDS = {
    "oci": ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip"),
    "docker": ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
               "application/vnd.docker.image.rootfs.diff.tar.gzip"),
}  # fmt: skip
INDEX = "application/vnd.oci.image.index.v1+json"


def made(path, config, family, count):
    """A dir: of skopeo's with such an image: its manifest's entry in an index."""
    tars = [tar({f"file{n}": b"x" * (n + 1)}) for n in range(count)]
    layers = [gzip.compress(each, mtime=0) for each in tars]
    manifest_kind, config_kind, layer_kind = KINDS[family]
    document = {"architecture": "amd64", "os": "linux", **config}
    document["rootfs"] = {"type": "layers", "diff_ids": [digest(each) for each in tars]}
    raw_config = json.dumps(document).encode()

    def entry(raw, kind):
        return {"mediaType": kind, "digest": digest(raw), "size": len(raw)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_kind,
        "config": entry(raw_config, config_kind),
        "layers": [entry(layer, layer_kind) for layer in layers],
        **({"annotations": {"a<b": "c&d"}} if family == "oci" else {}),
    }
    raw = json.dumps(manifest).encode()
    path.mkdir()
    for blob in (raw_config, *layers):
        (path / digest(blob)[7:]).write_bytes(blob)
    (path / "manifest.json").write_bytes(raw)
    (path / "version").write_text("Directory Transport Version: 1.1\n")
    return entry(raw, manifest_kind), raw


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Images at a registry, in docker, in our store, and one in an index: name to address; docker's and our words."""
    path = tmp_path_factory.mktemp("described")
    with Serving(path / "registry") as (address, _), Dockerd(path / "d", "--insecure-registry", address) as docker:
        ours = [sys.executable, "-m", "veloci", "--root", str(path / "data"), "--runroot", str(path / "run")]
        names = {}
        entries = []
        for name, image in IMAGES.items():
            entry, raw = made(path / name, *image)
            names[name] = f"{address}/{name}:1"
            run("skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"dir:{path / name}",
                f"docker://{names[name]}")  # fmt: skip
            entries.append((entry, raw))
        several = path / "several"
        several.mkdir()
        for name in ("plain", "full"):
            for file in (path / name).iterdir():
                if len(file.name) == 64:
                    (several / file.name).write_bytes(file.read_bytes())
        (first, raw_first), (second, raw_second) = entries[1], entries[2]
        manifests = [
            {**first, "platform": {"architecture": "amd64", "os": "linux"}},
            {**second, "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}},
        ]
        for each, raw in ((first, raw_first), (second, raw_second)):
            (several / f"{each['digest'][7:]}.manifest.json").write_bytes(raw)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        (several / "manifest.json").write_text(json.dumps(index))
        (several / "version").write_text("Directory Transport Version: 1.1\n")
        names["several"] = f"{address}/several:1"
        run("skopeo", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", f"dir:{several}",
            f"docker://{names['several']}")  # fmt: skip
        for name in names.values():
            run(*docker, "pull", "-q", name)
            run(*ours, "pull", "-q", name)
        yield names, docker, ours


ALL = pytest.mark.parametrize("name", [*IMAGES, "several"])


@ALL
def test_an_image_has_dockers_fields(places, name):
    names, docker, ours = places
    theirs, mine = (json.loads(run(*words, "image", "inspect", names[name]))[0] for words in (docker, ours))
    for gone in ("Container", "ContainerConfig", "VirtualSize"):  # of docker 20.10; API 1.47 has them no longer
        theirs.pop(gone)
    del mine["Descriptor"]  # only newer ones have it
    for other in (theirs, mine):  # ours are the sizes of tars; layers are elsewhere
        del other["Size"], other["GraphDriver"], other["Metadata"]
    assert mine == theirs
    assert list(mine) == list(theirs)
    assert list(mine["Config"]) == list(theirs["Config"])


@ALL
@pytest.mark.parametrize(
    "template",
    [
        "{{.Created}}|{{.Variant}}|{{.OsVersion}}|{{.Author}}|{{.DockerVersion}}",
        "{{.Config.Labels}}|{{.Config.ExposedPorts}}|{{.Config.Volumes}}",
        "{{.Config.Env}}|{{.Config.Cmd}}|{{.Config.Entrypoint}}|{{.Config.OnBuild}}|{{.Config.Shell}}",
        "{{.Config.StopSignal}}|{{.Config.WorkingDir}}|{{.Config.User}}|{{.Config.ArgsEscaped}}",
        "{{if .Config.Healthcheck}}{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Timeout}}{{end}}",
        "{{if .Config.Healthcheck}}{{.Config.Healthcheck.Test}}{{else}}{{.Config.Healthcheck}}{{end}}",
        "{{json .Config.Env}} {{json .Config.Healthcheck}} {{json .RootFS}} {{json .Config.Labels}}",
        '{{index .Config.Labels "a"}}|{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}',
        "{{.RootFS.Layers}} {{len .RootFS.Layers}} {{range .RootFS.Layers}}{{.}},{{end}}",
        "{{.RepoTags}} {{.RepoDigests}} {{.Id}} {{.Os}}/{{.Architecture}}",
    ],
)
def test_templates_see_gos_values(places, name, template):
    names, docker, ours = places
    theirs, mine = (run(*words, "image", "inspect", "-f", template, names[name]) for words in (docker, ours))
    assert mine == theirs


@ALL
def test_the_history_is_dockers(places, name):
    names, docker, ours = places
    for form in ("{{.ID}}|{{.CreatedAt}}|{{.CreatedSince}}|{{.CreatedBy}}|{{.Comment}}", "{{json .}}", "json"):
        for more in ((), ("--no-trunc",)):
            lines = [
                run(*words, "history", *more, "--format", form, names[name]).splitlines() for words in (docker, ours)
            ]
            if "json" in form:
                lines = [[json.loads(line) | {"Size": ""} for line in each] for each in lines]
            assert lines[1] == lines[0]


def test_the_list_is_dockers(places):
    _, docker, ours = places
    form = "{{.Repository}}:{{.Tag}}|{{.ID}}|{{.CreatedAt}}|{{.CreatedSince}}|{{.Digest}}|{{.Containers}}"
    lists = [run(*words, "images", "--digests", "--format", form).splitlines() for words in (docker, ours)]
    assert sorted(lists[1]) == sorted(lists[0])
    dates = [line.split("|")[2] for line in lists[1]]
    assert dates == sorted(dates, reverse=True)  # also where one says it in another zone
    keys = [set(json.loads(run(*words, "images", "--format", "json").splitlines()[0])) for words in (docker, ours)]
    assert keys[1] == keys[0]


@ALL
def test_an_image_elsewhere_is_shown_as_skopeo_does(places, name):
    names, _, ours = places
    at = ("--tls-verify=false", f"docker://{names[name]}")

    def both(*words):
        return [run(*command, "inspect", *words, *at) for command in (("skopeo",), ours)]

    theirs, mine = map(json.loads, both())
    beyond = {"LayersData", "Variant"}  # skopeo has the one since 1.10
    assert {key: value for key, value in mine.items() if key not in beyond} == theirs
    assert json.loads(both("--format", "{{json .}}")[1]) == mine
    theirs, mine = map(json.loads, both("--config"))
    assert set(theirs) <= set(mine)
    assert mine["config"].items() >= theirs["config"].items()
    assert json.loads(both("--config", "--format", "{{json .}}")[1]) == mine
    assert both("--raw")[0] == both("--raw")[1]
    for template in (
        "{{.Name}} {{.Digest}} {{.RepoTags}} {{.Created}} {{.DockerVersion}} {{.Labels}} {{.Os}} {{.Layers}} {{.Env}}",
        "{{range .Layers}}{{.}} {{end}}",
    ):
        assert len(set(both("--format", template))) == 1
    template = "{{.Config.Env}} {{.Config.Labels}} {{.Created}} {{.RootFS.DiffIDs}} {{.Author}} {{.OS}}"
    assert len(set(both("--config", "--format", template))) == 1
