// Goal: each command does to the model what its specification says, and everything else is answered
// with an errno that leaves the client connected.
// Method: raw messages, one table per kind of mistake.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "drivers/vfio_user/region_info.h"
#include "drivers/vfio_user/server_testing.h"

namespace runnel::vfio_user {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): this test's own helpers
namespace uapi = vfio::uapi;

class ServerRequests : public ::testing::Test {
 protected:
  ServerRequests() { EXPECT_EQ(host.introduce().errno_value(), 0); }
  ~ServerRequests() override { EXPECT_TRUE(host.served->connected()); }  // no errno ends a client

  static bytes access_bytes(std::uint64_t offset, std::uint32_t region, std::uint32_t count) {
    return bytes_of(region_access_payload{.offset = offset, .region = region, .count = count});
  }
  message region_info(std::uint32_t index, std::uint32_t argsz) {
    uapi::region_info asked{};
    asked.argsz = argsz;
    asked.index = index;
    return host.call(command::device_get_region_info, bytes_of(asked));
  }
  message set_irqs(std::uint32_t flags, std::uint32_t index, std::uint32_t start,
                   std::uint32_t count, std::span<const int> fds = {}) {
    return host.call(
        command::device_set_irqs,
        bytes_of(uapi::irq_set{
            .argsz = 20, .flags = flags, .index = index, .start = start, .count = count}),
        fds);
  }

  hosted_model host{42};
};

TEST_F(ServerRequests, DeviceInfoCountsWhatPciRequires) {
  const message reply =
      host.call(command::device_get_info, bytes_of(device_info_payload{.argsz = 16}));
  const auto info = reply.as<device_info_payload>();
  EXPECT_EQ(reply.payload.size(), 16U);
  EXPECT_EQ(info.argsz, 16U);
  EXPECT_EQ(info.flags, 3U);
  EXPECT_EQ(info.num_regions, 9U);
  EXPECT_EQ(info.num_irqs, 5U);
}

TEST_F(ServerRequests, AreasAndDescriptorComeOnlyWhenThereIsRoomForThem) {
  const message first = region_info(0, 32);  // as QEMU asks first
  EXPECT_EQ(first.payload.size(), 32U);
  EXPECT_TRUE(first.fds.empty());
  const auto fixed = first.as<uapi::region_info>();
  EXPECT_EQ(fixed.argsz, 64U);
  EXPECT_EQ(fixed.flags,
            uapi::region_flags::read | uapi::region_flags::write | uapi::region_flags::mmap);
  EXPECT_EQ(fixed.cap_offset, 0U);
  EXPECT_EQ(fixed.size, 0x4000U);

  for (const std::uint32_t argsz : {64U, 4064U}) {  // as QEMU asks then, as SPDK asks at once
    const message all = region_info(0, argsz);
    ASSERT_EQ(all.payload.size(), 64U);
    ASSERT_EQ(all.fds.size(), 1U);
    const auto info = all.as<uapi::region_info>();
    EXPECT_EQ(info.argsz, 64U);
    EXPECT_NE(info.flags & uapi::region_flags::caps, 0U);
    EXPECT_EQ(info.cap_offset, 32U);
    const auto sparse = *read_wire<uapi::region_info_cap_sparse_mmap>(
        std::span<const std::byte>{all.payload}.subspan(32));
    EXPECT_EQ(sparse.header.id, 1U);
    EXPECT_EQ(sparse.header.version, 1U);
    EXPECT_EQ(sparse.header.next, 0U);
    EXPECT_EQ(sparse.nr_areas, 1U);
    const auto area = *read_wire<uapi::region_sparse_mmap_area>(
        std::span<const std::byte>{all.payload}.subspan(48));
    EXPECT_EQ(area.offset, 0x1000U);
    EXPECT_EQ(area.size, 0x1000U);
    // The descriptor is the model's page.
    void* const shared = ::mmap(nullptr, 0x1000, PROT_READ, MAP_SHARED, all.fds[0].get(), 0x1000);
    ASSERT_NE(shared, MAP_FAILED);
    const char mark = 'x';
    ASSERT_EQ(::pwrite(host.model.doorbells.get(), &mark, 1, 0x1004), 1);
    EXPECT_EQ(static_cast<const char*>(shared)[4], 'x');
    ::munmap(shared, 0x1000);
  }
}

