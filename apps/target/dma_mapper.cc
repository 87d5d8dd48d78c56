#include "apps/target/dma_mapper.h"

#include <algorithm>

#include "mempool/base/check.h"

namespace runnel::target {

dma_mapper::dma_mapper(const std::vector<block_device*>& devices) {
  pending_.reserve(devices.size());
  for (block_device* device : devices) {
    pending_.push_back({.device = device});
  }
}

void dma_mapper::begin(order what, const region& memory) noexcept {
  CHECK(idle() && !needless(memory));
  order_ = what;
  memory_ = &memory;
  first_error_ = {};
  for (device_part& part : pending_) {
    part.at = stage::to_start;
  }
}

void dma_mapper::map(const region& memory) {
  mapped_.push_back(&memory);  // from the first device on
  begin(order::map, memory);
}

void dma_mapper::unmap(const region& memory) {
  begin(order::unmap, memory);
}

std::optional<result<>> dma_mapper::advance() noexcept {
  if (order_ == order::none) {
    return std::nullopt;
  }
  for (device_part& part : pending_) {
    advance_part(part);
  }
  const auto at_rest = [](const device_part& part) {
    return part.at == stage::ended || part.at == stage::untouched;
  };
  if (!std::ranges::all_of(pending_, at_rest) || undo_needed()) {
    return std::nullopt;
  }
  return finish();
}

void dma_mapper::advance_part(device_part& part) noexcept {
  if (part.at == stage::to_start) {
    const result<ticket> started =
        order_ == order::map ? part.device->map(*memory_) : part.device->unmap(*memory_);
    if (started) {
      part.which = *started;
      part.at = stage::started;
    } else if (started.error().code != errc::queue_full) {  // else again next time
      end_part(part, std::unexpected{started.error()});
    }
  }
  if (part.at == stage::started) {
    if (const std::optional<result<>> ended = part.device->take(part.which)) {
      end_part(part, *ended);
    }
  }
}

void dma_mapper::end_part(device_part& part, const result<>& ended) noexcept {
  part.at = stage::ended;
  if (ended) {
    return;
  }
  if (order_ == order::map) {
    part.at = stage::untouched;  // nothing to undo here
    const std::string hint = part.device->map_hint(ended.error(), *memory_);
    hint_ = part.device->info().address + " refuses it" + (hint.empty() ? "" : ": ") + hint;
  } else if (ended.error().code == errc::device_gone) {
    return;  // who is gone reaches nothing
  }
  if (first_error_.code == errc::ok) {
    first_error_ = ended.error();
  }
}

/// When one device refused a region, the others give it up again.
bool dma_mapper::undo_needed() noexcept {
  if (order_ != order::map || first_error_.code == errc::ok) {
    return false;
  }
  order_ = order::undo;
  for (device_part& part : pending_) {
    part.at = part.at == stage::ended ? stage::to_start : stage::untouched;
  }
  return true;
}

result<> dma_mapper::finish() {
  const bool still_mapped = order_ == order::map;
  if (!still_mapped) {
    std::erase(mapped_, memory_);
  }
  order_ = order::none;
  if (first_error_.code == errc::ok) {
    return {};
  }
  return std::unexpected{first_error_};
}

}  // namespace runnel::target
