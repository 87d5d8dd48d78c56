#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "drivers/nvme/queue_pair.h"
#include "mempool/window.h"
#include "tests/sim/nvme_device.h"
#include "tests/sim/nvme_transport.h"

// For tests only.
namespace runnel::nvme {

struct queue_pair_rig_options {
  std::uint32_t depth = 8;
  std::uint32_t completion_entries = 9;
  std::uint32_t block_shift = 9;
  std::uint32_t command_bytes_max = 131072;
  doorbell_policy doorbells = doorbell_policy::burst;
  bool mapped = true;
  command_limits limits{};
};

/// A queue pair, its device and memory for data.
class queue_pair_rig {
 public:
  explicit queue_pair_rig(queue_pair_rig_options options = {})
      : device{{.block_shift = options.block_shift}},
        memory{window::create({.bytes = 8 * mib, .huge = false}).value()},
        transport{device} {
    device.maps.push_back(&memory.memory());
    transport.advance({});
    const auto sq = take<submission_entry>(options.depth + 1);
    const auto cq = take<completion_entry>(options.completion_entries);
    const prp_rules prps{.block_bytes = 1U << options.block_shift,
                         .bytes_max = options.command_bytes_max};
    const auto lists = memory.allocate(options.depth * prp_list_bytes(prps), 4096).value();
    device.make_queue(1, address(sq.data()), options.depth + 1, address(cq.data()),
                      options.completion_entries);
    const auto bell = [&](std::uint64_t offset) {
      return options.mapped ? doorbell{&device.doorbells()[offset - 0x1000]}
                            : doorbell{transport, offset};
    };
    control.state = queue_state::running;
    queue = std::make_unique<queue_pair>(
        queue_pair_parts{.submission = {sq, bell(sq_doorbell_offset(1, 4))},
                         .completion = {cq, bell(cq_doorbell_offset(1, 4)),
                                        options.completion_entries - options.depth - 1},
                         .list_memory = lists,
                         .list_address = address(lists.data()),
                         .control = &control,
                         .prps = prps,
                         .limits = options.limits,
                         .nsid = 1,
                         .depth = options.depth,
                         .commands = options.depth,
                         .transfer_bytes_max = 1U << 20U,
                         .doorbells = options.doorbells});
    data = memory.allocate(std::size_t{4} * mib, 4096).value();
  }

  template <class Entry>
  std::span<Entry> take(std::size_t count) {
    const auto bytes = memory.allocate(count * sizeof(Entry), 4096).value();
    return {reinterpret_cast<Entry*>(bytes.data()), count};
  }
  [[nodiscard]] iova address(const void* ours) const {
    return memory.memory().to_iova(static_cast<const std::byte*>(ours));
  }

  [[nodiscard]] segment piece(std::size_t offset, std::size_t bytes) const {
    return {.address = data.data() + offset, .length = bytes, .memory = &memory.memory()};
  }

  /// Submits one request and publishes it.
  block_request submit(block_op op, std::uint64_t first, std::uint32_t blocks,
                       const std::vector<segment>& segments, std::uint64_t tag = 0) {
    block_request request{.tag = tag,
                          .segments = segments.data(),
                          .segment_count = static_cast<std::uint32_t>(segments.size()),
                          .blocks = blocks,
                          .first = lba{first},
                          .op = op};
    queue->submit({&request, 1});
    queue->flush();
    return request;
  }
  block_request submit_block(std::uint64_t tag) {
    return submit(block_op::write, tag, 1, {piece(0, 512)}, tag);
  }

  std::vector<block_completion> poll(std::size_t at_most = 64) {
    std::vector<block_completion> out(at_most);
    out.resize(queue->poll(out));
    return out;
  }

  sim::nvme_device device;
  window memory;
  sim::nvme_transport transport;
  queue_control control;
  std::unique_ptr<queue_pair> queue;
  std::span<std::byte> data;
};

}  // namespace runnel::nvme
