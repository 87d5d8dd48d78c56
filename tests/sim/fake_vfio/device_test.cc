// Goal: a device of the fake kernel does what it is told to: kinds, versions, siblings, and what is
// left when all is closed. Rules that any kernel can be asked for are in tests/sim/conformance.
// Method: bare system calls on an opened one.
#include <gtest/gtest.h>

#include <algorithm>

#include "drivers/vfio/uapi/features.h"
#include "mempool/base/unique_fd.h"
#include "tests/sim/fake_vfio/testing.h"

namespace runnel::sim {
namespace {

namespace set_flag = uapi::irq_set_flags;
constexpr std::uint64_t config = std::uint64_t{7} << 40U;
constexpr std::uint32_t msix = 2;
constexpr std::uint32_t err = 3;

struct device_user : raw_user {
  explicit device_user(const machine_options& options = {}) : raw_user{options} {
    container = open("/dev/vfio/vfio");
    group = open("/dev/vfio/12");
    EXPECT_EQ(set_container(group, container), 0);
    EXPECT_EQ(ask_value(container, uapi::ioctls::set_iommu, 3), 0);
    device = open_device(group, "0000:01:00.0");
    EXPECT_TRUE(device);
  }
  [[nodiscard]] int set_irqs(std::uint32_t index, std::uint32_t flags, std::uint32_t start,
                             std::uint32_t count, std::span<const std::int32_t> fds = {}) {
    std::vector<std::byte> bytes(sizeof(uapi::irq_set) + fds.size_bytes());
    const uapi::irq_set head{.argsz = static_cast<std::uint32_t>(bytes.size()),
                             .flags = flags,
                             .index = index,
                             .start = start,
                             .count = count};
    std::memcpy(bytes.data(), &head, sizeof(head));
    std::ranges::copy(std::as_bytes(fds), bytes.begin() + sizeof(head));
    return ask(device, uapi::ioctls::device_set_irqs, *bytes.data());
  }
  [[nodiscard]] int attach(std::uint32_t index, std::uint32_t start,
                           std::span<const std::int32_t> fds) {
    return set_irqs(index, set_flag::data_eventfd | set_flag::action_trigger, start,
                    static_cast<std::uint32_t>(fds.size()), fds);
  }
  [[nodiscard]] int feature(std::uint32_t flags, std::size_t data_bytes = 0) {
    std::vector<std::byte> bytes(sizeof(uapi::device_feature) + data_bytes);
    const uapi::device_feature head{.argsz = static_cast<std::uint32_t>(bytes.size()),
                                    .flags = flags};
    std::memcpy(bytes.data(), &head, sizeof(head));
    return ask(device, uapi::ioctls::device_feature, *bytes.data());
  }
  vfio::kernel_fd container;
  vfio::kernel_fd group;
  vfio::kernel_fd device;
};

[[nodiscard]] std::uint64_t fired(const unique_fd& eventfd) {
  std::uint64_t count = 0;
  return ::read(eventfd.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
}
[[nodiscard]] unique_fd make_eventfd() {
  return unique_fd{::eventfd(0, EFD_NONBLOCK)};
}

TEST(FakeDevice, TellsMoreOfARegionWhereThereIsRoom) {
  device_user user;
  struct {
    uapi::region_info region{
        .argsz = 31, .flags = 0, .index = 0, .cap_offset = 0, .size = 0, .offset = 0};
    uapi::info_cap_header cap{};
  } asked;
  const auto ask = [&](std::uint32_t argsz, std::uint32_t index) {
    asked.region.argsz = argsz;
    asked.region.index = index;
    return user.ask(user.device, uapi::ioctls::device_get_region_info, asked);
  };
  EXPECT_EQ(ask(31, 0), EINVAL);
  EXPECT_EQ(ask(40, 8), EINVAL) << "no VGA";
  EXPECT_EQ(ask(32, 0), 0);
  EXPECT_EQ(asked.region.argsz, 40U);
  EXPECT_EQ(asked.region.cap_offset, 0U);
  EXPECT_EQ(ask(40, 0), 0);
  EXPECT_EQ(asked.cap.id, uapi::region_caps::msix_mappable);
  EXPECT_EQ(ask(32, 1), 0);
  EXPECT_EQ(asked.region.size, 0U) << "there is no BAR1";
}

TEST(FakeDevice, ComesUpWithoutBusMasterAndReachesNothing) {
  device_user user;
  EXPECT_EQ(user.map(user.container, 0x100000, page), 0);
  const pci_function& function = *user.kernel.under.functions[0];
  EXPECT_EQ(function.command(), pci_function::command_after_open);
  EXPECT_EQ(user.kernel.dma(function, 0x100000, 8, access::read), nullptr);
  const std::array command{std::byte{0x06}, std::byte{0x01}};
  EXPECT_EQ(user.kernel.pwrite(user.device.get(), command, config + 4).value_or(0), 2U);
  EXPECT_EQ(user.kernel.dma(function, 0x100008, 8, access::write), raw_user::memory + 8);
  EXPECT_EQ(user.kernel.dma(function, 0x100000, 2 * page, access::read), nullptr);
}

TEST(FakeDevice, ItRaisesErrBesideMsix) {
  device_user user;
  const auto event = make_eventfd();
  const std::array fds{event.get()};
  EXPECT_EQ(user.attach(msix, 0, fds), 0);
  EXPECT_EQ(user.attach(err, 0, fds), 0);
  user.kernel.under.functions[0]->irqs.raise(msix, 0);
  user.kernel.under.functions[0]->irqs.raise(err, 0);
  EXPECT_EQ(fired(event), 2U);
}

TEST(FakeDevice, VectorsGrowOnlyWhereTheyAreDynamic) {
  for (const bool dynamic : {true, false}) {
    device_user user{{.functions = {{.irqs = {.dynamic_msix = dynamic}}}}};
    const auto event = make_eventfd();
    const std::array fds{event.get()};
    EXPECT_EQ(user.attach(msix, 0, fds), 0);
    EXPECT_EQ(user.attach(msix, 1, fds), dynamic ? 0 : EINVAL);
    uapi::irq_info info{.argsz = sizeof(info), .flags = 0, .index = msix, .count = 0};
    EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_get_irq_info, info), 0);
    EXPECT_EQ((info.flags & uapi::irq_flags::noresize) == 0, dynamic);
  }
}

TEST(FakeDevice, HasTheFeaturesOfItsKindAndVersion) {
  namespace flag = uapi::feature_flags;
  device_user user{{.functions = {{.has_virtual_functions = true}}}};
  const std::uint32_t token = uapi::features::pci_vf_token;
  EXPECT_EQ(user.feature(token | flag::set, 15), EINVAL);
  EXPECT_EQ(user.feature(token | flag::set, 16), 0);
  const std::uint32_t dma_buf = uapi::features::dma_buf | flag::get | flag::probe;
  EXPECT_EQ(user.feature(dma_buf), ENOTTY);
  EXPECT_EQ(device_user{{.version = 619}}.feature(dma_buf), 0);
}

TEST(FakeDevice, AHotResetTakesTheGroupsOfTheWholeSlot) {
  device_user user{{.functions = {{}, {.address = "0000:01:00.1", .group = 13}}}};
  const auto sibling = user.open("/dev/vfio/13");
  struct {
    uapi::pci_hot_reset_info info{.argsz = sizeof(info), .flags = 0, .count = 0};
    std::array<uapi::pci_dependent_device, 2> devices{};
  } told;
  EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_get_pci_hot_reset_info, told), ENOSPC);
  EXPECT_EQ(told.info.count, 2U);
  told.info.argsz = sizeof(told);
  EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_get_pci_hot_reset_info, told), 0);
  EXPECT_EQ(told.devices[1].group_id, 13U);
  struct {
    uapi::pci_hot_reset reset{.argsz = sizeof(reset) + 8, .flags = 0, .count = 1};
    std::array<std::int32_t, 2> fds{};
  } asked;
  asked.fds = {user.group.get(), sibling.get()};
  EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_pci_hot_reset, asked), EINVAL);
  asked.reset.count = 2;
  EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_pci_hot_reset, asked), 0);
  EXPECT_EQ(user.kernel.under.functions[1]->resets_done, 1);
}

