// Goal: a client that shrinks its memory under us poisons itself and nobody else.
// Method: the test installs the handler as an application does, shrinks a memfd that is mapped, and
// touches what is gone.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "drivers/vfio_user/client_memory.h"
#include "drivers/vfio_user/server_testing.h"
#include "mempool/sigbus.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::vfio_user {
namespace {

using sim::page;
using testing::make_memory;

void on_sigbus(int, siginfo_t* info, void*) {
  if (!handle_sigbus(*info)) {
    ::_exit(99);
  }
}

class Sigbus : public ::testing::Test {
 protected:
  Sigbus() {
    struct sigaction action{};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, &before_);
  }
  ~Sigbus() override { ::sigaction(SIGBUS, &before_, nullptr); }

  static client_memory make_client(const unique_fd& file) {
    client_memory memory{std::move(*client_memory::create())};
    EXPECT_TRUE(
        memory.map(iova{0x1000}, 2 * page, access::read_write, unique_fd{::dup(file.get())}, 0));
    return memory;
  }
  static siginfo_t touch_of(const void* address) {
    siginfo_t info{};
    info.si_code = BUS_ADRERR;
    info.si_addr = const_cast<void*>(address);
    return info;
  }

 private:
  struct sigaction before_{};
};

TEST_F(Sigbus, AClientThatShrinksItsMemoryPoisonsOnlyItself) {
  const unique_fd file = make_memory(2 * page);
  const unique_fd other_file = make_memory(2 * page);
  client_memory hostile = make_client(file);
  client_memory honest = make_client(other_file);
  const resolved there = hostile.resolve(iova{0x2000}, 16, access::read_write);
  *there.address = std::byte{5};
  ASSERT_EQ(::ftruncate(file.get(), page), 0);
  EXPECT_FALSE(hostile.poisoned());

  errno = 77;
  EXPECT_EQ(std::to_integer<int>(*there.address), 0);  // faults, and finds a zero page
  EXPECT_EQ(errno, 77);
  *there.address = std::byte{6};
  EXPECT_TRUE(hostile.poisoned());
  EXPECT_EQ(hostile.resolve(iova{0x1000}, 16, access::read).address, nullptr);
  EXPECT_EQ(hostile.resolve(iova{0x2000}, 16, access::read).address, nullptr);

  EXPECT_FALSE(honest.poisoned());
  EXPECT_NE(honest.resolve(iova{0x2000}, 16, access::read).address, nullptr);

  EXPECT_TRUE(hostile.unmap_some(client_memory::maps_max));
  EXPECT_FALSE(hostile.poisoned());
}

TEST_F(Sigbus, TouchesOfOtherMemoryAreNotOurs) {
  const unique_fd file = make_memory(2 * page);
  const client_memory memory = make_client(file);
  std::vector<std::byte> mine(page);
  EXPECT_FALSE(handle_sigbus(touch_of(mine.data())));
  EXPECT_FALSE(handle_sigbus(touch_of(nullptr)));
  siginfo_t sent = touch_of(memory.resolve(iova{0x1000}, 1, access::read).address);
  sent.si_code = SI_USER;
  EXPECT_FALSE(handle_sigbus(sent));
  EXPECT_FALSE(memory.poisoned());
}

TEST_F(Sigbus, AddressesAreForgottenWithTheClient) {
  const unique_fd file = make_memory(2 * page);
  const std::byte* address = nullptr;
  {
    client_memory memory = make_client(file);
    address = memory.resolve(iova{0x1000}, 1, access::read).address;
    EXPECT_TRUE(memory.unmap_some(client_memory::maps_max));
    EXPECT_FALSE(handle_sigbus(touch_of(address)));
    EXPECT_TRUE(memory.map(iova{0x1000}, page, access::read, unique_fd{::dup(file.get())}, 0));
    address = memory.resolve(iova{0x1000}, 1, access::read).address;
    EXPECT_TRUE(handle_sigbus(touch_of(address)));
    EXPECT_TRUE(memory.poisoned());
  }
  EXPECT_FALSE(handle_sigbus(touch_of(address)));
}

TEST_F(Sigbus, ThereIsRoomForSoManyClientsAndNoMore) {
  std::vector<sigbus_guard> guards;
  for (;;) {
    auto guard = sigbus_guard::create();
    if (!guard) {
      EXPECT_EQ(guard.error().code, errc::no_memory);
      break;
    }
    guards.push_back(std::move(*guard));
  }
  EXPECT_EQ(guards.size(), sigbus_guard::guards_max);
  guards.pop_back();
  EXPECT_TRUE(sigbus_guard::create());
}

}  // namespace
}  // namespace runnel::vfio_user
