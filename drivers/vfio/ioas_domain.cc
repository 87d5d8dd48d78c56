#include "drivers/vfio/ioas_domain.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>
#include <vector>

#include "drivers/vfio/uapi/iommufd.h"

namespace runnel::vfio {
namespace {

namespace iommu = uapi::iommufd;

/// Ranges that an IOMMU can have; the list is asked for again when there are more.
constexpr std::uint32_t ranges_max = 1024;

[[nodiscard]] std::uint32_t flags_of(access permissions) noexcept {
  return iommu::map_flags::fixed_iova |
         (allows(permissions, access::read) ? iommu::map_flags::readable : 0) |
         (allows(permissions, access::write) ? iommu::map_flags::writeable : 0);
}

}  // namespace

outcome<std::unique_ptr<ioas_domain>> ioas_domain::open(syscalls& system) {
  constexpr const char* path = "/dev/iommu";
  auto opened = system.open(path, O_RDWR);
  if (!opened) {
    return fail(opened.error(), "open", path,
                opened.error() == error{errc::os, ENOENT}
                    ? "this kernel has no iommufd: use groups"
                    : "give yourself the file: its group or owner decides who may open it");
  }
  iommu::ioas_alloc asked{.size = sizeof(asked), .flags = 0, .out_ioas_id = 0};
  if (const auto made = ioctl_on(system, opened->get(), iommu::ioctls::ioas_alloc, asked); !made) {
    return fail(made.error(), "make an address space in", path);
  }
  return std::unique_ptr<ioas_domain>{
      new ioas_domain{system, std::move(*opened), asked.out_ioas_id}};
}

outcome<> ioas_domain::refresh() {
  std::vector<iommu::iova_range> told(1);
  iommu::ioas_iova_ranges asked{.size = sizeof(asked),
                                .ioas_id = ioas_,
                                .num_iovas = 0,
                                .reserved = 0,
                                .allowed_iovas = 0,
                                .out_iova_alignment = 0};
  result<int> done;
  do {
    told.resize(std::max<std::size_t>(told.size(), asked.num_iovas));
    asked.num_iovas = static_cast<std::uint32_t>(told.size());
    asked.allowed_iovas = reinterpret_cast<std::uintptr_t>(told.data());
    done = ioctl_on(system(), iommufd_.get(), iommu::ioctls::ioas_iova_ranges, asked);
  } while (!done && done.error() == error{errc::os, EMSGSIZE} && asked.num_iovas > told.size() &&
           asked.num_iovas <= ranges_max);
  if (!done) {
    return fail(done.error(), "ask for the ranges of", path());
  }
  told.resize(std::min<std::size_t>(told.size(), asked.num_iovas));
  std::vector<iova_range> ranges;
  ranges.reserve(told.size());
  for (const iommu::iova_range& each : told) {
    ranges.push_back({.first = each.start, .last = each.last});
  }
  const std::scoped_lock lock{mutex()};
  domain_limits limits;
  limits.maps_max = std::numeric_limits<std::uint32_t>::max();  // memory alone bounds them
  limits.page_bytes = std::max(limits.page_bytes, asked.out_iova_alignment);
  learn(std::move(ranges), limits);
  return {};
}

result<> ioas_domain::ask_map(const region& memory) noexcept {
  const std::uint32_t flags = flags_of(memory.permissions);
  if (memory.fd >= 0 && maps_files_) {
    const result<> mapped = ask_map_file(memory, flags);
    if (mapped) {
      return mapped;
    }
    maps_files_ = mapped.error() != error{errc::os, ENOTTY};
    if (maps_files_ && mapped.error() != error{errc::os, EINVAL}) {
      return mapped;
    }  // else the kernel cannot, or not with this kind of file
  }
  iommu::ioas_map asked{.size = sizeof(asked),
                        .flags = flags,
                        .ioas_id = ioas_,
                        .reserved = 0,
                        .user_va = reinterpret_cast<std::uintptr_t>(memory.address),
                        .length = memory.length,
                        .iova = raw(memory.first_iova())};
  const auto done = ioctl_on(system(), iommufd_.get(), iommu::ioctls::ioas_map, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

result<> ioas_domain::ask_map_file(const region& memory, std::uint32_t flags) noexcept {
  iommu::ioas_map_file asked{.size = sizeof(asked),
                             .flags = flags,
                             .ioas_id = ioas_,
                             .fd = memory.fd,
                             .start = memory.fd_offset,
                             .length = memory.length,
                             .iova = raw(memory.first_iova())};
  const auto done = ioctl_on(system(), iommufd_.get(), iommu::ioctls::ioas_map_file, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

result<> ioas_domain::ask_unmap(const region& memory) noexcept {
  iommu::ioas_unmap asked{.size = sizeof(asked),
                          .ioas_id = ioas_,
                          .iova = raw(memory.first_iova()),
                          .length = memory.length};
  const auto done = ioctl_on(system(), iommufd_.get(), iommu::ioctls::ioas_unmap, asked);
  if (!done) {
    return std::unexpected{done.error()};
  }
  return asked.length == memory.length ? result<>{} : fail(errc::protocol);
}

}  // namespace runnel::vfio
