#include "drivers/vfio_user/eventfd_signal.h"

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <ctime>

#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {
namespace {

/// Lets the kernel signal: it adds to an eventfd when an asynchronous read has ended, and what is
/// full saturates there. The read is of no bytes from an empty file in memory, so it has ended when
/// it has been submitted.
class signaller {
 public:
  signaller() noexcept : empty_file_{::memfd_create("empty", MFD_CLOEXEC)} {
    if (::syscall(SYS_io_setup, events_max, &context_) != 0) {
      context_ = 0;
    }
  }
  signaller(const signaller&) = delete;
  signaller& operator=(const signaller&) = delete;
  /// Waits some milliseconds for the kernel: therefore there is one for a thread, not for a client.
  ~signaller() {
    if (context_ != 0) {
      ::syscall(SYS_io_destroy, context_);
    }
  }

  /// False: there is no asynchronous I/O here.
  bool signal(int eventfd) noexcept {
    if (context_ == 0) {
      return false;
    }
    iocb read_nothing{};
    read_nothing.aio_lio_opcode = IOCB_CMD_PREAD;
    read_nothing.aio_fildes = static_cast<std::uint32_t>(empty_file_.get());
    read_nothing.aio_flags = IOCB_FLAG_RESFD;
    read_nothing.aio_resfd = static_cast<std::uint32_t>(eventfd);
    iocb* const list = &read_nothing;
    if (::syscall(SYS_io_submit, context_, 1L, &list) == 1 && ++unread_ == events_max) {
      forget_events();
    }
    return true;  // what is no eventfd was refused: its owner's own loss
  }

 private:
  static constexpr long events_max = 32;

  /// Makes room for as many more.
  void forget_events() noexcept {
    std::array<io_event, events_max> events;
    timespec at_once{};
    ::syscall(SYS_io_getevents, context_, 0L, events_max, events.data(), &at_once);
    unread_ = 0;
  }

  unique_fd empty_file_;
  aio_context_t context_ = 0;
  long unread_ = 0;
};

}  // namespace

void signal_eventfd(int eventfd) noexcept {
  thread_local signaller of_this_thread;
  if (!of_this_thread.signal(eventfd)) {
    // Full (EAGAIN) is readable already. There is nobody to report anything else to.
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(eventfd, &one, sizeof(one));
  }
}

}  // namespace runnel::vfio_user
