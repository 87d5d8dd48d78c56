"""A guest in QEMU, without hardware virtualisation: starts it, bounds it, reads its report."""

import json
import os
import selectors
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import debian
from monitor import monitor

DEADLINE_S = 300
QEMU_END_S = 20  # from its last word to its end


def one_memory(kind: str, size: str = "1G") -> list[str]:
    """QEMU's words for memory of one kind."""
    return ["-m", size, "-machine", "memory-backend=memory",
            "-object", f"{kind},id=memory,size={size}"]


def node_memory(*sizes: str) -> list[str]:
    """QEMU's words for a NUMA node of each size, with a CPU each."""
    words = ["-m", f"{sum(int(size.removesuffix('G')) for size in sizes)}G"]
    for node, size in enumerate(sizes):
        words += ["-object", f"memory-backend-ram,id=node{node},size={size}",
                  "-numa", f"node,nodeid={node},cpus={node},memdev=node{node}"]
    return words


# A device in another process reaches the guest's memory only if it is a file, and shared.
SHARED = one_memory("memory-backend-memfd,share=on")
PRIVATE = one_memory("memory-backend-memfd,share=off")
ANONYMOUS = one_memory("memory-backend-ram")
# On a busy host the kernel's one look at the timer comes too early, and it would panic.
KERNEL_PARAMETERS = "console=ttyS0 quiet panic=-1 no_timer_check"
# QEMU's own account of what it does with the device, kept beside the console.
TRACED = ("vfio_user*", "vfio_region_write", "vfio_region_mmap", "vfio_msix_enable",
          "pci_nvme_mmio_start_success", "pci_nvme_mmio_stopped", "pci_nvme_pci_reset")


@dataclass
class boot_report:
    """What a guest said on its second serial port, in the form that guest/init.sh describes."""

    facts: dict[str, list[str]] = field(default_factory=dict)  # every value given under a name
    texts: dict[str, str] = field(default_factory=dict)
    trace: str = ""  # what QEMU did with the device meanwhile, an event per line

    def fact(self, name: str) -> str:
        """The last value given under a name; empty when it was never given."""
        return self.facts.get(name, [""])[-1]


def parse_report(text: str) -> boot_report:
    report = boot_report()
    block: str | None = None
    lines: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if block is not None:
            if line == f"end {block}":
                report.texts[block] = "\n".join(lines)
                block = None
            else:
                lines.append(line)
        elif name == "begin":
            block, lines = value, []
        elif name:
            report.facts.setdefault(name, []).append(value)
    return report


def vfio_user_device(socket: Path) -> list[str]:
    """QEMU's words for the device that another process serves on `socket`."""
    device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(socket)}}
    return ["-device", json.dumps(device)]


@dataclass(frozen=True)
class guest_setup:
    """In what one guest differs from another."""

    devices: list[str]  # QEMU's words
    parameters: str = ""  # of the kernel, and of our init
    virtual_cpus: int = 2
    memory: list[str] = field(default_factory=lambda: SHARED)  # QEMU's words, too
    may_reboot: bool = False
    traced: tuple[str, ...] = ()  # events of QEMU's beyond TRACED


@dataclass
class virtual_machine:
    """A machine for the guest tree's kernel with our init, in a folder that gets its logs."""

    emulator: Path  # tree that QEMU is run from
    kernel: Path
    initramfs: Path
    folder: Path

    def boot(self, setup: guest_setup) -> boot_report:
        """Runs a guest until it powers off.

        @error lab_error: it did not end within DEADLINE_S, QEMU failed, or it reported a failure
        """
        ours, theirs = socket.socketpair()
        command = [*self._command(setup), "-serial", f"file:{self.folder / 'console'}",
                   "-chardev", "stdio,id=report,signal=off", "-serial", "chardev:report",
                   "-chardev", f"socket,id=monitor,fd={theirs.fileno()}",
                   "-object", "monitor-qmp,id=qmp,chardev=monitor"]
        with ours, open(self.folder / "qemu.log", "wb") as log:
            with theirs:  # QEMU's copy is to be the only one, so that its end shows
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=log, env=self._environment(),
                                           pass_fds=[theirs.fileno()])
            try:
                self._listen(process, ours)
                process.wait(QEMU_END_S)
            except subprocess.TimeoutExpired:
                raise debian.lab_error(f"QEMU did not end within {QEMU_END_S} s") from None
            finally:
                process.kill()
                process.communicate()
        if process.returncode != 0:
            words = (self.folder / "qemu.log").read_text(errors="replace").splitlines()
            raise debian.lab_error(
                f"QEMU exited {process.returncode}: {words[-1] if words else 'no output'}")
        report = parse_report((self.folder / "report").read_text(errors="replace"))
        report.trace = (self.folder / "trace").read_text(errors="replace")
        if "finished" not in report.facts:
            raise debian.lab_error(f"the guest failed: {report.fact('failed') or 'no last word'}")
        return report

    def talk(self, setup: guest_setup) -> None:
        """Runs a guest with its console on this terminal, until it powers off."""
        command = [*self._command(setup), "-serial", "mon:stdio",
                   "-serial", f"file:{self.folder / 'report'}"]
        subprocess.run(command, env=self._environment(), check=False)

    def _listen(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        """Keeps what the guest reports, and has QEMU do what it asks for, until it has ended."""
        assert process.stdin is not None and process.stdout is not None
        deadline = time.monotonic() + DEADLINE_S
        qemu = monitor(connection)
        rest = b""
        with open(self.folder / "report", "wb") as report, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                said = os.read(process.stdout.fileno(), 1 << 16)
                if not said:
                    return
                report.write(said)
                *lines, rest = (rest + said).split(b"\n")
                for line in lines:
                    name, _, command = line.partition(b" ")
                    if name == b"monitor":
                        process.stdin.write(qemu.execute(command.decode()).encode() + b"\n")
                        process.stdin.flush()
        raise debian.lab_error(f"the guest did not end within {DEADLINE_S} s")

    def _command(self, setup: guest_setup) -> list[str]:
        share = self.emulator / "usr/share"
        traces = [word for event in TRACED + setup.traced for word in ("-trace", event)]
        return [
            *debian.loader(self.emulator), str(self.emulator / "usr/bin/qemu-system-x86_64"),
            "-L", str(share / "qemu"), "-L", str(share / "seabios"),
            "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-nic", "none",
            *([] if setup.may_reboot else ["-no-reboot"]),
            "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(setup.virtual_cpus),
            "-machine", "q35", *setup.memory,
            "-chardev", f"file,id=firmware,path={self.folder / 'firmware'}",
            "-device", "isa-debugcon,iobase=0x402,chardev=firmware",
            *traces, "-D", str(self.folder / "trace"),
            "-kernel", str(self.kernel), "-initrd", str(self.initramfs),
            "-append", f"{KERNEL_PARAMETERS} {setup.parameters}", *setup.devices,
        ]

    def _environment(self) -> dict[str, str]:
        modules = self.emulator / "usr/lib/x86_64-linux-gnu/qemu"
        return {**os.environ, "QEMU_MODULE_DIR": str(modules)}
