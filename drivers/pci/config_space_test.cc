// Goal: whatever a device says in its configuration space, walks end and give offsets inside it.
// Method: spaces of bytes, good ones, wrong ones, and one that vanishes on the way.

#include "drivers/pci/config_space.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "drivers/pci/config_file.h"
#include "mempool/base/check.h"

namespace runnel::pci {
namespace {

/// A space whose length is what the user sees of it.
class byte_space final : public config_reader {
 public:
  explicit byte_space(std::size_t bytes) : bytes_(bytes) { put(0, 2, 0x1b36); }

  void put(std::size_t offset, std::size_t count, std::uint32_t value) {
    std::memcpy(bytes_.data() + offset, &value, count);
  }
  /// A capability in the list of the header, which is then said to be there.
  void put_capability(std::uint8_t offset, std::uint8_t id, std::uint8_t next) {
    put(0x06, 2, 0x10);
    put(offset, 2, static_cast<std::uint32_t>(id | next << 8));
  }
  void put_extended(std::uint16_t offset, std::uint16_t id, std::uint16_t next) {
    put(offset, 4, id | 1U << 16U | static_cast<std::uint32_t>(next) << 20U);
  }
  void vanish_after(std::size_t reads) { reads_left_ = reads; }

  result<std::uint32_t> read(std::uint16_t offset, std::uint16_t bytes) noexcept override {
    CHECK(offset % bytes == 0);
    if (reads_left_ == 0) {
      return 0xffff'ffff >> (32 - 8 * bytes);
    }
    --reads_left_;
    if (std::size_t{offset} + bytes > bytes_.size()) {
      return fail(errc::unsupported);
    }
    std::uint32_t value = 0;
    std::memcpy(&value, bytes_.data() + offset, bytes);
    return value;
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t reads_left_ = SIZE_MAX;
};

using walk = result<std::vector<capability>> (*)(config_reader&);

TEST(ConfigSpace, CapabilitiesAreListedInTheOrderOfTheList) {
  byte_space space{256};
  space.put(0x34, 1, 0x43);  // its low bits mean nothing
  space.put_capability(0x40, 0x11, 0x82);
  space.put_capability(0x80, 0x01, 0x60);
  space.put_capability(0x60, 0x10, 0);
  space.put(0x42, 2, 0x8000 | 64);
  const auto found = list_capabilities(space);
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (std::vector<capability>{{0x11, 0x40, 0}, {0x01, 0x80, 0}, {0x10, 0x60, 0}}));
  EXPECT_EQ(msix_vectors(space, found->front()), 65U);
}

TEST(ConfigSpace, ExtendedCapabilitiesAreListedWithTheirVersions) {
  byte_space space{4096};
  EXPECT_EQ(list_extended_capabilities(space), std::vector<capability>{});
  space.put_extended(0x100, 0x0001, 0x150);
  space.put_extended(0x150, 0x0010, 0xffc);
  space.put_extended(0xffc, 0x000e, 0);
  EXPECT_EQ(list_extended_capabilities(space),
            (std::vector<capability>{{0x0001, 0x100, 1}, {0x0010, 0x150, 1}, {0x000e, 0xffc, 1}}));
}

TEST(ConfigSpace, TheLongestListsEnd) {
  byte_space space{4096};
  space.put(0x34, 1, 0x40);
  for (unsigned at = 0x40; at < 0x100; at += 4) {
    space.put_capability(static_cast<std::uint8_t>(at), 9, static_cast<std::uint8_t>(at + 4));
  }
  for (unsigned at = 0x100; at < 0x1000; at += 4) {
    space.put_extended(static_cast<std::uint16_t>(at), 11,
                       static_cast<std::uint16_t>(at + 4 == 0x1000 ? 0 : at + 4));
  }
  EXPECT_EQ(list_capabilities(space)->size(), 48U);
  EXPECT_EQ(list_extended_capabilities(space)->size(), 960U);
}

TEST(ConfigSpace, WhatIsWrongWithAListIsSaid) {
  struct row {
    const char* what;
    std::size_t bytes;
    std::function<void(byte_space&)> spoil;
    walk list;
    errc expected;
  };
  const auto first_at = [](std::uint8_t offset) {
    return [offset](byte_space& space) {
      space.put(0x06, 2, 0x10);
      space.put(0x34, 1, offset);
    };
  };
  const auto circle = [](byte_space& space) {
    space.put(0x34, 1, 0x40);
    space.put_capability(0x40, 1, 0x50);
    space.put_capability(0x50, 5, 0x40);
  };
  const auto extended = [](std::uint16_t next) {
    return [next](byte_space& space) { space.put_extended(0x100, 1, next); };
  };
  const std::vector<row> rows{
      {"a list in the header", 256, first_at(0x3c), list_capabilities, errc::protocol},
      {"a circle", 256, circle, list_capabilities, errc::protocol},
      {"a space cut off before the list", 64, first_at(0x40), list_capabilities, errc::unsupported},
      {"an empty space", 0, [](byte_space&) {}, list_capabilities, errc::unsupported},
      {"a list that points at itself", 4096, extended(0x100), list_extended_capabilities,
       errc::protocol},
      {"a list that leaves its space", 4096, extended(0x0fc), list_extended_capabilities,
       errc::protocol},
      {"all ones where the list is", 4096,
       [](byte_space& space) { space.put(0x100, 4, 0xffff'ffff); }, list_extended_capabilities,
       errc::protocol},
      {"no extended space", 256, [](byte_space&) {}, list_extended_capabilities, errc::unsupported},
  };
  for (const row& each : rows) {
    byte_space space{std::max<std::size_t>(each.bytes, 4)};
    if (each.bytes != 0) {
      each.spoil(space);
    }
    const auto found = each.list(space);
    ASSERT_FALSE(found) << each.what;
    EXPECT_EQ(found.error().code, each.expected) << each.what;
  }
}

TEST(ConfigSpace, ADeviceThatVanishesDuringTheWalkIsGone) {
  for (std::size_t reads = 0; reads < 4; ++reads) {
    byte_space space{4096};
    space.put(0x34, 1, 0x40);
    space.put_capability(0x40, 1, 0x50);
    space.put_capability(0x50, 5, 0);
    space.put_extended(0x100, 1, 0x200);
    space.vanish_after(reads);
    const auto found = list_capabilities(space);
    ASSERT_FALSE(found) << reads;
    EXPECT_EQ(found.error().code, errc::device_gone) << reads;
  }
}

TEST(ConfigSpace, AFileIsReadAsFarAsItIsShown) {
  const std::string path = testing::TempDir() + "config";
  std::ofstream{path}.write("\x36\x1b\x10\x00", 4);
  config_file space{path};
  EXPECT_EQ(space.read(0, 2), 0x1b36U);
  EXPECT_EQ(space.read(2, 1), 0x10U);
  EXPECT_EQ(space.read(4, 4), fail(errc::unsupported));
  EXPECT_EQ(config_file{path + ".none"}.read(0, 2).error().code, errc::os);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace runnel::pci
