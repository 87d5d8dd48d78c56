#include "drivers/vfio_user/region_info.h"

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/check.h"

namespace runnel::vfio_user {

namespace uapi = vfio::uapi;

std::size_t region_info_bytes(const vfio::region_info& region) noexcept {
  if (!is_mappable(region)) {
    return sizeof(uapi::region_info);
  }
  return sizeof(uapi::region_info) + sizeof(uapi::region_info_cap_sparse_mmap) +
         region.areas.size() * sizeof(uapi::region_sparse_mmap_area);
}

void encode_region_info(const vfio::region_info& region, std::uint32_t index,
                        std::span<std::byte> into) noexcept {
  const std::size_t needed = region_info_bytes(region);
  const bool with_areas = needed > sizeof(uapi::region_info) && into.size() >= needed;
  CHECK(into.size() >= sizeof(uapi::region_info));
  uapi::region_info fixed{
      .argsz = static_cast<std::uint32_t>(needed),
      .flags = region.flags & (uapi::region_flags::read | uapi::region_flags::write),
      .index = index,
      .cap_offset = 0,
      .size = region.size,
      .offset = region.file_offset};
  if (is_mappable(region)) {
    fixed.flags |= uapi::region_flags::mmap;
  }
  if (with_areas) {
    fixed.flags |= uapi::region_flags::caps;
    fixed.cap_offset = sizeof(uapi::region_info);
    auto at = into.subspan(sizeof(uapi::region_info));
    write_wire(at, uapi::region_info_cap_sparse_mmap{
                       .header = {.id = uapi::region_caps::sparse_mmap, .version = 1, .next = 0},
                       .nr_areas = static_cast<std::uint32_t>(region.areas.size()),
                       .reserved = 0});
    at = at.subspan(sizeof(uapi::region_info_cap_sparse_mmap));
    for (const vfio::region_area& area : region.areas) {
      write_wire(at, uapi::region_sparse_mmap_area{.offset = area.offset, .size = area.length});
      at = at.subspan(sizeof(uapi::region_sparse_mmap_area));
    }
  }
  write_wire(into, fixed);
}

}  // namespace runnel::vfio_user
