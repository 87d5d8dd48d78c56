#include "drivers/vfio/region_reply.h"

#include "drivers/vfio/capability_chain.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/checked.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] bool is_mappable(const region_info& region) noexcept {
  return (region.flags & uapi::region_flags::mmap) != 0;
}

[[nodiscard]] result<> parse_sparse_areas(const info_capability& sparse, region_info& region) {
  const auto fixed = read_front<uapi::region_info_cap_sparse_mmap>(sparse.bytes);
  if (!fixed || sparse.version != 1) {
    return fail(errc::protocol);
  }
  region.areas.clear();
  auto rest = sparse.bytes.subspan(sizeof(*fixed));
  for (std::uint32_t i = 0; i < fixed->nr_areas; ++i) {  // ends with the reply at latest
    const auto area = read_front<uapi::region_sparse_mmap_area>(rest);
    if (!area || !range_within(area->offset, area->size, region.size)) {
      return fail(errc::protocol);
    }
    region.areas.push_back({.offset = area->offset, .length = area->size});
    rest = rest.subspan(sizeof(*area));
  }
  return {};
}

[[nodiscard]] result<> parse_type(const info_capability& capability, region_info& region) {
  const auto fixed = read_front<uapi::region_info_cap_type>(capability.bytes);
  if (!fixed || capability.version != 1) {
    return fail(errc::protocol);
  }
  region.type = {.type = fixed->type, .subtype = fixed->subtype};
  return {};
}

[[nodiscard]] result<> parse_capability(const info_capability& one, region_info& region) {
  switch (one.id) {
    case uapi::region_caps::sparse_mmap:
      return is_mappable(region) ? parse_sparse_areas(one, region) : result<>{};
    case uapi::region_caps::type:
      return parse_type(one, region);
    default:
      return {};
  }
}

}  // namespace

result<region_info> parse_region_info(std::span<const std::byte> reply, std::uint32_t index) {
  const auto raw = read_front<uapi::region_info>(reply);
  if (!raw || raw->argsz < sizeof(*raw) || raw->index != index) {
    return fail(errc::protocol);
  }
  region_info region;
  region.flags = raw->flags;
  region.size = raw->size;
  region.file_offset = raw->offset;
  if (is_mappable(region)) {
    region.areas.push_back({.offset = 0, .length = raw->size});
  }
  const bool has_caps = (raw->flags & uapi::region_flags::caps) != 0;
  capability_chain chain{reply, sizeof(*raw), has_caps ? raw->cap_offset : 0};
  for (;;) {
    const auto capability = chain.next();
    if (!capability) {
      return std::unexpected{capability.error()};
    }
    if (!*capability) {
      return region;
    }
    if (const result<> parsed = parse_capability(**capability, region); !parsed) {
      return std::unexpected{parsed.error()};
    }
  }
}

}  // namespace runnel::vfio