TEST(FakeKernel, FailsTheCallItIsToldToAndCountsWhatIsHeld) {
  raw_user user;
  {
    device_user inner;
    const auto bar = inner.kernel.mmap(inner.device.get(), 0, page);
    ASSERT_TRUE(bar.has_value());
    EXPECT_EQ(inner.map(inner.container, 0x100000, page), 0);
    const fake_kernel::leaks all{.fds = 3, .bar_maps = 1, .pinned = page, .open_functions = 1};
    EXPECT_EQ(inner.kernel.held(), all);
    inner.kernel.munmap(*bar);
    inner.device.reset();
    inner.group.reset();
    inner.container.reset();
    EXPECT_EQ(inner.kernel.held(), fake_kernel::leaks{});
  }
  user.kernel.fails = {.call = 2, .number = EMFILE};
  EXPECT_TRUE(user.open("/dev/vfio/vfio"));
  EXPECT_EQ(user.kernel.calls, 2U) << "the close failed, and closed";
  user.kernel.fails.call = 3;
  EXPECT_EQ(errno_of(user.kernel.open("/dev/vfio/vfio", O_RDWR)), EMFILE);
  EXPECT_EQ(user.kernel.held(), fake_kernel::leaks{});
}

}  // namespace
}  // namespace runnel::sim
