#pragma once

#include <cstddef>
#include <cstdint>

// KVM's own device for VFIO: a virtual machine has one, and tells it of groups and nodes.
// @spec Linux 7.2 include/uapi/linux/kvm.h; Documentation/virt/kvm/devices/vfio.rst
namespace runnel::vfio::uapi::kvm {

/// KVM_*: of /dev/kvm, of a virtual machine that it made, then of a device of that.
namespace ioctls {
inline constexpr unsigned long create_vm = 0xae01;            // _IO(0xae, 0x01); of type 0
inline constexpr unsigned long create_device = 0xc00caee0;    // _IOWR(0xae, 0xe0, create_device)
inline constexpr unsigned long set_device_attr = 0x4018aee1;  // _IOW(0xae, 0xe1, device_attr)
inline constexpr unsigned long has_device_attr = 0x4018aee3;  // _IOW(0xae, 0xe3, device_attr)
}  // namespace ioctls

inline constexpr std::uint32_t dev_type_vfio = 4;
inline constexpr std::uint32_t create_device_test = 1;  // only whether it could be made

/// struct kvm_create_device
struct create_device {
  std::uint32_t type;
  std::uint32_t fd;  // out
  std::uint32_t flags;
};
static_assert(sizeof(create_device) == 12);

/// struct kvm_device_attr
struct device_attr {
  std::uint32_t flags;
  std::uint32_t group;
  std::uint64_t attr;
  std::uint64_t addr;  // points to what the attribute takes
};
static_assert(sizeof(device_attr) == 24);
static_assert(offsetof(device_attr, addr) == 16);

/// KVM_DEV_VFIO_FILE, once KVM_DEV_VFIO_GROUP, and its attributes: both take a descriptor.
inline constexpr std::uint32_t vfio_file = 1;
inline constexpr std::uint64_t vfio_file_add = 1;
inline constexpr std::uint64_t vfio_file_del = 2;
inline constexpr std::uint64_t vfio_group_set_spapr_tce = 3;

/// struct kvm_vfio_spapr_tce: which table of a Power machine translates for a group.
struct vfio_spapr_tce {
  std::int32_t groupfd;
  std::int32_t tablefd;
};
static_assert(sizeof(vfio_spapr_tce) == 8);

}  // namespace runnel::vfio::uapi::kvm
