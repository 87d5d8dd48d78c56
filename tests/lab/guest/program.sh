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

# That our program has its system calls filtered here, and how many of all that it made since the
# boot a filter refused or logged, by the kernel's word.
report_filters() {
    as_user runnel perf null:1M --cores 0 --time 0.1 --warmup 0 --seccomp on >/tmp/filtered \
        2>/tmp/errors || finish "failed to filter: $(cat /tmp/errors)"
    say "refused_calls $(dmesg | grep -c 'type=1326')"
}

mark() { say "at $1 $(now_ms)"; } # EVENT

now_ms() { echo "$(($(cut -d ' ' -f 1 /proc/uptime | tr -d .) * 10))"; }

# What QEMU has read and written on all disks, in requests.
requests() {
    monitor query-blockstats | tr , '\n' | sed -n "s/.*'\(rd\|wr\)_operations': //p" |
        awk '{ sum += $1 } END { print sum }'
}

# Reads and writes by our program, through a queue for each core; it compares what it reads with
# what it wrote. With & behind it, $! is our program.
exec_load() { # ADDRESS SECONDS CORES NAME
    exec_as_user runnel perf "$1" --rw randrw --verify --block-size 4k --depth 8 --cores "$3" \
        --poll adaptive --time "$2" --warmup 0 --json >"/tmp/load.$4" 2>"/tmp/errors.$4"
}

# It has filled its namespace, which is of 1 MiB, before that.
is_under_load() { # PROCESS BEFORE: what `requests` said before
    kill -0 "$1" || finish "failed load: $(cat /tmp/errors.*)"
    [ $(($(requests) - $2)) -ge 2000 ]
}

report_load() { # NAME
    block_report "load $1" cat "/tmp/load.$1"
    block_report "errors $1" cat "/tmp/errors.$1"
}
