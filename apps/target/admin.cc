#include "apps/target/admin.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "apps/target/identify.h"
#include "apps/target/prp_walk.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::target {

using nvme::status_code;

namespace {

constexpr std::uint64_t admin_transfer_bytes_max = 16 * kib;
constexpr std::uint32_t not_aborted = 1;  // answer of abort, dword 0
constexpr std::uint32_t error_events = 1U << static_cast<unsigned>(nvme::event_type::error);

}  // namespace

admin_queue::admin_queue(controller_state& state, queue_table& queues, io_path& io,
                         const subsystem& system, const guest_memory& memory,
                         const admin_options& options) noexcept
    : state_{state},
      queues_{queues},
      io_{io},
      system_{system},
      memory_{memory},
      options_{options} {}

void admin_queue::reset() noexcept {
  deletion_.reset();
  event_.reset();
}

void admin_queue::report(nvme::error_event what) noexcept {
  if ((state_.events_masked & error_events) == 0) {
    event_ = what;
  }
}

std::uint32_t admin_queue::serve() noexcept {
  if (!queues_.admin_served()) {
    return 0;  // out of reach for now
  }
  submission_queue& queue = queues_.admin();
  std::uint64_t& wrong = io_.counters().wrong_doorbells;
  const bool waiting = queue.waiting(wrong) != 0 && !deletion_;
  if (!waiting && !deletion_ && !event_) [[likely]] {
    return 0;
  }
  if (queue.answers().room(1, wrong) == 0) {
    return 0;  // the host does not read its answers
  }
  if (tell_event() || finish_deletion()) {
    return 1;
  }
  if (waiting) {
    take_command();
    return 1;
  }
  return 0;
}

bool admin_queue::tell_event() noexcept {
  if (!event_ || state_.event_requests == 0) {
    return false;
  }
  const std::uint16_t id = state_.event_request_ids[--state_.event_requests];
  queues_.admin().answer(
      id, status_code::success,
      nvme::event_answer(nvme::event_type::error, static_cast<std::uint8_t>(*event_),
                         nvme::log_page::error_information));
  state_.events_masked |= error_events;
  event_.reset();
  return true;
}

bool admin_queue::finish_deletion() noexcept {
  if (!deletion_ || queues_.submission(raw(deletion_->queue)).in_flight() != 0) {
    return false;
  }
  queues_.remove_submission(deletion_->queue);
  queues_.admin().answer(deletion_->command_id, status_code::success);
  deletion_.reset();
  return true;
}

void admin_queue::take_command() noexcept {
  submission_queue& queue = queues_.admin();
  std::array<command, 1> order{};
  queue.copy(order);
  queue.advance();
  const std::uint16_t id = order[0].command_id;
  if (const std::optional<answer> now = execute(order[0])) {
    if (now->status == status_code::success) {
      queue.answer(id, now->status, now->result);
    } else {
      queue.refuse(id, now->status);
    }
  }
}

std::optional<admin_queue::answer> admin_queue::execute(const command& order) noexcept {
  if (order.flags != 0) {
    return answer{status_code::invalid_field};
  }
  switch (static_cast<nvme::admin_opcode>(order.opcode)) {
    case nvme::admin_opcode::delete_io_sq:
      return delete_submission(order);
    case nvme::admin_opcode::create_io_sq:
      return create_submission(order);
    case nvme::admin_opcode::get_log_page:
      return get_log_page(order);
    case nvme::admin_opcode::delete_io_cq:
      return delete_completion(order);
    case nvme::admin_opcode::create_io_cq:
      return create_completion(order);
    case nvme::admin_opcode::identify:
      return identify(order);
    case nvme::admin_opcode::abort:
      return answer{.result = not_aborted};  // commands end soon by themselves
    case nvme::admin_opcode::set_features:
      return set_feature(order);
    case nvme::admin_opcode::get_features:
      return get_feature(order);
    case nvme::admin_opcode::async_event_request:
      return hold_event_request(order);
    default:
      return answer{status_code::invalid_opcode};
  }
}

std::optional<admin_queue::answer> admin_queue::hold_event_request(const command& order) noexcept {
  if (state_.event_requests == event_requests_max) {
    return answer{status_code::aer_limit_exceeded};
  }
  state_.event_request_ids[state_.event_requests++] = order.command_id;
  return std::nullopt;
}

std::optional<admin_queue::answer> admin_queue::delete_submission(const command& order) noexcept {
  const queue_id id{static_cast<std::uint16_t>(order.cdw10)};
  if (const status_code wrong = queues_.can_remove_submission(id); wrong != status_code::success) {
    return answer{wrong};
  }
  queues_.stop_submission(id);
  deletion_ = deletion{order.command_id, id};
  return std::nullopt;
}

admin_queue::answer admin_queue::delete_completion(const command& order) noexcept {
  const queue_id id{static_cast<std::uint16_t>(order.cdw10)};
  const status_code status = queues_.can_remove_completion(id);
  if (status == status_code::success) {
    queues_.remove_completion(id);
  }
  return {status};
}

