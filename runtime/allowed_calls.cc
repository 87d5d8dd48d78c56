#include "runtime/allowed_calls.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>

#include "drivers/vfio/uapi/kvm.h"

namespace runnel {
namespace {

constexpr role_set reactors{1U << static_cast<unsigned>(thread_role::reactor)};
constexpr role_set helpers{1U << static_cast<unsigned>(thread_role::helper)};
constexpr role_set control{1U << static_cast<unsigned>(thread_role::control)};
constexpr role_set not_reactors{helpers.bits | control.bits};
constexpr role_set not_helpers{reactors.bits | control.bits};
constexpr role_set all{reactors.bits | helpers.bits | control.bits};

constexpr std::uint64_t whole = 0xffff'ffff;  // of an int

/// The call with that value of its argument.
constexpr allowed_call only(int number, role_set who, unsigned index, std::uint64_t value) {
  return {.number = number, .who = who, .index = index, .mask = whole, .value = value};
}

/// The call without that bit of its argument.
constexpr allowed_call without(int number, role_set who, unsigned index, std::uint64_t bit) {
  return {.number = number, .who = who, .index = index, .mask = bit, .value = 0};
}

/// VFIO's and iommufd's requests are all of one type. @spec Linux include/uapi/linux/vfio.h
constexpr allowed_call vfio_requests{
    .number = SYS_ioctl, .who = all, .index = 1, .mask = ~0xffULL, .value = ';' << 8U};

constexpr allowed_call table[]{
    // What the C library does for all of us: memory (never to be executed), locks, the clock.
    without(SYS_mmap, all, 2, PROT_EXEC),
    without(SYS_mprotect, all, 2, PROT_EXEC),  // the heap of a thread grows
    {SYS_munmap, all},
    {SYS_mremap, all},  // large blocks grow; a stand-in takes the place of lost memory
    {SYS_madvise, all},
    {SYS_brk, all},
    {SYS_futex, all},
    {SYS_sched_yield, all},
    {SYS_sched_getaffinity, all},  // how many heaps are worth having
    {SYS_clock_gettime, all},      // where the processor's own counter will not do

    // Descriptors that are open.
    {SYS_read, all},  // eventfds
    {SYS_write, all},
    {SYS_writev, all},  // the last words of the C library
    {SYS_close, all},
    only(SYS_newfstatat, all, 3, AT_EMPTY_PATH),  // fstat
    {SYS_fstat, all},

    // Signals, and the end of a thread or of all.
    {SYS_rt_sigreturn, all},
    {SYS_restart_syscall, all},  // what a debugger or a stop has interrupted
    {SYS_rt_sigprocmask, all},
    only(SYS_rt_sigaction, all, 0, SIGABRT),
    only(SYS_rt_sigaction, all, 0, SIGBUS),  // a fault that is not ours to repair
    only(SYS_rt_sigaction, all, 0, SIGSYS),  // the end of whoever leaves this list
    {SYS_getpid, all},
    {SYS_gettid, all},
    only(SYS_prctl, all, 0, PR_GET_NAME),
    {SYS_exit, all},
    {SYS_exit_group, all},

    // A core that waits.
    {SYS_epoll_wait, reactors},
    {SYS_epoll_pwait2, reactors},
    {SYS_epoll_ctl, not_helpers},

    // file: by io_uring, whose ring is enabled and bound to an eventfd by who polls it; a ring
    // that was left with requests is waited for by who takes it down.
    {SYS_io_uring_enter, not_helpers},
    only(SYS_io_uring_register, reactors, 1, IORING_REGISTER_ENABLE_RINGS),
    only(SYS_io_uring_register, reactors, 1, IORING_REGISTER_EVENTFD),
    // And where io_uring is refused.
    {SYS_preadv2, reactors},
    {SYS_pwritev2, reactors},
    {SYS_fdatasync, not_helpers},
    {SYS_fallocate, reactors},

    // pci: configuration space, interrupts, what a client's memory needs. A reset by a helper.
    vfio_requests,
    // And a virtual machine that a device was given to is told when the device is closed.
    only(SYS_ioctl, all, 1, vfio::uapi::kvm::ioctls::set_device_attr),
    {SYS_pread64, not_helpers},
    {SYS_pwrite64, not_helpers},
    {SYS_capget, not_helpers},     // whether all memory may be locked,
    {SYS_prlimit64, not_helpers},  // and else how much
    {SYS_getrlimit, not_helpers},

    // vfio-user: both sides of a socket.
    {SYS_recvmsg, not_helpers},
    {SYS_sendmsg, not_helpers},
    {SYS_shutdown, not_helpers},
    {SYS_dup3, not_helpers},  // puts a silent descriptor in the place of a socket that is closed
    {SYS_eventfd2, not_helpers},
    {SYS_accept4, reactors},
    {SYS_fstatfs, not_helpers},  // what kind of memory a peer shares
    only(SYS_fcntl, not_helpers, 1, F_DUPFD_CLOEXEC),
    only(SYS_fcntl, not_helpers, 1, F_GETFL),
    only(SYS_fcntl, not_helpers, 1, F_SETFL),
    // A page of doorbells for each client.
    {SYS_memfd_create, reactors},
    {SYS_ftruncate, not_helpers},  // and a file that was copied to ends there
    only(SYS_fcntl, reactors, 1, F_ADD_SEALS),
    // An interrupt is a read that ends, see drivers/vfio_user/eventfd_signal.cc.
    {SYS_io_setup, reactors},
    {SYS_io_submit, reactors},
    {SYS_io_getevents, reactors},
    {SYS_io_destroy, reactors},

    // Those who wait for signals, for devices that shut down, for output.
    {SYS_rt_sigtimedwait, control},
    {SYS_poll, not_reactors},
    {SYS_ppoll, control},
    {SYS_newfstatat, control},  // whether a socket's path is still ours,
    {SYS_unlink, control},      // which goes with its listener
    {SYS_lseek, control},
    only(SYS_ioctl, control, 1, TCGETS),  // whether standard output is a terminal
    {SYS_get_mempolicy, control},         // which node memory was on
};

}  // namespace

std::vector<allowed_call> allowed_calls() {
  std::vector<allowed_call> calls{std::begin(table), std::end(table)};
  calls.push_back(only(SYS_tgkill, all, 0, static_cast<std::uint64_t>(::getpid())));  // abort
  return calls;
}

}  // namespace runnel
