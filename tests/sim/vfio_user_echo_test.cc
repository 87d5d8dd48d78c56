// Goal: between our client and our server nothing is lost, changed or waited for that the far side
// does, whichever way messages are cut. Method: an echo device, both sides in one thread, on a
// clock that only the test moves. Parameters are the seeds of the cuts. What any transport does is
// in tests/sim/conformance.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/unique_fd.h"
#include "mempool/region.h"
#include "tests/sim/echo_device.h"
#include "tests/sim/echo_over_vfio_user.h"

namespace runnel {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using vfio::transport_reply;
using vfio::transport_state;

constexpr std::uint32_t bar = 0;
constexpr std::uint32_t config = 7;
constexpr std::uint32_t msix = 2;
constexpr std::uint64_t page = 4096;
constexpr std::uint64_t bus = 0x40000000;
constexpr int turns_max = 10'000;

/// A word or more as bytes.
template <class T>
[[nodiscard]] std::array<std::byte, sizeof(T)> bytes_of(T value) {
  return std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
}

/// Memory of the driver: `pages` of a memfd, seen by the device at `bus`.
class driver_memory {
 public:
  explicit driver_memory(std::size_t pages) : file_{::memfd_create("driver", MFD_CLOEXEC)} {
    EXPECT_EQ(::ftruncate(file_.get(), static_cast<off_t>(pages * page)), 0);
    void* const at =
        ::mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    bytes_ = {static_cast<std::byte*>(at), pages * page};
  }
  driver_memory(const driver_memory&) = delete;
  driver_memory& operator=(const driver_memory&) = delete;
  ~driver_memory() { ::munmap(bytes_.data(), bytes_.size()); }

  [[nodiscard]] region piece(std::size_t first_page, std::size_t pages) const {
    region made;
    made.address = bytes_.data() + first_page * page;
    made.length = pages * page;
    made.iova_offset = bus - reinterpret_cast<std::uintptr_t>(bytes_.data());
    made.fd = file_.get();
    made.fd_offset = first_page * page;
    return made;
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  unique_fd file_;
  std::span<std::byte> bytes_;
};

class VfioUserEcho : public testing::TestWithParam<std::uint64_t> {
 protected:
  VfioUserEcho() {
    for (int i = 0; i < turns_max && device().state() == transport_state::connecting; ++i) {
      under.turn();
    }
    EXPECT_EQ(device().state(), transport_state::ready);
  }

  [[nodiscard]] vfio::device_transport& device() { return under.transport(); }
  [[nodiscard]] vfio::iommu_domain& domain() { return under.domain(); }

  void settle() {
    for (int i = 0; i < turns_max; ++i) {
      under.turn();
    }
  }
  /// The result of a started operation; a failure to start counts as one.
  [[nodiscard]] transport_reply finish(result<ticket> started) {
    if (!started) {
      return {.status = started.error(), .value = 0, .data = {}};
    }
    for (int i = 0; i < turns_max; ++i) {
      if (const auto reply = device().take(*started)) {
        return *reply;
      }
      under.turn();
    }
    ADD_FAILURE() << "no result, seed " << GetParam();
    return {};
  }
  /// As often as it takes to have it leave.
  void post(std::uint64_t offset, std::span<const std::byte> bytes) {
    for (int i = 0; i < turns_max; ++i) {
      if (device().region_post(bar, offset, bytes)) {
        return;
      }
      under.turn();
    }
    ADD_FAILURE() << "it never left, seed " << GetParam();
  }
  [[nodiscard]] error status_of(result<ticket> started) { return finish(started).status; }

