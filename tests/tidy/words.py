#!/usr/bin/python3
"""Banned constructs, each with the place that may use it and the reason."""

import re
from dataclasses import dataclass

import cpp
import tree

ROOMS = r"^(mempool|drivers|runtime)/"
CPP = r"\.(h|cc)$"
TEXT = r"(\.(h|cc|py|sh|build)|^dev|^\.ci/run)$"


@dataclass(frozen=True)
class ban:
    pattern: str
    where: str  # paths it holds for
    why: str
    unless: str = r"^$"  # paths that may
    comments: bool = False  # looked for in comments and literals too


BANS = [
    ban(r"(?<!asm )\bvolatile\b(?! void)", CPP, "use mmio_read/read_once of drivers/mmio.h",
        unless=r"^drivers/mmio\.h$"),
    ban(r"\b(shared_ptr|make_shared)\b", ROOMS + ".*" + CPP, "one owner at a time"),
    ban(r"\bs?rand\s*\(", CPP, "chance comes from the engine, by a seed"),
    ban(r"\brandom_device\b", ROOMS + ".*" + CPP, "chance comes from the engine, by a seed",
        unless=r"^runtime/engine\.cc$"),
    ban(r"\bthis_thread::sleep_\w+|\b(u|nano)sleep\s*\(|::sleep\s*\(|\bsleep\s*\(\s*\d", CPP,
        "wait for a condition, by a deadline"),
    ban(r"\]\s*=\s*co_await\b", CPP, "g++ skips destructors here: name the whole result"),
    ban(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", TEXT, "finish it, or say what is so",
        comments=True),
    ban(r"env python", TEXT, "scripts name /usr/bin/python3: root's own may be unreadable",
        unless=r"^tests/tidy/words\.py$", comments=True),
    ban(r"-march=" + r"native", TEXT, "test guests lack the host's instructions", comments=True),
]


def _once(path: str, text: str) -> list[str]:
    """A header starts with its comment, if any, and then #pragma once."""
    first = next((line for line in cpp.code(text).splitlines() if line.strip()), "")
    return [] if first.strip() == "#pragma once" else [f"{path}:1: #pragma once comes first"]


def find(files: tree.Tree) -> list[str]:
    findings = []
    for path, text in files.items():
        if path.endswith(".h"):
            findings += _once(path, text)
        code = cpp.code(text) if tree.is_cpp(path) else text
        for rule in BANS:
            if re.search(rule.where, path) and not re.search(rule.unless, path):
                looked = text if rule.comments else code
                findings += [
                    f"{path}:{cpp.line_of(looked, match.start())}: `{match[0]}`: {rule.why}"
                    for match in re.finditer(rule.pattern, looked)
                ]
    return findings


if __name__ == "__main__":
    tree.run(
        "no banned constructs",
        find,
        planted={
            "volatile": {"drivers/a.cc": "volatile int flag;\n"},
            "shared_ptr": {"runtime/a.cc": "std::shared_ptr<int> p;\n"},
            "unseeded chance": {"apps/a.cc": "int x = rand();\n"},
            "a random device below the engine": {"drivers/a.cc": "std::random_device d;\n"},
            "a sleep in a test": {"mempool/a_test.cc": "std::this_thread::sleep_for(1ms);\n"},
            "seconds of sleep": {"mempool/a.cc": "sleep(1);\n"},
            "usleep": {"mempool/a.cc": "usleep(10);\n"},
            "a structured binding of co_await": {"apps/a.cc": "auto [a, b] = co_await f();\n"},
            "a promise in a comment": {"apps/a.cc": "// TO" "DO later\n"},
            "a header without pragma once": {"mempool/a.h": "// what\n\nint x;\n"},
            "the caller's own python": {"tests/a.py": "#!/usr/bin/" "env python3\n"},
            "code for this machine only": {"bench/meson.build": "'-march=" "native'\n"},
        },
        clean={
            "volatile in mmio.h": {"drivers/mmio.h": "#pragma once\nvolatile int x;\n"},
            "the word in a comment": {"drivers/a.cc": "// a volatile write cache\n"},
            "the word in a literal": {"drivers/a.cc": 'auto s = "volatile";\nauto c = \'"\';\n'},
            "a pointer that cannot be read through": {"apps/a.cc": "using p = volatile void*;\n"},
            "a barrier": {"drivers/a.cc": 'asm volatile("" ::: "memory");\n'},
            "a coroutine that sleeps": {"apps/a.cc": "co_await reactor.sleep_for(1ms);\n"},
            "a named result of co_await": {"apps/a.cc": "auto both = co_await f();\n"},
            "a header with its comment first": {"mempool/a.h": "// what\n#pragma once\n"},
        },
    )
