#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# The disk is pulled out of its slot while vfio-pci has it, and is put back.

. /guest/vfio.sh

is_gone() { # FUNCTION
    [ ! -e "$(device "$1")" ]
}

# A slot takes a device again once QEMU has let go of the last one, which may be a moment later.
is_back() { # FUNCTION
    [ "$(monitor device_add '"driver": "nvme", "id": "disk", "bus": "root_port",' \
        '"serial": "lab", "drive": "image"')" = ok ]
}

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
to_vfio "$disk"
answer=$(monitor device_del '"id": "disk"')
[ "$answer" = ok ] || finish "failed device_del: $answer"
wait_for is_gone "$disk"
say "gone $disk"
wait_for is_back
read_by_kernel "$disk"
