#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# A prompt on the console, with the disk at vfio-pci. The guest ends with the shell.

. /guest/vfio.sh
load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
to_vfio "$disk"
let_user_in "$disk"
{
    echo "$disk is at vfio-pci, and user, uid 1000, may open $(nodes_of "$disk")."
    echo "/guest/vfio.sh is at hand, such as: as_user runnel identify ram:1M"
    echo "exit ends the guest; Ctrl-A X does so at once."
} >/dev/console
ENV=/guest/vfio.sh setsid cttyhack sh -i
