#!/usr/bin/python3
"""The repository names no machine: no private paths, and none of the hosts this machine uses."""

import re
from pathlib import Path

import tree

PATHS = re.compile(r"(?<![\w.$}~*-])/(home|root|work|Users)/[\w.]")
APT = ["/etc/apt/sources.list", *map(str, Path("/etc/apt/sources.list.d").glob("*"))]


def hosts() -> list[str]:
    """The package hosts configured here; the project reads them at run time, never names them."""
    texts = [Path(path).read_text(encoding="utf-8") for path in APT if Path(path).is_file()]
    return sorted(set(re.findall(r"https?://([^/\s]+)", "".join(texts))))


def find(files: tree.Tree, names: list[str]) -> list[str]:
    findings = []
    for path, text in files.items():
        if path == "LICENSE":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if PATHS.search(line):
                findings.append(f"{path}:{number}: a path of one machine: {line.strip()[:80]}")
            used = [name for name in names if name in line]
            findings += [f"{path}:{number}: a package host: {name}" for name in used]
    return findings


if __name__ == "__main__":
    known = hosts()
    tree.run(
        "no machine is named",
        lambda files: find(files, [*known, "mirror." "invalid"]),
        planted={
            "a home folder": {"docs/a.md": "see /home" "/somebody/notes\n"},
            "a package host": {"dev": "curl http://mirror." "invalid/debian\n"},
        },
        clean={
            "paths every machine has": {"docs/a.md": "/dev/shm and /usr/bin/python3\n"},
            "a path below a variable": {"dev": "$HOME/.cache and $tree/root/x\n"},
        },
    )
