"""Cases in which our program, in the guest, drives a controller of QEMU's through VFIO."""

import hashlib
from dataclasses import replace
from pathlib import Path

import filesystem
import judge
import judge_io
import judge_vfio
import judge_way
from laboratory import lab_case, laboratory, place
from vfio_cases import (CONTROLLER, EXTREMES, MODULES, ON_ROOT_BUS, OWN_CDEV, PLACES, at, drive, of,
                        setup, write_image)

MIB = 8  # `perf --verify` first writes a whole disk, also by 512 bytes
BOTH_BLOCKS = ["-device", f"{CONTROLLER},addr=4",
               "-device", "nvme-ns,bus=disk,nsid=1,drive=image",
               "-device", "nvme-ns,bus=disk,nsid=2,drive=wide,logical_block_size=4096,"
                          "physical_block_size=4096"]


def case_io(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """Our program on a disk with blocks of both sizes; the first gets a file system by copy."""
    image, wide = folder / "disk", folder / "wide"
    write_image(image, b"", MIB)
    write_image(wide, b"", MIB)
    content = filesystem.make(folder, MIB, lab.data)
    machine = lab.machine_of(folder, where.kernel, MODULES, content)
    runs = ",".join(f"{namespace}:{size}" for namespace, size in judge_io.RUNS)
    report = machine.boot(setup(
        "io", [*drive("image", image), *drive("wide", wide), *BOTH_BLOCKS], where,
        f"mib={MIB} runs={runs}"))
    digest = hashlib.sha256(content).hexdigest()
    return [judge_vfio.platform_is(report, where), judge_vfio.driver_returns(report, where),
            judge.data_is_equal(report, digest, MIB, reads=2),
            judge_io.file_system_is_clean(filesystem.check(image)),
            judge_io.runs_are_right(report, where), judge_io.queues_interrupt(report, where),
            judge_io.nothing_is_pinned(report, where),
            judge_io.calls_stay_on_lists(report, where)]


def case_serve(lab: laboratory, folder: Path, where: place) -> list[judge.verdict]:
    """Our program on a disk of the machine, which it serves to another of our programs."""
    image = folder / "disk"
    write_image(image, b"", MIB)
    machine = lab.machine_of(folder, where.kernel, MODULES)
    asked = setup("serve", [*drive("image", image), *ON_ROOT_BUS], where, f"mib={MIB}")
    report = machine.boot(replace(asked, traced=judge_way.DATA_EVENTS))
    return [judge_vfio.platform_is(report, where), judge_vfio.driver_returns(report, where),
            judge_io.runs_are_right(report, where, ((1, 4096),)),
            judge_way.nothing_is_copied(report, where),
            judge_io.nothing_is_pinned(report, where),
            judge_io.calls_stay_on_lists(report, where)]


# The least that a machine may have, and the most. Debian's kernels differ in age alone.
CORNERS = tuple(where for where in PLACES
                if (where.address_bits == 48) == where.remapping == where.huge_pages)
IO_PLACES = tuple(where for where in PLACES if where.kernel.name == "own" or where in CORNERS)
USUAL = (of(CORNERS, "own", "group")[0], of(CORNERS, "own", "cdev")[1], of(CORNERS, "6.12")[1])

CASES = (
    *at(IO_PLACES, lab_case("io", "vfio", "our program on the disk: perf, and a file system",
                            case_io), USUAL),
    *at(EXTREMES, lab_case("serve", "vfio", "our target on the disk, and perf on the target",
                           case_serve), OWN_CDEV),
)
