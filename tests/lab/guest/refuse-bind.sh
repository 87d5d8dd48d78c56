#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Functions that somebody uses are not to be bound: a mounted disk, one that is swapped to, an
# interface with an address. Once free, the interface is bound and given back, first for show.

. /guest/refusal.sh

interface_of() { ls "$(device "$1")/net"; } # FUNCTION

has_interface() { # FUNCTION
    [ -d "$(device "$1")/net" ]
}

must() { # COMMAND...
    "$@" >/tmp/must 2>&1 || finish "failed $*: $(cat /tmp/must)"
}

use_as_file_system() { # FUNCTION
    must mke2fs "$(disk_of "$1")"
    must mkdir /tmp/mounted
    must mount -t ext4 "$(disk_of "$1")" /tmp/mounted
    refuse mounted "$1" runnel bind "$1"
    must umount /tmp/mounted
}

use_as_swap() { # FUNCTION
    must mkswap "$(disk_of "$1")"
    must swapon "$(disk_of "$1")"
    refuse swap "$1" runnel bind "$1"
    must swapoff "$(disk_of "$1")"
}

use_as_route() { # FUNCTION
    must ip address add 192.0.2.1/24 dev "$(interface_of "$1")"
    must ip link set "$(interface_of "$1")" up
    must ip route add default via 192.0.2.2
    refuse routed "$1" runnel bind "$1"
    must ip address flush dev "$(interface_of "$1")"
    must ip link set "$(interface_of "$1")" down
}

# A command that is made for show, then what it has shown, then whether it was the truth.
show_and_do() { # COMMAND FUNCTION
    report_state state "$2"
    must runnel "$1" --dry-run "$2"
    mv /tmp/must /tmp/shown
    report_state state "$2"
    block_report "shown $1" cat /tmp/shown
    must sh /tmp/shown
    report_state state "$2"
}

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
nic=$(grep -l 0x020000 /sys/bus/pci/devices/*/class | cut -d / -f 6)
wait_for has_interface "$nic"
report_platform
use_as_file_system "$disk"
use_as_swap "$disk"
use_as_route "$nic"
show_and_do bind "$nic"
show_and_do unbind "$nic"
for command in bind unbind; do
    must runnel $command "$nic"
    report_state state "$nic"
done
