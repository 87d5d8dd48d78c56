// Goal: a chain of capabilities is walked to its end or found broken, whatever its links say.
// Method: chains put together link by link, good ones and one broken in each way.
#include "drivers/vfio/capability_chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"

namespace runnel::vfio {
namespace {

constexpr std::size_t fixed = 24;

/// A reply of `bytes` with these links, each where the one before it (or `first`) says.
struct link {
  std::uint32_t at;
  std::uint16_t id;
  std::uint32_t next;
};
std::vector<std::byte> reply_of(std::size_t bytes, const std::vector<link>& links) {
  std::vector<std::byte> reply(bytes);
  for (const link& each : links) {
    const uapi::info_cap_header header{.id = each.id, .version = 1, .next = each.next};
    std::memcpy(reply.data() + each.at, &header, sizeof(header));
  }
  return reply;
}

struct walked {
  std::vector<std::uint16_t> ids;
  bool whole = false;
};
walked walk(std::span<const std::byte> reply, std::uint32_t first) {
  capability_chain chain{reply, fixed, first};
  walked seen;
  for (;;) {
    const auto capability = chain.next();
    if (!capability) {
      EXPECT_EQ(capability.error().code, errc::protocol);
      EXPECT_FALSE(chain.next().has_value()) << "a broken chain stays broken";
      return seen;
    }
    if (!*capability) {
      seen.whole = true;
      return seen;
    }
    seen.ids.push_back((*capability)->id);
  }
}

TEST(CapabilityChain, IsWalkedInItsOrder) {
  const auto reply = reply_of(64, {{24, 7, 40}, {40, 9, 56}, {56, 7, 0}});
  const walked seen = walk(reply, 24);
  EXPECT_TRUE(seen.whole);
  EXPECT_EQ(seen.ids, (std::vector<std::uint16_t>{7, 9, 7}));
}

TEST(CapabilityChain, WithoutAFirstOneHasNone) {
  const walked seen = walk(reply_of(64, {{24, 7, 0}}), 0);
  EXPECT_TRUE(seen.whole);
  EXPECT_TRUE(seen.ids.empty());
}

TEST(CapabilityChain, ACapabilityHasEverythingUpToTheEndOfTheReply) {
  const auto reply = reply_of(64, {{24, 7, 40}, {40, 9, 0}});
  capability_chain chain{reply, fixed, 24};
  EXPECT_EQ((*chain.next())->bytes.size(), 40U);
  EXPECT_EQ((*chain.next())->bytes.size(), 24U);
}

TEST(CapabilityChain, EveryBrokenLinkEndsTheWalk) {
  struct broken {
    const char* what;
    std::uint32_t first;
    std::uint32_t next;  // of the capability at 24
    std::size_t seen;
  };
  for (const broken& each :
       {broken{"into the structure", 16, 0, 0}, broken{"at the end of the reply", 64, 0, 0},
        broken{"half outside", 60, 0, 0}, broken{"far outside", ~0U, 0, 0},
        broken{"to itself", 24, 24, 1}, broken{"backwards", 24, 8, 1},
        broken{"into its own header", 24, 28, 1}, broken{"outside, later", 24, 57, 1},
        broken{"wrapping around", 24, ~0U - 3, 1}}) {
    const walked seen = walk(reply_of(64, {{24, 7, each.next}}), each.first);
    EXPECT_FALSE(seen.whole) << each.what;
    EXPECT_EQ(seen.ids.size(), each.seen) << each.what;
  }
}

}  // namespace
}  // namespace runnel::vfio
