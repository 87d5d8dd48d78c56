#include "drivers/vfio/noiommu_domain.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "drivers/vfio/uapi/type1.h"

namespace runnel::vfio {
namespace {

constexpr std::size_t frame_bytes = 4096;
constexpr std::size_t frames_at_once = 512;

/// An entry of /proc/self/pagemap. @spec Linux Documentation/admin-guide/mm/pagemap.rst
constexpr std::uint64_t frame_of(std::uint64_t entry) noexcept {
  constexpr std::uint64_t present = std::uint64_t{1} << 63U;
  constexpr std::uint64_t frame = (std::uint64_t{1} << 55U) - 1;
  return (entry & present) != 0 ? entry & frame : 0;  // 0, too, for who may not know
}

}  // namespace

outcome<std::unique_ptr<noiommu_domain>> noiommu_domain::open(syscalls& system) {
  auto container = open_container(
      system, vfio_container, uapi::extensions::noiommu_iommu,
      "it takes no device without an IOMMU: "
      "`echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode`, as root (CAP_SYS_RAWIO)");
  if (!container) {
    return std::unexpected{std::move(container.error())};
  }
  constexpr const char* pagemap = "/proc/self/pagemap";
  auto opened = system.open(pagemap, O_RDONLY);
  if (!opened) {
    return fail(opened.error(), "open", pagemap, "where no IOMMU translates, it must be known");
  }
  return std::unique_ptr<noiommu_domain>{
      new noiommu_domain{system, std::move(*container), std::move(*opened)}};
}

result<iova> noiommu_domain::physical_address(const std::byte* page) {
  std::array<std::uint64_t, 1> entry{};
  if (const auto read = system().read_pagemap(pagemap_.get(), page, entry); !read) {
    return std::unexpected{read.error()};
  }
  const std::uint64_t frame = frame_of(entry[0]);
  return frame == 0 ? fail(errc::os, EPERM) : result<iova>{iova{frame * frame_bytes}};
}

unsigned long noiommu_domain::kind() const noexcept {
  return uapi::extensions::noiommu_iommu;
}

std::string noiommu_domain::node_of(int number) const {
  return "/dev/vfio/noiommu-" + std::to_string(number);
}

result<> noiommu_domain::ask_map(const region& memory) noexcept {
  std::array<std::uint64_t, frames_at_once> entries{};
  std::uint64_t wanted = raw(memory.first_iova()) / frame_bytes;
  for (std::size_t offset = 0; offset < memory.length; offset += frames_at_once * frame_bytes) {
    const std::size_t left = (memory.length - offset) / frame_bytes;
    const auto some = std::span{entries}.first(std::min(left, frames_at_once));
    if (const auto read = system().read_pagemap(pagemap_.get(), memory.address + offset, some);
        !read) {
      return read;
    }
    for (const std::uint64_t entry : some) {
      if (frame_of(entry) != wanted++) {
        return fail(errc::unsupported);
      }
    }
  }
  return {};
}

std::string noiommu_domain::map_hint(error what, const region& memory) const {
  return what.code == errc::unsupported
             ? "without an IOMMU memory must be one piece of physical memory: boot with "
               "hugepagesz=1G hugepages=1, or try again after a boot"
             : container_domain::map_hint(what, memory);
}

}  // namespace runnel::vfio
