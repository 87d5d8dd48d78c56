#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/hot_reset.h"
#include "drivers/vfio/kernel_domain.h"
#include "drivers/vfio/lifecycle.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// A container and the groups in it: one address space for all their devices, of a kind that the
/// first group settles. It is there only while a group is; when the last one leaves, nothing is
/// mapped any more. The devices go before it; one that was given up keeps its group from the
/// kernel.
class container_domain : public kernel_domain {
 public:
  static constexpr const char* vfio_container = "/dev/vfio/vfio";
  static constexpr const char* iommufd_container = "/dev/iommu";  // which can be one, too

  /// Takes a group in, once more if it is in already.
  /// @param device  for whom: its address
  /// @return        the group; borrowed until `leave`
  [[nodiscard]] outcome<const shared_group*> join(int number, const std::string& device);
  void leave(int number) noexcept;
  /// It is told of groups from now on, before any of their devices is opened. It outlives this.
  void tell(const kvm_vfio& kvm) noexcept { kvm_ = &kvm; }
  /// Those that are in it; borrowed until `leave`.
  [[nodiscard]] std::vector<owned_group> groups() const;

 protected:
  container_domain(syscalls& system, kernel_fd container, std::string path) noexcept
      : kernel_domain{system, std::move(path)}, container_{std::move(container)} {}

  /// A container that knows a kind of address space.
  /// @param unknown  what to say where it does not
  [[nodiscard]] static outcome<kernel_fd> open_container(syscalls& system, const std::string& path,
                                                         unsigned long kind, std::string unknown);
  [[nodiscard]] int container() const noexcept { return container_.get(); }

 private:
  struct group {
    int number = 0;
    int users = 0;
    std::unique_ptr<shared_group> joined;
  };

  /// What its groups are given. @spec Linux VFIO_SET_IOMMU
  [[nodiscard]] virtual unsigned long kind() const noexcept = 0;
  [[nodiscard]] virtual std::string node_of(int number) const = 0;
  virtual void unmap_all() noexcept = 0;  // @pre mutex() is held

  [[nodiscard]] outcome<const shared_group*> take_in(int number, const std::string& device);
  [[nodiscard]] outcome<unbound_group> open_group(int number, const std::string& device);
  [[nodiscard]] outcome<shared_group> put_in(unbound_group opened, int number,
                                             const std::string& device);
  [[nodiscard]] outcome<> choose_kind(const std::string& device);
  [[nodiscard]] bool translates() const noexcept final { return !groups_.empty(); }

  kernel_fd container_;
  std::vector<group> groups_;
  const kvm_vfio* kvm_ = nullptr;
};

}  // namespace runnel::vfio
