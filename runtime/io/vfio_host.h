#pragma once

#include <memory>
#include <span>
#include <string>

#include "drivers/pci/device.h"
#include "drivers/pci/file_tree.h"
#include "drivers/pci/serving.h"
#include "drivers/vfio/container_domain.h"
#include "drivers/vfio/device_opener.h"
#include "drivers/vfio/domain.h"
#include "drivers/vfio/ioas_domain.h"
#include "drivers/vfio/noiommu_domain.h"
#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/transport.h"
#include "drivers/vfio/type1_domain.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/window.h"
#include "runtime/confinement.h"
#include "runtime/io/address.h"
#include "runtime/offload.h"

namespace runnel::io {

/// What the kernel's VFIO gives to one engine. Devices that come the same way share an address
/// space, so their memory is mapped, and counts as locked, once. It outlives the devices.
/// @context control thread
class vfio_host {
 public:
  /// @param cores   where calls that block are made
  /// @param system  the kernel; outlives this
  /// @param files   where it tells of devices
  explicit vfio_host(std::span<const core_id> cores, vfio::syscalls& system = vfio::real_syscalls(),
                     pci::file_tree files = pci::file_tree{});

  struct access {
    std::unique_ptr<vfio::device_transport> transport;  // connecting
    vfio::iommu_domain* domain = nullptr;               // part of it
    std::string note{};  // what the user should know of the way that it comes
  };
  /// Begins to open a device, the best way or the one that the address names.
  /// @param memory  what the device is to reach; where no IOMMU translates, it is placed for that
  /// @error not_found, unsupported: no way leads there, and the hint says what to do; busy, os
  [[nodiscard]] outcome<access> open(const address& where, window& memory);

  /// Confines the threads that make the calls that block. @error os
  [[nodiscard]] outcome<> confine(const confinement& how) { return calls_.confine(how); }

 private:
  using container = std::unique_ptr<vfio::type1_domain>;

  [[nodiscard]] outcome<access> open_by(const pci::serving& chosen, const pci::device& which,
                                        window& memory);
  [[nodiscard]] outcome<access> open_by_group(const pci::device& which, container& in,
                                              const char* path);
  [[nodiscard]] outcome<access> open_unguarded(const pci::device& which, window& memory);
  [[nodiscard]] outcome<access> begin_by_group(const pci::device& which,
                                               vfio::container_domain& domain);
  [[nodiscard]] outcome<access> open_by_node(const pci::device& which, const std::string& node);
  [[nodiscard]] outcome<access> begin(std::unique_ptr<vfio::device_opener> opener);

  vfio::syscalls* system_;
  pci::file_tree files_;
  container vfio_container_;  // empty until a device comes that way; so are:
  container iommufd_container_;
  std::unique_ptr<vfio::ioas_domain> address_space_;
  std::unique_ptr<vfio::noiommu_domain> unguarded_;
  offloader calls_;  // goes first: it waits for devices that are still being closed
};

}  // namespace runnel::io
