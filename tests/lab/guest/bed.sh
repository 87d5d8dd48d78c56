#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Proves the bed that tasks on VFIO lie in: a disk goes from the kernel's driver to vfio-pci, an
# ordinary user may open what appears, once let in, and run our program; and the disk goes back.

. /guest/vfio.sh

try_nodes() { # FACT FUNCTION
    for node in $(nodes_of "$2"); do
        ! as_user sh -c "true <>$node" 2>/tmp/refusal || say "$1 $node"
    done
}

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
for node in /dev/vfio/vfio "$(group_node "$disk")" /dev/iommu "$(cdev_node "$disk")"; do
    [ ! -c "$node" ] || say "node $node"
done
try_nodes open_to_all "$disk"
let_user_in "$disk"
try_nodes open_to_user "$disk"
block_report identify as_user runnel identify ram:16M --json
block_report perf as_user runnel perf ram:16M --rw randrw --verify --time 1 --warmup 0 --json
to_kernel "$disk"
