#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091,SC2034  # vfio.sh reads user_memlock_kib
# Functions that cannot be opened, each for another reason: two share a slot, and a group; one is
# alone.

. /guest/refusal.sh

identify() { # FUNCTION
    as_user runnel identify "$(address "$1" 1)"
}

identify_with_little_memory() ( # FUNCTION
    user_memlock_kib=64
    identify "$1"
)

load_drivers
first=$(nvme_functions | head -n 1)
alone=$(nvme_functions | tail -n 1)
wait_for has_disk "$alone"
wait_for has_disk "$first"
report_platform
refuse unbound "$alone" identify "$alone"
runnel bind "$first" 2>/tmp/errors
block_report note cat /tmp/errors
let_user_in "$first"
refuse group "$first" identify "$first"
runnel bind "$alone" 2>/tmp/errors
refuse closed "$alone" identify "$alone"
let_user_in "$alone"
refuse memlock "$alone" identify_with_little_memory "$alone"
block_report identify identify "$alone"
