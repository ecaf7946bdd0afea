"""Go's text/template, as docker's --format uses it. Takes a template and data, gives text.

    Template("{{.Names}}\\t{{.Status}}").render({"Names": "web", "Status": "Up 5 minutes"})

Fields, methods (`.Label "x"`), variables, pipelines, if, else, with, range, break, continue,
define, template, trimming and comments as in https://pkg.go.dev/text/template (Go 1.22),
with docker's functions (https://docs.docker.com/engine/cli/formatting/). Data is what a JSON
parser gives; a `Record` stands for a Go struct: a field it lacks is an error, where a dict,
a Go map, gives `<no value>`. The tests hold it against docker itself.
"""

from __future__ import annotations

import re

from veloci.cli.template_functions import FUNCTIONS, HEADER_FUNCTIONS
from veloci.cli.template_nodes import (
    Assign,
    Call,
    Chain,
    Constant,
    Execution,
    Failed,
    Include,
    Jump,
    NilWord,
    Pipe,
    Range,
    Scope,
    Show,
    Test,
    Text,
    Word,
)
from veloci.cli.template_print import quote
from veloci.cli.template_tokens import malformed, tokens
from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from veloci.cli.template_nodes import Node, Value
    from veloci.cli.template_tokens import Token

_ESCAPES = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_KEYWORDS = {"if", "range", "with", "end", "else", "break", "continue", "define", "template", "block"}


class Template:
    """A parsed template. Raises InvalidInput, in docker's words, where it is malformed.

    header: render column headings: functions on them (json, upper, join) give them back unchanged.
    """

    def __init__(self, text: str, *, header: bool = False) -> None:
        self.text = text
        self._functions = HEADER_FUNCTIONS if header else FUNCTIONS
        self._nodes, self._named = _Parser(text, self._functions).parse()

    def render(self, data: Any) -> str:
        """The text for `data`. Raises InvalidInput that names line, column and expression."""
        execution = Execution(self._functions, self._named)
        try:
            execution.run(self._nodes, Scope(data))
        except Failed as failure:
            line = self.text.count("\n", 0, failure.position) + 1
            column = failure.position - (self.text.rfind("\n", 0, failure.position) + 1)
            raise InvalidInput(
                f'template parsing error: template: :{line}:{column}: executing "" at <{failure.node}>: {failure}',
                hint=failure.hint,
            ) from None
        except RecursionError:
            raise InvalidInput("template parsing error: template: exceeded maximum template depth") from None
        return "".join(execution.output)


