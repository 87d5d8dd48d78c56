#include "drivers/vfio/region_reply.h"

#include <cstring>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/checked.h"

namespace runnel::vfio {
namespace {

/// The structure at `offset`, copied out once. @return false when it does not fit
template <class T>
[[nodiscard]] bool copy_at(std::span<const std::byte> bytes, std::uint64_t offset, T& out) {
  if (!range_within(offset, sizeof(T), bytes.size())) {
    return false;
  }
  std::memcpy(&out, bytes.data() + offset, sizeof(T));
  return true;
}

[[nodiscard]] result<> parse_sparse_areas(std::span<const std::byte> reply, std::uint64_t offset,
                                          region_info& region) {
  uapi::region_info_cap_sparse_mmap sparse{};
  if (!copy_at(reply, offset, sparse) || sparse.header.version != 1) {
    return fail(errc::protocol);
  }
  region.areas.clear();
  offset += sizeof(sparse);
  for (std::uint32_t i = 0; i < sparse.nr_areas; ++i) {  // ends at the end of the reply at latest
    uapi::region_sparse_mmap_area area{};
    if (!copy_at(reply, offset, area) || !range_within(area.offset, area.size, region.size)) {
      return fail(errc::protocol);
    }
    region.areas.push_back({.offset = area.offset, .length = area.size});
    offset += sizeof(area);
  }
  return {};
}

/// Capabilities follow one another: an offset that does not grow would walk in circles.
[[nodiscard]] result<> parse_capabilities(std::span<const std::byte> reply, std::uint32_t offset,
                                          region_info& region) {
  std::uint64_t end_of_previous = sizeof(uapi::region_info);
  while (offset != 0) {
    uapi::info_cap_header header{};
    if (offset < end_of_previous || !copy_at(reply, offset, header)) {
      return fail(errc::protocol);
    }
    if (header.id == uapi::region_caps::sparse_mmap) {
      if (const result<> parsed = parse_sparse_areas(reply, offset, region); !parsed) {
        return parsed;
      }
    }
    end_of_previous = std::uint64_t{offset} + sizeof(header);
    offset = header.next;
  }
  return {};
}

}  // namespace

result<region_info> parse_region_info(std::span<const std::byte> reply, std::uint32_t index) {
  uapi::region_info raw{};
  if (!copy_at(reply, 0, raw) || raw.argsz < sizeof(raw) || raw.index != index) {
    return fail(errc::protocol);
  }
  region_info region;
  region.flags = raw.flags;
  region.size = raw.size;
  region.file_offset = raw.offset;
  if ((raw.flags & uapi::region_flags::mmap) == 0) {
    return region;
  }
  region.areas.push_back({.offset = 0, .length = raw.size});
  if ((raw.flags & uapi::region_flags::caps) != 0) {
    if (const result<> parsed = parse_capabilities(reply, raw.cap_offset, region); !parsed) {
      return std::unexpected{parsed.error()};
    }
  }
  return region;
}

}  // namespace runnel::vfio