  [[nodiscard]] static std::uint64_t fired(const unique_fd& eventfd) {
    std::uint64_t count = 0;
    return ::read(eventfd.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
  }

  static constexpr error good{};
  sim::echo_over_vfio_user under{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(EachSeed, VfioUserEcho, testing::Values(1U, 2U, 3U));

TEST_P(VfioUserEcho, WritesOfEverySizeAreReadBack) {
  const std::uint64_t value = 0x8877665544332211;
  for (const std::uint32_t size : {1U, 2U, 4U, 8U}) {
    for (const auto& [index, offset] :
         {std::pair{bar, 64U * size}, std::pair{config, 16U * size}}) {
      const auto bytes = bytes_of(value);
      EXPECT_EQ(status_of(device().region_write(index, offset, std::span{bytes}.first(size))),
                good);
      const auto reply = finish(device().region_read(index, offset, size));
      EXPECT_EQ(reply.status, good);
      EXPECT_EQ(reply.value, size == 8 ? value : value & ((1ULL << size * 8) - 1));
      EXPECT_EQ(reply.data.size(), size);
    }
  }
}

TEST_P(VfioUserEcho, TheLargestTransferIsWholeInBothDirections) {
  std::vector<std::byte> bytes(vfio::device_transport::transfer_bytes_max);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 31 & 0xff);
  }
  EXPECT_EQ(status_of(device().region_write(bar, 0x1000, bytes)), good);
  const auto reply = finish(device().region_read(bar, 0x1000, static_cast<std::uint32_t>(page)));
  ASSERT_EQ(reply.data.size(), bytes.size());
  EXPECT_TRUE(std::ranges::equal(reply.data, bytes));
  bytes.push_back({});
  EXPECT_EQ(device().region_write(bar, 0x1000, bytes).error().code, errc::invalid);
}

TEST_P(VfioUserEcho, AnErrorOfTheDeviceReachesTheDriverAndNothingElseSuffers) {
  const auto word = bytes_of(std::uint32_t{1});
  EXPECT_EQ(status_of(device().region_write(bar, 0, word)), (error{errc::os, EPERM}));
  post(0, word);
  EXPECT_EQ(status_of(device().region_write(bar, 8, word)), good);
}

TEST_P(VfioUserEcho, MappedAreasAreTheDevicesOwnBytes) {
  for (const std::uint64_t offset : {0x1000ULL, 0x3000ULL}) {
    const auto area = device().map_region(bar, offset, page);
    ASSERT_EQ(area.size(), page);
    std::ranges::copy(bytes_of(std::uint32_t{0x1234}), area.begin());
    EXPECT_EQ(under.device_word(offset), 0x1234U);
    under.set_device_word(offset + 4, 0x5678);
    EXPECT_TRUE(std::ranges::equal(area.subspan(4, 4), bytes_of(std::uint32_t{0x5678})));
    EXPECT_EQ(finish(device().region_read(bar, offset, 4)).value, 0x1234U);
  }
}

TEST_P(VfioUserEcho, WhatIsNotOfferedIsNotMapped) {
  EXPECT_TRUE(device().map_region(bar, 0, page).empty());
  EXPECT_TRUE(device().map_region(bar, 0x1000, 2 * page).empty());
  EXPECT_TRUE(device().map_region(bar, 0x2000, page).empty());
}

TEST_P(VfioUserEcho, PostedWritesArriveInOrderAndBeforeALaterRead) {
  for (std::uint32_t value = 1; value <= 200; ++value) {
    post(16, bytes_of(value));
    if (value % 50 == 0) {
      EXPECT_EQ(finish(device().region_read(bar, 16, 4)).value, value);
    }
  }
}

TEST_P(VfioUserEcho, EveryVectorRaisesItsOwnEventfd) {
  std::vector<unique_fd> events;
  std::vector<int> fds;
  for (std::uint32_t i = 0; i < sim::echo_device::vectors; ++i) {
    events.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    fds.push_back(events.back().get());
  }
  EXPECT_EQ(status_of(device().set_irqs(msix, 0, fds)), good);
  for (std::uint32_t i = 0; i < events.size(); ++i) {
    under.raise(i);
    for (std::uint32_t j = 0; j < events.size(); ++j) {
      EXPECT_EQ(fired(events[j]), i == j ? 1U : 0U) << i << " " << j;
    }
  }
  const std::array none{-1};
  EXPECT_EQ(status_of(device().set_irqs(msix, 3, none)), good);
  under.raise(3);
  under.raise(4);
  EXPECT_EQ(fired(events[3]), 0U);
  EXPECT_EQ(fired(events[4]), 1U);
  EXPECT_EQ(status_of(device().set_irqs(msix, 0, {})), good);
  under.raise(4);
  EXPECT_EQ(fired(events[4]), 0U);
}

TEST_P(VfioUserEcho, TheDeviceReachesMemoryWhileItIsMappedAndOnlyThat) {
  const driver_memory memory{4};
  std::ranges::fill(memory.bytes(), std::byte{7});
  const region mapped = memory.piece(1, 2);
  std::array<std::byte, 16> seen{};
  EXPECT_FALSE(under.device_reads(iova{bus + page}, seen));
  ASSERT_EQ(status_of(domain().map(mapped)), good);
  EXPECT_TRUE(under.device_reads(iova{bus + page}, seen));
  EXPECT_EQ(seen[15], std::byte{7});
  EXPECT_TRUE(under.device_writes(iova{bus + 3 * page - 1}, std::array{std::byte{9}}));
  EXPECT_EQ(memory.bytes()[3 * page - 1], std::byte{9});
  EXPECT_FALSE(under.device_reads(iova{bus + page - 1}, seen));
  EXPECT_FALSE(under.device_reads(iova{bus + 3 * page - 1}, seen));
  ASSERT_EQ(status_of(domain().unmap(mapped)), good);
  EXPECT_FALSE(under.device_reads(iova{bus + page}, seen));
  ASSERT_EQ(status_of(domain().map(mapped)), good) << "and it may come back";
  EXPECT_TRUE(under.device_reads(iova{bus + page}, seen));
}

TEST_P(VfioUserEcho, MemoryWithoutAFileIsReachedToo) {
  const driver_memory memory{1};
  region anonymous = memory.piece(0, 1);
  anonymous.fd = -1;
  ASSERT_EQ(status_of(domain().map(anonymous)), good);
  memory.bytes()[5] = std::byte{55};
  std::array<std::byte, 1> seen{};
  EXPECT_TRUE(under.device_reads(iova{bus + 5}, seen));
  EXPECT_EQ(seen[0], std::byte{55});
  EXPECT_TRUE(under.device_writes(iova{bus + 6}, std::array{std::byte{66}}));
  EXPECT_EQ(memory.bytes()[6], std::byte{66});
  ASSERT_EQ(status_of(domain().unmap(anonymous)), good);
  EXPECT_FALSE(under.device_reads(iova{bus + 5}, seen));
}

TEST_P(VfioUserEcho, ReadOnlyMemoryCannotBeWrittenByTheDevice) {
  const driver_memory memory{1};
  for (const bool with_file : {true, false}) {
    region read_only = memory.piece(0, 1);
    read_only.permissions = access::read;
    read_only.fd = with_file ? read_only.fd : -1;
    ASSERT_EQ(status_of(domain().map(read_only)), good);
    std::array<std::byte, 8> seen{};
    EXPECT_TRUE(under.device_reads(iova{bus}, seen));
    EXPECT_FALSE(under.device_writes(iova{bus}, std::array{std::byte{1}}));
    EXPECT_EQ(memory.bytes()[0], std::byte{0});
    ASSERT_EQ(status_of(domain().unmap(read_only)), good);
  }
}

TEST_P(VfioUserEcho, ResetForgetsWhatWasWritten) {
  EXPECT_EQ(status_of(device().region_write(bar, 32, bytes_of(std::uint32_t{5}))), good);
  EXPECT_EQ(status_of(device().reset()), good);
  EXPECT_EQ(finish(device().region_read(bar, 32, 4)).value, 0U);
}

TEST_P(VfioUserEcho, AFeatureKeepsWhatItIsGiven) {
  namespace flag = vfio::uapi::feature_flags;
  const std::uint32_t scratch = sim::echo_device::scratch;
  const auto value = bytes_of(std::uint64_t{0x1122334455667788});
  const std::span<const std::byte> none;
  struct rule {
    const char* name;
    std::uint32_t flags;
    std::span<const std::byte> data;
    error expected;
  };
  const error wrong{errc::os, EINVAL};
  for (const rule& each : {rule{"neither", scratch, value, wrong},
                           rule{"short", scratch | flag::get, std::span{value}.first(7), wrong},
                           rule{"probe", scratch | flag::probe | flag::get | flag::set, none, good},
                           rule{"set", scratch | flag::set, value, good}}) {
    EXPECT_EQ(status_of(device().device_feature(each.flags, each.data)), each.expected)
        << each.name;
  }
  const std::array<std::byte, 8> room{};
  const auto got = finish(device().device_feature(scratch | flag::get, room));
  EXPECT_EQ(got.status, good);
  EXPECT_EQ(got.value, 0x1122334455667788U);
}

TEST_P(VfioUserEcho, ADeviceThatDoesNotAnswerTimesOutAndMayComeBack) {
  under.stall(true);
  const auto started = device().region_read(bar, 16, 4);
  ASSERT_TRUE(started.has_value());
  settle();
  under.pass(seconds{5} - milliseconds{1});
  settle();
  EXPECT_FALSE(device().take(*started).has_value());
  under.pass(milliseconds{1});
  EXPECT_EQ(status_of(started).code, errc::timed_out);
  EXPECT_EQ(device().state(), transport_state::ready);
  under.stall(false);
  EXPECT_EQ(status_of(device().region_read(bar, 16, 4)), good) << "the late reply is dropped";
}

TEST_P(VfioUserEcho, AMapThatTimedOutReachesNoMemoryByMessage) {
  const driver_memory memory{1};
  region anonymous = memory.piece(0, 1);
  anonymous.fd = -1;
  under.stall(true);
  const auto started = domain().map(anonymous);
  settle();
  under.pass(seconds{5});
  EXPECT_EQ(status_of(started).code, errc::timed_out);
  under.stall(false);
  settle();
  std::array<std::byte, 1> seen{};
  EXPECT_FALSE(under.device_reads(iova{bus}, seen));
}

TEST_P(VfioUserEcho, SixtyFourOperationsFitAndEachHasItsOwnResult) {
  under.stall(true);
  std::vector<ticket> tickets;
  for (std::uint32_t i = 0; i < vfio::device_transport::operations_max; ++i) {
    under.set_device_word(0x100 + 4 * i, i);
    const auto started = device().region_read(bar, 0x100 + 4 * i, 4);
    ASSERT_TRUE(started.has_value());
    tickets.push_back(*started);
  }
  EXPECT_EQ(device().region_read(bar, 0, 4).error().code, errc::queue_full);
  EXPECT_EQ(device().reset().error().code, errc::queue_full);
  under.stall(false);
  for (std::uint32_t i = 0; i < tickets.size(); ++i) {
    EXPECT_EQ(finish(tickets[i]).value, i);
  }
  EXPECT_EQ(status_of(device().reset()), good);
}

TEST_P(VfioUserEcho, ADeviceThatVanishesEndsEveryOperation) {
  under.stall(true);
  const driver_memory memory{1};
  const auto reading = device().region_read(bar, 0, 4);
  const auto mapping = domain().map(memory.piece(0, 1));
  const auto area = device().map_region(bar, 0x1000, page);
  settle();
  under.vanish();
  EXPECT_EQ(status_of(reading).code, errc::device_gone);
  EXPECT_EQ(status_of(mapping).code, errc::device_gone);
  EXPECT_EQ(device().state(), transport_state::gone);
  EXPECT_FALSE(device().reason().message().empty());
  EXPECT_EQ(device().reset().error().code, errc::device_gone);
  EXPECT_EQ(device().region_post(bar, 16, bytes_of(1)).error().code, errc::device_gone);
  EXPECT_EQ(domain().unmap(memory.piece(0, 1)).error().code, errc::device_gone);
  EXPECT_TRUE(device().map_region(bar, 0x1000, page).empty());
  area[0] = std::byte{1};  // what was mapped stays valid, and means nothing any more
  EXPECT_EQ(device().advance(instant{} + seconds{1000}), never);
}

}  // namespace
}  // namespace runnel
