#!/usr/bin/python3
"""Lines of at most 100 columns, functions of at most 70 lines, files of at most 500.

A file that must be longer is listed in long_files.txt with its length, which may only shrink.
"""

import ast
import re

import cpp
import tree

COLUMNS = 100
FUNCTION_LINES = 70
FILE_LINES = 500
LIST = "tests/tidy/long_files.txt"
SOURCE = re.compile(r"(\.(h|cc|py|sh|build)|^dev|^\.ci/run)$")


def _python_functions(text: str) -> list[tuple[int, int]]:
    return [
        (node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def _long_functions(path: str, text: str) -> list[str]:
    listed = list(cpp.functions(text)) if tree.is_cpp(path) else []
    listed += _python_functions(text) if path.endswith(".py") else []
    return [
        f"{path}:{first}: a function of {lines} lines (at most {FUNCTION_LINES})"
        for first, lines in listed
        if lines > FUNCTION_LINES
    ]


def _listed(files: tree.Tree) -> dict[str, int]:
    rows = [row.split() for row in files.get(LIST, "").splitlines() if not row.startswith("#")]
    return {path: int(lines) for lines, path in (row for row in rows if row)}


def _length(path: str, lines: int, listed: dict[str, int]) -> list[str]:
    allowed = listed.get(path)
    if allowed is None:
        return [f"{path}: {lines} lines (at most {FILE_LINES})"] if lines > FILE_LINES else []
    if lines != allowed or lines <= FILE_LINES:
        return [f"{path}: {lines} lines; {LIST} says {allowed}, and may only shrink"]
    return []


def find(files: tree.Tree) -> list[str]:
    listed = _listed(files)
    findings = [f"{LIST}: no such file: {path}" for path in listed if path not in files]
    for path, text in files.items():
        if not SOURCE.search(path):
            continue
        lines = text.splitlines()
        findings += [
            f"{path}:{number}: {len(line)} columns (at most {COLUMNS})"
            for number, line in enumerate(lines, 1)
            if len(line) > COLUMNS
        ]
        findings += _length(path, len(lines), listed)
        findings += _long_functions(path, text)
    return findings


def _body(lines: int) -> str:
    """A C++ function whose braces span `lines` lines, in a class in a namespace."""
    opening = "namespace a {\ntemplate <class T>\n  requires(x<T>)\nclass b : public c<T> {\n"
    head = "  explicit b(int d = 1)\n      : d_{d},\n        e_{d} {\n"
    return opening + head + "    g();\n" * (lines - 2) + "  }\n};\n}\n"


if __name__ == "__main__":
    tree.run(
        "no line, function or file is too long",
        find,
        planted={
            "a line of 101 columns": {"mempool/a.h": "/" * 101 + "\n"},
            "a function of 71 lines": {"mempool/a.cc": _body(71)},
            "a test body of 71 lines": {"mempool/a_test.cc": "TEST(A, B) {\n" + ";\n" * 69 + "}\n"},
            "a Python function of 71 lines": {"tests/a.py": "def f():\n" + "    pass\n" * 70},
            "a file of 501 lines": {"mempool/a.cc": ";\n" * 501},
            "a listed file that grew": {"mempool/a.cc": ";\n" * 601, LIST: "600 mempool/a.cc\n"},
            "a listed file that need not be": {"mempool/a.cc": ";\n", LIST: "600 mempool/a.cc\n"},
            "a listed file that is gone": {LIST: "600 mempool/a.cc\n"},
        },
        clean={
            "a line of 100 columns": {"mempool/a.h": "é" * 100 + "\n"},
            "a function of 70 lines": {"mempool/a.cc": _body(70)},
            "a table of 100 lines": {"mempool/a.cc": "const int t[] = {\n" + "1,\n" * 98 + "};\n"},
            "a listed file": {"mempool/a.cc": ";\n" * 600, LIST: "600 mempool/a.cc\n"},
        },
    )
