#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# What tasks do with our own program on a function, as an ordinary user.

. /guest/vfio.sh

# What our program calls a namespace of a function, reached through the transport that is asked for.
address() { # FUNCTION NAMESPACE
    echo "pci:$1?ns=$2&via=${transport:-group}"
}

# As to_vfio and to_kernel, by our own program.
bind() { # FUNCTION
    say "driver $(driver_of "$1")"
    runnel bind "$1" >/tmp/bound 2>&1 || finish "failed $(cat /tmp/bound)"
    say "driver $(driver_of "$1")"
    let_user_in "$1"
}

unbind() { # FUNCTION
    runnel unbind "$1" >/tmp/bound 2>&1 || finish "failed $(cat /tmp/bound)"
    read_by_kernel "$1"
}

vfio_interrupts() { # FUNCTION
    grep "vfio-msix.*$1" /proc/interrupts
}

# Pages that anybody ever pinned, those that were let go, and the processes that lock or pin any.
report_pins() {
    echo 1 >/proc/sys/vm/stat_refresh # each CPU counts for itself
    say "pins $(grep nr_foll_pin /proc/vmstat | cut -d ' ' -f 2 | xargs)"
    say "pinning $(grep -lE 'Vm(Lck|Pin):\s*[1-9]' /proc/[0-9]*/status 2>/tmp/none | xargs)"
}

now_ms() { echo "$(($(cut -d ' ' -f 1 /proc/uptime | tr -d .) * 10))"; }

# Reads by our program through several queues, under way when it returns; its process is $load.
start_load() { # FUNCTION
    exec_as_user runnel perf "$(address "$1" 1)" --block-size 4k --depth 8 --cores 0,1 \
        --poll adaptive --time 60 --warmup 0 >/tmp/load 2>/tmp/errors &
    load=$!
    wait_for is_under_load "$1"
}

is_under_load() { # FUNCTION
    kill -0 "$load" || finish "failed load: $(cat /tmp/errors)"
    vfio_interrupts "$1" | awk '{ sum += $2 + $3 } END { exit sum < 1000 }'
}
