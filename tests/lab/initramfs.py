"""Builds a guest's initramfs: busybox, drivers, nvme-cli, our program and the tasks' scripts.

The archive is written uncompressed in cpio's "newc" form: a guest without hardware
virtualisation would need longer to unpack it than the host saves by packing it.
"""

import lzma
import re
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import debian

SCRIPTS = Path(__file__).with_name("guest")
USERS = b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"
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


def load_order(modules: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The wanted modules and all that they need, decompressed, in the order of loading.

    Read from the modules themselves: `modules.dep` is made when a kernel is installed, and
    ours is only unpacked. What is built into the kernel needs no loading.

    @error lab_error: the kernel lacks one
    """
    files = {_module_name(path.name): path for path in modules.rglob("*.ko*")}
    built_in = {_module_name(Path(line).name) for listing in modules.rglob("modules.builtin")
                for line in listing.read_text(encoding="ascii").splitlines()}
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in ordered or name in built_in:
            return
        if name not in files:
            raise debian.lab_error(f"{modules} has no module {name}")
        content = files[name].read_bytes()
        if files[name].suffix == ".xz":
            content = lzma.decompress(content)
        for needed in module_dependencies(content):
            visit(_module_name(needed))
        ordered[name] = content

    for name in wanted:
        visit(_module_name(name))
    return ordered


def _module_name(file: str) -> str:
    """Files and dependencies write a name with either sign, the kernel with one."""
    return file.partition(".")[0].replace("-", "_")


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
    archive.add("bin/runnel", b"/guest/runnel", stat.S_IFLNK | 0o777)
    archive.add_file(f"own/{program.name}", program.read_bytes())
    for library in libraries_here(program):
        name = "ld.so" if "ld-linux" in library.name else library.name
        archive.add_file(f"own/{name}", library.read_bytes())


def build(tree: Path, own: Path, drivers: dict[str, bytes], data: bytes = b"") -> bytes:
    """An initramfs whose init does the tasks in `guest/`; they find `data` as /data.

    @param tree     packages for the guest's own use
    @param own      our program, there with the libraries of this machine
    @param drivers  modules in the order of loading
    """
    archive = archive_file()
    for script in sorted(SCRIPTS.iterdir()):
        archive.add_file(f"guest/{script.name}", script.read_bytes())
    archive.add("init", b"guest/init.sh", stat.S_IFLNK | 0o777)
    archive.add_file("etc/passwd", USERS, 0o644)
    archive.add_file("data", data, 0o644)
    archive.add_file("bin/busybox", (tree / "usr/bin/busybox").read_bytes())
    nvme = tree / "usr/sbin/nvme"
    archive.add_file("bin/nvme", nvme.read_bytes())
    archive.add_file(LOADER_IN_GUEST, (tree / LIBRARIES / "ld-linux-x86-64.so.2").read_bytes())
    for library in shared_libraries(tree, nvme):
        archive.add_file(f"{LIBRARIES}/{library.name}", library.read_bytes())
    add_own(archive, own)
    for name, content in drivers.items():
        archive.add_file(f"modules/{name}.ko", content, 0o644)
    archive.add_file("modules/order", "".join(f"{name}.ko\n" for name in drivers).encode(), 0o644)
    return archive.finish()
