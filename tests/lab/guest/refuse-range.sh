#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# An IOMMU that reaches less than our memory's addresses.

. /guest/refusal.sh

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
runnel bind "$disk" >/tmp/bound 2>/tmp/errors || finish "failed $(cat /tmp/errors)"
let_user_in "$disk"
allow_unsafe_interrupts
refuse range "$disk" as_user runnel identify "$(address "$disk" 1)"
