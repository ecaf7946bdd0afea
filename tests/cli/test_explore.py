"""`veloci explore`: where the bytes of an image are, on a terminal and on a page."""

import json
import re

import pytest
from box import VELOCI
from peers import Built, digest, run, tar
from peers import inside as veloci
from terminals import on_terminal

from veloci.cli import explore_page, fit
from veloci.spec import media

pytestmark = pytest.mark.needs("root")

# The little of a browser that the page's script uses; clicks on a directory and shows both maps.
BROWSER = """
const fs = require("fs"), vm = require("vm"), html = fs.readFileSync(process.argv[2], "utf8");
const element = text => ({ textContent: text || "", style: {}, children: [], clientWidth: 1000, clientHeight: 600,
  replaceChildren() { this.children = []; }, append(...more) { this.children.push(...more); },
  dataset: {}, setAttribute(name, value) { this[name] = value; } });
const row = number => Object.assign(element(), { dataset: { row: number } }), rows = [row("1"), row("2")];
const parts = { map: element(), trail: element(), what: element(),
  data: element(html.match(/<script type="application\\/json" id="data">(.*?)<\\/script>/s)[1]) };
vm.runInNewContext(html.match(/<script>\\n(.*?)<\\/script>/s)[1], { addEventListener() {},
  document: { getElementById: id => parts[id], querySelectorAll: what => what === "[data-row]" ? rows : [], createElement: () => element() } });
const seen = () => parts.map.children.map(b => ({ title: b.title, kind: b.className,
  colour: b.style.background, words: b.children.map(each => each.textContent),
  box: ["left", "top", "width", "height"].map(k => parseFloat(b.style[k])) }));
const before = seen();
parts.map.children.find(b => b.title.startsWith(process.argv[3])).onclick();
const after = seen(), pressed = [];
rows[0].onclick();
const first = seen();
for (const each of [rows[1], rows[1]]) { each.onclick(); pressed.push(rows.map(b => b["aria-pressed"])); }
console.log(JSON.stringify({ before, after, first, all: seen(), pressed, trail: parts.trail.children.map(b => b.textContent) }));
"""


def test_text_is_cut_by_what_a_terminal_shows():
    assert [fit.width(text) for text in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]
    assert [fit.cut("abcdef", columns) for columns in (6, 5, 2, 1, 0)] == ["abcdef", "abcd…", "a…", "…", ""]
    assert [fit.cut("日本語", columns) for columns in (6, 5, 4, 2)] == ["日本語", "日本…", "日…", "…"]
    assert [fit.cut("日本語", columns, end=True) for columns in (5, 4)] == ["…本語", "…語"]
    assert fit.cut("xe\u0301ab", 3, end=True) == "…ab"
    assert fit.wrapped("a: 1 b, 2 c (3 d)", 0) == "a: 1 b, 2 c (3 d)\n"
    assert fit.wrapped("a: 1 b, 2 c (3 d)", 8) == "a: 1 b,\n2 c\n(3 d)\n"
    lines = fit.fitted(("SIZE", "SHARE", "FILE"), [("1B", "9%", "/usr/bin/name")], 20, needless=(1, 0), end=True)
    assert lines == "SIZE      FILE\n1B        …/bin/name\n"


@pytest.fixture
def image(roots, tmp_path):
    below = {
        "usr/bin/x": b"x" * 50_000,
        "usr/lib/y": b"y" * 800_000,
        "etc/<!--<script>&amp;": b"1" * 30_000,
        "tmp/gone": b"g" * 90_000,
    }
    built = Built(tmp_path / "layout", [tar(below), tar({"usr/lib/y": b"z" * 700_000, "tmp/.wh.gone": b""})])
    config = json.loads(built.config)
    config["history"] = [
        {"created_by": "COPY . / # <script>alert(1)</script>\x1b[31m"},
        {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "RUN make install"},
    ]
    built.config = json.dumps(config).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.write([(json.dumps(built.document).encode(), media.MANIFEST, "v0")])
    return f"oci:{built.path}:v0"


def test_layers_say_what_they_add_change_remove_and_hide(image):
    found = json.loads(veloci("explore", "--json", image))
    assert {key: found[key] for key in ("size", "visible", "wasted", "files", "efficiency")} == {
        "size": 1_670_000,
        "visible": 780_000,
        "wasted": 890_000,
        "files": 3,
        "efficiency": 0.4671,
    }
    first, second = found["layers"]
    assert (first["added"], first["changed"], first["removed"], first["wasted"]) == (4, 0, 0, 0)
    assert (second["added"], second["changed"], second["removed"], second["wasted"]) == (0, 1, 1, 890_000)
    assert second["command"] == "RUN make install"
    assert found["waste"] == [
        {"path": "/usr/lib/y", "size": 800_000, "times": 2},
        {"path": "/tmp/gone", "size": 90_000, "times": 1},
    ]


