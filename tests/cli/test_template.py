"""Templates give what docker gives: docker itself, whose `context` commands need no daemon, is the oracle."""

import contextlib
import json
import os
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.cli.template import Template
from veloci.cli.template_print import NilList, NilMap, Record
from veloci.errors import InvalidInput, VelociError

CONTEXT = {
    "Name": "foo",
    "Metadata": Record({"Description": 'my "ctx" <x>'}),
    "Endpoints": {"docker": Record({"Host": "unix:///x.sock", "SkipTLSVerify": False})},
    "TLSMaterial": {},
}

SAME = r"""
{{.Name}}|{{.Endpoints}}|{{json .Endpoints}}|{{json .Name}}|{{json .TLSMaterial}}
{{.Endpoints.docker.Host}} {{.Endpoints.nope}} {{.Endpoints.nope.X}}
{{index .Endpoints "nope"}} {{(index .Endpoints "docker").Host}}
{{range $k,$v := .Endpoints}}{{$k}}={{$v}}{{end}}
{{range .Endpoints}}{{.Host}},{{$.Name}}{{else}}none{{end}}{{range .TLSMaterial}}x{{else}}none{{end}}
{{range $i, $e := split "a,b,c" ","}}{{if $i}}-{{end}}{{$i}}{{$e}}{{end}}
{{range split "a,b,c" ","}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}{{range split "a,b" ","}}{{.}}{{break}}{{end}}
{{printf "%5d|%-5s|%q|%v|%t|%x|%05d|%+d|%.2f|%8.3f|%c|%U|%T|%%" 3 "a" "b" .Endpoints true 255 42 7 1.5 2.5 65 66 "s"}}
{{printf "%d %s" "a" 3}}|{{printf "%d"}} {{printf "x" 3}}|{{printf "%v %v" 1}}|{{printf "%s" (split "a,b" ",")}}|{{printf "%!"}}
{{truncate .Name 2}}|{{truncate .Name 9}}|{{pad .Name 1 2}}|{{pad "" 1 2}}|{{title "hello world"}}|{{upper "aé"}}|{{lower "AÉ"}}
{{"a" | printf "%s-%s" "b"}}|{{.Name | upper | printf "%q"}}|{{"quoted \"x\" \t\u00e9\x41"}}|{{`raw \n`}}
{{$x := 3}}{{$x}}{{$x = 4}}{{$x}}{{if true}}{{$x = 5}}{{$y := 1}}{{end}}{{$x}}
{{println 1 "a" 2 3}}|{{print 1 2 "a" "b" 3 4}}|{{print}}|{{print true nil}}
a {{- " x " -}} b {{/* c */}}d {{- /* e */ -}} f {{- 3}}   {{3 -}}  g
{{0x10}} {{1_000}} {{'a'}} {{'\n'}} {{1.5}} {{1e3}} {{-3}} {{0b11}} {{0o17}} {{1e100}} {{0.0000001}}
{{true}} {{not true}} {{and 1 0}} {{or 0 "x"}} {{and true .Name}} {{or "" .Name}} {{not .Name}}
{{eq 1 1}} {{eq .Name "x" "foo"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt "b" "a"}} {{ge 1 2}} {{eq true false}}
{{len .Name}} {{len "é"}} {{len .Endpoints}} {{len (split "a,b" ",")}}
{{slice "abcd" 1 2}} {{slice "abcd" 2}} {{slice (split "a,b,c" ",") 1 3}} {{index (split "a,b" ",") 1}}
{{join (split "a b" " ") ","}}{{split "ab" ""}}{{split "a" ","}}
{{with .Name}}{{.}}{{end}}{{with ""}}x{{else}}y{{end}}{{with $n := .Name}}{{$n}}{{end}}
{{if .TLSMaterial}}a{{else if eq .Name "foo"}}b{{else}}c{{end}}{{if 0}}a{{else if 0}}b{{else}}c{{end}}
{{define "x"}}a{{.}}{{end}}{{template "x" .Name}}{{template "x"}}{{block "y" 3}}{{.}}{{end}}
{{.Name}}\n\t
{{urlquery "a b&c"}}
{{ .Name }}{{	.Name	}}{{(.Name)}}{{(print .Name)}}{{((1))}}
{{$.Name}}{{with .Endpoints}}{{$.Name}}{{end}}
{{if and (eq .Name "foo") (not .TLSMaterial)}}yes{{end}}
{{"multi" | len | printf "%03d"}}
{{json "a<b>&\u00e9"}}{{json 3}}{{json nil}}{{json (split "a" ",")}}
{{printf "%*d|%-*d|%.*f" 5 1 4 2 1 1.25}}|{{printf "%v %v" true nil}}|{{printf "% d|%#x" 5 255}}
""".strip().splitlines()

# What Debian's docker, of an older Go, does not know yet; as docker 28 says it.
NEWER = {
    "{{range 3}}{{.}}{{end}}{{range $i := 2}}{{$i}}{{end}}": "01201\n",
    '{{with ""}}a{{else with "b"}}{{.}}{{end}}': "b\n",
    "{{3)}}": "template parsing error: template: :1: unexpected right paren",
}

