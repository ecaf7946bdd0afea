"""The parts of a parsed template, each of which can run. Takes a scope, gives values or output.

A Go struct is a `Record`, a Go map a dict; a callable in a Record is a method.
"""

from __future__ import annotations

from veloci.cli.template_functions import Problem, called, truth
from veloci.cli.template_print import NIL, NO_VALUE, Record, kind, printed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Failed(Exception):
    """Running stopped at `node`, which stands at `position` in the template."""

    def __init__(self, position: int, node: object, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.position, self.node, self.hint = position, node, hint


class Jump(Exception):
    """`{{break}}` and `{{continue}}`: a node that is thrown to its loop."""

    def run(self, _execution: Execution, _scope: Scope) -> None:
        """Leave the nodes up to the loop."""
        raise Jump(*self.args)


class Scope:
    """What `.` is, and the variables, innermost last."""

    def __init__(self, dot: Any, variables: list[list[Any]] | None = None) -> None:
        self.dot = dot
        self.variables = [["$", dot]] if variables is None else variables

    def inner(self, dot: Any) -> Scope:
        """A scope inside this one: what it declares ends with it, what it assigns does not."""
        return Scope(dot, list(self.variables))

    def variable(self, name: str) -> Any:
        """The value of the innermost variable of that name."""
        cell = self._cell(name)
        assert cell is not None  # the parser refuses an undefined one
        return cell[1]

    def assign(self, name: str, value: Any) -> bool:
        """Give the innermost variable of that name another value; False if there is none."""
        cell = self._cell(name)
        if cell is not None:
            cell[1] = value
        return cell is not None

    def declare(self, name: str, value: Any) -> None:
        """Add a variable to this scope."""
        self.variables.append([name, value])

    def _cell(self, name: str) -> list[Any] | None:
        return next((cell for cell in reversed(self.variables) if cell[0] == name), None)


class Execution:
    """One rendering: its output so far."""

    def __init__(self, functions: dict[str, Any], named: dict[str, list[Node]]) -> None:
        self.functions, self.named = functions, named
        self.output: list[str] = []

    def run(self, nodes: list[Node], scope: Scope) -> None:
        """Run the nodes in order."""
        for node in nodes:
            node.run(self, scope)


class Text:
    """Words outside `{{ }}`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, execution: Execution, _scope: Scope) -> None:
        """Put them out."""
        execution.output.append(self.text)


class Constant:
    """A string, a number, a character, true or false."""

    def __init__(self, position: int, text: str, *, value: Any) -> None:
        self.position, self.text, self.value = position, text, value

    def __str__(self) -> str:
        return self.text

    def get(self, _execution: Execution, _scope: Scope) -> Any:
        """Its value."""
        return self.value


class NilWord:
    """The word `nil`, which may only be an argument."""

    def __init__(self, position: int) -> None:
        self.position = position

    def __str__(self) -> str:
        return "nil"

    def get(self, _execution: Execution, _scope: Scope) -> Any:
        """None."""


class Word:
    """A function's name."""

    def __init__(self, position: int, name: str) -> None:
        self.position, self.name = position, name

    def __str__(self) -> str:
        return self.name

    def get(self, execution: Execution, scope: Scope) -> Any:
        """What the function gives without arguments."""
        return Call(self.position, [self]).get(execution, scope)


class Chain:
    """`.`, `.A.B`, `$x.A` or `(pipeline).A`."""

    def __init__(self, position: int, base: Value | None, fields: list[str], *, variable: str = "") -> None:
        self.position, self.base, self.fields, self.variable = position, base, fields, variable

    def __str__(self) -> str:
        start = f"({self.base})" if self.base else self.variable
        return start + "".join(f".{field}" for field in self.fields) or "."

    def get(self, execution: Execution, scope: Scope, arguments: list[Any] | None = None) -> Any:
        """The value at the end of the chain; `arguments` are for a method there."""
        if self.base:
            value = self.base.get(execution, scope)
        else:
            value = scope.variable(self.variable) if self.variable else scope.dot
        if arguments and not self.fields:
            raise Failed(self.position, self, f"can't give argument to non-function {self}")
        for index, field in enumerate(self.fields, 1):
            value = self._field(value, field, arguments or [] if index == len(self.fields) else [])
        return value

    def _field(self, value: Any, name: str, arguments: list[Any]) -> Any:
        if value is NO_VALUE:
            return value
        if value is None or value is NIL:
            raise Failed(self.position, self, f"nil pointer evaluating interface {{}}.{name}")
        if not isinstance(value, dict):
            raise Failed(self.position, self, f"can't evaluate field {name} in type {kind(value)}")
        found = value.get(name, NO_VALUE)
        if isinstance(value, Record) and found is NO_VALUE:
            found = value.likely(name)
            if found is NO_VALUE:
                fields = " ".join(f".{key}" for key in value)
                problem = f"can't evaluate field {name} in type {kind(value)}"
                raise Failed(self.position, self, problem, f"one of {fields}" if fields else "")
        if callable(found):
            try:
                return called(name, (found, found.__code__.co_argcount, found.__code__.co_argcount), arguments)
            except Problem as problem:
                raise Failed(self.position, self, str(problem)) from None
        if arguments:
            raise Failed(self.position, self, f"{name} has arguments but cannot be invoked as function")
        return found


class Call:
    """Operands with spaces between them: a function or a method and its arguments, or one value."""

    def __init__(self, position: int, words: list[Value]) -> None:
        self.position, self.words = position, words

    def __str__(self) -> str:
        return " ".join(f"({word})" if isinstance(word, Pipe) else str(word) for word in self.words)

    def get(self, execution: Execution, scope: Scope, last: tuple[Any, ...] = ()) -> Any:
        """Its value; `last` holds what the stage of the pipeline before it gave."""
        first, *rest = self.words
        if isinstance(first, Word):
            return self._function(first, rest, last, execution, scope)
        if isinstance(first, Chain):
            return first.get(execution, scope, [*(word.get(execution, scope) for word in rest), *last])
        if isinstance(first, NilWord):
            raise Failed(first.position, first, "nil is not a command")
        if rest or last:
            raise Failed(first.position, first, f"can't give argument to non-function {first}")
        return first.get(execution, scope)

    def _function(
        self, word: Word, rest: list[Value], last: tuple[Any, ...], execution: Execution, scope: Scope
    ) -> Any:
        if word.name in ("and", "or"):
            return self._shortcut(word.name, rest, last, execution, scope)
        arguments = [*(item.get(execution, scope) for item in rest), *last]
        try:
            return called(word.name, execution.functions[word.name], arguments)
        except Problem as problem:
            raise self._failed(problem, word, rest) from None

    def _failed(self, problem: Problem, word: Word, rest: list[Value]) -> Failed:
        index = problem.argument
        if index == Problem.NAME:
            return Failed(word.position, word, str(problem))
        node = rest[index] if index is not None and index < len(rest) else self
        if problem.constant and isinstance(node, Constant):
            return Failed(node.position, node, f"{problem.constant} {node}")
        return Failed(node.position, node, str(problem))

    def _shortcut(self, name: str, rest: list[Value], last: tuple[Any, ...], execution: Execution, scope: Scope) -> Any:
        """`and` and `or` stop at the first argument that decides."""
        value: Any = NO_VALUE
        for item in rest:
            value = item.get(execution, scope)
            if truth(value) == (name == "or"):
                return value
        if last:
            return last[0]
        if value is NO_VALUE and not rest:
            raise Failed(self.position, self, f"wrong number of args for {name}: want at least 1 got 0")
        return value


class Pipe:
    """Calls with `|` between them, and the variables that take the result."""

    def __init__(self, position: int, calls: list[Value], declared: list[str], *, declares: bool) -> None:
        self.position, self.calls, self.declared, self.declares = position, calls, declared, declares

    def __str__(self) -> str:
        return " | ".join(map(str, self.calls))

    def get(self, execution: Execution, scope: Scope) -> Any:
        """The value of the last call; the variables have it too, unless a range does that."""
        last: tuple[Any, ...] = ()
        for call in self.calls:
            assert isinstance(call, Call)
            last = (call.get(execution, scope, last),)
        return last[0]

    def bind(self, scope: Scope, *values: Any) -> None:
        """Give the variables their values."""
        for name, value in zip(self.declared, values, strict=True):
            if self.declares:
                scope.declare(name, value)
            elif not scope.assign(name, value):
                raise Failed(self.calls[-1].position, self.calls[-1], f"undefined variable: {name}")


class Assign:
    """`{{$x := …}}` or `{{$x = …}}`: prints nothing."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def run(self, execution: Execution, scope: Scope) -> None:
        """Set the variable."""
        self.pipe.bind(scope, self.pipe.get(execution, scope))


class Show:
    """`{{…}}`: prints its value."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def run(self, execution: Execution, scope: Scope) -> None:
        """Print it."""
        execution.output.append(printed(self.pipe.get(execution, scope)))


class Test:
    """`if`, and `with`, which moves `.`."""

    def __init__(self, pipe: Pipe, nodes: list[Node], other: list[Node], *, moves: bool) -> None:
        self.pipe, self.nodes, self.other, self.moves = pipe, nodes, other, moves

    def run(self, execution: Execution, scope: Scope) -> None:
        """Run one side."""
        value = self.pipe.get(execution, scope)
        true = truth(value)
        inner = scope.inner(value if self.moves and true else scope.dot)
        if self.pipe.declared:
            self.pipe.bind(inner, value)
        execution.run(self.nodes if true else self.other, inner)


class Range:
    """`range` over a list, a map in the order of its keys, or a number's worth of turns."""

    def __init__(self, pipe: Pipe, nodes: list[Node], other: list[Node]) -> None:
        self.pipe, self.nodes, self.other = pipe, nodes, other

    def run(self, execution: Execution, scope: Scope) -> None:
        """Run the nodes once an item, or the others if there is none."""
        pairs = self._pairs(self.pipe.get(execution, scope))
        for key, value in pairs:
            inner = scope.inner(value)
            if self.pipe.declared:
                self.pipe.bind(inner, *((key, value)[-len(self.pipe.declared) :]))
            try:
                execution.run(self.nodes, inner)
            except Jump as jump:
                if str(jump) == "break":
                    break
        if not pairs:
            execution.run(self.other, scope.inner(scope.dot))

    def _pairs(self, value: Any) -> list[tuple[Any, Any]]:
        if value is None or value is NO_VALUE or value is NIL:
            return []
        if isinstance(value, dict) and not isinstance(value, Record):
            return sorted(value.items())
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        raise Failed(self.pipe.position, self.pipe, f"range can't iterate over {printed(value)}")


class Include:
    """`{{template "name" pipeline}}`."""

    def __init__(self, position: int, name: str, pipe: Pipe | None) -> None:
        self.position, self.name, self.pipe = position, name, pipe

    def run(self, execution: Execution, scope: Scope) -> None:
        """Run the nodes of that name, with a scope of their own."""
        if self.name not in execution.named:
            raise Failed(self.position, f'{{{{template "{self.name}"}}}}', f'template "{self.name}" not defined')
        dot = self.pipe.get(execution, scope) if self.pipe else NO_VALUE
        execution.run(execution.named[self.name], Scope(dot))


if TYPE_CHECKING:
    Value = Constant | NilWord | Word | Chain | Call | Pipe
    Node = Text | Assign | Show | Test | Range | Include | Jump
