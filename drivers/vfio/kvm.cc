#include "drivers/vfio/kvm.h"

#include <cerrno>
#include <cstdint>

#include "drivers/vfio/uapi/kvm.h"

namespace runnel::vfio {

namespace {

template <class T>
[[nodiscard]] result<> set_attribute(syscalls& system, int device, std::uint64_t attribute,
                                     const T& value) noexcept {
  uapi::kvm::device_attr asked{.flags = 0,
                               .group = uapi::kvm::vfio_file,
                               .attr = attribute,
                               .addr = reinterpret_cast<std::uintptr_t>(&value)};
  const auto done = ioctl_on(system, device, uapi::kvm::ioctls::set_device_attr, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

}  // namespace

/// Nothing can be done about a failure: the machine is going, and its device with it.
void kvm_file::forget() noexcept {
  if (file_) {
    const std::int32_t file = file_.get();
    static_cast<void>(set_attribute(*system_, kvm_.get(), uapi::kvm::vfio_file_del, file));
  }
}

outcome<kvm_vfio> kvm_vfio::create(syscalls& system, int machine) {
  constexpr const char* what = "KVM's VFIO device";
  uapi::kvm::create_device asked{.type = uapi::kvm::dev_type_vfio, .fd = 0, .flags = 0};
  const auto made = ioctl_on(system, machine, uapi::kvm::ioctls::create_device, asked);
  if (!made) {
    const bool has_one = made.error() == error{errc::os, EBUSY};
    return has_one
               ? fail({errc::busy}, "make", what, "this virtual machine has one already")
               : fail(made.error(), "make", what, "is that a virtual machine, and KVM built so?");
  }
  return kvm_vfio{system, kernel_fd{system, static_cast<int>(asked.fd)}};
}

result<kvm_file> kvm_vfio::add(int file) const noexcept {
  auto kvm = system_->duplicate(device_.get());
  auto own = system_->duplicate(file);
  if (!kvm || !own) {
    return std::unexpected{kvm ? own.error() : kvm.error()};
  }
  if (const auto told =
          set_attribute(*system_, device_.get(), uapi::kvm::vfio_file_add, std::int32_t{file});
      !told) {
    return std::unexpected{told.error()};
  }
  return kvm_file{*system_, std::move(*kvm), std::move(*own)};
}

result<> kvm_vfio::set_spapr_tce(int group, int table) const noexcept {
  return set_attribute(*system_, device_.get(), uapi::kvm::vfio_group_set_spapr_tce,
                       uapi::kvm::vfio_spapr_tce{.groupfd = group, .tablefd = table});
}

}  // namespace runnel::vfio