def test_a_terminal_shows_it(image):
    lines = veloci("explore", image).splitlines()
    assert lines[0].startswith(f"{image}: 1.67MB in 2 layers (")
    assert lines[0].endswith(" compressed), 3 files, 890kB wasted, 46.7% efficient")
    assert lines[2].split() == ["LAYER", "SIZE", "FILES", "HIDES", "COMMAND"]
    assert lines[3].split()[:6] == ["1", "970kB", "█" * 24, "+4", "~0", "-0"]
    assert "\x1b" not in "".join(lines)
    assert lines[4].split() == ["2", "700kB", "█" * 17, "+0", "~1", "-1", "890kB", "RUN", "make", "install"]
    assert ["700kB", "89.7%", "/usr/lib/y"] in [line.split() for line in lines]
    assert ["800kB", "2", "/usr/lib/y"] in [line.split() for line in lines]
    below = veloci("explore", "--top", "1", image, "/usr/bin").splitlines()
    assert [line.split() for line in below[6:8]] == [["SIZE", "SHARE", "DIRECTORY"], ["50kB", "6.4%", "/usr/bin"]]
    assert veloci("explore", image, "/none", check=False).stderr == f"veloci: {image}: there is no /none\n"


def test_a_narrow_terminal_gets_lines_that_fit(image, tmp_path):
    long = tmp_path / "in" / ("d" * 100) / "name"
    long.parent.mkdir(parents=True)
    long.write_bytes(b"x" * 1_000_000)
    veloci("image", "append", "-q", "--created-by", "RUN " + "word " * 60, image, tmp_path / "in")
    seen, status, _ = on_terminal([VELOCI, "explore", image], columns=80)
    lines = [line.rstrip() for line in seen.text.replace("\r", "").splitlines() if "efficient" not in line]
    assert (status, max(map(len, lines))) == (0, 80)
    assert any(line.endswith("d/name") and "…d" in line for line in lines)
    assert any(line.startswith("3 ") and line.endswith("…") for line in lines)


@pytest.mark.parametrize("columns", [60, 40, 20, 10, 2])
def test_names_that_are_wide_or_not_to_be_printed_fit_a_narrow_terminal(roots, tmp_path, columns):
    names = (
        "a\x1b[31mred\nline\x07",
        "日本語のとても長いファイル名/これはテスト",
        "e\u0301\u202egnp.exe",
        "\x9b31m",
        "x" * 200,
    )
    built = Built(tmp_path / "odd", [tar(dict.fromkeys(names, b"x" * 5000))])
    seen, status, _ = on_terminal([VELOCI, "explore", f"oci:{built.path}:v0"], columns=columns)
    lines = [line.rstrip() for line in seen.text.replace("\r", "").splitlines()]
    assert status == 0
    assert all(line.isprintable() for line in lines)
    assert max(map(fit.width, lines)) <= columns
    if columns >= 20:
        assert sum(line.endswith("テスト") for line in lines) == 1
        assert sum(line.endswith("line\\x07") for line in lines) == 1


def test_what_goes_to_no_terminal_is_whole(roots, tmp_path):
    built = Built(tmp_path / "many", [tar({f"usr/share/{'d' * 150}{n % 100}/{n}": b"x" for n in range(5000)})])
    lines = veloci("explore", "--top", "4", f"oci:{built.path}:v0").splitlines()
    assert sum(line.endswith(f"{'d' * 150}0") for line in lines) == 1
    assert all("…" not in line for line in lines)


def test_the_page_holds_all_and_obeys_no_name(image, tmp_path):
    assert veloci("explore", "--html", tmp_path / "page.html", image) == ""
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?://|<link|@import|\bsrc=", page)
    assert page.count("<script") == 2
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in page
    assert "default-src 'none'" in page
    assert not re.search(r"\{(image|heading|layers|waste|data)\}", page)


