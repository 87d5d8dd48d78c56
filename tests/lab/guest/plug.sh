#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# The disk is pulled out of its slot while vfio-pci has it, and is put back.

. /guest/vfio.sh

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
unplug "$disk"
plug_in
read_by_kernel "$disk"
