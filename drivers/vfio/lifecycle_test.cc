// Goal: a device comes up in the kernel's order and in no other, reaches what it is attached to,
// and KVM knows of it in time and no longer. Method: the fake kernel; wrong orders do not compile.
#include "drivers/vfio/lifecycle.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <concepts>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "drivers/vfio/uapi/kvm.h"
#include "tests/sim/fake_vfio/cdev_rig.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/group_rig.h"
#include "tests/sim/fake_vfio/testing.h"

namespace runnel::vfio {
namespace {

using sim::cdev_rig;
using sim::dma_memory;
using sim::fake_kernel;
using sim::good;
using sim::group_rig;
using sim::page;

// What a state does not offer is not there, and a step spends the state that it is made of.
template <class T>
concept can_bind = requires(T state) { std::move(state).bind(0, std::nullopt); };
template <class T>
concept can_attach = requires(T state) { std::move(state).attach(0U); };
template <class T>
concept keeps_and_binds = requires(T& state) { state.bind(0, std::nullopt); };
template <class T>
concept keeps_and_attaches = requires(T& state) { state.attach(0U); };
template <class T>
concept can_be_told = requires(T state, const kvm_vfio& kvm) { state.tell(kvm); };
template <class T>
concept opens_devices = requires(T state) { state.open_device(""); };
static_assert(can_bind<unbound_device> && !can_bind<bound_device> && !can_bind<attached_device>);
static_assert(can_attach<bound_device> && !can_attach<unbound_device>);
static_assert(can_be_told<unbound_device> && can_be_told<joined_group>);
static_assert(!can_be_told<bound_device> && !can_be_told<attached_device>);
static_assert(!can_be_told<shared_group>);
static_assert(opens_devices<shared_group> && !opens_devices<joined_group>);
static_assert(!keeps_and_binds<unbound_device> && !keeps_and_attaches<bound_device>);
static_assert(!std::copyable<unbound_device> && !std::copyable<bound_device>);

[[nodiscard]] kernel_fd open(fake_kernel& kernel, const char* path) {
  auto opened = kernel.open(path, O_RDWR);
  EXPECT_TRUE(opened.has_value()) << path;
  return std::move(*opened);
}
[[nodiscard]] unbound_device open_node(cdev_rig& on) {
  return {on.kernel, open(on.kernel, "/dev/vfio/devices/vfio0")};
}
[[nodiscard]] attached_device attach(cdev_rig& on) {
  auto bound = open_node(on).bind(on.domain->iommufd(), std::nullopt);
  EXPECT_TRUE(bound.has_value());
  auto attached = std::move(*bound).attach(on.domain->ioas());
  EXPECT_TRUE(attached.has_value());
  return std::move(*attached);
}
[[nodiscard]] kernel_fd make_machine(fake_kernel& kernel) {
  const kernel_fd kvm = open(kernel, "/dev/kvm");
  const auto made = kernel.ioctl(kvm.get(), uapi::kvm::ioctls::create_vm, 0);
  EXPECT_TRUE(made.has_value());
  return {kernel, *made};
}
[[nodiscard]] kvm_vfio make_kvm(fake_kernel& kernel) {
  auto made = kvm_vfio::create(kernel, make_machine(kernel).get());
  EXPECT_TRUE(made.has_value()) << made.error().message();
  return std::move(*made);
}

/// Whether the device finds memory at a bus address.
[[nodiscard]] bool reaches(cdev_rig& on, std::uint64_t address) {
  const auto command = std::array{std::byte{6}, std::byte{0}};
  static_cast<void>(on.function().write(7, sim::pci_function::command_at, command));
  return on.kernel.dma(on.function(), address, page, access::read) != nullptr;
}

TEST(Lifecycle, ADeviceReachesWhatItIsAttachedToAndNothingElse) {
  cdev_rig on;
  dma_memory memory;
  const auto other = *ioas_domain::open(on.kernel);
  auto bound = open_node(on).bind(on.domain->iommufd(), std::nullopt);
  ASSERT_TRUE(bound.has_value());
  EXPECT_NE(bound->id(), 0U);
  ASSERT_TRUE(on.domain->map(memory.piece(0, 1)).has_value());
  EXPECT_FALSE(reaches(on, dma_memory::bus)) << "bound, not attached";
  auto device = std::move(*bound).attach(on.domain->ioas());
  ASSERT_TRUE(device.has_value());
  EXPECT_TRUE(reaches(on, dma_memory::bus));
  EXPECT_TRUE(device->detach().has_value());
  EXPECT_FALSE(reaches(on, dma_memory::bus));
}

TEST(Lifecycle, AnotherAddressSpaceTakesThePlaceOfTheFirstOrNothingChanges) {
  cdev_rig on;
  dma_memory memory;
  uapi::iommufd::ioas_alloc second{.size = sizeof(second), .flags = 0, .out_ioas_id = 0};
  ASSERT_TRUE(ioctl_on(on.kernel, on.domain->iommufd(), uapi::iommufd::ioctls::ioas_alloc, second));
  attached_device device = attach(on);
  ASSERT_TRUE(on.domain->map(memory.piece(0, 1)).has_value());
  constexpr std::uint32_t no_table = 77;
  EXPECT_EQ(device.replace(no_table).error(), (error{errc::os, ENOENT}));
  EXPECT_TRUE(reaches(on, dma_memory::bus));
  ASSERT_TRUE(device.replace(second.out_ioas_id).has_value());
  EXPECT_FALSE(reaches(on, dma_memory::bus));
  ASSERT_TRUE(device.replace(on.domain->ioas()).has_value());
  EXPECT_TRUE(reaches(on, dma_memory::bus));
}

TEST(Lifecycle, SeveralAddressSpacesAtATimeAreForDevicesThatKnowThem) {
  constexpr std::uint32_t pasid = 5;
  for (const auto& [version, pasids, expected] :
       {std::tuple{612U, true, EINVAL}, {615U, false, EOPNOTSUPP}, {615U, true, 0}}) {
    cdev_rig on{{.functions = {{.pasids = pasids}}, .version = version}};
    attached_device device = attach(on);
    const auto done = device.attach_pasid(pasid, on.domain->ioas());
    EXPECT_EQ(sim::errno_of(done), expected) << version;
    EXPECT_EQ(on.function().pasids.contains(pasid), expected == 0);
    EXPECT_EQ(sim::errno_of(device.detach_pasid(pasid)), version < 615 ? EINVAL : 0);
    EXPECT_TRUE(on.function().pasids.empty());
  }
}

TEST(Lifecycle, OfADeviceOfAGroupTheIommuIsTheGroups) {
  group_rig on;
  const auto group = on.domain->join(on.function().options.group, on.function().options.address);
  ASSERT_TRUE(group.has_value());
  auto device = (*group)->open_device(on.function().options.address);
  ASSERT_TRUE(device.has_value());
  EXPECT_EQ(sim::errno_of(device->replace(1)), ENOTTY);
  EXPECT_EQ(sim::errno_of(device->detach()), ENOTTY);
  EXPECT_EQ(sim::errno_of(device->attach_pasid(1, 1)), ENOTTY);
  *device = {};
  on.domain->leave(on.function().options.group);
}

TEST(Kvm, AMachineHasOneSuchDevice) {
  fake_kernel kernel;
  const kernel_fd machine = make_machine(kernel);
  {
    const auto first = kvm_vfio::create(kernel, machine.get());
    ASSERT_TRUE(first.has_value());
    const auto second = kvm_vfio::create(kernel, machine.get());
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().message(),
              "make KVM's VFIO device: in use; this virtual machine has one already");
  }
  EXPECT_TRUE(kvm_vfio::create(kernel, machine.get()).has_value()) << "it goes with the last user";
}

TEST(Kvm, AFileIsKnownOnceAndForgottenWithItsOwner) {
  cdev_rig on;
  const kvm_vfio kvm = make_kvm(on.kernel);
  const kernel_fd node = open(on.kernel, "/dev/vfio/devices/vfio0");
  {
    const auto known = kvm.add(node.get());
    ASSERT_TRUE(known.has_value());
    EXPECT_EQ(kvm.add(node.get()).error(), (error{errc::os, EEXIST}));
  }
  EXPECT_TRUE(kvm.add(node.get()).has_value());
  EXPECT_EQ(kvm.add(on.domain->iommufd()).error(), (error{errc::os, EINVAL})) << "no device";
  EXPECT_EQ(kvm.set_spapr_tce(node.get(), 0).error(), (error{errc::os, ENXIO})) << "Power's";
}

TEST(Kvm, KnowsADeviceFromBeforeItIsBoundUntilItIsClosed) {
  cdev_rig on;
  const kvm_vfio kvm = make_kvm(on.kernel);
  const auto& is = on.function().options;
  auto device = std::make_unique<kernel_device>(
      on.kernel, std::make_unique<sim::deferred_calls>(on.calls),
      std::make_unique<cdev_opener>(
          on.kernel, *on.domain,
          cdev_device{.address = is.address, .node = "/dev/vfio/devices/" + is.node}, &kvm));
  on.calls.at_once = false;
  device->advance(on.now);
  EXPECT_EQ(on.kernel.under.known_to_kvm, 1) << "not opened yet";
  on.calls.run_all();
  device->advance(on.now);
  ASSERT_EQ(device->state(), transport_state::ready);
  device.reset();
  EXPECT_EQ(on.kernel.under.known_to_kvm, 1) << "being closed";
  on.calls.run_all();
  EXPECT_EQ(on.kernel.under.known_to_kvm, 0);
}

TEST(Kvm, KnowsAGroupAsLongAsAnyOfItsDevicesIsOpen) {
  group_rig on{{.functions = {{}, {.address = "0000:01:00.1", .node = "vfio1"}}}};
  const kvm_vfio kvm = make_kvm(on.kernel);
  on.domain->tell(kvm);
  auto first = on.open(0);
  auto second = on.open(1);
  ASSERT_EQ(second->state(), transport_state::ready);
  EXPECT_EQ(on.kernel.under.known_to_kvm, 1) << "the group of both";
  first.reset();
  EXPECT_EQ(on.kernel.under.known_to_kvm, 1);
  second.reset();
  EXPECT_EQ(on.kernel.under.known_to_kvm, 0);
}

}  // namespace
}  // namespace runnel::vfio