@pytest.mark.needs("node")
def test_the_map_shows_every_byte_in_its_place(image, tmp_path):
    veloci("explore", "--html", tmp_path / "page.html", image)
    (tmp_path / "browser.js").write_text(BROWSER)
    seen = json.loads(run("node", tmp_path / "browser.js", tmp_path / "page.html", "/usr:"))
    titles = [each["title"] for each in seen["before"]]
    assert titles[:2] == ["/usr: 750 kB (96.2 %)", "/usr/lib: 700 kB (89.7 %)"]
    assert "/etc: 30.0 kB (3.8 %)" in titles
    after = {each["title"].partition(":")[0]: each["box"] for each in seen["after"]}
    areas = {path: width * height for path, (_, _, width, height) in after.items()}
    assert areas["/usr/lib"] == pytest.approx(600_000 * 700 / 750)
    assert areas["/usr/bin"] == pytest.approx(600_000 * 50 / 750)
    assert sum(areas[path] for path in ("/usr/lib", "/usr/bin")) == pytest.approx(600_000)
    assert all(x >= 0 and y >= 0 and x + w <= 1000.001 and y + h <= 600.001 for x, y, w, h in after.values())
    assert seen["trail"] == ["/", "usr/"]
    named = {each["title"].partition(":")[0]: each for each in seen["after"]}
    assert named["/usr/lib"]["words"] == ["lib", "700 kB"]
    assert named["/usr/lib/y"]["words"] == ["y", "700 kB"]
    of = {each["title"].partition(":")[0]: each["colour"] for each in seen["first"]}  # layer 1 alone
    assert of["/usr/bin/x"] == named["/usr/bin/x"]["colour"] != of["/usr/lib/y"] == "hsl(0 0% 78%)"
    assert of["/usr/bin"] == named["/usr/bin"]["colour"] != of["/usr/lib"] == "hsl(0 0% 78%)"
    assert seen["pressed"] == [[False, True], [False, False]]
    assert seen["all"] == seen["after"]


def test_the_page_names_what_a_layer_changes_removes_and_adds_and_how_much_of_it_is_hidden(
    image, tmp_path, monkeypatch
):
    veloci("explore", "--html", tmp_path / "page.html", image)
    page = (tmp_path / "page.html").read_text()
    first, second = re.findall(r"<tr><td><button.*?</tr>", page)
    assert "<summary>1 changed</summary><ul><li>/usr/lib/y 700kB</li></ul>" in second
    assert "<summary>1 removed</summary><ul><li>/tmp/gone</li></ul>" in second
    assert re.findall(r"<summary>(.*?)<", first) == ["4 added"]
    assert "<li>/etc/&lt;!--&lt;script&gt;&amp;amp; 30kB</li>" in first
    assert "80kB to be seen, 890kB hidden by layers above" in first
    assert "700kB to be seen, 0B hidden by layers above" in second
    assert re.findall(r"width:([\d.]+)%", first) == ["8.2", "91.8"]
    monkeypatch.setattr(explore_page, "NAMED", 1)
    veloci("explore", "--html", tmp_path / "page.html", image)
    assert "<li>/usr/lib/y 800kB</li><li>… and 3 more</li>" in (tmp_path / "page.html").read_text()


@pytest.mark.needs("node")
def test_the_map_begins_where_the_command_says(image, tmp_path):
    """PATH was passed over with --html and --json."""
    script = BROWSER.replace("element(), trail", "Object.assign(element(), { dataset: { start } }), trail").replace(
        "const row =", 'const start = html.match(/data-start="(.*?)"/)[1].replaceAll("&quot;", "\\""), row ='
    )
    (tmp_path / "browser.js").write_text(script)
    for path in ("/usr/", "usr/none/../lib/../."):
        veloci("explore", "--html", tmp_path / "page.html", image, path)
        seen = json.loads(run("node", tmp_path / "browser.js", tmp_path / "page.html", "/usr/lib:"))
        assert seen["before"][0]["title"] == "/usr/lib: 700 kB (89.7 %)"
        assert seen["trail"] == ["/", "usr/", "lib/"]
    veloci("explore", "--html", tmp_path / "page.html", image, "/usr/lib/y")
    assert 'data-start="[&quot;usr&quot;,&quot;lib&quot;,&quot;y&quot;]"' in (tmp_path / "page.html").read_text()
    done = veloci("explore", "--html", tmp_path / "none.html", image, "/none", check=False)
    assert done.stderr == f"veloci: {image}: there is no /none\n"
    assert not (tmp_path / "none.html").exists()
    done = veloci("explore", "--json", image, "/usr", check=False)
    assert (done.returncode, done.stderr) == (1, "veloci: --json: tells all of an image\n  try: leave /usr out\n")


def test_small_files_are_one_where_there_are_too_many(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(explore_page, "MOST", 20)
    built = Built(tmp_path / "many", [tar({f"d/{n}": b"x" * (n + 1) for n in range(100)})])
    veloci("explore", "--html", tmp_path / "page.html", f"oci:{built.path}:v0")
    data = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text()).group(1))
    (directory,) = data[3]
    assert directory[1] == sum(range(101))
    assert len(directory[3]) == 21
    assert [name for name, *_ in directory[3] if not name.isdigit()] == ["80 small ones"]
