#include "runtime/io/vfio_host.h"

#include <chrono>
#include <utility>

#include "drivers/pci/address.h"
#include "drivers/pci/device.h"
#include "drivers/vfio/cdev.h"
#include "drivers/vfio/group.h"
#include "drivers/vfio/kernel_device.h"
#include "mempool/base/check.h"
#include "runtime/io/offloaded_calls.h"

namespace runnel::io {
namespace {

constexpr std::size_t calls_at_once_max = 16;                   // they wait more than they compute
constexpr nanoseconds closing_limit = std::chrono::seconds{2};  // of devices that we closed

/// A domain that is opened when it is first needed.
template <class Domain, class... Args>
outcome<Domain*> need(std::unique_ptr<Domain>& domain, Args&&... args) {
  if (domain == nullptr) {
    auto opened = Domain::open(std::forward<Args>(args)...);
    if (!opened) {
      return std::unexpected{std::move(opened.error())};
    }
    domain = std::move(*opened);
  }
  return domain.get();
}

}  // namespace

vfio_host::vfio_host(std::span<const core_id> cores, vfio::syscalls& system, pci::file_tree files)
    : system_{&system}, files_{std::move(files)}, calls_{cores, calls_at_once_max} {}

outcome<vfio_host::access> vfio_host::open(const address& where, window& memory) {
  const auto named = pci::parse_address(where.target);
  CHECK(named.has_value());  // so is every address of that scheme
  const auto found = pci::read_device(files_, *named);
  if (!found) {
    return std::unexpected{found.error()};
  }
  const auto chosen =
      where.via ? pci::find_way(files_, *found, *where.via) : pci::find_way(files_, *found);
  if (chosen.how == pci::way::none || (chosen.how == pci::way::noiommu && !where.via)) {
    return fail({errc::unsupported}, "open", where.text, chosen.why);
  }
  // A device that we closed is busy until its reset has ended.
  static_cast<void>(calls_.wait_until_idle(closing_limit));
  auto opened = open_by(chosen, *found, memory);
  if (opened && chosen.how == pci::way::group && !where.via) {
    opened->note = "by its group, " + chosen.why;
  }
  return opened;
}

outcome<vfio_host::access> vfio_host::open_by(const pci::serving& chosen, const pci::device& which,
                                              window& memory) {
  switch (chosen.how) {
    case pci::way::group:
      return open_by_group(which, vfio_container_, vfio::type1_domain::vfio_container);
    case pci::way::compat:
      return open_by_group(which, iommufd_container_, vfio::type1_domain::iommufd_container);
    case pci::way::cdev:
      return open_by_node(which, chosen.node);
    case pci::way::noiommu:
      return open_unguarded(which, memory);
    case pci::way::none:
      break;
  }
  __builtin_unreachable();
}

outcome<vfio_host::access> vfio_host::open_by_group(const pci::device& which, container& in,
                                                    const char* path) {
  const auto domain = need(in, *system_, path);
  if (!domain) {
    return std::unexpected{domain.error()};
  }
  return begin_by_group(which, **domain);
}

outcome<vfio_host::access> vfio_host::open_unguarded(const pci::device& which, window& memory) {
  const auto domain = need(unguarded_, *system_);
  if (!domain) {
    return std::unexpected{domain.error()};
  }
  const auto refuse = [&which](error what, const char* hint) {
    return fail(what, "place memory for", pci::name_of(which.where), hint);
  };
  if (memory.kind() != page_kind::huge) {
    return refuse({errc::unsupported},
                  "without an IOMMU only huge pages stay in their place: `sysctl vm.nr_hugepages`");
  }
  const auto physical = (*domain)->physical_address(memory.memory().address);
  if (!physical) {
    return refuse(physical.error(), "root (CAP_SYS_ADMIN) may know where memory is");
  }
  if (!memory.place_at(*physical)) {
    return refuse({errc::busy}, "another device uses it already: open this one first");
  }
  auto opened = begin_by_group(which, **domain);
  if (opened) {
    opened->note = "no IOMMU: the device, or a bug, can write to all memory of this machine";
  }
  return opened;
}

outcome<vfio_host::access> vfio_host::begin_by_group(const pci::device& which,
                                                     vfio::container_domain& domain) {
  vfio::group_device device{.address = pci::to_string(which.where),
                            .group = static_cast<int>(which.group.value_or(0))};
  return begin(std::make_unique<vfio::group_opener>(domain, std::move(device)));
}

outcome<vfio_host::access> vfio_host::open_by_node(const pci::device& which,
                                                   const std::string& node) {
  const auto domain = need(address_space_, *system_);
  if (!domain) {
    return std::unexpected{domain.error()};
  }
  vfio::cdev_device device{.address = pci::to_string(which.where), .node = node};
  return begin(std::make_unique<vfio::cdev_opener>(*system_, **domain, std::move(device)));
}

outcome<vfio_host::access> vfio_host::begin(std::unique_ptr<vfio::device_opener> opener) {
  auto calls = offloaded_calls::create(calls_);
  if (!calls) {
    return fail(calls.error(), "open", opener->object(),
                "raise the limit of open files: `ulimit -n`");
  }
  auto device =
      std::make_unique<vfio::kernel_device>(*system_, std::move(*calls), std::move(opener));
  vfio::iommu_domain* const domain = &device->domain();
  return access{.transport = std::move(device), .domain = domain};
}

}  // namespace runnel::io
