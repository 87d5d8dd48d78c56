#!/usr/bin/python3
"""The licence is whole, the changelog keeps its format, rooms have a README, links lead somewhere.

The changelog's format is Keep a Changelog 1.1: Unreleased first, then releases, newest first.
"""

import hashlib
import posixpath
import re

import tree

ROOMS = ["mempool", "drivers", "runtime", "apps", "bench", "tests"]
README_LINES = 90  # about a page
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def _licence(files: tree.Tree) -> list[str]:
    digest = hashlib.sha256(files.get("LICENSE", "").encode()).hexdigest()
    return [] if digest == APACHE_2 else ["LICENSE: not the text of the Apache License 2.0"]


def _changelog(files: tree.Tree) -> list[str]:
    lines = files.get("CHANGELOG.md", "").splitlines()
    findings = [] if lines[:1] == ["# Changelog"] else ["CHANGELOG.md:1: begins `# Changelog`"]
    releases = [(n, line) for n, line in enumerate(lines, 1) if line.startswith("## ")]
    if not releases or releases[0][1] != "## [Unreleased]":
        findings.append("CHANGELOG.md: the first release is `## [Unreleased]`")
    newer = "9999-99-99"
    for number, line in releases[1:]:
        match = re.fullmatch(r"## \[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d)", line)
        if not match or match[1] > newer:
            findings.append(f"CHANGELOG.md:{number}: `## [x.y.z] - YYYY-MM-DD`, newest first")
        newer = match[1] if match else newer
    for number, line in enumerate(lines, 1):
        if line.startswith("### ") and line[4:] not in SECTIONS:
            findings.append(f"CHANGELOG.md:{number}: a section is one of {', '.join(SECTIONS)}")
    return findings


def _readmes(files: tree.Tree) -> list[str]:
    findings = []
    for room in ROOMS:
        if any(path.startswith(f"{room}/") for path in files) and f"{room}/README.md" not in files:
            findings.append(f"{room}: has no README.md")
    for path, text in files.items():
        lines = text.count("\n")
        if path.endswith("/README.md") and lines > README_LINES:
            findings.append(f"{path}: {lines} lines; a page is at most {README_LINES}")
    return findings


def _links(files: tree.Tree) -> list[str]:
    folders = {posixpath.dirname(path) for path in files}
    findings = []
    for path, text in files.items():
        if not path.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if "://" not in target and place not in files and place not in folders:
                findings.append(f"{path}: link to {target} leads nowhere")
    return findings


def find(files: tree.Tree) -> list[str]:
    return [*_licence(files), *_changelog(files), *_readmes(files), *_links(files)]


if __name__ == "__main__":
    licence = {"LICENSE": (tree.ROOT / "LICENSE").read_text(encoding="utf-8")}
    good = licence | {"CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A.\n"}

    def changelog(text: str) -> tree.Tree:
        return good | {"CHANGELOG.md": text}

    tree.run(
        "licence, changelog, READMEs and links are in order",
        find,
        planted={
            "an altered licence": good | {"LICENSE": licence["LICENSE"].replace("grants", "sells")},
            "a changelog without a title": changelog("## [Unreleased]\n"),
            "a changelog without Unreleased": changelog("# Changelog\n## [0.1.0] - 2026-01-01\n"),
            "a release without a date": changelog("# Changelog\n## [Unreleased]\n## [0.1.0]\n"),
            "releases out of order": changelog(
                "# Changelog\n## [Unreleased]\n## [0.1.0] - 2026-01-01\n## [0.2.0] - 2026-02-01\n"
            ),
            "an unknown section": changelog("# Changelog\n## [Unreleased]\n### Notes\n"),
            "a room without a README": good | {"mempool/a.h": ""},
            "a README of two pages": good | {"mempool/README.md": "\n" * 150},
            "a link that leads nowhere": good | {"docs/a.md": "[b](b.md)\n"},
        },
        clean={
            "two releases": changelog(
                "# Changelog\n## [Unreleased]\n## [0.2.0] - 2026-02-01\n## [0.1.0] - 2026-01-01\n"
            ),
            "links to files, folders and places": good
            | {"docs/a.md": "[a](a.md#x) [d](../docs) [w](https://example.org/)\n"},
        },
    )
