#!/usr/bin/python3
"""Commit subjects read `room/file: verb`, in at most 72 columns and without a full stop.

usage: commits.py [MESSAGE_FILE]   (a commit-msg hook passes the file; else all of HEAD is read)
"""

import re
import subprocess
import sys
from collections.abc import Iterable

import tree

SUBJECT = re.compile(r"[\w./*{},+-]+(, [\w./*{},+-]+)*: \S.*[^.\s]")
COLUMNS = 72


def find(subjects: Iterable[str]) -> list[str]:
    return [
        f"`{subject}`: `room/file: verb`, at most {COLUMNS} columns, no full stop"
        for subject in subjects
        if not (SUBJECT.fullmatch(subject) and len(subject) <= COLUMNS)
        and not subject.startswith('Revert "')
    ]


def history() -> list[str]:
    """The subjects of HEAD's commits; none outside a clone (a source archive has no history)."""
    git = ["git", "-c", "safe.directory=*", "-C", str(tree.ROOT)]
    if not (tree.ROOT / ".git").exists():
        return []
    log = [*git, "log", "--no-merges", "--format=%s", "HEAD"]
    done = subprocess.run(log, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def cases() -> Iterable[tree.Case]:
    planted = {
        "a subject without a place": "fix the queue",
        "a long subject": "drivers/nvme: " + "x" * 60,
        "a full stop": "drivers/nvme: split PRP lists.",
    }
    for what, subject in planted.items():
        yield f"catches {what}", [] if find([subject]) else [f"`{subject}` passed"]
    yield "allows a good subject", find(["drivers/nvme: split PRP lists at page ends"])
    subjects = history()
    yield f"commit subjects are in form ({len(subjects)} commits)", find(subjects)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with open(sys.argv[1], encoding="utf-8") as message:
            sys.exit("\n".join(find([message.readline().rstrip("\n")])) or 0)
    sys.exit(tree.report(cases()))
