#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/kernel_domain.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// A function of a group and the driver that has it; empty: none.
struct group_member {
  std::string address;
  std::string driver;
};

/// A container with a type1 IOMMU (version 2) and the groups in it: one address space for all their
/// devices. It has a translation only while a group is in it; when the last one leaves, nothing is
/// mapped any more. The devices go before it.
///
/// @spec Linux VFIO_TYPE1v2_IOMMU
class type1_domain final : public kernel_domain {
 public:
  static constexpr const char* vfio_container = "/dev/vfio/vfio";
  static constexpr const char* iommufd_container = "/dev/iommu";  // which can be one, too

  [[nodiscard]] static outcome<std::unique_ptr<type1_domain>> open(
      syscalls& system, std::string container = vfio_container);

  ~type1_domain() override;  // @pre no group is in it

  /// Takes a group in, once more if it is in already.
  /// @param device  for whom: its address
  /// @param members of the group, to be named when it is not viable
  /// @return        the group's descriptor; borrowed until `leave`
  [[nodiscard]] outcome<int> join(int group, const std::string& device,
                                  std::span<const group_member> members);
  void leave(int group) noexcept;
  [[nodiscard]] outcome<> refresh() override;

 private:
  struct group {
    int number = 0;
    int users = 0;
    kernel_fd fd;
  };

  type1_domain(syscalls& system, kernel_fd container, std::string path) noexcept
      : kernel_domain{system, std::move(path)}, container_{std::move(container)} {}
  [[nodiscard]] outcome<> agree();
  [[nodiscard]] outcome<kernel_fd> open_group(int number, const std::string& device);
  [[nodiscard]] outcome<> check_viable(const kernel_fd& opened, int number,
                                       const std::string& device,
                                       std::span<const group_member> members);
  [[nodiscard]] outcome<> put_in(const kernel_fd& opened, int number, const std::string& device);
  void unmap_all() noexcept;
  [[nodiscard]] bool translates() const noexcept override { return !groups_.empty(); }
  [[nodiscard]] result<> ask_map(const region& memory) noexcept override;
  [[nodiscard]] result<> ask_unmap(const region& memory) noexcept override;

  kernel_fd container_;
  std::vector<group> groups_;
};

}  // namespace runnel::vfio
