"""Structures in a kernel's packages, as bpftool tells of them: who judges `runnel doctor`'s word.

Our program unpacks boot images by their headers, as they are specified. Here it is done as the
kernel's own scripts do it: what looks packed is unpacked, until that is a kernel.
"""

import json
import lzma
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import debian

TOOLS = {Path("/usr/sbin/bpftool"): "bpftool", Path("/usr/bin/zstd"): "zstd"}
XZ, ZSTD, ELF = b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x7fELF"
MODULE = "vfio-pci-core"  # all of VFIO's structures are in what it knows


@dataclass(frozen=True)
class structure:
    size: int
    fields: list[tuple[str, int, int]]  # name, offset in bits, bits of a bit field, else 0
    text: str  # its members in C, on one line


def structures(tree: Path, scratch: Path) -> dict[str, structure]:
    """All that VFIO's module has. @error lab_error: there is no kernel, or no bpftool"""
    debian.require(TOOLS)
    kernel, module = scratch / "kernel", scratch / f"{MODULE}.ko"
    kernel.write_bytes(unpack_kernel(next(tree.rglob("vmlinuz*")).read_bytes()))
    packed = next(tree.rglob(f"{MODULE}.ko*"))
    module.write_bytes(lzma.decompress(packed.read_bytes()) if packed.suffix == ".xz"
                       else packed.read_bytes())
    dump = ["btf", "dump", "-B", str(kernel), "file", str(module)]
    types = json.loads(debian.run(["/usr/sbin/bpftool", "-j", *dump]))["types"]
    return parse(types, debian.run(["/usr/sbin/bpftool", *dump, "format", "c"]))


def parse(types: list[dict[str, Any]], text: str) -> dict[str, structure]:
    """Named structures of both forms of bpftool's output."""
    bodies = dict(re.findall(r"^struct (\w+) \{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE))
    return {one["name"]: structure(
        one["size"], [(member["name"].replace("(anon)", ""), member["bits_offset"],
                       member.get("bitfield_size", 0)) for member in one["members"]],
        one_line(bodies[one["name"]]))
        for one in types if one["kind"] == "STRUCT" and one["name"] in bodies}


def one_line(text: str) -> str:
    """C on one line, without the numbers that tell types of one name apart."""
    return " ".join(re.sub(r"___\d+", "", text).split())


def unpack_kernel(image: bytes) -> bytes:
    """The ELF file that a boot image carries. @error lab_error: it carries none"""
    for unpacked in _unpacked(image):
        if unpacked.startswith(ELF):
            return unpacked
    raise debian.lab_error("there is no kernel in a boot image, as far as xz and zstd tell")


def _unpacked(image: bytes) -> Iterator[bytes]:
    """What follows each of the signs of something packed. Something else follows that, too."""
    for place in re.finditer(re.escape(XZ), image):
        try:
            yield lzma.LZMADecompressor().decompress(image[place.start():])
        except lzma.LZMAError:
            continue
    for place in re.finditer(re.escape(ZSTD), image):
        yield subprocess.run(["zstd", "-dcq"], input=image[place.start():], capture_output=True,
                             check=False).stdout