TEST_F(ServerRequests, ARegionOfItsOwnComesWithItsTypeBeforeItsAreas) {
  constexpr vfio::region_type own{.type = 0x8000'8086, .subtype = 1};
  for (const bool mappable : {false, true}) {
    vfio::region_info region;
    region.flags = uapi::region_flags::read;
    region.size = 0x2000;
    region.type = own;
    if (mappable) {
      region.fd = 0;
      region.areas = {{.offset = 0x1000, .length = 0x1000}};
    }
    std::vector<std::byte> told(region_info_bytes(region));
    EXPECT_EQ(told.size(), mappable ? 80U : 48U);
    encode_region_info(region, 9, told);
    const std::span<const std::byte> bytes{told};
    EXPECT_EQ(read_wire<uapi::region_info>(bytes)->cap_offset, 32U);
    const auto type = *read_wire<uapi::region_info_cap_type>(bytes.subspan(32));
    EXPECT_EQ(type.header.id, uapi::region_caps::type);
    EXPECT_EQ(type.header.version, 1U);
    EXPECT_EQ(type.header.next, mappable ? 48U : 0U);
    EXPECT_EQ((vfio::region_type{.type = type.type, .subtype = type.subtype}), own);
    EXPECT_TRUE(!mappable || read_wire<uapi::info_cap_header>(bytes.subspan(48))->id ==
                                 uapi::region_caps::sparse_mmap);
  }
}

TEST_F(ServerRequests, AbsentRegionsAndInterruptsHaveNoSizeAndAreNoError) {
  for (const std::uint32_t index : {1U, 6U, 8U}) {
    const message reply = region_info(index, 32);
    EXPECT_EQ(reply.errno_value(), 0) << index;
    EXPECT_EQ(reply.as<uapi::region_info>().size, 0U) << index;
    EXPECT_EQ(reply.as<uapi::region_info>().index, index);
  }
  EXPECT_EQ(region_info(9, 32).errno_value(), EINVAL);
  EXPECT_EQ(region_info(~0U, 32).errno_value(), EINVAL);
  const auto ask = [&](std::uint32_t index) {
    const uapi::irq_info asked{.argsz = 16, .flags = 0, .index = index, .count = 0};
    return host.call(command::device_get_irq_info, bytes_of(asked));
  };
  EXPECT_EQ(ask(0).as<uapi::irq_info>().count, 1U);
  EXPECT_EQ(ask(3).as<uapi::irq_info>().count, 0U);
  EXPECT_EQ(ask(5).errno_value(), EINVAL);
  const auto msix = ask(2).as<uapi::irq_info>();
  EXPECT_EQ(msix.count, recording_model::vectors);
  EXPECT_EQ(msix.flags, uapi::irq_flags::eventfd);  // never NORESIZE, whatever the model says
}

TEST_F(ServerRequests, ReadsAndWritesOfEveryWidthReachTheRegisters) {
  for (const std::uint32_t width : {1U, 2U, 4U, 8U, 4096U}) {
    bytes data(width);
    for (std::uint32_t i = 0; i < width; ++i) {
      data[i] = static_cast<std::byte>(i + width);
    }
    const message written = host.call(command::region_write, access_bytes(0x20, 0, width) + data);
    EXPECT_EQ(written.payload, access_bytes(0x20, 0, width));
    const message read = host.call(command::region_read, access_bytes(0x20, 0, width));
    EXPECT_EQ(read.payload, access_bytes(0x20, 0, width) + data);
  }
  EXPECT_EQ(host.call(command::region_read, access_bytes(0x4000, 0, 0)).payload,
            access_bytes(0x4000, 0, 0));
}

TEST_F(ServerRequests, AccessesOutsideARegionNeverReachTheModel) {
  host.model.log.clear();
  struct row {
    std::uint64_t offset;
    std::uint32_t region;
    std::uint32_t count;
  };
  const std::vector<row> rows{{0x4000, 0, 1},
                              {0x3fff, 0, 2},
                              {~std::uint64_t{0}, 0, 1},
                              {~std::uint64_t{0} - 3, 0, 8},
                              {0, 1, 4},
                              {0, 8, 4},
                              {0, 9, 4},
                              {0, ~0U, 4},
                              {0, 0, 0x4001}};
  for (const row& each : rows) {
    EXPECT_EQ(host.call(command::region_read, access_bytes(each.offset, each.region, each.count))
                  .errno_value(),
              EINVAL);
    EXPECT_EQ(host.call(command::region_write,
                        access_bytes(each.offset, each.region, each.count) + bytes(each.count))
                  .errno_value(),
              EINVAL);
  }
  EXPECT_EQ(host.call(command::region_read, access_bytes(0, 0, ~0U)).errno_value(), EINVAL);
  EXPECT_EQ(host.call(command::region_read, access_bytes(0, 0, 4) + bytes(1)).errno_value(),
            EINVAL);
  EXPECT_EQ(host.call(command::region_write, access_bytes(0, 0, 4) + bytes(3)).errno_value(),
            EINVAL);
  EXPECT_EQ(host.call(command::region_write, access_bytes(0, 0, 4) + bytes(5)).errno_value(),
            EINVAL);
  EXPECT_EQ(host.call(command::region_write, access_bytes(0, 5, 4) + bytes(4)).errno_value(),
            EINVAL)
      << "region 5 is read-only";
  EXPECT_TRUE(host.model.log.empty());
}

TEST_F(ServerRequests, ShortAndStrangeMessagesAreRefusedNotFatal) {
  for (std::uint16_t number = 0; number < 24; ++number) {
    const command what{number};
    if (what == command::device_reset) {
      continue;  // empty is what it has to be
    }
    for (const std::size_t length : {0U, 1U, 7U}) {
      EXPECT_NE(host.call(what, bytes(length)).errno_value(), 0) << number << ' ' << length;
    }
  }
  EXPECT_EQ(host.call(command::device_get_info, bytes(16)).errno_value(), EINVAL);  // argsz 0
  EXPECT_EQ(region_info(0, 31).errno_value(), EINVAL);
  EXPECT_EQ(host.call(command{14}, bytes(32)).errno_value(), ENOTSUP);
  EXPECT_EQ(host.call(command::region_write_multi, bytes(32)).errno_value(), ENOTSUP);
  EXPECT_EQ(host.call(command::device_get_region_io_fds, bytes(16)).errno_value(), ENOTSUP);
  EXPECT_EQ(host.call(command::mig_data_read, bytes(8)).errno_value(), ENOTTY);
  EXPECT_EQ(host.call(command::mig_data_write, bytes(8)).errno_value(), ENOTTY);
  EXPECT_EQ(host.call(command::dma_read, bytes(16)).errno_value(), ENOTSUP);
}

TEST_F(ServerRequests, PostedCommandsAreDoneAndNeverAnswered) {
  const auto post = [&](command what, const bytes& payload) {
    host.send_bytes(hosted_model::command_bytes(7, what, payload, false));
  };
  post(command::region_write, access_bytes(8, 0, 1) + bytes(1, std::byte{99}));
  post(command::region_write, access_bytes(0, 77, 4) + bytes(4));  // refused
  post(command::region_read, access_bytes(0, 0, 4));
  post(command{99}, {});
  const message read = host.call(command::region_read, access_bytes(8, 0, 1));
  EXPECT_EQ(read.head.what, command::region_read);
  EXPECT_EQ(read.payload.back(), std::byte{99});  // the first thing that came back
}

TEST_F(ServerRequests, UnexpectedDescriptorsAreRefusedAndClosed) {
  const std::size_t before = open_descriptors();
  const unique_fd memory = make_memory(4096);
  const int fd = memory.get();
  EXPECT_EQ(host.call(command::device_reset, {}, {&fd, 1}).errno_value(), EINVAL);
  EXPECT_EQ(host.call(command::region_read, access_bytes(0, 0, 4), {&fd, 1}).errno_value(), EINVAL);
  host.call(command::device_reset);
  EXPECT_EQ(open_descriptors(), before + 1);
}

TEST_F(ServerRequests, ResetIsTheModels) {
  EXPECT_EQ(host.call(command::device_reset).errno_value(), 0);
  EXPECT_EQ(host.model.log.back(), "reset");
  host.model.answers.insert_or_assign("reset", answer::refuse(EIO));
  EXPECT_EQ(host.call(command::device_reset).errno_value(), EIO);
  EXPECT_EQ(host.call(command::device_reset, bytes(1)).errno_value(), EINVAL);
  host.model.layout.flags &= ~uapi::device_flags::reset;
  EXPECT_EQ(host.call(command::device_reset).errno_value(), EINVAL);
}

TEST_F(ServerRequests, EventfdsReachTheirVectors) {
  std::vector<unique_fd> events;
  std::vector<int> fds;
  for (int i = 0; i < 13; ++i) {  // as QEMU for twelve queues
    events.emplace_back(::eventfd(0, EFD_CLOEXEC));
    fds.push_back(events.back().get());
  }
  EXPECT_EQ(set_irqs(0x24, 2, 0, 13, fds).errno_value(), 0);
  EXPECT_EQ(set_irqs(0x24, 2, 20, 1, std::span{fds}.first(1)).errno_value(), 0);
  EXPECT_EQ(host.model.triggers.size(), 14U);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(host.model.triggers[{2U, 12U}].get(), &one, 8), 8);
  std::uint64_t count = 0;
  ASSERT_EQ(::read(fds[12], &count, 8), 8);
  EXPECT_EQ(count, 1U);

  EXPECT_EQ(set_irqs(0x24, 2, 0, 20).errno_value(), 0);  // detach more than fit one message
  EXPECT_FALSE(host.model.triggers[std::pair(2U, 12U)]);
  EXPECT_FALSE(host.model.triggers[std::pair(2U, 19U)]);
  EXPECT_TRUE(host.model.triggers[std::pair(2U, 20U)]);
  EXPECT_EQ(set_irqs(0x21, 2, 20, 1).errno_value(), 0);
  EXPECT_EQ(host.model.log.back(), "trigger 2 20 1");
  EXPECT_EQ(set_irqs(0x21, 2, 0, 0).errno_value(), 0);
  EXPECT_TRUE(host.model.triggers.empty());
  EXPECT_EQ(set_irqs(0x11, 0, 0, 1).errno_value(), 0);
  EXPECT_EQ(host.model.log.back(), "unmask 0");
  EXPECT_EQ(set_irqs(0x09, 0, 0, 1).errno_value(), 0);
  EXPECT_EQ(host.model.log.back(), "mask 0");
}

