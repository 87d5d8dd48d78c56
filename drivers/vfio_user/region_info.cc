#include "drivers/vfio_user/region_info.h"

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/check.h"

namespace runnel::vfio_user {

namespace uapi = vfio::uapi;

namespace {

[[nodiscard]] bool has_type(const vfio::region_info& region) noexcept {
  return region.type.type != 0;
}

[[nodiscard]] std::size_t areas_bytes(const vfio::region_info& region) noexcept {
  return sizeof(uapi::region_info_cap_sparse_mmap) +
         region.areas.size() * sizeof(uapi::region_sparse_mmap_area);
}

/// @param next  where the one behind it begins; 0: it is the last
void encode_type(const vfio::region_info& region, std::uint32_t next,
                 std::span<std::byte> into) noexcept {
  write_wire(into, uapi::region_info_cap_type{
                       .header = {.id = uapi::region_caps::type, .version = 1, .next = next},
                       .type = region.type.type,
                       .subtype = region.type.subtype});
}

void encode_areas(const vfio::region_info& region, std::span<std::byte> into) noexcept {
  write_wire(into, uapi::region_info_cap_sparse_mmap{
                       .header = {.id = uapi::region_caps::sparse_mmap, .version = 1, .next = 0},
                       .nr_areas = static_cast<std::uint32_t>(region.areas.size()),
                       .reserved = 0});
  into = into.subspan(sizeof(uapi::region_info_cap_sparse_mmap));
  for (const vfio::region_area& area : region.areas) {
    write_wire(into, uapi::region_sparse_mmap_area{.offset = area.offset, .size = area.length});
    into = into.subspan(sizeof(uapi::region_sparse_mmap_area));
  }
}

}  // namespace

std::size_t region_info_bytes(const vfio::region_info& region) noexcept {
  return sizeof(uapi::region_info) + (has_type(region) ? sizeof(uapi::region_info_cap_type) : 0) +
         (is_mappable(region) ? areas_bytes(region) : 0);
}

void encode_region_info(const vfio::region_info& region, std::uint32_t index,
                        std::span<std::byte> into) noexcept {
  const std::size_t needed = region_info_bytes(region);
  const bool with_caps = needed > sizeof(uapi::region_info) && into.size() >= needed;
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
  if (with_caps) {
    fixed.flags |= uapi::region_flags::caps;
    fixed.cap_offset = sizeof(uapi::region_info);
    std::uint32_t at = fixed.cap_offset;
    if (has_type(region)) {
      const std::uint32_t next =
          at + static_cast<std::uint32_t>(sizeof(uapi::region_info_cap_type));
      encode_type(region, is_mappable(region) ? next : 0, into.subspan(at));
      at = next;
    }
    if (is_mappable(region)) {
      encode_areas(region, into.subspan(at));
    }
  }
  write_wire(into, fixed);
}

}  // namespace runnel::vfio_user
