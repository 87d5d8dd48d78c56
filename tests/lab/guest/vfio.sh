#!/bin/busybox sh
# shellcheck shell=dash disable=SC3045  # busybox knows ulimit -l
# What tasks do with functions that go to vfio-pci and back. The host has put the data onto the
# disk. The kernel's parameters say more:
#     mib=N                  how much of the data to look at
#     transport=group|cdev|compat|noiommu  through which of the kernel's interfaces
#     remapping=on|off       whether the IOMMU remaps interrupts

user_memlock_kib=$((256 * 1024))

device() { echo "/sys/bus/pci/devices/$1"; }

nvme_functions() { grep -l 0x010802 /sys/bus/pci/devices/*/class | cut -d / -f 6; }

driver_of() { # FUNCTION
    [ ! -e "$(device "$1")/driver" ] || basename "$(readlink "$(device "$1")/driver")"
}

has_driver() { # FUNCTION DRIVER
    [ "$(driver_of "$1")" = "$2" ]
}

# With an empty DRIVER the kernel chooses, as it does at boot.
hand_to() { # FUNCTION DRIVER
    [ -z "$(driver_of "$1")" ] || echo "$1" >"$(device "$1")/driver/unbind"
    echo "$2" >"$(device "$1")/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
}

to_vfio() { # FUNCTION
    hand_to "$1" vfio-pci
    wait_for has_driver "$1" vfio-pci
    say "driver $(driver_of "$1")"
}

# The first namespace, which need not be the first in the kernel's count. It may have the number of
# its controller between: nvme0c0n1 is a path of nvme0n1.
disk_of() { # FUNCTION
    grep -lx 1 "$(device "$1")"/nvme/nvme*/nvme*n*/nsid 2>/tmp/none |
        sed 's|/nsid$||;s|.*/|/dev/|;s/c[0-9]*n/n/'
}

has_disk() { # FUNCTION
    [ -b "$(disk_of "$1")" ]
}

read_by_kernel() { # FUNCTION
    wait_for has_disk "$1"
    say "driver $(driver_of "$1")"
    digest=$(dd if="$(disk_of "$1")" bs=256k count=$((${mib:-16} * 4)) iflag=direct 2>/tmp/read |
        sha256sum) || finish "failed read: $(cat /tmp/read)"
    say "read ${digest%% *}"
}

to_kernel() { # FUNCTION
    hand_to "$1" ''
    read_by_kernel "$1"
}

# The machine's IOMMU in its own words, and the interrupts of the kernel's driver.
report_platform() {
    unit=/sys/class/iommu/dmar0/intel-iommu
    say "iommu $(cat $unit/cap) $(cat $unit/ecap)"
    block_report interrupts grep 'nvme[0-9]*q' /proc/interrupts
}

group_node() { echo "/dev/vfio/$(basename "$(readlink "$(device "$1")/iommu_group")")"; }

cdev_node() { # FUNCTION: a name that never exists where the kernel has no such interface
    echo "/dev/vfio/devices/$(ls "$(device "$1")/vfio-dev" 2>/tmp/none || echo none)"
}

# What one who uses the function through the transport opens: what all share, and its own node.
nodes_of() { # FUNCTION
    case ${transport:-group} in
        group) echo "/dev/vfio/vfio $(group_node "$1")" ;;
        cdev) echo "/dev/iommu $(cdev_node "$1")" ;;
        compat) echo "/dev/iommu $(group_node "$1")" ;;
    esac
}

# An administrator's part: who may open the nodes, and that a platform may do without remapping.
let_user_in() { # FUNCTION
    for node in $(nodes_of "$1"); do
        chown user "$node" || finish "failed chown $node"
    done
    [ "${remapping:-on}" = on ] || allow_unsafe_interrupts
}

allow_unsafe_interrupts() {
    for module in vfio_iommu_type1 iommufd; do
        switch=/sys/module/$module/parameters/allow_unsafe_interrupts
        [ ! -e $switch ] || echo 1 >$switch
    done
}

# In the background, with & behind it, the process is the command itself: $! is whom to kill.
exec_as_user() { # COMMAND...
    ulimit -l $user_memlock_kib
    exec_by_user "$@"
}

exec_by_user() { # COMMAND...; with the limits of this shell
    exec su -s /bin/sh -c 'export PATH=/bin; exec "$@"' -- user sh "$@"
}

as_user() { (exec_as_user "$@"); } # COMMAND...

is_gone() { # FUNCTION
    [ ! -e "$(device "$1")" ]
}

# A slot takes a device again once QEMU has let go of the last one, which may be a moment later.
is_back() { # FUNCTION
    [ "$(monitor device_add '"driver": "nvme", "id": "disk", "bus": "root_port",' \
        '"serial": "lab", "subsys": "subsystem"')" = ok ]
}

unplug() { # FUNCTION: in the slot
    answer=$(monitor device_del '"id": "disk"')
    [ "$answer" = ok ] || finish "failed device_del: $answer"
    wait_for is_gone "$1"
    say "gone $1"
}

plug_in() { wait_for is_back; }
