#include "drivers/vfio/lifecycle.h"

#include "drivers/vfio/uapi/cdev.h"
#include "drivers/vfio/uapi/type1.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] result<> without_value(const result<int>& done) noexcept {
  return done ? result<>{} : std::unexpected{done.error()};
}

/// Kernels before PASIDs know a shorter structure.
[[nodiscard]] result<> ask_attach(syscalls& system, int device, std::uint32_t table) noexcept {
  uapi::device_attach_iommufd_pt asked{
      .argsz = uapi::attach_iommufd_pt_bytes_min, .flags = 0, .pt_id = table, .pasid = 0};
  return without_value(ioctl_on(system, device, uapi::ioctls::device_attach_iommufd_pt, asked));
}

[[nodiscard]] result<> tell_of(int file, const kvm_vfio& kvm,
                               std::optional<kvm_file>& told) noexcept {
  auto added = kvm.add(file);
  if (!added) {
    return std::unexpected{added.error()};
  }
  told = std::move(*added);
  return {};
}

}  // namespace

result<> unbound_device::tell(const kvm_vfio& kvm) noexcept {
  return tell_of(device_.get(), kvm, told_);
}

/// Who has no token sends the structure that kernels before tokens know.
result<bound_device> unbound_device::bind(int iommufd,
                                          const std::optional<vf_token>& token) && noexcept {
  uapi::device_bind_iommufd asked{
      .argsz = token ? std::uint32_t{sizeof(asked)} : uapi::bind_iommufd_bytes_min,
      .flags = token ? uapi::bind_flag_token : 0,
      .iommufd = iommufd,
      .out_devid = 0,
      .token_uuid_ptr = token ? reinterpret_cast<std::uintptr_t>(token->data()) : 0};
  if (const auto done = ioctl_on(*system_, device_.get(), uapi::ioctls::device_bind_iommufd, asked);
      !done) {
    return std::unexpected{done.error()};
  }
  return bound_device{*system_, std::move(device_), asked.out_devid, std::move(told_)};
}

result<attached_device> bound_device::attach(std::uint32_t table) && noexcept {
  if (const auto done = ask_attach(*system_, device_.get(), table); !done) {
    return std::unexpected{done.error()};
  }
  return attached_device{*system_, std::move(device_), std::move(told_)};
}

result<> attached_device::replace(std::uint32_t table) noexcept {
  return ask_attach(*system_, fd(), table);
}

result<> attached_device::detach() noexcept {
  uapi::device_detach_iommufd_pt asked{
      .argsz = uapi::detach_iommufd_pt_bytes_min, .flags = 0, .pasid = 0};
  return without_value(ioctl_on(*system_, fd(), uapi::ioctls::device_detach_iommufd_pt, asked));
}

result<> attached_device::attach_pasid(std::uint32_t pasid, std::uint32_t table) noexcept {
  uapi::device_attach_iommufd_pt asked{
      .argsz = sizeof(asked), .flags = uapi::attach_pasid, .pt_id = table, .pasid = pasid};
  return without_value(ioctl_on(*system_, fd(), uapi::ioctls::device_attach_iommufd_pt, asked));
}

result<> attached_device::detach_pasid(std::uint32_t pasid) noexcept {
  uapi::device_detach_iommufd_pt asked{
      .argsz = sizeof(asked), .flags = uapi::detach_pasid, .pasid = pasid};
  return without_value(ioctl_on(*system_, fd(), uapi::ioctls::device_detach_iommufd_pt, asked));
}

result<bool> unbound_group::is_viable() const noexcept {
  uapi::group_status status{.argsz = sizeof(status), .flags = 0};
  const auto asked = ioctl_on(*system_, group_.get(), uapi::ioctls::group_get_status, status);
  if (!asked) {
    return std::unexpected{asked.error()};
  }
  return (status.flags & uapi::group_flags::viable) != 0;
}

result<> joined_group::tell(const kvm_vfio& kvm) noexcept {
  return tell_of(group_.get(), kvm, told_);
}

result<joined_group> unbound_group::join(int container) && noexcept {
  std::int32_t wanted = container;
  if (const auto set = ioctl_on(*system_, group_.get(), uapi::ioctls::group_set_container, wanted);
      !set) {
    return std::unexpected{set.error()};
  }
  return joined_group{*system_, std::move(group_)};
}

result<shared_group> shared_group::duplicate() const noexcept {
  auto own = system_->duplicate(group_.get());
  if (!own) {
    return std::unexpected{own.error()};
  }
  return shared_group{*system_, std::move(*own)};
}

result<attached_device> shared_group::open_device(const std::string& name) const noexcept {
  const auto fd = system_->ioctl(group_.get(), uapi::ioctls::group_get_device_fd,
                                 reinterpret_cast<std::uintptr_t>(name.c_str()));
  if (!fd) {
    return std::unexpected{fd.error()};
  }
  return attached_device{*system_, kernel_fd{*system_, *fd}};
}

}  // namespace runnel::vfio
