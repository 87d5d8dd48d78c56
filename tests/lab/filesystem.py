"""An ext4 file system in a file: what a guest copies to a disk, and what is left of it there."""

import subprocess
from pathlib import Path

import debian

TOOLS = {Path("/usr/sbin/mke2fs"): "e2fsprogs", Path("/usr/sbin/e2fsck"): "e2fsprogs"}
FILE_MIB = 1


def make(folder: Path, mib: int, data: bytes) -> bytes:
    """An image of that size, half full of files with data. What it takes is left in `folder`."""
    debian.require(TOOLS)
    files = folder / "files"
    files.mkdir()
    for number in range(mib // 2 // FILE_MIB):
        content = data[number * FILE_MIB << 20: (number + 1) * FILE_MIB << 20]
        (files / f"file{number}").write_bytes(content)
    image = folder / "image"
    debian.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(files), str(image), f"{mib}M"])
    return image.read_bytes()


def check(image: Path) -> str:
    """What e2fsck says of it, in its last line, after its exit status: 0 when nothing is amiss."""
    debian.require(TOOLS)
    done = subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", str(image)], check=False, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    lines = (done.stderr + done.stdout).splitlines()
    return f"{done.returncode} {lines[-1] if lines else ''}"
