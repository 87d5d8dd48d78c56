#!/usr/bin/python3
"""A newcomer's first hour: a Debian tree with nothing in it, a clone of HEAD, two commands.

Goal: `./dev demo` and `./dev test` work as root and then as a user who has an ordinary path and
an ordinary limit on locked memory. Method: debootstrap (kept in the cache), unpack, clone, run
in a chroot whose mounts and processes end with it, judge what was printed. Needs root.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "tidy"), str(ROOT / "tests" / "lab")]

import debian  # noqa: E402
import tree  # noqa: E402

SUITE = "bookworm"
USER = 1000
USER_MEMLOCK_BYTES = 8 << 20
DEADLINE_S = 2400
UNINVITED = re.compile(r"^(clang|llvm|qemu|dpdk|librte|libgtest)", re.MULTILINE)
PASS_ON = ("http_proxy", "https_proxy", "no_proxy", "TERM")

# $1 is the tree. The mounts are in a namespace of their own, so nothing has to undo them.
MOUNTS = """
set -e
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount --rbind /dev "$1/dev"
shift
exec "$@"
"""


def base(cache: Path) -> Path:
    """An archive of the minimal tree, made once per mirror and suite."""
    mirror = debian.mirror()
    key = hashlib.sha256(f"{mirror} {SUITE}".encode()).hexdigest()[:16]
    archive = cache / f"{SUITE}-{key}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            tree_made = Path(scratch) / "tree"
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--keyring={debian.KEYRING}",
                 SUITE, str(tree_made), mirror],
                check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S,
            )
            part = Path(scratch) / "part"
            subprocess.run(["tar", "-C", str(tree_made), "-cf", str(part), "."], check=True)
            part.rename(archive)
    return archive


def furnish(where: Path) -> None:
    """What the tree needs of this machine to reach the mirror, and a clone for each person."""
    apt = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, check=True)
    (where / "etc/apt/apt.conf.d/00host").write_bytes(apt.stdout)
    shutil.copytree("/etc/apt/auth.conf.d", where / "etc/apt/auth.conf.d", dirs_exist_ok=True)
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.exists():
        (where / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
        shutil.copy(certificates, where / "etc/ssl/certs")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(f"/etc/{name}", where / "etc" / name)
    for person, uid in (("root", 0), ("user", USER)):
        home = where / "srv" / person
        home.mkdir(parents=True)
        subprocess.run(
            ["git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks",
             str(ROOT), str(home / "runnel")],
            check=True,
        )
        subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home)], check=True)


class person:
    """Somebody at a shell in the tree, in the clone that is theirs."""

    def __init__(self, where: Path, name: str) -> None:
        self._where = where
        self._home = f"/srv/{name}"
        self._is_user = name == "user"
        self.name = name

    def types(self, command: str) -> tuple[int, str]:
        """(exit status, output) of a command line."""
        uid = USER if self._is_user else 0
        sbin = "" if self._is_user else ":/usr/sbin:/sbin"
        passed = [f"{name}={os.environ[name]}" for name in PASS_ON if name in os.environ]
        limit = ["prlimit", f"--memlock={USER_MEMLOCK_BYTES}"] if self._is_user else []
        argv = [
            "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
            "sh", "-c", MOUNTS, "sh", str(self._where), *limit,
            "chroot", f"--userspec={uid}:{uid}", str(self._where),
            "env", "-i", f"HOME={self._home}", f"PATH=/usr/local/bin:/usr/bin:/bin{sbin}",
            "LANG=C.UTF-8", *passed, "bash", "-c", f"cd {self._home}/runnel && {command}",
        ]
        print(f"# {self.name}: {command}", flush=True)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=DEADLINE_S, text=True, errors="replace", check=False,
        )
        return done.returncode, done.stdout


def _claim(what: str, holds: bool, output: str) -> tree.Case:
    return what, [] if holds else ["it printed:", *output.splitlines()[-40:]]


def demo_cases(who: person) -> Iterator[tree.Case]:
    status, output = who.types("./dev demo 2>&1")
    digests = re.findall(r"\b[0-9a-f]{64}\b", output)
    equal = len(digests) >= 2 and digests[0] == digests[1]
    table = all(re.search(rf"\b{name}\b", output) for name in ("p50", "p99"))
    yield _claim(f"{who.name}: ./dev demo succeeds", status == 0, output)
    yield _claim(f"{who.name}: the demo's two digests are equal", equal, output)
    yield _claim(f"{who.name}: e2fsck finds the image clean",
                 re.search(r"e2fsck.*\bclean\b", output) is not None, output)
    yield _claim(f"{who.name}: the latency table is printed", table, output)


def test_cases(who: person) -> Iterator[tree.Case]:
    status, output = who.types("./dev test 2>&1")
    last = (output.splitlines() or [""])[-1]
    passed = re.fullmatch(r"[1-9][0-9]* passed, 0 failed(, \d+ skipped)?", last)
    yield _claim(f"{who.name}: ./dev test ends with `N passed, 0 failed` ({last})",
                 status == 0 and passed is not None, output)


def cases(where: Path) -> Iterator[tree.Case]:
    user, root = person(where, "user"), person(where, "root")
    status, output = user.types("./dev demo 2>&1")
    named = len(output.splitlines()) == 1 and "apt-get install" in output
    yield _claim("user: a missing package is named in one line", status == 1 and named, output)
    yield from demo_cases(root)
    _, packages = root.types("dpkg-query -W -f '${Package}\\n'")
    uninvited = UNINVITED.findall(packages)
    yield _claim("the demo installs only what it needs", not uninvited, " ".join(uninvited))
    yield from test_cases(root)
    yield from demo_cases(user)
    yield from test_cases(user)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cache", type=Path, required=True, help="folder for the minimal tree")
    cache = options.parse_args().cache
    if os.geteuid() != 0:
        sys.exit("fresh: needs root, for chroot")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("fresh: terminated"))  # runs `finally`
    cache.mkdir(parents=True, exist_ok=True)
    where = Path(tempfile.mkdtemp(dir=cache, prefix="tree."))
    try:
        where.chmod(0o755)
        subprocess.run(["tar", "-C", str(where), "-xf", str(base(cache))], check=True)
        furnish(where)
        found = list(cases(where))
    finally:
        shutil.rmtree(where)
    status = tree.report(found)
    failed = sum(bool(findings) for _, findings in found)
    print(f"{len(found) - failed} passed, {failed} failed")
    return status


if __name__ == "__main__":
    sys.exit(main())
