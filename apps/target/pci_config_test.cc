// Goal: the configuration space behaves as PCI software expects, and survives any access.
// Method: what an operating system does when it enumerates; then every offset and width.

#include "apps/target/pci_config.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace runnel::target {
namespace {

class PciConfig : public testing::Test {
 protected:
  template <class Word>
  Word read(std::size_t offset) const {
    Word value{};
    config.read(offset, std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }
  template <class Word>
  pci_config_effects write(std::size_t offset, Word value) {
    return config.write(offset, std::as_bytes(std::span{&value, 1}));
  }
  /// Offset of a capability, 0 when the list does not hold it.
  std::size_t find(std::uint8_t id) const {
    std::size_t at = read<std::uint8_t>(0x34);
    for (int hops = 0; at != 0 && hops < 48; ++hops) {
      if (read<std::uint8_t>(at) == id) {
        return at;
      }
      at = read<std::uint8_t>(at + 1);
    }
    return 0;
  }

  pci_config config{{.vector_count = 128}};
};

TEST_F(PciConfig, IsAnNvmeController) {
  EXPECT_EQ(read<std::uint32_t>(0x08) >> 8U, 0x010802U);
  EXPECT_EQ(read<std::uint8_t>(0x0e), 0);  // an ordinary header, one function
  EXPECT_NE(read<std::uint16_t>(0x00), 0xffff);
}

TEST_F(PciConfig, BarsTellTheirSizeWhenWrittenWithOnes) {
  struct row {
    std::size_t offset;
    std::uint32_t size;
  };
  for (const row& bar : {row{0x10, 0x4000}, row{0x14, 0}, row{0x18, 0}, row{0x1c, 0},
                         row{0x20, 0x1000}, row{0x24, 0x1000}, row{0x30, 0}}) {
    write<std::uint32_t>(bar.offset, 0xffffffff);
    const auto answer = read<std::uint32_t>(bar.offset);
    EXPECT_EQ(answer == 0 ? 0 : ~answer + 1, bar.size) << bar.offset;
    write<std::uint32_t>(bar.offset, 0xfebf0000);
    EXPECT_EQ(read<std::uint32_t>(bar.offset), bar.size == 0 ? 0 : 0xfebf0000U) << bar.offset;
  }
}

TEST_F(PciConfig, ABarIsSizedByBytesToo) {
  for (std::size_t i = 0; i < 4; ++i) {
    write<std::uint8_t>(0x10 + i, 0xff);
  }
  EXPECT_EQ(read<std::uint32_t>(0x10), 0xffffc000U);
}

TEST_F(PciConfig, CapabilitiesAreFoundAndMsixTellsItsVectors) {
  EXPECT_NE(read<std::uint16_t>(0x06) & 0x10, 0);
  EXPECT_NE(find(0x01), 0U);  // power management
  EXPECT_NE(find(0x10), 0U);  // PCI Express
  const std::size_t msix = find(0x11);
  ASSERT_NE(msix, 0U);
  EXPECT_EQ((read<std::uint16_t>(msix + 2) & 0x7ff) + 1, 128);
  EXPECT_EQ(read<std::uint32_t>(msix + 4), 4U);  // table in BAR 4
  EXPECT_EQ(read<std::uint32_t>(msix + 8), 5U);  // pending bits in BAR 5
}

TEST_F(PciConfig, CommandBitsAreReportedWhenTheyChange) {
  EXPECT_FALSE(config.bus_master());
  EXPECT_TRUE(write<std::uint16_t>(0x04, 0x0006).command);
  EXPECT_TRUE(config.bus_master());
  EXPECT_FALSE(write<std::uint16_t>(0x04, 0x0006).command);
  EXPECT_FALSE(write<std::uint16_t>(0x04, 0x0007).command);  // there is no I/O space
  EXPECT_TRUE(write<std::uint8_t>(0x05, 0x04).command);
  EXPECT_TRUE(config.intx_disabled());
  EXPECT_TRUE(config.bus_master());
}

TEST_F(PciConfig, MsixIsSwitchedByItsControlWordOnly) {
  const std::size_t control = find(0x11) + 2;
  EXPECT_TRUE(write<std::uint16_t>(control, 0xc000).interrupts);
  EXPECT_TRUE(config.msix_enabled());
  EXPECT_TRUE(config.msix_masked());
  EXPECT_EQ(read<std::uint16_t>(control) & 0x7ff, 127);  // the size is not writable
  EXPECT_TRUE(write<std::uint8_t>(control + 1, 0x80).interrupts);
  EXPECT_FALSE(config.msix_masked());
}

TEST_F(PciConfig, AFunctionLevelResetIsAskedForByOneBitThatReadsAsZero) {
  const std::size_t control = find(0x10) + 8;
  EXPECT_NE(read<std::uint32_t>(find(0x10) + 4) & 1U << 28U, 0U);
  EXPECT_TRUE(write<std::uint16_t>(control, 0x8010).reset);
  EXPECT_EQ(read<std::uint16_t>(control), 0x0010);
  EXPECT_TRUE(write<std::uint8_t>(control + 1, 0x80).reset);
  EXPECT_FALSE(write<std::uint8_t>(control, 0x80).reset);
  EXPECT_TRUE(write<std::uint32_t>(control, 0x8000).reset);
  EXPECT_FALSE(write<std::uint32_t>(control, 0x80000000).reset);  // the status word's
}

TEST_F(PciConfig, ResetBringsBackTheFirstState) {
  std::array<std::byte, pci_config::bytes> before{};
  config.read(0, before);
  for (std::size_t offset = 0; offset < pci_config::bytes; offset += 4) {
    write<std::uint32_t>(offset, 0xffffffff);
  }
  config.reset();
  std::array<std::byte, pci_config::bytes> after{};
  config.read(0, after);
  EXPECT_EQ(before, after);
}

TEST_F(PciConfig, AnyAccessAnywhereLeavesIdentityAndListIntact) {
  std::mt19937 random{20260};  // fixed seed
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> bytes(random() % 9);
    for (std::byte& each : bytes) {
      each = std::byte{static_cast<std::uint8_t>(random())};
    }
    const std::size_t offset = random() % (pci_config::bytes - bytes.size() + 1);
    static_cast<void>(config.write(offset, bytes));
    config.read(offset, bytes);
  }
  EXPECT_EQ(read<std::uint32_t>(0x08) >> 8U, 0x010802U);
  EXPECT_NE(find(0x11), 0U);
  EXPECT_EQ(read<std::uint16_t>(find(0x10) + 8) & 0x8000, 0);
}

}  // namespace
}  // namespace runnel::target
