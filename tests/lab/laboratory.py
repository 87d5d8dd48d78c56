"""What the lab's cases share, and what a case is."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import debian
import guest
import initramfs
import judge
import kernels

DATA_MIB = 64
DISK_MIB = 128
SEED = 1


class laboratory:
    """What the cases share. It is made when a case first asks for it."""

    def __init__(self, runnel: Path, conformance: Path, cache: Path) -> None:
        self._runnel = runnel
        self._conformance = conformance
        self._cache = cache

    @cached_property
    def runnel(self) -> Path:
        if not self._runnel.is_file():
            raise debian.lab_error(f"no {self._runnel}; run ./dev build")
        return self._runnel

    @cached_property
    def conformance(self) -> Path:
        if not self._conformance.is_file():
            raise debian.lab_error(f"no {self._conformance}; run ./dev lane vfio")
        return self._conformance

    @cached_property
    def emulator_tree(self) -> Path:
        return debian.ensure(debian.EMULATOR, self._cache)

    @cached_property
    def guest_tree(self) -> Path:
        return debian.ensure(debian.GUEST, self._cache)

    @cached_property
    def data(self) -> bytes:
        return random.Random(SEED).randbytes(DATA_MIB << 20)

    def digest(self, mib: int) -> str:
        return hashlib.sha256(self.data[: mib << 20]).hexdigest()

    @cached_property
    def initramfs(self) -> bytes:
        drivers = initramfs.load_order(self.guest_tree / "usr/lib/modules", ["nvme"])
        return initramfs.build(self.guest_tree, self.runnel, drivers, self.data)

    def tree_of(self, kernel: kernels.kernel) -> Path:
        """A folder of a kernel's image and its modules."""
        return kernel.unpack(self._cache)

    def machine(self, folder: Path) -> guest.virtual_machine:
        """A machine for the guest release's own kernel, with all data on board."""
        return self._machine(folder, self.guest_tree, self.initramfs)

    def machine_of(self, folder: Path, kernel: kernels.kernel, modules: list[str],
                   data: bytes = b"", program: Path | None = None) -> guest.virtual_machine:
        """A machine for some kernel, with its modules, and with what is to be its /data.

        @param program  of ours; None: runnel
        """
        kernel_tree = self.tree_of(kernel)
        drivers = initramfs.load_order(kernel_tree, modules)
        content = initramfs.build(self.guest_tree, program or self.runnel, drivers, data)
        return self._machine(folder, kernel_tree, content)

    def _machine(self, folder: Path, kernel_tree: Path, content: bytes) -> guest.virtual_machine:
        image = folder / "initramfs"
        image.write_bytes(content)
        kernel = next(kernel_tree.rglob("vmlinuz*"))
        return guest.virtual_machine(self.emulator_tree, kernel, image, folder)


@dataclass(frozen=True)
class place:
    """Where a case on VFIO happens: what its row of the table begins with."""

    kernel: kernels.kernel
    transport: str  # group or cdev
    address_bits: int  # that the guest's IOMMU translates
    remapping: bool  # of interrupts
    huge_pages: bool = False  # of 2 MiB, for our program

    def __str__(self) -> str:
        words = [self.kernel.name, self.transport, str(self.address_bits),
                 "remapping" if self.remapping else "plain", *(["huge"] if self.huge_pages else [])]
        return "/".join(words)


@dataclass(frozen=True)
class lab_case:
    name: str
    lane: str
    goal: str
    # Gets the laboratory, and a folder of its own for sockets, images and logs, which is kept if
    # the case fails. What needs a place as well is given one by `vfio_cases.at`.
    run: Callable[..., list[judge.verdict]]
    where: place | None = None
    always: bool = True  # also without --all

    @property
    def title(self) -> str:
        return f"{self.name}/{self.where}" if self.where else self.name
