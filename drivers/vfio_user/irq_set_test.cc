// Goal: SET_IRQS does what the kernel's does, and no vector outside the layout is ever named.
// Method: a table of messages with the change or the errno that each one is.

#include "drivers/vfio_user/irq_set.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "drivers/vfio_user/server_testing.h"

namespace runnel::vfio_user {
namespace {

using kind = irq_change::kind;
constexpr std::uint32_t most = ~0U;

struct row {
  const char* what;
  vfio::uapi::irq_set set;
  std::size_t fds;
  std::size_t data_bytes;
  int refusal;
  kind expected;
};

constexpr std::uint32_t none_trigger = 0x21;
constexpr std::uint32_t bool_trigger = 0x22;
constexpr std::uint32_t eventfd_trigger = 0x24;
constexpr std::uint32_t none_mask = 0x09;
constexpr std::uint32_t bool_mask = 0x0a;
constexpr std::uint32_t none_unmask = 0x11;
constexpr std::uint32_t eventfd_unmask = 0x14;

vfio::uapi::irq_set irqs(std::uint32_t flags, std::uint32_t index, std::uint32_t start,
                         std::uint32_t count, std::uint32_t argsz = 20) {
  return {.argsz = argsz, .flags = flags, .index = index, .start = start, .count = count};
}

TEST(IrqSet, EveryCombinationHasARow) {
  const testing::recording_model model;  // INTx 1, MSI none, MSI-X 33
  const std::vector<row> rows{
      {"attach one", irqs(eventfd_trigger, 2, 5, 1), 1, 0, 0, kind::attach},
      {"attach sixteen", irqs(eventfd_trigger, 2, 17, 16), 16, 0, 0, kind::attach},
      {"detach all", irqs(eventfd_trigger, 2, 0, 33), 0, 0, 0, kind::detach},
      {"attach nothing", irqs(eventfd_trigger, 2, 0, 0), 0, 0, 0, kind::nothing},
      {"disable", irqs(none_trigger, 2, 0, 0), 0, 0, 0, kind::disable},
      {"fire", irqs(none_trigger, 2, 32, 1), 0, 0, 0, kind::trigger},
      {"disable from the middle", irqs(none_trigger, 2, 5, 0), 0, 0, 0, kind::disable},
      {"fire some", irqs(bool_trigger, 2, 0, 2), 0, 2, ENOTSUP, {}},
      {"mask INTx", irqs(none_mask, 0, 0, 1), 0, 0, 0, kind::mask},
      {"unmask INTx", irqs(none_unmask, 0, 0, 1), 0, 0, 0, kind::unmask},
      {"mask INTx by a byte", irqs(bool_mask, 0, 0, 1), 0, 1, 0, kind::mask},
      {"mask no INTx", irqs(none_mask, 0, 0, 0), 0, 0, EINVAL, {}},
      {"mask MSI-X", irqs(none_mask, 2, 0, 1), 0, 0, ENOTTY, {}},
      {"unmask by eventfd", irqs(eventfd_unmask, 0, 0, 1), 1, 0, ENOTTY, {}},
      {"absent interrupt", irqs(eventfd_trigger, 1, 0, 1), 1, 0, EINVAL, {}},
      {"index beyond", irqs(eventfd_trigger, 3, 0, 1), 1, 0, EINVAL, {}},
      {"index far beyond", irqs(none_trigger, most, 0, 0), 0, 0, EINVAL, {}},
      {"start beyond", irqs(eventfd_trigger, 2, 33, 1), 1, 0, EINVAL, {}},
      {"one too many", irqs(eventfd_trigger, 2, 32, 2), 2, 0, EINVAL, {}},
      {"sum wraps", irqs(eventfd_trigger, 2, 2, most), 0, 0, EINVAL, {}},
      {"start wraps", irqs(eventfd_trigger, 2, most, 2), 2, 0, EINVAL, {}},
      {"fewer eventfds than vectors", irqs(eventfd_trigger, 2, 0, 3), 2, 0, EINVAL, {}},
      {"more eventfds than vectors", irqs(eventfd_trigger, 2, 0, 1), 2, 0, EINVAL, {}},
      {"eventfds without the flag", irqs(none_trigger, 2, 0, 0), 1, 0, EINVAL, {}},
      {"too few bytes", irqs(bool_mask, 0, 0, 1), 0, 0, EINVAL, {}},
      {"no data type", irqs(0x20, 2, 0, 0), 0, 0, EINVAL, {}},
      {"two data types", irqs(0x23, 2, 0, 0), 0, 0, EINVAL, {}},
      {"no action", irqs(0x04, 2, 0, 1), 1, 0, EINVAL, {}},
      {"two actions", irqs(0x31, 0, 0, 1), 0, 0, EINVAL, {}},
      {"unknown flag", irqs(0x61, 2, 0, 0), 0, 0, EINVAL, {}},
      {"short argsz", irqs(none_trigger, 2, 0, 0, 19), 0, 0, EINVAL, {}},
  };
  for (const row& each : rows) {
    std::vector<std::byte> payload(sizeof(each.set) + each.data_bytes, std::byte{1});
    write_wire(payload, each.set);
    const auto change = check_irq_set(payload, each.fds, model.layout);
    EXPECT_EQ(change ? 0 : change.error(), each.refusal) << each.what;
    if (change && each.refusal == 0) {
      EXPECT_EQ(change->what, each.expected) << each.what;
      EXPECT_EQ(change->start, each.set.start) << each.what;
      EXPECT_EQ(change->count, each.set.count) << each.what;
    }
  }
  const auto good = irqs(none_trigger, 2, 0, 0);
  EXPECT_FALSE(check_irq_set(wire_bytes(good).first(19), 0, model.layout));
}

TEST(IrqSet, AByteOfZeroMasksNothing) {
  const testing::recording_model model;
  std::vector<std::byte> payload(21);
  write_wire(payload, irqs(bool_mask, 0, 0, 1));
  EXPECT_EQ(check_irq_set(payload, 0, model.layout)->what, kind::nothing);
}

TEST(Eventfds, OnlyDescriptorsThatCannotMakeUsWaitAreTaken) {
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  EXPECT_EQ(prepare_eventfd(event.get()), 0);
  EXPECT_NE(::fcntl(event.get(), F_GETFL) & O_NONBLOCK, 0);
  const std::uint64_t full = ~std::uint64_t{0} - 1;
  ASSERT_EQ(::write(event.get(), &full, sizeof(full)), 8);
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(event.get(), &one, sizeof(one)), -1);  // full, and we are not stuck

  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const unique_fd reader{ends[0]};
  const unique_fd writer{ends[1]};
  EXPECT_EQ(prepare_eventfd(writer.get()), EINVAL);
  EXPECT_EQ(prepare_eventfd(testing::make_memory(4096).get()), EINVAL);
  EXPECT_EQ(prepare_eventfd(-1), EBADF);
}

}  // namespace
}  // namespace runnel::vfio_user
