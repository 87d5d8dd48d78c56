#include "drivers/vfio_user/feature.h"

#include <array>
#include <bit>
#include <cerrno>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel::vfio_user {
namespace {

namespace ops = vfio::uapi::feature_flags;

/// What every handler gets.
struct feature_call {
  device_model& model;
  const device_layout& layout;
  request_id id;
  std::uint32_t flags;
  std::span<std::byte> data;
};

bool valid_page_bytes(std::uint64_t bytes) noexcept {
  return bytes >= 4 * kib && std::has_single_bit(bytes);
}

answer migration(const feature_call& call) {
  if (const auto early =
          check_feature(call.flags, call.data.size(), ops::get, sizeof(feature_migration))) {
    return *early;
  }
  write_wire(call.data, feature_migration{.flags = call.layout.migration_flags});
  return answer::ok();
}

answer device_state(const feature_call& call) {
  if (const auto early = check_feature(call.flags, call.data.size(), ops::get | ops::set,
                                       sizeof(feature_mig_device_state))) {
    return *early;
  }
  if ((call.flags & ops::set) != 0) {
    const auto wanted = read_wire<feature_mig_device_state>(call.data);
    return call.model.migration_set_state(call.id, wanted->device_state);
  }
  feature_mig_device_state now;
  const answer given = call.model.migration_get_state(now.device_state);
  write_wire(call.data, now);
  return given;
}

answer data_size(const feature_call& call) {
  if (const auto early =
          check_feature(call.flags, call.data.size(), ops::get, sizeof(feature_mig_data_size))) {
    return *early;
  }
  feature_mig_data_size size;
  const answer given = call.model.migration_get_data_size(size.stop_copy_length);
  write_wire(call.data, size);
  return given;
}

answer logging_start(const feature_call& call) {
  if (const auto early = check_feature(call.flags, call.data.size(), ops::set,
                                       sizeof(feature_dma_logging_start))) {
    return *early;
  }
  const auto control = read_wire<feature_dma_logging_start>(call.data);
  if (control->num_ranges == 0 || !valid_page_bytes(control->page_size)) {
    return answer::refuse(EINVAL);
  }
  if (control->num_ranges > logging_ranges_max) {
    return answer::refuse(E2BIG);
  }
  std::array<vfio::region_area, logging_ranges_max> ranges;
  const auto wire = std::span<const std::byte>{call.data}.subspan(sizeof(*control));
  if (wire.size() < control->num_ranges * sizeof(vfio::region_area)) {
    return answer::refuse(EINVAL);
  }
  for (std::size_t i = 0; i < control->num_ranges; ++i) {
    // On the wire a range is an iova and a length, 8 bytes each, as in our structure.
    ranges[i] = *read_wire<vfio::region_area>(wire.subspan(i * sizeof(vfio::region_area)));
    if (!checked_add(ranges[i].offset, ranges[i].length)) {
      return answer::refuse(EOVERFLOW);
    }
  }
  return call.model.log_start(control->page_size, {ranges.data(), control->num_ranges});
}

answer logging_stop(const feature_call& call) {
  if (const auto early = check_feature(call.flags, call.data.size(), ops::set, 0)) {
    return *early;
  }
  return call.model.log_stop();
}

answer logging_report(const feature_call& call) {
  if (const auto early = check_feature(call.flags, call.data.size(), ops::get,
                                       sizeof(feature_dma_logging_report))) {
    return *early;
  }
  const auto range = read_wire<feature_dma_logging_report>(call.data);
  if (!valid_page_bytes(range->page_size) || range->length == 0) {
    return answer::refuse(EINVAL);
  }
  if (!checked_add(range->iova, range->length)) {
    return answer::refuse(EOVERFLOW);
  }
  const std::uint64_t pages = (range->length - 1) / range->page_size + 1;
  const std::uint64_t bitmap_bytes = ((pages - 1) / 64 + 1) * sizeof(std::uint64_t);
  const auto bitmap = call.data.subspan(sizeof(*range));
  if (bitmap.size() < bitmap_bytes) {
    return answer::refuse(EINVAL);
  }
  return call.model.log_read_and_clear(range->iova, range->length, bitmap.first(bitmap_bytes));
}

}  // namespace

int check_feature_header(std::uint32_t argsz, std::uint32_t flags) noexcept {
  const bool both = (flags & ops::get) != 0 && (flags & ops::set) != 0;
  if (argsz < sizeof(vfio::uapi::device_feature) || (flags & ~ops::all) != 0 ||
      (both && (flags & ops::probe) == 0)) {
    return EINVAL;
  }
  return 0;
}

std::optional<answer> check_feature(std::uint32_t flags, std::size_t data_bytes,
                                    std::uint32_t supported, std::size_t data_bytes_min) noexcept {
  const std::uint32_t wanted = flags & (ops::get | ops::set);
  if ((wanted & ~supported) != 0) {
    return answer::refuse(EINVAL);
  }
  if ((flags & ops::probe) != 0) {
    return answer::ok();
  }
  if (wanted == 0 || data_bytes < data_bytes_min) {
    return answer::refuse(EINVAL);
  }
  return std::nullopt;
}

answer run_feature(device_model& model, const device_layout& layout, request_id id,
                   std::uint32_t flags, std::span<std::byte> data) {
  const feature_call call{.model = model, .layout = layout, .id = id, .flags = flags, .data = data};
  const bool migrates = layout.migration_flags != 0;
  switch (feature{flags & ops::feature_mask}) {
    case feature::migration:
      return migrates ? migration(call) : answer::refuse(ENOTTY);
    case feature::mig_device_state:
      return migrates ? device_state(call) : answer::refuse(ENOTTY);
    case feature::mig_data_size:
      return migrates ? data_size(call) : answer::refuse(ENOTTY);
    case feature::dma_logging_start:
      return layout.dirty_log ? logging_start(call) : answer::refuse(ENOTTY);
    case feature::dma_logging_stop:
      return layout.dirty_log ? logging_stop(call) : answer::refuse(ENOTTY);
    case feature::dma_logging_report:
      return layout.dirty_log ? logging_report(call) : answer::refuse(ENOTTY);
  }
  return model.device_feature(id, flags, data);
}

}  // namespace runnel::vfio_user
