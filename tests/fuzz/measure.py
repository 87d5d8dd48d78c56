"""How many lines the corpora reach, by file."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

# Files that take a peer's bytes apart, and the served controller: lines that must be reached.
PARSERS_PERCENT = 90
CONTROLLER_PERCENT = 80
PARSERS = [
    "drivers/nvme/admin.cc",
    "drivers/pci/address.cc",
    "drivers/pci/config_space.cc",
    "drivers/vfio/region_reply.cc",
    "drivers/vfio/type1_reply.cc",
    "drivers/vfio/user_client_messages.cc",
    "drivers/vfio_user/feature.cc",
    "drivers/vfio_user/irq_set.cc",
    "drivers/vfio_user/message_reader.cc",
    "drivers/vfio_user/protocol.cc",
    "drivers/vfio_user/region_info.cc",
    "drivers/vfio_user/remote_dma.cc",
    "drivers/vfio_user/server_requests.cc",
]
CONTROLLER = [
    "apps/target/admin.cc",
    "apps/target/admin_data.cc",
    "apps/target/cache_flush.cc",
    "apps/target/controller.cc",
    "apps/target/controller_features.cc",
    "apps/target/dma_mapper.cc",
    "apps/target/events.cc",
    "apps/target/identify.cc",
    "apps/target/interrupt_lines.cc",
    "apps/target/io_jobs.cc",
    "apps/target/io_path.cc",
    "apps/target/io_queue.cc",
    "apps/target/io_queue.h",
    "apps/target/logs.cc",
    "apps/target/pci_config.cc",
    "apps/target/prp_walk.cc",
    "apps/target/queue_table.cc",
    "apps/target/registers.cc",
    "apps/target/vfio_user_transport.cc",
]
OTHERS = [
    "drivers/nvme/bring_up.cc",
    "drivers/nvme/controller.cc",
    "drivers/nvme/events.cc",
    "drivers/nvme/interrupts.cc",
    "drivers/nvme/look_after.cc",
    "drivers/nvme/queue_pair.cc",
    "drivers/nvme/shut_down.cc",
    "drivers/pci/names.cc",
    "drivers/vfio/user_client.cc",
    "drivers/vfio/user_client_bringup.cc",
    "drivers/vfio_user/client_memory.cc",
    "drivers/vfio_user/server.cc",
]


def lines_reached(build: Path, targets: list[str], corpus: Path) -> dict[str, float]:
    """Percent of lines by file, over all targets together."""
    programs = [build / "tests/fuzz" / target for target in targets]
    with tempfile.TemporaryDirectory() as scratch:
        for program in programs:
            profile = f"{scratch}/{program.name}.profraw"
            subprocess.run([str(program), "-runs=0", str(corpus / program.name)], check=True,
                           env={**os.environ, "LLVM_PROFILE_FILE": profile},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        merged = f"{scratch}/all.profdata"
        profiles = [str(path) for path in Path(scratch).glob("*.profraw")]
        subprocess.run(["llvm-profdata-19", "merge", "-o", merged, *profiles], check=True)
        objects = [f"-object={program}" for program in programs[1:]]
        exported = subprocess.run(
            ["llvm-cov-19", "export", "-summary-only", f"-instr-profile={merged}",
             str(programs[0]), *objects], check=True, capture_output=True, text=True)
    files = json.loads(exported.stdout)["data"][0]["files"]
    return {os.path.normpath(each["filename"]): each["summary"]["lines"]["percent"]
            for each in files}


def coverage(build: Path, targets: list[str], corpus: Path) -> list[bool]:
    """A case for each file with a goal; the others are only shown."""
    reached = lines_reached(build, targets, corpus)
    passed = []
    groups = [("parsers", PARSERS, PARSERS_PERCENT),
              ("controller", CONTROLLER, CONTROLLER_PERCENT), ("others", OTHERS, 0)]
    for name, paths, goal in groups:
        print(f"{name}, at least {goal} %" if goal else name)
        for path in paths:
            percent = next((share for file, share in reached.items() if file.endswith(path)), 0.0)
            enough = percent >= goal
            print(f"{'ok' if enough else 'FAILED':7}{path:42}{percent:6.1f} %")
            if goal:
                passed.append(enough)
    return passed
