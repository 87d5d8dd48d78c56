"""The lab's own kernel: as little as boots, and all of VFIO that Debian's kernels leave out.

It is built once from Debian's source package, and cached by what it is made from: kernel.config,
that package's version, and this file.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import debian

SOURCE = debian.package_tree("linux-source", ("bookworm", "bookworm-backports"),
                             "bookworm-backports", ("linux-source-6.12",))
OPTIONS = Path(__file__).with_name("kernel.config")
TOOLS = {
    Path("/usr/bin/gcc"): "gcc", Path("/usr/bin/make"): "make", Path("/usr/bin/bc"): "bc",
    Path("/usr/bin/flex"): "flex", Path("/usr/bin/bison"): "bison", Path("/usr/bin/xz"): "xz-utils",
    Path("/usr/include/libelf.h"): "libelf-dev",
    Path("/usr/include/openssl/ssl.h"): "libssl-dev",
}
BUILD_DEADLINE_S = 3600


def ensure(cache: Path) -> Path:
    """A folder with `vmlinuz` and `modules.builtin`, built now unless cached."""
    source = debian.ensure(SOURCE, cache)
    origins = [OPTIONS, source / "packages", Path(__file__)]
    key = hashlib.sha256(b"".join(origin.read_bytes() for origin in origins)).hexdigest()[:16]
    return debian.cached(cache / f"own-kernel-{key}", partial(_make, source))


def _make(source: Path, folder: Path) -> None:
    """Builds beside the final folder, and keeps of it what a guest needs."""
    debian.require(TOOLS)
    print("lab: building the own kernel, once: some minutes", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name)
        archive = next((source / "usr/src").glob("linux-source-*.tar.xz"))
        debian.run(["tar", "-xf", str(archive), "-C", name, "--strip-components=1"])
        _configure(scratch)
        _run_make(scratch, "bzImage")
        content = scratch / "content"
        content.mkdir(mode=0o755)
        shutil.copy(scratch / "arch/x86/boot/bzImage", content / "vmlinuz")
        shutil.copy(scratch / "modules.builtin", content)
        content.rename(folder)


def _configure(scratch: Path) -> None:
    wanted = OPTIONS.read_text(encoding="ascii")
    _run_make(scratch, "tinyconfig")
    with open(scratch / ".config", "a", encoding="ascii") as configuration:
        configuration.write(wanted)  # the last word on an option counts
    _run_make(scratch, "olddefconfig")
    refused = refused_options(wanted, (scratch / ".config").read_text(encoding="ascii"))
    if refused:
        raise debian.lab_error(f"{OPTIONS.name}: the kernel does not take {', '.join(refused)}")


def refused_options(wanted: str, configuration: str) -> list[str]:
    """Options that did not come out as asked, for want of another, or because they are no more."""
    lines = set(configuration.splitlines())
    return [line for line in wanted.splitlines() if line.startswith("CONFIG_") and
            line not in lines]


def _run_make(scratch: Path, *goals: str) -> None:
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    debian.run(["nice", "-n", "10", "make", f"-j{len(os.sched_getaffinity(0))}", f"CC={compiler}",
                *goals], BUILD_DEADLINE_S, scratch)