REFUSED = """
{{.Foo}}
{{foo}}
{{.Name
{{if .Name}}x
{{end}}
{{else}}
{{index .Name 99}}
{{len 3}}
{{.Name.Foo}}
{{.Endpoints.docker.Nope}}
{{join .Name ","}}
{{$y}}
{{if eq 1 "a"}}{{end}}
{{nil}}
{{with .Foo}}x{{end}}
{{!}}
{{"abc}}
{{`abc}}
{{'abc}}
{{if}}x{{end}}
{{range}}x{{end}}
{{.Name "x"}}
{{3 4}}
{{}}
{{(3}}
{{upper}}
{{upper 1 2}}
{{upper 1}}
{{truncate .Name "x"}}
{{.Name | 3}}
{{|}}
{{if .Name}}a{{else}}b{{else}}c{{end}}
{{break}}
{{continue}}
{{range $i, $k, $v := .Endpoints}}{{end}}
{{$x = 3}}
{{template "x"}}
{{define "x"}}
{{index 3 1}}
{{index .Endpoints 1}}
{{lt 1 "a"}}
{{lt true false}}
{{not}}
{{range true}}{{end}}
{{slice "abc" 2 1}}
{{slice "abc" 9}}
{{.Name"x"}}
{{1.2.3}}
{{09x}}
{{"a".B}}
{{printf}}
{{printf 3}}
{{.Endpoints.nope.X | upper}}
{{else if}}
{{/* a }}
""".strip().splitlines()


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """docker's own rendering of a template on CONTEXT, or its complaint."""
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path_factory.mktemp("docker"))}
    create = ["docker", "context", "create", "foo", "--description", 'my "ctx" <x>', "--docker", "host=unix:///x.sock"]
    subprocess.run(create, env=environment, check=True, capture_output=True)

    def render(template):
        words = ["docker", "context", "inspect", "foo", "--format", template]
        done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True, timeout=20)
        return done.stdout if done.returncode == 0 else done.stderr.strip()

    return render


def ours(template):
    try:
        # docker's inspect ends what it prints with a newline, and has a struct at the top
        return Template(template).render(Record(CONTEXT)) + "\n"
    except InvalidInput as error:
        return str(error)


@pytest.mark.needs("docker")
@pytest.mark.parametrize("template", SAME)
def test_a_template_renders_as_with_docker(docker, template):
    theirs = docker(template)
    assert "template parsing error" not in theirs
    assert ours(template) == theirs


@pytest.mark.parametrize(("template", "shown"), NEWER.items())
def test_a_template_renders_as_with_a_newer_docker(template, shown):
    assert ours(template) == shown


@pytest.mark.needs("docker")
@pytest.mark.parametrize("template", REFUSED)
def test_a_wrong_template_is_refused_as_by_docker(docker, template):
    theirs = docker(template)
    assert theirs.startswith("template parsing error: ")
    assert ours(template) == re.sub(
        r"in type (context\.contextWithTLSListing|interface \{\})", "in type struct", theirs
    )


def render(template, data):
    return Template(template).render(data)


def test_a_method_takes_arguments_and_a_pipe():
    item = Record({"Names": "web", "Label": lambda key: {"a": "1"}.get(key, "")})
    assert render('{{.Names}} {{.Label "a"}} {{"a" | .Label}} {{.Label "b"}}.', item) == "web 1 1 ."
    assert render("{{json .}}", item) == '{"Names":"web"}'
    with pytest.raises(InvalidInput) as failure:
        render("{{.Label}}", item)
    assert str(failure.value).endswith('executing "" at <.Label>: wrong number of args for Label: want 1 got 0')


def test_a_missing_field_names_those_there_are():
    with pytest.raises(InvalidInput) as failure:
        render("{{.Nmaes}}", Record({"Names": "web", "ID": "1"}))
    assert failure.value.hint == "one of .Names .ID"


def test_a_go_name_finds_its_json_name():
    assert render("{{.ID}} {{.CPUShares}}", Record({"Id": "1", "CpuShares": 2})) == "1 2"


def test_nothing_prints_as_go_prints_it():
    value = Record({"Cmd": NilList(), "Labels": NilMap(), "Health": None})
    assert render("{{.Cmd}} {{.Labels}} {{.Health}} {{json .}}", value) == (
        '[] map[] <no value> {"Cmd":null,"Labels":null,"Health":null}'
    )
    assert render('{{index .Labels "x"}}{{if .Cmd}}x{{end}}{{range .Cmd}}x{{end}}.', value) == "."


def test_a_heading_keeps_its_name_in_functions():
    assert Template("{{upper .A}} {{json .A}} {{pad .A 1 1}}", header=True).render({"A": "Name"}) == "Name Name  Name "


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_gives_back_what_it_was_given(value):
    assert json.loads(render("{{json .}}", value)) == value


PIECES = st.sampled_from(
    '{{ }} {{-_ _-}} .A $x := = | ( ) _ if_ range_ end else "s" 3 index_ printf_ eq_ with_ define_ template_ nil , $ . ` \' /* */'.replace(
        "_", "\x00"
    ).split()
).map(lambda piece: piece.replace("\x00", " "))


@given(st.lists(PIECES, max_size=14).map("".join) | st.text())
def test_whatever_is_written_only_our_error_comes_out(text):
    with contextlib.suppress(VelociError):
        render(text, Record({"A": {"b": [1, "x"]}}))
