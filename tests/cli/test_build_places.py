"""Where a build's files come from and where its result goes."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest
from peers import Built, Scripted, Serving, tar

pytestmark = pytest.mark.needs("root", "overlay")


def veloci(*words, **options):
    options = {"capture_output": True, "timeout": 120, **options}
    done = subprocess.run([sys.executable, "-m", "veloci", *map(str, words)], check=False, **options)
    if isinstance(done.stderr, bytes):
        done.stderr = done.stderr.decode()
    return done


def ok(*words, **options):
    done = veloci(*words, **options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def context(roots):
    directory = roots / "context"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub/file").write_text("text\n")
    (directory / "secret").write_text("no\n")
    (directory / ".dockerignore").write_text("secret\n")
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY . /all/\nUSER 5\n")
    return directory


def files(name="t:1"):
    """What `veloci export` shows of a container of the image."""
    id = ok("create", "--network=none", name, "x").stdout.decode().strip()
    out = ok("export", id).stdout
    ok("rm", id)
    with tarfile.open(fileobj=io.BytesIO(out)) as found:
        return {m.name: m for m in found.getmembers()}


def packed(directory, kind="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=kind) as archive:
        archive.add(directory, ".")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz"])
def test_a_tar_on_standard_input_is_a_context(context, kind):
    ok("build", "-t", "t:1", "-", input=packed(context, kind))
    assert "all/sub/file" in files()
    assert "all/secret" not in files()
    (context / "other").write_text("FROM scratch\nCOPY sub/file /other\n")
    ok("build", "-t", "t:1", "-f", "other", "-", input=packed(context, kind))
    assert "other" in files()
    done = veloci("build", "-f", "nope", "-", input=packed(context, kind))
    assert done.stderr.startswith("veloci: nope not found in standard input\n")


def test_a_dockerfile_on_standard_input_has_no_context_or_the_one_that_is_named(context):
    ok("build", "-t", "t:1", "-", input=b"FROM scratch\nCOPY <<x /\nhere\nx\n")
    assert "x" in files()
    done = veloci("build", "-", input=b"FROM scratch\nCOPY sub/file /\n")
    assert "veloci: Dockerfile:2: COPY sub/file: not in the build context\n" in done.stderr
    ok("build", "-t", "t:1", "-f", "-", context, input=b"FROM scratch\nCOPY . /\n")
    assert "sub/file" in files()
    assert "secret" not in files()
    done = veloci("build", "-f", "-", "-", input=b"")
    assert done.stderr == "veloci: -f: can't use stdin for both build context and dockerfile\n"


def test_a_servers_archive_is_a_context_and_its_text_a_dockerfile(context):
    bodies = {"/context.tgz": packed(context), "/Dockerfile": b"FROM scratch\nCOPY <<x /\nhere\nx\n"}
    with Scripted(lambda request: request.reply(200, bodies[request.path])) as server:
        done = ok("build", "-t", "t:1", f"http://{server.address}/context.tgz")
        assert f"#1 [internal] load remote build context http://{server.address}/context.tgz\n" in done.stderr
        assert "all/sub/file" in files()
        ok("build", "-t", "t:1", f"http://{server.address}/Dockerfile")
        assert "x" in files()


def test_named_contexts_stand_for_images_stages_and_directories(context, roots):
    (roots / "data2").mkdir()
    (roots / "data2/extra").write_text("e")
    Built(roots / "layout", [tar({"from-layout": b"x"})])
    ok("import", "-", "stored:1", input=tar({"from-store": b"x"}))
    (context / "Dockerfile").write_text(
        "FROM scratch AS stage\nCOPY sub /from-stage/\nFROM base\nCOPY --from=data extra /\nCOPY --from=stage / /s/\nCOPY --from=img /from-store /\n"
    )
    done = ok(
        "build", "-t", "t:1",
        "--build-context", f"data={roots}/data2",
        "--build-context", f"base=oci-layout://{roots}/layout:v0",
        "--build-context", "img=docker-image://stored:1",
        context,
    )  # fmt: skip
    assert {"extra", "from-layout", "from-store", "s/from-stage/file"} <= files().keys()
    ok("build", "-t", "t:1", "--build-context", f"base={roots}/data2", "--build-context", f"stage={roots}/data2",
       "--build-context", f"data={roots}/data2", "--build-context", "img=docker-image://stored:1", context)  # fmt: skip
    assert {"extra", "s/extra"} <= files().keys()
    done = veloci("build", "--build-context", "data", context)
    assert done.stderr == "veloci: --build-context: 'data' is not NAME=VALUE\n"


def test_the_result_goes_to_a_directory_a_tar_and_standard_output(context, roots):
    (context / "sub/file").chmod(0o751)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY --chown=5:6 sub /out/\n")
    ok("build", "-o", roots / "local", "-o", f"type=tar,dest={roots}/result.tar", context)
    assert (roots / "local/out/file").read_text() == "text\n"
    assert stat.S_IMODE((roots / "local/out/file").stat().st_mode) == 0o751
    assert (roots / "local/out/file").stat().st_uid == os.geteuid()
    with tarfile.open(roots / "result.tar") as found:
        assert found.getmember("out/file").uid == 5
    out = ok("build", "-o", "-", context).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as found:
        assert found.getnames() == ["out", "out/file"]
    assert veloci("images", "-q").stdout == b""
    ok("build", "-o", "type=cacheonly", context)
    assert veloci("images", "-q").stdout == b""


def test_the_result_goes_to_archives_that_others_read(context, roots):
    ok("build", "-t", "app:1", "-o", f"type=oci,dest={roots}/oci.tar", "-o", f"type=oci,tar=false,dest={roots}/oci",
       "-o", f"type=docker,dest={roots}/docker.tar", context)  # fmt: skip
    index = json.loads((roots / "oci/index.json").read_text())
    assert index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/library/app:1"
    with tarfile.open(roots / "oci.tar") as found:
        assert "index.json" in found.getnames()
    with tarfile.open(roots / "docker.tar") as found:
        assert json.load(found.extractfile("manifest.json"))[0]["RepoTags"] == ["app:1"]
    if shutil.which("skopeo"):
        for place in (f"oci-archive:{roots}/oci.tar", f"oci:{roots}/oci", f"docker-archive:{roots}/docker.tar"):
            subprocess.run(["skopeo", "inspect", place], check=True, capture_output=True)
    ok("build", "-t", "app:1", "-o", "type=docker", "--load", context)
    assert veloci("images", "--format", "{{.Repository}}").stdout == b"app\n"


def test_what_was_built_is_told_in_files(context, roots):
    done = ok("build", "-q", "-t", "app:1", "--label", "a=b", "--annotation", "manifest:c=d", "--annotation", "e=f",
              "--iidfile", roots / "id", "--metadata-file", roots / "meta", context)  # fmt: skip
    told = json.loads((roots / "meta").read_text())
    assert told["containerimage.config.digest"] == (roots / "id").read_text() == done.stdout.decode().strip()
    assert told["image.name"] == "docker.io/library/app:1"
    manifest = json.loads((roots / "data/content/blobs/sha256" / told["containerimage.digest"][7:]).read_text())
    assert manifest["annotations"] == {"c": "d", "e": "f"}
    assert manifest["config"]["digest"] == told["containerimage.config.digest"]
    bad = veloci("build", "--annotation", "index:a=b", context)
    assert bad.stderr.startswith("veloci: --annotation: there is no index: a build makes one manifest\n")


def test_the_result_is_pushed_and_the_cache_kept_in_a_registry_or_a_directory(context, roots, tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        (context / "Dockerfile").write_text("FROM scratch AS a\nCOPY sub /a/\nFROM scratch\nCOPY --from=a /a /b\n")
        cache = f"type=registry,ref={address}/cache:1,mode=max"
        done = ok(
            "build",
            "-t",
            f"{address}/app:1",
            "--push",
            "--cache-to",
            cache,
            "--cache-to",
            f"type=local,dest={roots}/cache,mode=max",
            context,
        )
        assert f"pushing {address}/app:1 done\n" in done.stderr
        for place in (f"{address}/cache:1", f"type=local,src={roots}/cache"):
            shutil.rmtree(roots / "data")
            again = ok("build", "-t", "t:1", "--cache-from", place, context)
            assert again.stderr.count("CACHED") == 2
            assert "b/file" in files()
        shutil.rmtree(roots / "data")
        ok("pull", "-q", f"{address}/app:1")
        assert "b/file" in files(f"{address}/app:1")
    missing = ok("build", "--cache-from", f"type=local,src={roots}/nothing", context)
    assert f"[Warning] no cache from {roots}/nothing: " in missing.stderr
    bad = veloci("build", "--cache-to", "type=s3,bucket=x", context)
    assert bad.stderr.startswith("veloci: --cache-to: no cache of type 's3'\n")


def test_an_image_can_be_the_cache_of_its_own_steps(context, roots, tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        (context / "Dockerfile").write_text("FROM scratch\nCOPY sub /a/\nCOPY sub /b/\n")
        ok("build", "-t", f"{address}/app:1", "--push", "--cache-to", "type=inline", context)
        ok("build", "-t", f"{address}/app:2", "--push", context)
        for words, cached in (([f"{address}/app:1"], 2), ([f"{address}/app:2"], 0)):
            shutil.rmtree(roots / "data")
            done = ok("build", "-t", "t:1", "--cache-from", *words, context)
            assert done.stderr.count("CACHED") == cached
        assert f"[Warning] no cache from {address}/app:2: " in done.stderr
        assert "the image says nothing of its cache\n" in done.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=zip,dest=x", "unknown output type 'zip'"),
        ("type=local", "dest is required for local output"),
        ("type=tar,compression=x", "unknown output field 'compression'"),
        ("type=registry", "tag is needed when pushing to registry"),
    ],
)
def test_an_output_that_cannot_be_is_one_line(context, output, message):
    done = veloci("build", "-o", output, context)
    assert f"veloci: --output: {message}\n" in done.stderr


def test_a_check_prints_the_warnings_and_a_build_sums_them_up(context):
    (context / "Dockerfile").write_text("FROM scratch\nCOPY sub /\nCMD x\n")
    done = veloci("build", "--check", context)
    assert done.returncode == 1
    assert done.stdout.decode() == (
        "Check complete, 1 warning has been found!\n\n"
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:3\n--------------------\n   1 |     FROM scratch\n   2 |     COPY sub /\n   3 | >>> CMD x\n"
        "   4 |     \n--------------------\n"
    )
    built = ok("build", context)
    assert built.stderr.endswith(
        "\n 1 warning found (use veloci build --check to expand):\n"
        " - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)\n"
    )
    (context / "Dockerfile").write_text("# check=error=true\nFROM scratch\nCOPY sub /\nCMD x\n")
    fatal = veloci("build", context)
    assert fatal.returncode == 1
    assert "veloci: Dockerfile: lint violation found for rules: JSONArgsRecommended\n" in fatal.stderr
    assert ok("build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", context).stderr.endswith("s\n")
    assert ok("build", "--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", context).stdout.decode() == (
        "Check complete, no warnings found.\n"
    )


def test_several_platforms_make_one_index(context, roots, tmp_path_factory):
    text = "FROM scratch AS base\nARG TARGETARCH\nCOPY <<x /arch\n$TARGETARCH\nx\nFROM scratch\nCOPY --from=base /arch /\nARG TARGETARCH\nCOPY sub/$TARGETARCH /own\n"
    (context / "Dockerfile").write_text(text)
    for name in ("amd64", "arm64"):
        (context / "sub" / name).write_text(name)
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        words = ["--platform", "linux/amd64,linux/arm64", "-t", f"{address}/many:1", "--push", "-o", f"{roots}/local",
                 "-o", f"type=oci,tar=false,dest={roots}/oci", "--metadata-file", roots / "meta"]  # fmt: skip
        done = ok("build", *words, "--load", context)
        assert "[linux/arm64 base 2/2] COPY <<x /arch\n" in done.stderr
        there = json.loads(ok("inspect", "--raw", f"docker://{address}/many:1").stdout)
        ok("image", "prune", "-f")
        assert ok("build", *words, context).stderr.count("CACHED") == 6
    assert [entry["platform"]["architecture"] for entry in there["manifests"]] == ["amd64", "arm64"]
    assert (roots / "local/linux_arm64/arch").read_text() == "arm64\n"
    assert (roots / "local/linux_amd64/own").read_text() == "amd64"
    index = json.loads((roots / "oci/index.json").read_text())["manifests"][0]
    told = json.loads((roots / "meta").read_text())
    assert index["digest"] == told["containerimage.digest"]
    bad = veloci("build", "--platform", "linux/amd64,linux/arm64", "-o", "-", context)
    assert bad.stderr.endswith(
        "veloci: --output: type=tar holds one platform's image\n  try: type=oci, or one --platform\n"
    )
