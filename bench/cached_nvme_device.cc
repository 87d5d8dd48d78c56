#include "bench/cached_nvme_device.h"

#include "bench/need.h"
#include "drivers/mmio.h"

namespace runnel::bench {
namespace {

constexpr nvme::prp_rules rules{.block_bytes = cached_nvme_device::block_bytes,
                                .bytes_max = 128 * kib};

std::span<std::byte> take(window& memory, std::size_t bytes) {
  const auto piece = memory.allocate(bytes, 4096);
  if (!piece) {
    give_up({.what = piece.error(), .operation = "make", .object = "a queue", .hint = {}});
  }
  return *piece;
}

template <class Entry>
std::span<Entry> take_ring(window& memory, std::size_t entries) {
  return {reinterpret_cast<Entry*>(take(memory, entries * sizeof(Entry)).data()), entries};
}

}  // namespace

cached_nvme_device::cached_nvme_device(window& memory, std::uint32_t depth)
    : memory_{memory},
      depth_{depth},
      submissions_{take_ring<nvme::submission_entry>(memory, depth + 1)},
      completions_{take_ring<nvme::completion_entry>(memory, std::size_t{2} * (depth + 1))},
      lists_{take(memory, depth * nvme::prp_list_bytes(rules))} {}

std::unique_ptr<block_queue> cached_nvme_device::make_queue() {
  fetched_ = answered_ = 0;
  phase_ = nvme::completion_phase;
  tail_bell_ = 0;
  control_.state = nvme::queue_state::running;
  const auto bell = [](std::uint32_t& word) {
    return nvme::doorbell{reinterpret_cast<std::byte*>(&word)};
  };
  return std::make_unique<nvme::queue_pair>(
      nvme::queue_pair_parts{.submission = {submissions_, bell(tail_bell_)},
                             .completion = {completions_, bell(head_bell_), depth_ + 1},
                             .list_memory = lists_,
                             .list_address = memory_.memory().to_iova(lists_.data()),
                             .control = &control_,
                             .prps = rules,
                             .limits = {},
                             .depth = depth_,
                             .commands = depth_,
                             .transfer_bytes_max = static_cast<std::uint32_t>(mib)});
}

std::uint32_t cached_nvme_device::answer() noexcept {
  const std::uint32_t tail = mmio_read<std::uint32_t>(&tail_bell_);
  std::uint32_t count = 0;
  for (; fetched_ != tail; ++count) {
    const std::uint64_t id = submissions_[fetched_].command_id;
    mmio_write<std::uint64_t>(&completions_[answered_].sq_head,
                              std::uint64_t{phase_} << 48U | id << 32U | fetched_);
    fetched_ = fetched_ + 1 == submissions_.size() ? 0 : fetched_ + 1;
    if (++answered_ == completions_.size()) {
      answered_ = 0;
      phase_ ^= nvme::completion_phase;
    }
  }
  return count;
}

void cached_nvme_device::ring_for(std::uint32_t count) noexcept {
  const auto size = static_cast<std::uint32_t>(submissions_.size());
  const std::uint32_t tail = tail_bell_ + count;
  mmio_write<std::uint32_t>(&tail_bell_, tail < size ? tail : tail - size);
}

}  // namespace runnel::bench
