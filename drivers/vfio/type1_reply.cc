#include "drivers/vfio/type1_reply.h"

#include <bit>

#include "drivers/vfio/capability_chain.h"
#include "drivers/vfio/uapi/type1.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] result<> learn_ranges(const info_capability& told, type1_info& info) {
  const auto fixed = read_front<uapi::iommu_type1_info_cap_iova_range>(told.bytes);
  if (!fixed || told.version != 1) {
    return fail(errc::protocol);
  }
  info.ranges.clear();
  auto rest = told.bytes.subspan(sizeof(*fixed));
  for (std::uint32_t i = 0; i < fixed->nr_iovas; ++i) {  // ends with the reply at latest
    const auto range = read_front<uapi::type1_iova_range>(rest);
    if (!range || range->start > range->end) {
      return fail(errc::protocol);
    }
    info.ranges.push_back({.first = range->start, .last = range->end});
    rest = rest.subspan(sizeof(*range));
  }
  return {};
}

[[nodiscard]] result<> learn(const info_capability& told, type1_info& info) {
  if (told.id == uapi::iommu_caps::iova_range) {
    return learn_ranges(told, info);
  }
  if (told.id == uapi::iommu_caps::dma_avail) {
    const auto available = read_front<uapi::iommu_type1_info_dma_avail>(told.bytes);
    if (!available || told.version != 1) {
      return fail(errc::protocol);
    }
    info.maps_available = available->avail;
  }
  return {};
}

}  // namespace

result<type1_info> parse_type1_info(std::span<const std::byte> reply) {
  const auto raw = read_front<uapi::iommu_type1_info>(reply);
  if (!raw) {
    return fail(errc::protocol);
  }
  type1_info info;
  if ((raw->flags & uapi::iommu_info_flags::pgsizes) != 0) {
    if (raw->iova_pgsizes == 0) {
      return fail(errc::protocol);
    }
    info.page_bytes = std::uint64_t{1} << std::countr_zero(raw->iova_pgsizes);
  }
  const bool has_caps = (raw->flags & uapi::iommu_info_flags::caps) != 0;
  capability_chain chain{reply, sizeof(*raw), has_caps ? raw->cap_offset : 0};
  for (;;) {
    const auto capability = chain.next();
    if (!capability) {
      return std::unexpected{capability.error()};
    }
    if (!*capability) {
      return info;
    }
    if (const result<> learned = learn(**capability, info); !learned) {
      return std::unexpected{learned.error()};
    }
  }
}

}  // namespace runnel::vfio
