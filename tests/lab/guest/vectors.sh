#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Our program with one queue more each time: the calls by which it asks for MSI-X vectors, and how
# many the kernel gives.

. /guest/program.sh

tracing=/sys/kernel/tracing

trace_calls() {
    mount -t tracefs tracing $tracing || finish "failed to mount tracefs"
    echo 'p:ask vfio_pci_set_msi_trigger start=%dx:u32 count=%cx:u32' >$tracing/kprobe_events
    echo 1 >$tracing/events/kprobes/ask/enable || finish "failed to trace"
}

measure() { # CORES
    echo >$tracing/trace
    exec_as_user runnel perf "$(address "$disk" 1)" --cores "$1" --depth 4 --poll adaptive \
        --time 2 --warmup 0 >/tmp/perf 2>/tmp/errors &
    perf=$!
    most=0
    while kill -0 $perf 2>/tmp/none; do
        vectors=$(vfio_interrupts "$disk" | wc -l)
        [ "$vectors" -le "$most" ] || most=$vectors
        sleep 0.1
    done
    wait $perf || finish "failed perf on cores $1: $(cat /tmp/errors)"
    say "vectors $1 $most"
    block_report "calls $1" grep -o 'start=.*' $tracing/trace
}

load_drivers
disk=$(nvme_functions)
read_by_kernel "$disk"
report_platform
trace_calls
to_vfio "$disk"
let_user_in "$disk"
for cores in 0 0-1 0-2; do
    measure $cores
done
to_kernel "$disk"
