// Goal: telling somebody by eventfd never waits, whatever its other holders do to it.
// Method: real eventfds, made blocking and full as a hostile client would. Without the promise a
// test does not end.

#include "drivers/vfio_user/eventfd_signal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {
namespace {

constexpr eventfd_t nearly_full = ~std::uint64_t{0} - 1;

eventfd_t count_of(const unique_fd& event) {
  eventfd_t count = 0;
  return eventfd_read(event.get(), &count) == 0 ? count : 0;
}

TEST(EventfdSignal, CountsEverySignalHoweverMany) {
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  for (int i = 0; i < 1000; ++i) {
    signal_eventfd(event.get());
  }
  EXPECT_EQ(count_of(event), 1000U);
}

TEST(EventfdSignal, DoesNotWaitForRoomInABlockingOneThatIsFull) {
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  ASSERT_EQ(eventfd_write(event.get(), nearly_full), 0);
  for (int i = 0; i < 3; ++i) {
    signal_eventfd(event.get());
  }
  EXPECT_GE(count_of(event), nearly_full);
  signal_eventfd(event.get());  // and when there is room again it is told again
  EXPECT_EQ(count_of(event), 1U);
}

TEST(EventfdSignal, LeavesAloneWhatIsNoEventfd) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const unique_fd reader{ends[0]};
  const unique_fd writer{ends[1]};
  signal_eventfd(writer.get());
  signal_eventfd(-1);
  std::byte got{};
  EXPECT_EQ(::read(reader.get(), &got, 1), -1);
}

}  // namespace
}  // namespace runnel::vfio_user
