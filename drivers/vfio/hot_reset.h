#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

// A hot reset is one of the bus: it takes all functions behind a bridge, so the kernel wants it
// proven that all of them are its user's.
namespace runnel::vfio {

/// A function that goes along.
struct hot_reset_function {
  std::string address;            // "0000:01:00.1"
  std::uint32_t group_or_id = 0;  // its group; or what iommufd says of it, see uapi::pci_devid_*
};

/// @spec struct vfio_pci_hot_reset_info
struct hot_reset_info {
  bool by_iommufd = false;  // since 6.6, of devices that were opened by their nodes
  bool owned = false;       // all are ours, says an iommufd
  std::vector<hot_reset_function> functions;
};

/// Most functions behind a bridge that are looked at.
inline constexpr std::size_t hot_reset_functions_max = 512;

/// @error protocol
[[nodiscard]] result<hot_reset_info> parse_hot_reset_info(std::span<const std::byte> reply);

/// A group that this process has open.
struct owned_group {
  int number = 0;
  int fd = -1;  // borrowed
};

/// What proves to the kernel that all functions are ours: the descriptor of each of their groups;
/// none where an iommufd knows.
/// @error busy: names one that is not
[[nodiscard]] outcome<std::vector<std::int32_t>> plan_hot_reset(const hot_reset_info& told,
                                                                std::span<const owned_group> ours,
                                                                const std::string& object);

/// @error   unsupported (nothing above the device can), busy (see `plan_hot_reset`), os, protocol
/// @context blocks
[[nodiscard]] outcome<> do_hot_reset(syscalls& system, int device,
                                     std::span<const owned_group> ours, const std::string& object);

}  // namespace runnel::vfio