TEST_F(ServerRequests, WhatIsNotAnEventfdIsNotATrigger) {
  const unique_fd memory = make_memory(4096);
  const std::array fds{memory.get()};
  EXPECT_EQ(set_irqs(0x24, 2, 0, 1, fds).errno_value(), EINVAL);
  EXPECT_EQ(set_irqs(0x24, 2, 33, 1, fds).errno_value(), EINVAL);
  EXPECT_TRUE(host.model.triggers.empty());
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  const std::array good{event.get()};
  host.model.irq_answer = answer::refuse(EBUSY);
  EXPECT_EQ(set_irqs(0x24, 2, 0, 1, good).errno_value(), EBUSY);
  EXPECT_EQ(set_irqs(0x24, 2, 0, 20).errno_value(), EBUSY);
  EXPECT_EQ(set_irqs(0x21, 2, 0, 1).errno_value(), EBUSY);
}

TEST_F(ServerRequests, FeaturesFollowTheKernelsRules) {
  const auto ask = [&](std::uint32_t flags, std::uint32_t argsz, std::size_t data = 0) {
    return host.call(command::device_feature,
                     bytes_of(uapi::device_feature{.argsz = argsz, .flags = flags}) + bytes(data));
  };
  using namespace uapi::feature_flags;
  EXPECT_EQ(ask(1 | get, 16).errno_value(), ENOTTY);
  EXPECT_EQ(ask(1 | probe, 8).errno_value(), ENOTTY);
  EXPECT_EQ(ask(500 | get, 16).errno_value(), ENOTTY);
  EXPECT_EQ(ask(500 | get, ~0U).errno_value(), ENOTTY);  // no allocation of that size
  EXPECT_EQ(ask(1 | get | set, 16).errno_value(), EINVAL);
  EXPECT_EQ(ask(1 | get, 7).errno_value(), EINVAL);
  EXPECT_EQ(ask(1U << 20U, 8).errno_value(), EINVAL);

  host.model.layout.migration_flags = 3;
  const message got = ask(1 | get, 16);
  EXPECT_EQ(got.payload.size(), 16U);
  EXPECT_EQ(got.as<uapi::device_feature>().argsz, 16U);
  EXPECT_EQ(got.payload[8], std::byte{3});
  EXPECT_EQ(ask(1 | get, 15).errno_value(), EINVAL);
  EXPECT_EQ(ask(1 | probe | get, 8).payload.size(), 8U);
  EXPECT_EQ(ask(1 | set, 16, 8).errno_value(), EINVAL);
  EXPECT_EQ(ask(1, 16).errno_value(), EINVAL);
}

}  // namespace
}  // namespace runnel::vfio_user
