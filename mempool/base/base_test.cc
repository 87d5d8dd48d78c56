// Goal: the shared vocabulary does what its users lean on. Method: tables of edge values; the clock
// against the system's; poisoning against the sanitizer where there is one.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <limits>
#include <string>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/poison.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel {
namespace {

constexpr std::uint64_t max64 = std::numeric_limits<std::uint64_t>::max();

bool is_open(int fd) {
  return fcntl(fd, F_GETFD) != -1;
}

TEST(Checked, SumsAndProductsThatWrapAreEmpty) {
  EXPECT_EQ(checked_add(max64 - 1, std::uint64_t{1}), max64);
  EXPECT_FALSE(checked_add(max64, std::uint64_t{1}));
  EXPECT_EQ(checked_mul(std::uint64_t{1} << 32U, std::uint64_t{1} << 31U), std::uint64_t{1} << 63U);
  EXPECT_FALSE(checked_mul(std::uint64_t{1} << 32U, std::uint64_t{1} << 32U));
  EXPECT_FALSE(checked_add(std::uint16_t{0xffff}, std::uint16_t{1}));  // in the type itself
}

TEST(Checked, RangeWithinHoldsAtTheEdgesAndNeverWraps) {
  struct {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t size;
    bool within;
  } const table[] = {{0, 0, 0, true},         {0, 1, 0, false},         {10, 0, 10, true},
                     {11, 0, 10, false},      {4, 6, 10, true},         {4, 7, 10, false},
                     {1, max64, 10, false},   {max64, 1, max64, false}, {max64 - 1, 1, max64, true},
                     {max64, 2, max64, false}};
  for (const auto& row : table) {
    EXPECT_EQ(range_within(row.offset, row.length, row.size), row.within)
        << row.offset << " + " << row.length << " in " << row.size;
  }
}

TEST(Checked, RangesOverlapOnlyWhenTheyShareAByte) {
  EXPECT_TRUE(ranges_overlap(0, 10, 9, 1));
  EXPECT_TRUE(ranges_overlap(9, 1, 0, 10));
  EXPECT_FALSE(ranges_overlap(0, 10, 10, 1));
  EXPECT_FALSE(ranges_overlap(10, 1, 0, 10));
  EXPECT_FALSE(ranges_overlap(5, 0, 0, 10));  // nothing shares nothing
  EXPECT_TRUE(ranges_overlap(max64 - 1, 1, 0, max64));
}

TEST(Bits, AlignmentAndFields) {
  EXPECT_EQ(align_up(0, 4096), 0U);
  EXPECT_EQ(align_up(1, 4096), 4096U);
  EXPECT_EQ(align_up(4096, 4096), 4096U);
  EXPECT_EQ(align_down(8191, 4096), 4096U);
  EXPECT_TRUE(is_aligned(8192, 4096));
  EXPECT_FALSE(is_aligned(8196, 4096));
  EXPECT_EQ(bit_field(0xabcd'1234U, 16, 8), 0xcdU);
  EXPECT_EQ(bit_field(max64, 0, 64), max64);
}

TEST(Units, MovingAlongKeepsTheType) {
  EXPECT_EQ(raw(iova{0x1000} + 0x10), 0x1010U);
  EXPECT_EQ(raw(lba{7} + 8), 15U);
}

TEST(Error, MessageNamesOperationObjectReasonAndRemedy) {
  const std::unexpected<failure> with_hint =
      fail({errc::os, ENOENT}, "connect", "vfio-user:/run/a.sock", "start `runnel target` first");
  EXPECT_EQ(
      with_hint.error().message(),
      "connect vfio-user:/run/a.sock: No such file or directory; start `runnel target` first");
  const std::unexpected<failure> bare = fail({errc::timed_out}, "reset", "");
  EXPECT_EQ(bare.error().message(), "reset: timed out");
}

TEST(Error, EveryCodeHasWordsOfItsOwn) {
  EXPECT_EQ(to_string({errc::ok}), "success");
  EXPECT_EQ(to_string({errc::bad_status, 0x281}), "device status 0x281");
  std::string before = to_string({errc::queue_full});
  for (auto code = std::to_underlying(errc::device_gone);
       code <= std::to_underlying(errc::not_found); ++code) {
    const std::string words = to_string({static_cast<errc>(code), 0x281});
    EXPECT_NE(words, before);
    EXPECT_FALSE(words.starts_with("error ")) << words;  // the words for a code unknown to us
    before = words;
  }
}

TEST(Error, OsErrorKeepsErrno) {
  errno = EPERM;
  EXPECT_EQ(os_error(), (error{errc::os, EPERM}));
}

TEST(Check, BrokenInvariantAbortsAndNamesItself) {
  EXPECT_DEATH(CHECK(1 + 1 == 3), "CHECK failed at .*base_test.cc:[0-9]+: 1 \\+ 1 == 3");
}

TEST(Clock, TscClockRunsWithTheSystemsClock) {
  const auto system_now = [] {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
  };
  const tsc_clock clock;
  const double outer_start = system_now();  // bracketed, so that a preemption cannot fail it
  const instant start = clock.now();
  const double inner_start = system_now();
  while (system_now() - inner_start < 20e6) {
  }
  const double inner_end = system_now();
  const auto passed = static_cast<double>((clock.now() - start).count());
  const double outer_end = system_now();
  EXPECT_GE(passed, 0.98 * (inner_end - inner_start));
  EXPECT_LE(passed, 1.02 * (outer_end - outer_start));
}

TEST(Clock, VirtualClockMovesOnlyForward) {
  virtual_clock clock;
  clock.advance_to(instant{nanoseconds{100}});
  clock.advance_to(instant{nanoseconds{50}});
  EXPECT_EQ(clock.now(), instant{nanoseconds{100}});
}

TEST(UniqueFd, ClosesOnceAndMovesOwnership) {
  unique_fd first{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  ASSERT_TRUE(first);
  const int number = first.get();
  unique_fd second{std::move(first)};
  EXPECT_EQ(second.get(), number);
  EXPECT_TRUE(is_open(number));
  second.reset();
  EXPECT_FALSE(second);
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, AssigningClosesWhatWasHeld) {
  unique_fd held{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int old = held.get();
  unique_fd next{open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int kept = next.get();
  held = std::move(next);
  EXPECT_FALSE(is_open(old));
  EXPECT_TRUE(is_open(kept));
  const int released = held.release();
  held.reset();
  EXPECT_TRUE(is_open(released));
  close(released);
}

TEST(Poison, PoisonedBytesAreReportedWhereASanitizerSeesThem) {
  alignas(64) std::array<std::byte, 128> bytes{};
  check_not_poisoned(bytes);
  poison(std::span{bytes}.last(64));
  check_not_poisoned(std::span{bytes}.first(64));
  if constexpr (poison_is_seen) {
    EXPECT_DEATH(check_not_poisoned(bytes), "CHECK failed");
  }
  unpoison(bytes);
  check_not_poisoned(bytes);
}

}  // namespace
}  // namespace runnel
