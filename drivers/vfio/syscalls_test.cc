// Goal: what the kernel does by itself is taken into account: limits of locked memory, children
// that inherit. Method: memory over the limit is locked, by a thread as it is and by one that has
// given up CAP_IPC_LOCK; a child looks for what is mapped.
#include "drivers/vfio/syscalls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <thread>

#include "mempool/base/unique_fd.h"
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

TEST(RealSyscalls, NothingOfADeviceIsMappedInAChildOrAfterItIsReplaced) {
  const unique_fd file{::memfd_create("registers", MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(file.get(), 4 * kib), 0);
  const auto mapped = real_syscalls().mmap(file.get(), 0, 4 * kib);
  ASSERT_TRUE(mapped.has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    unsigned char resident = 0;
    const bool is_there = ::mincore(mapped->data(), mapped->size(), &resident) == 0;
    ::_exit(is_there || errno != ENOMEM ? 1 : 0);
  }
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(real_syscalls().replace(*mapped).has_value());
  EXPECT_EQ(std::ranges::count(*mapped, std::byte{0xff}), std::ssize(*mapped));
  (*mapped)[0] = std::byte{1};
  std::byte in_file{};
  EXPECT_EQ(::pread(file.get(), &in_file, 1, 0), 1);
  EXPECT_EQ(in_file, std::byte{0});
  real_syscalls().munmap(*mapped);
}

TEST(RealSyscalls, MemoryThatNobodyHasTouchedHasItsPlaceWhenItIsAskedFor) {
  constexpr std::size_t pages = 3;
  const unique_fd file{::memfd_create("memory", MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(file.get(), pages * 4 * kib), 0);
  const auto mapped = real_syscalls().mmap(file.get(), 0, pages * 4 * kib);
  ASSERT_TRUE(mapped.has_value());
  std::array<std::uint64_t, pages> entries{};
  const auto pagemap = real_syscalls().open("/proc/self/pagemap", O_RDONLY);
  ASSERT_TRUE(pagemap.has_value());
  ASSERT_TRUE(real_syscalls().read_pagemap(pagemap->get(), mapped->data(), entries).has_value());
  for (const std::uint64_t entry : entries) {
    EXPECT_EQ(entry >> 63U, 1U) << "present, whoever may know where";
  }
  real_syscalls().munmap(*mapped);
}

}  // namespace
}  // namespace runnel::vfio
