// Goal: a driver cannot tell how its device is reached: what it is, its registers, configuration
// space, interrupts and resets are the same. Method: an NVMe controller of each kind, asked only
// through its transport, so that a real one can be asked too.
#include <algorithm>
#include <vector>

#include "drivers/mmio.h"
#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/conformance/suite.h"

namespace runnel::sim {
namespace {

class DeviceConformance : public Conformance {
 protected:
  /// The part of `value` that an access of `bytes` at `offset` into it is.
  [[nodiscard]] static std::uint64_t part(std::uint64_t value, std::uint64_t offset,
                                          std::uint32_t bytes) {
    const std::uint64_t shifted = value >> 8 * offset;
    return bytes == sizeof(value) ? shifted : shifted & ((std::uint64_t{1} << 8 * bytes) - 1);
  }
  /// Accesses of every size inside eight bytes.
  void expect_same_in_pieces(std::uint32_t index, std::uint64_t first) {
    const std::uint64_t whole = read(index, first, sizeof(whole));
    for (const std::uint32_t bytes : {1U, 2U, 4U}) {
      for (std::uint64_t offset = 0; offset < sizeof(whole); offset += bytes) {
        EXPECT_EQ(read(index, first + offset, bytes), part(whole, offset, bytes))
            << index << " " << first + offset << " " << bytes;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Each, DeviceConformance, testing::ValuesIn(subject_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(DeviceConformance, TellsThePartsOfAPciDeviceAndThatOthersAreAbsent) {
  EXPECT_EQ(
      device().info().flags & (vfio::uapi::device_flags::pci | vfio::uapi::device_flags::reset),
      vfio::uapi::device_flags::pci | vfio::uapi::device_flags::reset);
  EXPECT_GE(device().info().region_count, 9U);
  EXPECT_GE(device().info().irq_count, 5U);
  EXPECT_GE(device().region_at(bar).size, 0x2000U) << "registers and doorbells";
  EXPECT_GE(device().region_at(config).size, 256U);
  EXPECT_GT(device().irq_at(msix).count, 1U);
  for (const std::uint32_t absent : {1U, 6U, 8U, 1000U, ~0U}) {
    EXPECT_EQ(device().region_at(absent).size, 0U) << absent;
  }
  EXPECT_EQ(device().irq_at(~0U).count, 0U);
  EXPECT_EQ(read(config, 8, 4) >> 8, 0x010802U) << "an NVMe controller";
}

TEST_P(DeviceConformance, ConfigurationSpaceIsTheSameInPiecesOfEverySize) {
  for (std::uint64_t first = 0; first < 256; first += 8) {
    expect_same_in_pieces(config, first);
  }
  const std::uint64_t across = read(config, 1, 7);
  EXPECT_EQ(across, read(config, 0, 8) >> 8) << "on no boundary at all";
  EXPECT_NE(capability(0x11), 0U) << "MSI-X";
}

TEST_P(DeviceConformance, RegistersAreTheSameInPiecesOfEverySize) {
  EXPECT_NE(read(bar, version_at, 4), 0U);
  for (std::uint64_t first = 0; first <= version_at; first += 8) {
    expect_same_in_pieces(bar, first);
  }
  const auto all = finish(device(), device().region_read(bar, 0, 0x20));
  ASSERT_EQ(all.data.size(), 0x20U);
  std::uint64_t second = 0;
  std::memcpy(&second, all.data.data() + version_at, sizeof(second));
  EXPECT_EQ(second, read(bar, version_at, sizeof(second)));
}

TEST_P(DeviceConformance, RegistersKeepWhatIsWrittenAndPosted) {
  EXPECT_EQ(write(bar, admin_attributes_at, std::uint32_t{0x0007'0005}), good);
  EXPECT_EQ(read(bar, admin_attributes_at, 4), 0x0007'0005U);
  EXPECT_EQ(write(bar, admin_submission_at, std::uint64_t{0x12'3456'7000}), good);
  EXPECT_EQ(read(bar, admin_submission_at, 8), 0x12'3456'7000U);
  EXPECT_EQ(write(bar, admin_submission_at + 4, std::uint32_t{0x34}), good);
  EXPECT_EQ(read(bar, admin_submission_at, 8), 0x34'3456'7000U);
  const auto posted = bytes_of(std::uint32_t{0x0003'0002});
  while (!device().region_post(bar, admin_attributes_at, posted)) {
    under->turn();
  }
  EXPECT_EQ(read(bar, admin_attributes_at, 4), 0x0003'0002U) << "before a later read";
}

TEST_P(DeviceConformance, AccessesOutsideARegionAreInvalid) {
  const auto word = bytes_of(std::uint32_t{1});
  for (const std::uint32_t index : {bar, config}) {
    const std::uint64_t end = device().region_at(index).size;
    for (const std::uint64_t offset : {end - 3, end, ~std::uint64_t{0}, ~std::uint64_t{3}}) {
      EXPECT_EQ(device().region_read(index, offset, 4).error().code, errc::invalid);
      EXPECT_EQ(device().region_write(index, offset, word).error().code, errc::invalid);
      EXPECT_EQ(device().region_post(index, offset, word).error().code, errc::invalid);
    }
  }
  EXPECT_EQ(device().region_read(1, 0, 4).error().code, errc::invalid);
  EXPECT_EQ(device().region_read(bar, 0, 0).error().code, errc::invalid);
  const std::vector<std::byte> long_one(vfio::device_transport::transfer_bytes_max + 1);
  EXPECT_EQ(device().region_write(bar, 0, long_one).error().code, errc::invalid);
}

TEST_P(DeviceConformance, MappedAndByCallARegisterIsTheSame) {
  const auto& areas = device().region_at(bar).areas;
  ASSERT_FALSE(areas.empty());
  for (const vfio::region_area& area : areas) {
    const auto mapped = device().map_region(bar, area.offset, area.length);
    ASSERT_EQ(mapped.size(), area.length);
    const std::uint64_t first = area.offset == 0 ? version_at : area.offset;
    EXPECT_EQ(mmio_read<std::uint32_t>(mapped.data() + (first - area.offset)), read(bar, first, 4));
    if (area.offset == 0) {
      mmio_write(mapped.data() + admin_attributes_at, std::uint32_t{0x0009'0008});
      EXPECT_EQ(read(bar, admin_attributes_at, 4), 0x0009'0008U);
      EXPECT_EQ(write(bar, admin_attributes_at, std::uint32_t{0x0001'0001}), good);
      EXPECT_EQ(mmio_read<std::uint32_t>(mapped.data() + admin_attributes_at), 0x0001'0001U);
    }
  }
}

TEST_P(DeviceConformance, WhatIsNotOfferedIsNotMapped) {
  const std::uint64_t end = device().region_at(bar).size;
  EXPECT_TRUE(device().map_region(bar, end - page, 2 * page).empty());
  EXPECT_TRUE(device().map_region(bar, end, page).empty());
  EXPECT_TRUE(device().map_region(bar, 0, 0).empty());
  EXPECT_TRUE(device().map_region(config, 0, page).empty());
  EXPECT_TRUE(device().map_region(1, 0, page).empty());
}

TEST_P(DeviceConformance, TheKernelKeepsTheMsixTableToItself) {
  if (!is_kernel()) {
    GTEST_SKIP() << "a server may do as it likes";
  }
  const std::uint64_t table = read(config, capability(0x11) + 4, 4);
  const std::uint32_t index = static_cast<std::uint32_t>(table & 7U);
  EXPECT_EQ(read(index, table & ~std::uint64_t{7}, 8), ~std::uint64_t{0});
  EXPECT_EQ(write(index, table & ~std::uint64_t{7}, std::uint64_t{0}), good) << "and forgotten";
  EXPECT_EQ(read(index, table & ~std::uint64_t{7}, 8), ~std::uint64_t{0});
}

TEST_P(DeviceConformance, EveryVectorRaisesItsOwnEventfd) {
  const listeners ears{4};
  ASSERT_EQ(end(device().set_irqs(msix, 0, ears.fds())), good);
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(trigger(msix, i, 1), good);
    std::vector<std::uint64_t> expected(4, 0);
    expected[i] = 1;
    EXPECT_EQ(ears.heard(), expected) << i;
  }
  EXPECT_EQ(trigger(msix, 1, 2), good) << "several at once";
  EXPECT_EQ(ears.heard(), (std::vector<std::uint64_t>{0, 1, 1, 0}));
  const std::array none{-1};
  EXPECT_EQ(end(device().set_irqs(msix, 2, none)), good);
  EXPECT_EQ(trigger(msix, 0, 4), good) << "those without stay silent";
  EXPECT_EQ(ears.heard(), (std::vector<std::uint64_t>{1, 1, 0, 1}));
  EXPECT_EQ(end(device().set_irqs(msix, 0, {})), good);
  static_cast<void>(trigger(msix, 0, 4));
  EXPECT_EQ(ears.heard(), std::vector<std::uint64_t>(4, 0));
}

TEST_P(DeviceConformance, VectorsAreAddedOneByOne) {
  const listeners ears{3};
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_EQ(end(device().set_irqs(msix, i, ears.fds().subspan(i, 1))), good) << i;
    EXPECT_EQ(trigger(msix, 0, i + 1), good);
    std::vector<std::uint64_t> expected(3, 1);
    std::fill(expected.begin() + i + 1, expected.end(), 0);
    EXPECT_EQ(ears.heard(), expected);
  }
}

TEST_P(DeviceConformance, EveryInterruptThatIsThereReachesItsEventfd) {
  for (std::uint32_t index = 0; index < device().info().irq_count; ++index) {
    if (device().irq_at(index).count == 0) {
      continue;
    }
    const listeners ear{1};
    ASSERT_EQ(end(device().set_irqs(index, 0, ear.fds())), good) << index;
    EXPECT_EQ(trigger(index, 0, 1), good) << index;
    EXPECT_EQ(ear.heard().front(), 1U) << index;
    EXPECT_EQ(end(device().set_irqs(index, 0, {})), good) << index;
  }
}

TEST_P(DeviceConformance, VectorsThatAreNotThereAreInvalid) {
  const std::array two{-1, -1};
  const std::uint32_t count = device().irq_at(msix).count;
  EXPECT_EQ(end(device().set_irqs(msix, count - 1, two)).code, errc::invalid);
  EXPECT_EQ(end(device().set_irqs(intx, 0, two)).code, errc::invalid);
  EXPECT_EQ(end(device().set_irqs(99, 0, two)).code, errc::invalid);
  EXPECT_EQ(trigger(msix, count - 1, 2).code, errc::invalid);
  EXPECT_EQ(trigger(msix, ~0U, 2).code, errc::invalid);
  EXPECT_EQ(trigger(msix, 0, 0).code, errc::invalid) << "which would disable it";
  EXPECT_EQ(trigger(99, 0, 1).code, errc::invalid);
}

TEST_P(DeviceConformance, AfterAResetItIsIdleAndCanBeUsed) {
  constexpr std::uint64_t status_at = 0x1c;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(end(device().reset()), good);
    ASSERT_EQ(write(config, command_at, memory_and_master), good);
    EXPECT_EQ(read(config, command_at, 2) & memory_and_master, memory_and_master);
    EXPECT_EQ(read(bar, status_at, 4), 0U);
    EXPECT_EQ(write(bar, admin_attributes_at, std::uint32_t{0x0007'0005}), good);
  }
}

TEST_P(DeviceConformance, OnlyAKernelKeepsTheBusMasterThroughAReset) {
  EXPECT_EQ(end(device().reset()), good);
  EXPECT_EQ((read(config, command_at, 2) & 4U) != 0, is_kernel());
}

TEST_P(DeviceConformance, AbandonedOperationsFreeTheirPlaces) {
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < vfio::device_transport::operations_max; ++i) {
      const auto started = device().region_read(bar, version_at, 4);
      ASSERT_TRUE(started.has_value()) << round << " " << i;
      device().abandon(*started);
    }
    auto last = device().region_read(bar, version_at, 4);
    while (!last) {
      under->turn();
      last = device().region_read(bar, version_at, 4);
    }
    EXPECT_EQ(end(last), good) << "and all before it have arrived";
  }
}

}  // namespace
}  // namespace runnel::sim
