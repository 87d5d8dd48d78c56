// Goal: memory of others that went away is repaired with what its guard says, and poisons that
// guard only. Method: maps of memfds that are cut off and touched under a handler as applications
// have it.
#include "mempool/sigbus.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <span>

#include "mempool/base/unique_fd.h"
#include "tests/sim/edge_numbers.h"

namespace runnel {
namespace {

using sim::page;

void repair_or_exit(int, siginfo_t* info, void*) {
  if (!handle_sigbus(*info)) {
    ::_exit(99);
  }
}

class SigbusTable : public ::testing::Test {
 protected:
  SigbusTable() {
    struct sigaction action{};
    action.sa_sigaction = repair_or_exit;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, &before_);
  }
  ~SigbusTable() override { ::sigaction(SIGBUS, &before_, nullptr); }

 private:
  struct sigaction before_{};
};

/// Two pages that others may cut off, under a guard.
class foreign_memory {
 public:
  explicit foreign_memory(std::byte filler)
      : file_{::memfd_create("foreign", MFD_CLOEXEC)}, guard{*sigbus_guard::create(filler)} {
    EXPECT_EQ(::ftruncate(file_.get(), 2 * page), 0);
    void* const at = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    bytes = {static_cast<std::byte*>(at), 2 * page};
    std::ranges::fill(bytes, std::byte{7});
    guard.cover(0, bytes);
  }
  foreign_memory(const foreign_memory&) = delete;
  foreign_memory& operator=(const foreign_memory&) = delete;
  ~foreign_memory() { ::munmap(bytes.data(), bytes.size()); }

  void cut_off() const { EXPECT_EQ(::ftruncate(file_.get(), 0), 0); }

 private:
  unique_fd file_;

 public:
  sigbus_guard guard;
  std::span<std::byte> bytes;
};

TEST_F(SigbusTable, APageThatWentAwayIsReplacedByWhatItsGuardSays) {
  for (const std::byte filler : {std::byte{0}, std::byte{0xff}}) {
    foreign_memory goes{filler};
    foreign_memory stays{std::byte{1}};
    goes.cut_off();
    EXPECT_FALSE(goes.guard.poisoned());
    errno = 77;
    EXPECT_EQ(goes.bytes[page + 9], filler);
    EXPECT_EQ(errno, 77);
    EXPECT_EQ(std::ranges::count(goes.bytes.last(page), filler), std::ssize(goes.bytes.last(page)));
    EXPECT_TRUE(goes.guard.poisoned());
    goes.bytes[0] = std::byte{3};  // the other page, which is touched first by a store
    EXPECT_EQ(goes.bytes[0], std::byte{3});
    EXPECT_EQ(goes.bytes[1], filler);
    EXPECT_FALSE(stays.guard.poisoned());
    EXPECT_EQ(stays.bytes[0], std::byte{7});
  }
}

TEST_F(SigbusTable, AnEntryServesTheNextWithItsOwnFiller) {
  {
    const foreign_memory first{std::byte{0xff}};
  }
  foreign_memory second{std::byte{0}};
  second.cut_off();
  EXPECT_EQ(second.bytes[0], std::byte{0});
}

}  // namespace
}  // namespace runnel