admin_queue::answer admin_queue::create_completion(const command& order) noexcept {
  const nvme::configuration cc{state_.registers.configuration};
  if (cc.cq_entry_bytes() != sizeof(nvme::completion_entry)) {
    return {status_code::invalid_queue_size};
  }
  return {
      queues_.create_completion({.id = queue_id{static_cast<std::uint16_t>(order.cdw10)},
                                 .base = iova{order.prp1},
                                 .entries = (order.cdw10 >> 16U) + 1,
                                 .contiguous = (order.cdw11 & nvme::create_queue_contiguous) != 0,
                                 .interrupts = (order.cdw11 & nvme::create_cq_interrupts) != 0,
                                 .vector = static_cast<std::uint16_t>(order.cdw11 >> 16U)})};
}

admin_queue::answer admin_queue::create_submission(const command& order) noexcept {
  const nvme::configuration cc{state_.registers.configuration};
  if (cc.sq_entry_bytes() != sizeof(nvme::submission_entry)) {
    return {status_code::invalid_queue_size};
  }
  return {queues_.create_submission(
      {.id = queue_id{static_cast<std::uint16_t>(order.cdw10)},
       .base = iova{order.prp1},
       .entries = (order.cdw10 >> 16U) + 1,
       .contiguous = (order.cdw11 & nvme::create_queue_contiguous) != 0,
       .completion_queue = static_cast<std::uint16_t>(order.cdw11 >> 16U)})};
}

admin_queue::answer admin_queue::identify(const command& order) noexcept {
  switch (static_cast<nvme::identify_cns>(order.cdw10 & 0xffU)) {
    case nvme::identify_cns::controller:
      return send_page(order, describe_controller(system_, options_.controller_id));
    case nvme::identify_cns::active_namespaces:
      if (order.nsid >= nvme::nsid_all - 1) {
        return {status_code::invalid_namespace_or_format};
      }
      return send_page(order, list_namespaces(system_, order.nsid));
    case nvme::identify_cns::namespace_nvm:
    case nvme::identify_cns::namespace_descriptors:
      return identify_namespace(order);
    default:
      return {status_code::invalid_field};
  }
}

admin_queue::answer admin_queue::identify_namespace(const command& order) noexcept {
  if (order.nsid - 1 >= system_.namespaces.size()) {
    return {status_code::invalid_namespace_or_format};
  }
  const exported_namespace& space = system_.namespaces[order.nsid - 1];
  const bool ids = static_cast<nvme::identify_cns>(order.cdw10 & 0xffU) ==
                   nvme::identify_cns::namespace_descriptors;
  return ids ? send_page(order, describe_ids(space.identity))
             : send_page(order, describe_namespace(space));
}

admin_queue::answer admin_queue::get_log_page(const command& order) noexcept {
  if (order.nsid != 0 && order.nsid != nvme::nsid_all) {
    return {status_code::invalid_field};  // no log is of one namespace
  }
  const std::uint64_t dwords =
      (std::uint64_t{order.cdw11 & 0xffffU} << 16U | order.cdw10 >> 16U) + 1;
  const std::uint64_t offset = std::uint64_t{order.cdw13} << 32U | order.cdw12;
  const auto copy = [&](const auto& log) -> answer {
    const auto bytes = std::as_bytes(std::span{&log, 1});
    if (offset > bytes.size() || !is_aligned(offset, 4)) {
      return {status_code::invalid_field};
    }
    return send(order, bytes.subspan(offset), dwords * 4);
  };
  switch (static_cast<nvme::log_page>(order.cdw10 & 0xffU)) {
    case nvme::log_page::error_information:
      if ((order.cdw10 & nvme::log_retain_event) == 0) {
        state_.events_masked &= ~error_events;
      }
      return copy(nvme::error_log_entry{});  // one entry, never used: ELPE is 0
    case nvme::log_page::health_information:
      return copy(describe_health(io_.counters()));
    case nvme::log_page::firmware_slots:
      return copy(describe_firmware(system_));
    default:
      return {status_code::invalid_log_page};
  }
}

admin_queue::answer admin_queue::get_feature(const command& order) noexcept {
  const feature_answer found =
      target::get_feature(state_, options_.features, order.cdw10, order.cdw11);
  return {found.status, found.value};
}

admin_queue::answer admin_queue::set_feature(const command& order) noexcept {
  const feature_answer done =
      target::set_feature(state_, options_.features, order, queues_.any_io_queue());
  io_.set_write_through(!write_cache_enabled(state_.features));
  return {done.status, done.value};
}

admin_queue::answer admin_queue::send(const command& order, std::span<const std::byte> source,
                                      std::uint64_t bytes) noexcept {
  if (bytes > admin_transfer_bytes_max) {
    return {status_code::invalid_field};
  }
  std::array<segment, segments_for(admin_transfer_bytes_max)> segments;
  const prp_segments found = walk_prp(
      memory_, {.prp1 = order.prp1, .prp2 = order.prp2, .bytes = bytes, .wanted = access::write},
      segments);
  for (const segment& piece : std::span{segments}.first(found.count)) {
    const std::size_t part = std::min(piece.length, source.size());
    std::memcpy(piece.address, source.data(), part);
    source = source.subspan(part);
  }
  return {found.status};
}

}  // namespace runnel::target
