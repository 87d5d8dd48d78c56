#include "drivers/vfio/type1_domain.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>

#include "drivers/vfio/info_reply.h"
#include "drivers/vfio/type1_reply.h"
#include "drivers/vfio/uapi/type1.h"

namespace runnel::vfio {
namespace {

/// What an iommufd says of the maps that it still takes.
constexpr std::uint32_t no_limit = std::numeric_limits<std::uint32_t>::max();

}  // namespace

outcome<std::unique_ptr<type1_domain>> type1_domain::open(syscalls& system, std::string path) {
  auto container =
      open_container(system, path, uapi::extensions::type1v2_iommu,
                     "it knows no IOMMU of type 1, version 2: try `modprobe vfio_iommu_type1`");
  if (!container) {
    return std::unexpected{std::move(container.error())};
  }
  return std::unique_ptr<type1_domain>{
      new type1_domain{system, std::move(*container), std::move(path)}};
}

unsigned long type1_domain::kind() const noexcept {
  return uapi::extensions::type1v2_iommu;
}

std::string type1_domain::node_of(int number) const {
  return "/dev/vfio/" + std::to_string(number);
}

/// With its last group a container loses its maps. Not soon enough where a device is still being
/// closed, which keeps the group, and not at all where an iommufd is the container.
void type1_domain::unmap_all() noexcept {
  uapi::iommu_type1_dma_unmap asked{
      .argsz = sizeof(asked), .flags = 0, .iova = 0, .size = 0 - page_bytes()};
  if (maps() != 0) {  // who should be told of a failure has left
    static_cast<void>(ioctl_on(system(), container(), uapi::ioctls::iommu_unmap_dma, asked));
  }
}

outcome<> type1_domain::refresh() {
  const uapi::iommu_type1_info asked{
      .argsz = sizeof(asked), .flags = 0, .iova_pgsizes = 0, .cap_offset = 0, .pad = 0};
  const auto reply = ask_info(system(), container(), uapi::ioctls::iommu_get_info,
                              std::as_bytes(std::span{&asked, 1}));
  auto info = reply ? parse_type1_info(*reply) : std::unexpected{reply.error()};
  if (!info) {
    return fail(info.error(), "ask for the IOMMU of", path());
  }
  const std::scoped_lock lock{mutex()};
  domain_limits limits;
  limits.page_bytes = std::max<std::uint64_t>(info->page_bytes, limits.page_bytes);
  if (info->maps_available) {
    limits.maps_max = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(std::uint64_t{*info->maps_available} + maps(), no_limit));
  }
  learn(std::move(info->ranges), limits);
  return {};
}

result<> type1_domain::ask_map(const region& memory) noexcept {
  uapi::iommu_type1_dma_map asked{.argsz = sizeof(asked),
                                  .flags = std::to_underlying(memory.permissions),  // the same bits
                                  .vaddr = reinterpret_cast<std::uintptr_t>(memory.address),
                                  .iova = raw(memory.first_iova()),
                                  .size = memory.length};
  const auto done = ioctl_on(system(), container(), uapi::ioctls::iommu_map_dma, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

result<> type1_domain::ask_unmap(const region& memory) noexcept {
  uapi::iommu_type1_dma_unmap asked{
      .argsz = sizeof(asked), .flags = 0, .iova = raw(memory.first_iova()), .size = memory.length};
  const auto done = ioctl_on(system(), container(), uapi::ioctls::iommu_unmap_dma, asked);
  if (!done) {
    return std::unexpected{done.error()};
  }
  return asked.size == memory.length ? result<>{} : fail(errc::protocol);
}

}  // namespace runnel::vfio
