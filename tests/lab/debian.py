"""Trees of unpacked Debian packages, cached outside the checkout.

apt resolves and checks the packages in a root of its own, in which nothing is installed yet:
so every dependency comes along, whatever this machine runs, and no root rights are needed.
The mirror, its proxy and its keyring are this machine's.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NETWORK_DEADLINE_S = 600
# What the lab needs of this machine beyond Python and apt: a file, and the package it is in.
REQUIREMENTS = {Path("/usr/bin/dpkg-deb"): "dpkg", KEYRING: "debian-archive-keyring"}


class lab_error(Exception):
    """The lab cannot go on; the text is one line that says what to do about it."""


@dataclass(frozen=True)
class package_tree:
    """What a tree is made of. Its cache key is all of this, so a change makes a new tree."""

    name: str
    suites: tuple[str, ...]
    release: str  # the suite that wins where several have a package
    packages: tuple[str, ...]
    # Also those whose whole names this expression matches, of the newest version, which is its
    # group; and nothing that they depend on.
    newest: str = ""


# The emulator comes from backports for `vfio-user-pci`, the guest from the release itself.
EMULATOR = package_tree("emulator", ("trixie", "trixie-backports"), "trixie-backports",
                        ("qemu-system-x86",))
GUEST = package_tree("guest", ("trixie",), "trixie",
                     ("linux-image-amd64", "busybox-static", "nvme-cli"))


def default_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "runnel" / "lab"


def ensure(tree: package_tree, cache: Path) -> Path:
    """The folder of a tree, unpacked now unless the cache has it."""
    key = hashlib.sha256(repr(tree).encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    return cached(cache / f"{tree.name}-{key}", partial(_make, tree))


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made now unless it is there. `make` has it appear whole, by renaming."""
    if folder.exists():
        return folder  # without waiting for a run that makes another one
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name("lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be making the same one
        if not folder.exists():
            make(folder)
    return folder


def loader(tree: Path) -> list[str]:
    """How to start a program of a tree with the tree's own libraries, wherever the tree is."""
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]


def require(packages: dict[Path, str]) -> None:
    """Has this machine have each file, from the package it is in; root gets what is missing."""
    missing = sorted({package for file, package in packages.items() if not file.exists()})
    if not missing:
        return
    if os.geteuid() != 0:
        raise lab_error(f"missing packages; as root run: apt-get install {' '.join(missing)}")
    run(["apt-get", "install", "-y", *missing])


def _make(tree: package_tree, folder: Path) -> None:
    """Fills a folder beside the final one and renames it, so a tree is whole or absent."""
    require(REQUIREMENTS)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        configuration = _apt_root(tree, Path(scratch))
        apt = ["apt-get", "-q", "-c", str(configuration)]
        run([*apt, "update"])
        archives = Path(scratch) / "cache/archives"
        if tree.packages:
            run([*apt, "install", "-y", "--download-only", "-t", tree.release, *tree.packages])
        if tree.newest:
            known = run(["apt-cache", "-c", str(configuration), "pkgnames"])
            run([*apt, "download", "-t", tree.release, *newest(known.split(), tree.newest)],
                folder=archives)
        content = Path(scratch) / "tree"
        content.mkdir(mode=0o755)
        packages = sorted(archives.glob("*.deb"))
        for package in packages:
            run(["dpkg-deb", "--extract", str(package), str(content)])
        listing = "".join(f"{unquote(package.stem)}\n" for package in packages)
        (content / "packages").write_text(listing, encoding="ascii")
        content.rename(folder)


def newest(names: list[str], expression: str) -> list[str]:
    """The matching names whose group has the highest numbers, compared from left to right.

    @error lab_error: none matches
    """
    matches = [found for name in names if (found := re.fullmatch(expression, name))]
    if not matches:
        raise lab_error(f"the mirror has no package {expression}")
    last = max((found[1] for found in matches),
               key=lambda version: [int(n) for n in re.findall(r"\d+", version)])
    return sorted(found[0] for found in matches if found[1] == last)


def _apt_root(tree: package_tree, scratch: Path) -> Path:
    """apt's configuration for a private root in `scratch`, with this machine's mirror."""
    (scratch / "state/lists/partial").mkdir(parents=True)
    (scratch / "cache/archives/partial").mkdir(parents=True)
    (scratch / "status").touch()
    address = mirror()
    (scratch / "sources.list").write_text("".join(
        f"deb [signed-by={KEYRING}] {address} {suite} main\n" for suite in tree.suites))
    # Read after the machine's own configuration, which holds its proxy; its hooks are for its
    # own caches, and as root apt would otherwise drop to a user who cannot enter `scratch`.
    configuration = scratch / "apt.conf"
    configuration.write_text(f"""
        #clear APT::Update::Post-Invoke;
        #clear APT::Update::Post-Invoke-Success;
        #clear DPkg::Post-Invoke;
        Dir::State "{scratch}/state";
        Dir::State::status "{scratch}/status";
        Dir::Cache "{scratch}/cache";
        Dir::Etc::sourcelist "{scratch}/sources.list";
        Dir::Etc::sourceparts "/dev/null";
        Dir::Etc::preferences "/dev/null";
        Dir::Etc::preferencesparts "/dev/null";
        APT::Sandbox::User "";
        APT::Install-Recommends "0";
        Acquire::Languages "none";
        Acquire::Retries "2";
        """)
    return configuration


def mirror() -> str:
    """The address from which this machine's apt takes Debian itself."""
    targets = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)",
                    "Created-By: Packages"])
    for line in targets.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise lab_error("apt has no index of a Debian archive; run `apt-get update` first")


def run(command: list[str], deadline_s: int = NETWORK_DEADLINE_S,
        folder: Path | None = None) -> str:
    """Standard output of a command; the first error that it names becomes ours if it fails."""
    if shutil.which(command[0]) is None:
        raise lab_error(f"{command[0]} is not here: the lab runs on Debian and its relatives")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=deadline_s, cwd=folder)
    except subprocess.TimeoutExpired:
        raise lab_error(f"`{command[0]}` took longer than {deadline_s} s") from None
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"^E: |\berror: ", line)] or lines[-1:]
        raise lab_error(f"`{' '.join(command)}` failed: {errors[0] if errors else 'no output'}")
    return done.stdout
