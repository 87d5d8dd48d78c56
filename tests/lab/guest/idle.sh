#!/bin/busybox sh
# shellcheck shell=dash disable=SC1091
# Our program has little to do: what it costs then, and what wakes it.

. /guest/program.sh

spans=3
span_s=2

ticks_of() { # PROCESS; all that it had of CPUs, in hundredths of a second
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

interrupts_of() { # FUNCTION
    vfio_interrupts "$1" | awk '{ sum += $2 + $3 } END { print sum + 0 }'
}

# Elapsed ms, CPU's ms and interrupts of several spans, once it has come to rest.
watch() { # NAME FUNCTION PROCESS
    sleep 2
    for _ in $(seq $spans); do
        began_ms=$(now_ms)
        ticks=$(ticks_of "$3")
        interrupts=$(interrupts_of "$2")
        sleep $span_s
        say "$1 $(($(now_ms) - began_ms)) $((($(ticks_of "$3") - ticks) * 10))" \
            "$(($(interrupts_of "$2") - interrupts))"
    done
}

measure() { # NAME OPTIONS...
    run=$1
    shift
    exec_as_user runnel perf "$(address "$disk" 1)" --warmup 0 --json \
        --time $((spans * span_s + 4)) --cores 0 "$@" >/tmp/perf 2>/tmp/errors &
    perf=$!
    watch "$run" "$disk" $perf
    wait $perf || finish "failed perf $run: $(cat /tmp/errors)"
    block_report "perf $run" cat /tmp/perf
}

load_drivers
disk=$(nvme_functions)
wait_for has_disk "$disk"
report_platform
bind "$disk"
measure busy --poll busy --rate 2
measure adaptive --poll adaptive --rate 2
exec_as_user runnel target --listen vfio-user:/tmp/served --namespace "$(address "$disk" 1)" \
    --poll adaptive >/tmp/ready 2>/tmp/errors &
target=$!
wait_for grep -q '^ready ' /tmp/ready
watch target "$disk" $target
kill -TERM $target
wait $target || finish "failed target: $(cat /tmp/errors)"
report_filters
unbind "$disk"
