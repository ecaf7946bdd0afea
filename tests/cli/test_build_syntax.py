"""A table of Dockerfile syntax: what stands in the file, and what is in the image then."""

import io
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

pytestmark = pytest.mark.needs("root", "overlay", "namespaces", "busybox")

BASE = 'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A context, and directories of veloci's that all rows share: the base is built once."""
    base = tmp_path_factory.mktemp("syntax")
    context = base / "context"
    for name, text in {
        "a.txt": "a", "b.txt": "b", "c.log": "c", "x/y/one.txt": "1", "x/y/two.md": "2", "x/three.txt": "3",
        "with space": "s", "[odd]": "o", "lib/v1/f": "v1", "lib/v2/f": "v2", ".hidden": "h",
    }.items():  # fmt: skip
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(text)
    (context / "x/y/two.md").chmod(0o640)
    (context / "run.sh").write_text("#!/bin/sh\n")
    (context / "run.sh").chmod(0o755)
    shutil.copy(shutil.which("busybox"), context / "busybox")
    return base


def build(place, text, *words, ignore=""):
    (place / "context/Dockerfile").write_text(text)
    (place / "context/.dockerignore").write_text(ignore)
    settings = {**os.environ, "VELOCI_ROOT": f"{place}/data", "VELOCI_RUN": f"{place}/run"}
    command = [sys.executable, "-m", "veloci", "build", "--network=none", "-o", "-", *words, str(place / "context")]
    return subprocess.run(command, env=settings, capture_output=True, check=False, timeout=100)


def made(place, text, *words, **options):
    """Every file of the result but those of the base: its content, or its mode and owner for a directory."""
    done = build(place, text, *words, **options)
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        files = [member for member in tar if member.isfile() and not member.name.startswith("bin/")]
        return {member.name: tar.extractfile(member).read().decode() for member in files}


ROWS = {
    # --- the parser
    "a line goes on, over comments and blanks": ("RUN echo one \\\n# no\n  two \\   \n\n > /o\n", {"o": "one two\n"}),
    "another escape character": ("", {}),
    "words in any case, tabs": ("run\techo x > /o\ncopy\ta.txt\t/c\n", {"o": "x\n", "c": "a"}),
    # --- here-documents
    "a heredoc is a script": ("RUN <<EOF\necho $PATH > /p\necho two > /o\nEOF\n", {"p": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n", "o": "two\n"}),
    "a heredoc with an interpreter": ("RUN <<EOF\n#!/bin/sh -e\necho $0 > /o\nEOF\n", {"o": "/dev/pipes/EOF\n"}),
    "a heredoc is a command's input": ("RUN cat <<EOF > /o\nin $((1+1))\nEOF\n", {"o": "in 2\n"}),
    "two heredocs in one RUN": ("RUN cat <<A > /o && cat <<'B' >> /o\n1\nA\n$x\nB\n", {"o": "1\n$x\n"}),
    "files from heredocs": ('ARG V=v\nCOPY <<one <<-"two" a.txt /h/\n$V ${V:+x}\none\n\t\t$V\n\ttwo\n', {"h/one": "v x\n", "h/two": "$V\n", "h/a.txt": "a"}),
    # --- variables
    "values, defaults, alternatives": ('ENV A=1 E=""\nENV O="${A}${B:-2}${E:-3}${E-4}${A:+5}${B:+6}${B+7}"\nRUN echo "$O" > /o\n', {"o": "1235\n"}),
    "what is cut off and replaced": ('ENV F=a.b.tar.gz\nENV O="${F#*.} ${F##*.} ${F%.*} ${F%%.*} ${F/a/x} ${F//a/x}"\nRUN echo $O > /o\n', {"o": "b.tar.gz gz a.b.tar a x.b.tar.gz x.b.txr.gz\n"}),
    "quotes and escapes": ("ENV A=1\nENV O='$A' P=\"$A\" Q=\\$A R=a\\ b\nRUN echo \"$O|$P|$Q|$R\" > /o\n", {"o": "$A|1|$A|a b\n"}),
    "values of one line see those before it": ("ENV A=old\nENV A=new B=$A\nRUN echo $B > /o\n", {"o": "old\n"}),
    "the old form of ENV": ('ENV ONE TWO= THREE=world\nRUN echo "$ONE" > /o\n', {"o": "TWO= THREE=world\n"}),
    "a variable in COPY and WORKDIR": ("ENV D=x/y\nWORKDIR /$D\nCOPY $D/one.txt ${D}_\n", {"x/y/x/y_": "1"}),
    # --- arguments
    "an argument from the command line": ("ARG W=default\nARG X=kept\nRUN echo $W $X > /o\n", {"o": "given kept\n"}, "--build-arg", "W=given"),
    "a stage upon a stage has its arguments": ('ARG W=1\nFROM base\nRUN echo "[$W]" > /o\n', {"o": "[1]\n"}),
    "an argument ends with its stage": ('FROM base AS s\nARG W=1\nFROM base\nRUN echo "[$W]" > /o\n', {"o": "[]\n"}),
    "ENV wins over ARG": ("ARG W=arg\nENV W=env\nARG W\nRUN echo $W > /o\n", {"o": "env\n"}, "--build-arg", "W=given"),
    "the platform's arguments": ('ARG TARGETOS\nARG BUILDPLATFORM\nRUN echo $TARGETOS > /o; test -n "$BUILDPLATFORM"\n', {"o": "linux\n"}),
    "a proxy is there and nowhere else": ("RUN echo $http_proxy > /o\n", {"o": "http://p\n"}, "--build-arg", "http_proxy=http://p"),
    # --- stages
    "a stage by number and name, in any case": ("FROM base AS Two\nRUN echo 2 > /two\nFROM scratch\nCOPY --from=TWO /two /\nCOPY --from=1 /two /three\n", {"two": "2\n", "three": "2\n"}),
    "a target is the end": ("FROM base AS wanted\nCOPY a.txt /\nFROM base\nRUN false\n", {"a.txt": "a"}, "--target", "wanted"),
    "triggers": ("ONBUILD ARG T=t\nONBUILD RUN echo $T > /trigger\nFROM base\nCOPY a.txt /\n", {"trigger": "t\n", "a.txt": "a"}),
    "from an argument": ("FROM base AS s1\nCOPY a.txt /\nFROM scratch\nARG WHICH=s1\nCOPY --from=$WHICH a.txt /b\n", {"b": "a"}),
    # --- SHELL, USER, WORKDIR
    "another shell": ('SHELL ["/bin/sh", "-uc"]\nRUN case $- in *u*) echo strict > /o;; esac\n', {"o": "strict\n"}),
    "exec form runs no shell": ('RUN ["/bin/busybox", "sh", "-c", "echo $0 > /o", "name"]\n', {"o": "name\n"}),
    "a user by number has no home": ("RUN mkdir -m 777 /w\nUSER 5:6\nWORKDIR /w/in\nRUN id -u > o; echo $HOME $PWD >> o\n", {"w/in/o": "5\n/ /w/in\n"}),
    # --- COPY
    "wildcards": ("COPY *.txt /t/\nCOPY x/*/one.tx? /u/\nCOPY [[]odd] /v/\nCOPY no*thing a.txt /w/\n", {"t/a.txt": "a", "t/b.txt": "b", "u/one.txt": "1", "v/[odd]": "o", "w/a.txt": "a"}),
    "names with blanks": ('COPY ["with space", "/to there/"]\n', {"to there/with space": "s"}),
    "a directory's content, hidden files too": ("COPY x /d\nCOPY x /e/\nCOPY .hidden x/ /f/\n", {"d/three.txt": "3", "d/y/one.txt": "1", "d/y/two.md": "2", "e/three.txt": "3", "e/y/one.txt": "1", "e/y/two.md": "2", "f/.hidden": "h", "f/three.txt": "3", "f/y/one.txt": "1", "f/y/two.md": "2"}),
    "parents": ("COPY --parents x/y/one.txt lib/v*/f /p/\nCOPY --parents ./x/./y/two.md /q/\n", {"p/x/y/one.txt": "1", "p/lib/v1/f": "v1", "p/lib/v2/f": "v2", "q/y/two.md": "2"}),
    "exclude": ("COPY --exclude=**/*.md --exclude=three* x /x\n", {"x/y/one.txt": "1"}),
    "link": ("COPY a.txt /l/a\nCOPY --link b.txt /l/b\n", {"l/a": "a", "l/b": "b"}),
    "out of the context leads back into it": ("COPY ../../a.txt /\nCOPY /b.txt /\n", {"a.txt": "a", "b.txt": "b"}),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_the_file_says_so(place, row):
    text, expected, *words = ROWS[row]
    found = made(place, BASE + text if text else ESCAPED, *words)
    assert found == (expected or {"o": "one two\\\n"})


ESCAPED = "# escape=`\n" + BASE + "RUN echo one `\n two\\\\ > /o\n"


def test_modes_and_owners(place):
    text = BASE + (
        "COPY --chmod=600 a.txt /octal\nCOPY --chmod=u=rwX,go=rX x /symbols\nCOPY --chown=5:6 --chmod=0711 a.txt /new/dir/\n"
        "RUN mkdir -m 700 /there\nCOPY --chown=7 a.txt /there/\nCOPY run.sh /kept\nCOPY x/y/two.md /kept2\nRUN stat -c '%a %u:%g' /octal /symbols/y /symbols/y/two.md /new /new/dir /new/dir/a.txt /there /there/a.txt /kept /kept2 > /o\n"
    )
    assert made(place, text)["o"].split("\n") == [
        "600 0:0", "755 0:0", "644 0:0", "755 5:6", "755 5:6", "711 5:6", "700 0:0", "644 7:7", "755 0:0", "640 0:0", "",
    ]  # fmt: skip


IGNORED = {
    "*.txt": "a.txt b.txt",
    "*.log\n**/*.md": "c.log x/y/two.md",
    "x": "x/y/one.txt x/y/two.md x/three.txt",
    "/x/y/": "x/y/one.txt x/y/two.md",
    "x/**": "x/y/one.txt x/y/two.md x/three.txt",
    "**/f\n!lib/v2/f": "lib/v1/f",
    "lib\n!lib/v1": "lib/v2/f",
    "*\n!x\nx/y": "a.txt b.txt c.log [odd] lib/v1/f lib/v2/f .hidden run.sh x/y/one.txt x/y/two.md",
    "# comment\n  a.txt  \n\n./b.txt": "a.txt b.txt",
    "[ab].txt": "a.txt b.txt",
    "?.log\nx/*/one*": "c.log x/y/one.txt",
    "with space": "",
}


@pytest.mark.parametrize("patterns", IGNORED)
def test_the_ignore_file_leaves_out(place, patterns):
    everything = made(place, "FROM scratch\nCOPY . /\n", ignore="Dockerfile\nbusybox\nwith space\n.dockerignore\n")
    left = made(
        place, "FROM scratch\nCOPY . /\n", ignore=f"Dockerfile\nbusybox\nwith space\n.dockerignore\n{patterns}\n"
    )
    gone = IGNORED[patterns].split()
    assert sorted(everything.keys() - left.keys()) == sorted(gone)
