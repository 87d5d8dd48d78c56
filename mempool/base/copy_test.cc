// Goal: the inline copy moves every byte and none beyond. Method: all lengths up to some registers,
// from and to odd addresses.
#include "mempool/base/copy.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <numeric>
#include <span>

namespace runnel {
namespace {

TEST(CopyWarm, MovesAllLengthsAndNothingBeyond) {
  std::array<unsigned char, 400> from{};
  std::iota(from.begin(), from.end(), static_cast<unsigned char>(1));
  for (std::size_t length = 0; length < 300; ++length) {
    for (const std::size_t at : {0U, 1U, 33U}) {
      std::array<unsigned char, 400> to{};
      copy_warm(std::span<const unsigned char>{from}.subspan(at, length), to.data() + 1);
      ASSERT_EQ(to[0], 0U);
      ASSERT_TRUE(std::equal(to.begin() + 1, to.begin() + 1 + static_cast<std::ptrdiff_t>(length),
                             from.begin() + static_cast<std::ptrdiff_t>(at)))
          << length;
      ASSERT_EQ(to[length + 1], 0U) << length;
    }
  }
}

}  // namespace
}  // namespace runnel
