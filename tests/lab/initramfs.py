"""Builds a guest's initramfs: busybox, the NVMe driver, nvme-cli and an init script.

The archive is written uncompressed in cpio's "newc" form: a guest without hardware
virtualisation would need longer to unpack it than the host saves by packing it.
"""

import lzma
import re
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import debian

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER_IN_GUEST = "lib64/ld-linux-x86-64.so.2"  # the path compiled into every program


@dataclass
class archive_file:
    """A cpio archive under construction; parents must be added before their children."""

    data: bytearray = field(default_factory=bytearray)
    inode: int = 1
    folders: set[str] = field(default_factory=set)

    def add(self, path: str, content: bytes, mode: int) -> None:
        """Adds one entry; `mode` holds the file's type and permissions."""
        name = path.encode() + b"\0"
        numbers = [self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0]
        self.data += b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        self._pad()
        self.data += content
        self._pad()
        self.inode += 1

    def add_file(self, path: str, content: bytes, permissions: int = 0o755) -> None:
        self._add_parents(path)
        self.add(path, content, stat.S_IFREG | permissions)

    def finish(self) -> bytes:
        self.add("TRAILER!!!", b"", 0)
        return bytes(self.data)

    def _add_parents(self, path: str) -> None:
        for parent in [str(folder) for folder in reversed(Path(path).parents)][1:]:
            if parent not in self.folders:
                self.folders.add(parent)
                self.add(parent, b"", stat.S_IFDIR | 0o755)

    def _pad(self) -> None:
        self.data += b"\0" * (-len(self.data) % 4)


def module_dependencies(module: bytes) -> list[str]:
    """Names of the modules that a decompressed .ko says it needs."""
    found = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module)
    return [name for name in found.group(1).decode().split(",") if name] if found else []


def load_order(modules: Path, wanted: str) -> dict[str, bytes]:
    """The wanted module and everything it needs, decompressed, in the order of loading.

    Read from the modules themselves: `modules.dep` is made when a kernel is installed, and
    ours is only unpacked.
    """
    files = {path.name.removesuffix(".ko.xz").replace("-", "_"): path
             for path in modules.rglob("*.ko.xz")}
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        key = name.replace("-", "_")
        if key in ordered:
            return
        content = lzma.decompress(files[key].read_bytes())
        for needed in module_dependencies(content):
            visit(needed)
        ordered[key] = content

    visit(wanted)
    return ordered


def shared_libraries(tree: Path, program: Path) -> list[Path]:
    """The libraries of `tree` that a program of it loads, as its own loader resolves them."""
    listing = subprocess.run([*debian.loader(tree), "--list", str(program)],
                             check=True, capture_output=True, text=True).stdout
    return [Path(found) for found in re.findall(r"=> (/\S+)", listing)
            if Path(found).is_relative_to(tree) and "ld-linux" not in found]


def libraries_here(program: Path) -> list[Path]:
    """What a program of this machine loads, its loader last."""
    listing = subprocess.run(["ldd", str(program)], check=True, capture_output=True,
                             text=True).stdout
    return [Path(found) for found in re.findall(r"(?:=> )?(/\S+) \(", listing)]


def add_own(archive: archive_file, program: Path) -> None:
    """Our program with this machine's libraries, apart from those of the guest's release."""
    archive.add_file("own/runnel", program.read_bytes())
    for library in libraries_here(program):
        name = "ld.so" if "ld-linux" in library.name else library.name
        archive.add_file(f"own/{name}", library.read_bytes())


def build(tree: Path, init: Path, data: bytes, own: Path) -> bytes:
    """An initramfs for the kernel of `tree` that runs `init`, which finds `data` as /data.

    Our own program is there as well; `/own/ld.so --library-path /own /own/runnel` runs it.
    """
    archive = archive_file()
    archive.add_file("init", init.read_bytes())
    archive.add_file("data", data, 0o644)
    archive.add_file("bin/busybox", (tree / "usr/bin/busybox").read_bytes())
    nvme = tree / "usr/sbin/nvme"
    archive.add_file("bin/nvme", nvme.read_bytes())
    archive.add_file(LOADER_IN_GUEST, (tree / LIBRARIES / "ld-linux-x86-64.so.2").read_bytes())
    for library in shared_libraries(tree, nvme):
        archive.add_file(f"{LIBRARIES}/{library.name}", library.read_bytes())
    add_own(archive, own)
    drivers = load_order(tree / "usr/lib/modules", "nvme")
    for name, content in drivers.items():
        archive.add_file(f"modules/{name}.ko", content, 0o644)
    archive.add_file("modules/order", "".join(f"{name}.ko\n" for name in drivers).encode(), 0o644)
    return archive.finish()
