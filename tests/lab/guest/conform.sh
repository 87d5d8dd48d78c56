#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# The disk answers the conformance suite, which asks each way that the kernel has to it.
#     ways=group,cdev,compat

. /guest/program.sh

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
[ "${remapping:-on}" = on ] || allow_unsafe_interrupts
for way in $(echo "${ways:-group}" | tr , ' '); do
    RUNNEL_CONFORMANCE="${RUNNEL_CONFORMANCE:-} pci:$disk?via=$way"
done
export RUNNEL_CONFORMANCE
# The kernel's sample of a device that migrates, where it has been built.
sample=/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2
if [ -e $sample ]; then
    uuid=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
    echo $uuid >$sample/create || finish "failed to make a sample device"
    group=$(basename "$(readlink /sys/bus/mdev/devices/$uuid/iommu_group)")
    export RUNNEL_MTTY="$uuid $group"
    say "sample $group"
fi
/own/ld.so --library-path /own /own/conformance_test --gtest_filter='*real*' --gtest_brief=1 \
    >/tmp/conformance 2>&1
say "status $?"
block_report conformance cat /tmp/conformance
report_pins
to_kernel "$disk"
