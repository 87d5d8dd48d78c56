"""Just enough C++ for the checks: code without its comments and literals, and its functions."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    //[^\n]*                                      # comment to the end of the line
  | /\*.*?\*/                                     # comment
  | R"(?P<delimiter>[^(\s]*)\(.*?\)(?P=delimiter)" # raw string
  | "(?:\\.|[^"\\\n])*"                           # string
  | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'           # character, not the ' of 1'000
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
_NESTED = re.compile(r"\([^(){}]*\)|\{[^(){}]*\}")
_SCOPE = re.compile(r"(?:^|[^<,\s]\s+)(?:namespace|class|struct|union|enum|extern)\b")


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def code(text: str) -> str:
    """`text` with comments and literals blanked; every position and line stays where it was."""
    return _TOKEN.sub(_blank, text)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def includes(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, '<' or '"', path) of every include."""
    for match in _INCLUDE.finditer(text):
        yield line_of(text, match.start(1)), match[1], match[2]


def _kind(head: str) -> str:
    """What a brace opens, judged by the text since the last statement, formatted as ours is."""
    if not head.endswith((" ", "\n")):
        return "value"  # `member_{`, `std::array{`
    outer, count = head.strip(), 1
    while count:
        outer, count = _NESTED.subn("", outer)
    if _SCOPE.search(outer):
        return "scope"
    called = "(" in head and "operator" in outer
    return "function" if called or ("(" in head and "=" not in outer) else "value"


def functions(text: str) -> Iterator[tuple[int, int]]:
    """(first line, number of lines) of every function body that is not inside another one."""
    bare = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", _blank, code(text), flags=re.MULTILINE)
    stack: list[str] = []
    head_start = body_start = 0
    for match in re.finditer(r"[{};]|(?:public|private|protected):", bare):
        position, mark = match.start(), match[0]
        inside = any(kind != "scope" for kind in stack)
        if mark == "{":
            stack.append("value" if inside else _kind(bare[head_start:position]))
            if not inside and stack[-1] == "function":
                body_start = position
        elif mark == "}" and stack:
            kind = stack.pop()
            if kind == "function":
                first = line_of(bare, body_start)
                yield first, line_of(bare, position) - first + 1
            if kind == "value":
                continue  # the head goes on after it: `: member_{x} {`
        if not any(kind != "scope" for kind in stack):
            head_start = match.end()
