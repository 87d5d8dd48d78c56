// Goal: the limit of locked memory that is told is the one that the kernel applies. Method: memory
// over the limit is locked, by a thread as it is and by one that has given up CAP_IPC_LOCK.
#include "drivers/vfio/syscalls.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "mempool/base/units.h"

namespace runnel::vfio {
namespace {

void give_up_ipc_lock() {
  __user_cap_header_struct head{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> all{};
  ASSERT_EQ(::syscall(SYS_capget, &head, all.data()), 0);
  all[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
  ASSERT_EQ(::syscall(SYS_capset, &head, all.data()), 0);
}

TEST(RealSyscalls, TheLimitOfLockedMemoryIsTheOneThatTheKernelApplies) {
  static std::array<std::byte, 64 * kib> memory{};
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit low{.rlim_cur = memory.size() / 2, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &low), 0);
  for (const bool gives_up : {false, true}) {
    std::thread{[&] {
      if (gives_up) {
        give_up_ipc_lock();
      }
      // Not by mlock, which sanitizers make do nothing.
      const bool locked = ::syscall(SYS_mlock, memory.data(), memory.size()) == 0;
      EXPECT_EQ(real_syscalls().memlock_limit(), locked ? ~std::uint64_t{0} : low.rlim_cur);
      ::syscall(SYS_munlock, memory.data(), memory.size());
    }}.join();
  }
  EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

}  // namespace
}  // namespace runnel::vfio
