#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drivers/block.h"
#include "mempool/region.h"

namespace runnel::target {

/// Lets devices that read and write memory by themselves reach a host's regions, and takes that
/// back. One order at a time; it is complete when every device has answered.
/// @context the core that serves the devices' control side
class dma_mapper {
 public:
  /// @param devices  those with `device_reads_memory`; none of them twice
  explicit dma_mapper(const std::vector<block_device*>& devices);

  [[nodiscard]] bool idle() const noexcept { return order_ == order::none; }
  /// Nothing to do for this region: no such device, or no memory.
  [[nodiscard]] bool needless(const region& memory) const noexcept {
    return pending_.empty() || memory.address == nullptr;
  }

  /// @pre idle() and not needless(memory), for both
  void map(const region& memory);
  void unmap(const region& memory);

  /// Goes on with the order. @return its result, once: an error of `map` means that no device
  /// reaches the region; of `unmap`, that some device still may
  [[nodiscard]] std::optional<result<>> advance() noexcept;

  /// Which device refused the last region of `map`, with what to do about it.
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

  /// A region that is still mapped somewhere; null when there is none.
  [[nodiscard]] const region* any_mapped() const noexcept {
    return mapped_.empty() ? nullptr : mapped_.back();
  }

 private:
  enum class order : std::uint8_t { none, map, undo, unmap };
  enum class stage : std::uint8_t { untouched, to_start, started, ended };
  struct device_part {
    block_device* device = nullptr;
    stage at = stage::untouched;
    ticket which{};
  };

  void begin(order what, const region& memory) noexcept;
  void advance_part(device_part& part) noexcept;
  void end_part(device_part& part, const result<>& ended) noexcept;
  [[nodiscard]] bool undo_needed() noexcept;
  [[nodiscard]] result<> finish();

  std::vector<device_part> pending_;
  std::vector<const region*> mapped_;
  const region* memory_ = nullptr;
  order order_ = order::none;
  error first_error_;
  std::string hint_;
};

}  // namespace runnel::target
