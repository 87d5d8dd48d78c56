// Goal: the fake kernel's groups and containers do what they are told to: other computers, versions
// and limits. Rules that any kernel can be asked for are in tests/sim/conformance. Method: bare
// system calls; what is expected was measured on kernels.
#include <gtest/gtest.h>

#include "tests/sim/fake_vfio/testing.h"

namespace runnel::sim {
namespace {

/// One group in a running container.
struct type1_user : raw_user {
  explicit type1_user(const machine_options& options = {}) : raw_user{options} {
    container = open("/dev/vfio/vfio");
    group = open("/dev/vfio/12");
    EXPECT_EQ(set_container(group, container), 0);
    EXPECT_EQ(ask_value(container, uapi::ioctls::set_iommu, uapi::extensions::type1v2_iommu), 0);
  }
  vfio::kernel_fd container;
  vfio::kernel_fd group;
};

TEST(FakeGroup, ASiblingOnAHostDriverMakesItNotViable) {
  raw_user user{{.functions = {{}, {.address = "0000:01:00.1", .driver = "nvme"}}}};
  const auto container = user.open("/dev/vfio/vfio");
  const auto group = user.open("/dev/vfio/12");
  uapi::group_status status{.argsz = sizeof(status), .flags = ~0U};
  EXPECT_EQ(user.ask(group, uapi::ioctls::group_get_status, status), 0);
  EXPECT_EQ(status.flags, 0U);
  EXPECT_EQ(user.set_container(group, container), EPERM);
}

TEST(FakeGroup, IsOpenedOnceUntilTheLastOfItsDevicesIsClosed) {
  type1_user user;
  EXPECT_EQ(errno_of(user.kernel.open("/dev/vfio/12", O_RDWR)), EBUSY);
  EXPECT_EQ(errno_of(user.kernel.open("/dev/vfio/13", O_RDWR)), ENOENT);
  auto device = user.open_device(user.group, "0000:01:00.0");
  ASSERT_TRUE(device);
  EXPECT_EQ(user.ask_value(user.group, uapi::ioctls::group_unset_container, 0), EBUSY);
  user.group.reset();
  EXPECT_EQ(errno_of(user.kernel.open("/dev/vfio/12", O_RDWR)), EBUSY) << "its device keeps it";
  device.reset();
  EXPECT_EQ(errno_of(user.kernel.open("/dev/vfio/12", O_RDWR)), 0);
}

TEST(FakeGroup, AVirtualFunctionTakesItsToken) {
  type1_user user{{.functions = {{.token = "123"}}}};
  EXPECT_FALSE(user.open_device(user.group, "0000:01:00.0"));
  EXPECT_TRUE(user.open_device(user.group, "0000:01:00.0 vf_token=123"));
}

TEST(FakeContainer, TakesSoManyMapsAndNotOneMore) {
  type1_user user{{.maps_max = 2}};
  EXPECT_EQ(user.map(user.container, 0x100000, page), 0);
  EXPECT_EQ(user.map(user.container, 0x200000, page), 0);
  EXPECT_EQ(user.map(user.container, 0x300000, page), ENOSPC);
}

TEST(FakeContainer, MemoryBeyondTheLimitIsRefusedAndComesBackWithTheContainer) {
  type1_user user{{.memlock = 3 * page}};
  EXPECT_EQ(user.map(user.container, 0x100000, 2 * page), 0);
  EXPECT_EQ(user.map(user.container, 0x200000, 2 * page), ENOMEM);
  EXPECT_EQ(user.kernel.held().pinned, 2 * page);
  user.group.reset();
  user.container.reset();
  EXPECT_EQ(user.kernel.held(), fake_kernel::leaks{});
}

TEST(FakeContainer, AGroupThatReachesLessNarrowsTheRangesOrStaysOutside) {
  type1_user user{
      {.functions = {{}, {.address = "0000:02:00.0", .group = 13, .address_bits = 39}}}};
  const std::uint64_t high = std::uint64_t{1} << 40U;
  EXPECT_EQ(user.map(user.container, high, page), 0);
  const auto other = user.open("/dev/vfio/13");
  EXPECT_EQ(user.set_container(other, user.container), EINVAL);
  std::uint64_t bytes = page;
  EXPECT_EQ(user.unmap(user.container, high, bytes), 0);
  EXPECT_EQ(user.set_container(other, user.container), 0);
  EXPECT_EQ(user.map(user.container, high, page), EINVAL);
}

TEST(FakeContainer, TellsWhatTheKernelsVersionKnows) {
  struct kernel {
    unsigned version;
    std::uint32_t bytes;  // that the whole answer takes
  };
  for (const kernel& each : {kernel{503, 24}, kernel{504, 72}, kernel{510, 84}}) {
    type1_user user{{.version = each.version}};
    uapi::iommu_type1_info info{
        .argsz = sizeof(info), .flags = 0, .iova_pgsizes = 0, .cap_offset = 0, .pad = 0};
    EXPECT_EQ(user.ask(user.container, uapi::ioctls::iommu_get_info, info), 0);
    EXPECT_EQ(info.argsz, each.bytes) << each.version;
    EXPECT_EQ(info.cap_offset, 0U) << "there was no room";
  }
}

TEST(FakeIommu, IsAContainerWhoseRangesNarrowWithTheDevice) {
  raw_user user;
  auto container = user.open("/dev/iommu");
  auto group = user.open("/dev/vfio/12");
  EXPECT_EQ(user.set_container(group, container), 0);
  EXPECT_EQ(user.ask_value(container, uapi::ioctls::set_iommu, 3), 0);
  const auto extension = [&](std::uintptr_t number) {
    return user.kernel.ioctl(container.get(), uapi::ioctls::check_extension, number).value_or(-1);
  };
  EXPECT_EQ(extension(uapi::extensions::type1v2_iommu), 1);
  EXPECT_EQ(extension(uapi::extensions::update_vaddr), 0);
  EXPECT_EQ(user.map(container, 0xfee00000, page), 0) << "nothing is attached yet";
  std::uint64_t bytes = page;
  EXPECT_EQ(user.unmap(container, 0xfee00000, bytes), 0);
  auto device = user.open_device(group, "0000:01:00.0");
  ASSERT_TRUE(device);
  EXPECT_EQ(user.map(container, 0xfee00000, page), EINVAL);
  EXPECT_EQ(user.map(container, 0x100000, page), 0);
}

}  // namespace
}  // namespace runnel::sim