class _Parser:
    """Recursive descent over the tokens; mirrors text/template/parse."""

    def __init__(self, text: str, functions: dict[str, Any]) -> None:
        self.text, self.functions = text, functions
        self.tokens = list(tokens(text))
        self.index = 0
        self.variables = ["$"]
        self.loops = 0
        self.named: dict[str, list[Node]] = {}

    def parse(self) -> tuple[list[Node], dict[str, list[Node]]]:
        nodes, end = self.block()
        if end:
            self.fail(f"unexpected {{{{{end}}}}}")
        return nodes, self.named

    def fail(self, problem: str) -> NoReturn:
        malformed(self.text, self.tokens[max(self.index - 1, 0)].position, problem)

    def take(self) -> Token:
        self.index += 1
        return self.tokens[self.index - 1]

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.index + ahead, len(self.tokens) - 1)]

    def expect(self, kind: str, text: str, context: str) -> Token:
        token = self.take()
        if token.kind != kind or (text and token.text != text):
            self.fail(f"unexpected {_quoted(token)} in {context}")
        return token

    def block(self) -> tuple[list[Node], str]:
        """The nodes up to an `end` or `else` of this block, and which; "" at the end of the text."""
        nodes: list[Node] = []
        while (token := self.take()).kind != "end of text":
            if token.kind == "text":
                nodes.append(Text(token.text))
                continue
            word = self.peek()
            if word.kind != "word" or word.text not in _KEYWORDS:
                nodes.append(self.action())
                continue
            self.take()
            if word.text in ("end", "else"):
                if word.text == "end":
                    self.expect("close", "", "end")
                return nodes, word.text
            if (node := self.keyword(word)) is not None:
                nodes.append(node)
        return nodes, ""

    def action(self) -> Node:
        pipe = self.pipeline("command")
        return Assign(pipe) if pipe.declared else Show(pipe)

    def keyword(self, word: Token) -> Node | None:
        if word.text in ("if", "with"):
            return self.test(word.text)
        if word.text == "range":
            return self.loop()
        if word.text in ("break", "continue"):
            if not self.loops:
                self.fail(f"{{{{{word.text}}}}} outside {{{{range}}}}")
            self.expect("close", "", word.text)
            return Jump(word.text)
        return self.definition(word.text)

    def definition(self, kind: str) -> Node | None:
        """`define "name"`, `block "name" pipeline` or `template "name" pipeline`."""
        name = self.expect("string", "", f"{kind} clause")
        title = self.unquoted(name)
        pipe = None
        if kind != "define" and self.peek().kind != "close":
            pipe = self.pipeline(f"{kind} clause")
        else:
            self.expect("close", "", f"{kind} clause")
        if kind != "template":
            variables, self.variables = self.variables, ["$"]
            nodes, end = self.block()
            if end != "end":
                self.fail("unexpected EOF" if not end else f"unexpected {{{{{end}}}}} in {kind} clause")
            self.variables = variables
            self.named[title] = nodes
        return None if kind == "define" else Include(name.position, title, pipe)

    def test(self, kind: str) -> Node:
        mark = len(self.variables)
        pipe = self.pipeline(kind)
        node = Test(pipe, *self.branches(), moves=kind == "with")
        del self.variables[mark:]
        return node

    def loop(self) -> Node:
        mark = len(self.variables)
        pipe = self.pipeline("range")
        self.loops += 1
        node = Range(pipe, *self.branches())
        self.loops -= 1
        del self.variables[mark:]
        return node

    def branches(self) -> tuple[list[Node], list[Node]]:
        """What stands between a condition and its `end`: the nodes, and those after `else`."""
        nodes, end = self.block()
        if end == "else":
            word = self.take()
            if word.kind == "word" and word.text in ("if", "with"):  # its `end` is ours too
                return nodes, [self.test(word.text)]
            if word.kind != "close":
                self.fail(f"unexpected {_quoted(word)} in else")
            other, end = self.block()
            if end == "else":
                self.fail("expected end; found {{else}}")
        else:
            other = []
        if not end:
            self.fail("unexpected EOF")
        return nodes, other

    def pipeline(self, context: str, end: str = "close") -> Pipe:
        """Up to and with its end: `}}`, or `)`."""
        position = self.peek().position
        declared, declares = self.declarations(context)
        commands: list[Value] = []
        while True:
            token = self.peek()
            if end in (token.kind, token.text):
                self.take()
                break
            if token.kind == "mark" and token.text == ")":
                self.take()
                self.fail("unexpected right paren")
            if token.kind in ("close", "end of text"):
                self.take()
                self.fail("unclosed left paren")
            commands.append(self.command(context))
        if not commands:
            self.fail(f"missing value for {context}")
        for index, command in enumerate(commands[1:], 2):
            if isinstance(command, Call) and isinstance(command.words[0], (Constant, NilWord)):
                self.fail(f"non executable command in pipeline stage {index}")
        if declares:
            self.variables += declared
        return Pipe(position, commands, declared, declares=declares)

    def declarations(self, context: str) -> tuple[list[str], bool]:
        """The variables before `:=` or `=`, and whether they are new."""
        names: list[str] = []
        ahead = 0
        while self.peek(ahead).kind == "variable":
            names.append(self.peek(ahead).text)
            after = self.peek(ahead + 1)
            if after.kind == "mark" and after.text == "," and context == "range":
                if len(names) == 2:
                    self.fail("too many declarations in range")
                ahead += 2
                continue
            if after.kind == "mark" and after.text in (":=", "="):
                self.index += ahead + 2
                return names, after.text == ":="
            break
        return [], False

    def known(self, name: str) -> str:
        if name not in self.variables:
            self.fail(f'undefined variable "{name}"')
        return name

    def command(self, context: str) -> Value:
        """Operands with spaces between them, up to a `|` or the end of the pipeline."""
        words: list[Value] = []
        position = self.peek().position
        while True:
            token = self.peek()
            if token.kind in ("close", "end of text") or (token.kind == "mark" and token.text == ")"):
                break
            if token.kind == "mark" and token.text == "|":
                self.take()
                if not words:
                    self.fail(f'unexpected "|" in {context}')
                break
            words.append(self.operand())
            after = self.peek()
            if not after.spaced and after.kind != "close" and after.text not in ("|", ")"):
                self.take()
                self.fail(f"unexpected {_quoted(after)} in operand")
        if not words:
            self.fail("empty command")
        return Call(position, words)

    def operand(self) -> Value:
        """A term and the fields that follow it at once: `.State.Status`, `$c.Name`, `(index . 0).Id`."""
        token = self.take()
        start = token.position
        if token.kind == "field":
            base: Value | None = None
            fields = [token.text[1:]]
        else:
            base, fields = self.term(token), []
        first = len(fields)
        where = self.peek().position
        while self.peek().kind == "field" and not self.peek().spaced:
            fields.append(self.take().text[1:])
        if not fields:
            assert base is not None
            return base
        if isinstance(base, Chain) and base.variable and not base.fields:  # `$x.A` is one operand
            return Chain(where, None, fields, variable=base.variable)
        if isinstance(base, (Constant, NilWord)):
            self.fail(f"unexpected . after term {quote(str(base))}")
        return Chain(where if len(fields) > first else start, base, fields)

    def term(self, token: Token) -> Value:
        kind, text, position = token.kind, token.text, token.position
        if kind == "word":
            if text in ("true", "false"):
                return Constant(position, text, value=text == "true")
            if text == "nil":
                return NilWord(position)
            if text not in self.functions:
                self.fail(f'function "{text}" not defined')
            return Word(position, text)
        if kind == "dot":
            return Chain(position, None, [])
        if kind == "variable":
            return Chain(position, None, [], variable=self.known(text))
        if kind == "string":
            return Constant(position, text, value=self.unquoted(token))
        if kind == "character":
            return Constant(position, text, value=ord(_unescaped(text[1:-1])))
        if kind == "number":
            return Constant(position, text, value=self.number(text))
        if kind != "mark" or text != "(":
            self.fail(f"unexpected {_quoted(token)} in operand")
        return self.pipeline("parenthesized pipeline", ")")

    def number(self, text: str) -> int | float:
        try:
            return int(text, 0) if text.strip("+-0") else 0
        except ValueError:
            try:
                return float(text)
            except ValueError:
                self.fail(f'bad number syntax: "{text}"')

    def unquoted(self, token: Token) -> str:
        return token.text[1:-1] if token.text[0] == "`" else _unescaped(token.text[1:-1])


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567" and len(code) == 3:
            return chr(int(code, 8))
        return _LETTERS.get(code, code)

    return _ESCAPES.sub(one, text)


def _quoted(token: Token) -> str:
    return "EOF" if token.kind == "end of text" else f'"{token.text.strip()}"'
