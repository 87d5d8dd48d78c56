#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string_view>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

// From registers within reach to queues that run.
namespace runnel::nvme {
namespace {

/// Rings and doorbells were laid out by what it said first.
result<> learn_capabilities_again(controller_data& data, std::uint64_t value) noexcept {
  const capabilities now{.raw = value};
  if (now.queue_entries_max() != data.caps.queue_entries_max() ||
      now.doorbell_stride_bytes() != data.caps.doorbell_stride_bytes()) {
    data.hint = "CAP.MQES or CAP.DSTRD is another than before";
    return fail(errc::protocol);
  }
  return learn_capabilities(data, value);
}

result<> learn_configuration(controller_data& data, std::uint64_t value) noexcept {
  data.configuration = static_cast<std::uint32_t>(value);
  return {};
}

/// Queues end what they had in flight before they are made again; each on its own core.
result<> stop_queues(controller_data& data) noexcept {
  data.hint = "a core that owns one of its queues does not poll it";
  data.set_queues(queue_state::stopped);
  return {};
}

result<bool> until_queues_rewound(controller_data& data, instant) noexcept {
  const bool settled = std::ranges::all_of(data.queues, [](const io_queue& queue) {
    // pairs with the queue's releases: its rings are at rest
    return !queue.control->attached.load(std::memory_order_acquire) ||
           queue.control->rewound.load(std::memory_order_acquire);
  });
  return settled;
}

template <class Entry>
std::span<Entry> as_entries(std::span<std::byte> memory) noexcept {
  return {reinterpret_cast<Entry*>(memory.data()), memory.size() / sizeof(Entry)};
}

result<std::span<std::byte>> take_pages(controller_data& data, std::size_t bytes) {
  const auto piece = data.memory.allocate(align_up(bytes, host_page_bytes), host_page_bytes);
  if (!piece) {
    data.hint = fmt::format("its queues need {} KiB more of the memory window, {} KiB are free",
                            align_up(bytes, host_page_bytes) / kib, data.memory.free_bytes() / kib);
  }
  return piece;
}

result<> take_admin_memory(controller_data& data) {
  const auto pages = take_pages(data, std::size_t{5} * host_page_bytes);
  if (!pages) {
    return std::unexpected{pages.error()};
  }
  constexpr std::size_t sq_bytes = admin_queue::entries * sizeof(submission_entry);
  constexpr std::size_t cq_bytes = admin_queue::entries * sizeof(completion_entry);
  static_assert(sq_bytes <= host_page_bytes && cq_bytes <= host_page_bytes);
  data.admin_memory = *pages;
  data.admin_submission = as_entries<submission_entry>(pages->first(sq_bytes));
  data.admin_completion = as_entries<completion_entry>(pages->subspan(host_page_bytes, cq_bytes));
  data.admin_data = pages->subspan(std::size_t{2} * host_page_bytes, host_page_bytes);
  data.shadows = pages->subspan(std::size_t{3} * host_page_bytes, host_page_bytes);
  data.event_indices = pages->subspan(std::size_t{4} * host_page_bytes, host_page_bytes);
  return {};
}

result<> size_admin_queues(controller_data& data) noexcept {
  if (data.admin_submission.empty()) {
    if (const auto taken = take_admin_memory(data); !taken) {
      return taken;
    }
  }
  const std::uint32_t stride = data.caps.doorbell_stride_bytes();
  data.admin = admin_queue{{data.admin_submission, data.bell_at(sq_doorbell_offset(0, stride))},
                           {data.admin_completion, data.bell_at(cq_doorbell_offset(0, stride)), 0}};
  data.admin.rewind();
  data.event_requests.fill(std::nullopt);
  return data.registers.write(reg::aqa,
                              admin_queue_attributes(admin_queue::entries, admin_queue::entries));
}

result<> place_admin_submission(controller_data& data) noexcept {
  return data.registers.write(reg::asq, raw(data.address_of(data.admin_submission.data())), 8);
}

result<> place_admin_completion(controller_data& data) noexcept {
  return data.registers.write(reg::acq, raw(data.address_of(data.admin_completion.data())), 8);
}

/// All of CC but EN, since CAP may read differently once the configuration is known.
result<> configure(controller_data& data) noexcept {
  return data.registers.write(reg::cc, enabled_configuration(host_page_bytes) & ~cc_enable);
}

result<> read_ready_timeout(controller_data& data) noexcept {
  return data.caps.ready_modes() ? data.registers.read(reg::crto) : result<>{};
}

result<> learn_ready_timeout(controller_data& data, std::uint64_t value) noexcept {
  const auto with_media_ms = static_cast<std::uint32_t>(bit_field(value, 0, 16)) * 500;
  data.ready_timeout_ms = std::max(data.ready_timeout_ms, with_media_ms);
  return {};
}

result<> enable(controller_data& data) noexcept {
  data.device_quiet = false;
  return data.registers.write(reg::cc, enabled_configuration(host_page_bytes));
}

template <identify_cns What>
result<> start_identify(controller_data& data) noexcept {
  constexpr bool of_namespace =
      What == identify_cns::namespace_nvm || What == identify_cns::namespace_descriptors;
  return start_admin(data, identify_command(What, of_namespace ? data.nsid : 0,
                                            data.address_of(data.admin_data.data())));
}

/// Queue pairs and users on other cores go on with what they were made from.
result<> refuse_change(controller_data& data, std::string_view what) noexcept {
  data.hint = fmt::format("{} changed: open it again", what);
  return fail(errc::protocol);
}

result<> learn_controller(controller_data& data, std::uint32_t) noexcept {
  copy_admin_data(data, data.controller_identity);
  if (data.quirks.contains(quirk::no_write_zeroes)) {
    data.controller_identity.oncs &= static_cast<std::uint16_t>(~oncs_write_zeroes);
  }
  const auto bytes =
      parse_transfer_limit(data.controller_identity, host_page_bytes, command_bytes_ceiling);
  if (!bytes) {
    data.hint = "its queue entries are not of 64 and 16 bytes";
    return std::unexpected{bytes.error()};
  }
  const bool volatile_cache = (data.controller_identity.vwc & vwc_present) != 0;
  if (!data.queues.empty()) {
    return *bytes == data.command_bytes_max && volatile_cache == data.info.volatile_cache
               ? result<>{}
               : refuse_change(data, "its transfer limit or cache");
  }
  data.command_bytes_max = *bytes;
  data.info.volatile_cache = volatile_cache;
  return {};
}

result<> start_command_set(controller_data& data) noexcept {
  data.command_set_identity = {};
  if (data.version < version(2, 0)) {
    return {};
  }
  return start_identify<identify_cns::controller_command_set>(data);
}

/// Done when the command is that the step sent, if it did; a device works without what it refuses.
/// `Learn` sees the data of an answer.
template <void (*Learn)(controller_data&) noexcept>
result<bool> after_optional(controller_data& data, instant) noexcept {
  if (!data.admin_id) {
    return true;
  }
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  if (reply->status == 0) {
    Learn(data);
  }
  return true;
}

void learn_command_set(controller_data& data) noexcept {
  copy_admin_data(data, data.command_set_identity);
}

result<> start_namespace_list(controller_data& data) noexcept {
  return data.quirks.contains(quirk::no_namespace_list)
             ? result<>{}
             : start_identify<identify_cns::active_namespaces>(data);
}

/// Namespaces 1 to NN, as far as a list would say them.
namespace_list all_namespaces(const controller_data& data) noexcept {
  namespace_list list{};
  const std::size_t count = std::min<std::size_t>(data.controller_identity.nn, list.size());
  std::iota(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(count), 1U);
  return list;
}

result<> choose_namespace(controller_data& data, const namespace_list& list) noexcept {
  data.active_namespaces = parse_namespace_list(list);
  if (data.active_namespaces.empty()) {
    data.hint = "the controller has no active namespace";
    return fail(errc::not_found);
  }
  if (data.nsid == 0) {  // from then on it is the same, whatever the list says later
    data.nsid = data.options.nsid != 0 ? data.options.nsid : data.active_namespaces.front();
  }
  if (std::ranges::find(data.active_namespaces, data.nsid) == data.active_namespaces.end()) {
    data.hint = fmt::format("there is no namespace {}, but there is {}", data.nsid,
                            fmt::join(data.active_namespaces, ", "));
    return fail(errc::not_found);
  }
  return {};
}

result<bool> learn_namespaces(controller_data& data, instant) noexcept {
  namespace_list list{};
  if (data.admin_id) {
    const auto reply = take_admin(data);
    if (!reply) {
      return false;
    }
    if (reply->status != 0) {
      return fail(errc::bad_status, reply->status);
    }
    copy_admin_data(data, list);
  } else {
    list = all_namespaces(data);
  }
  const auto chosen = choose_namespace(data, list);
  return chosen ? result<bool>{true} : std::unexpected{chosen.error()};
}

result<> learn_namespace(controller_data& data, std::uint32_t) noexcept {
  copy_admin_data(data, data.namespace_identity);
  const auto format = parse_namespace(data.namespace_identity);
  if (!format && format.error().code == errc::not_found) {
    data.hint = fmt::format("namespace {} is not there any more", data.nsid);
    return std::unexpected{format.error()};
  }
  if (!format) {
    data.hint = fmt::format("namespace {} has blocks with metadata, or not of 512 bytes to 64 KiB",
                            data.nsid);
    return std::unexpected{format.error()};
  }
  if (format->block_bytes > data.command_bytes_max) {
    data.hint = fmt::format("one command moves {} bytes, less than a block of {}",
                            data.command_bytes_max, format->block_bytes);
    return fail(errc::protocol);
  }
  const std::uint32_t commands = std::min(request_commands_max, data.commands());
  const command_limits limits =
      parse_command_limits(data.controller_identity, data.command_set_identity,
                           {.block_bytes = format->block_bytes, .commands_max = commands});
  if (!data.queues.empty()) {
    if (format->block_bytes != data.info.block_bytes || limits != data.limits) {
      return refuse_change(data, "the size of its blocks, or what can be done with them,");
    }
    data.events.resizes += format->block_count != data.info.block_count ? 1U : 0U;
    data.info.block_count = format->block_count;
    return {};
  }
  data.limits = limits;
  data.info.operations = limits.operations;
  data.info.block_bytes = format->block_bytes;
  data.info.block_count = format->block_count;
  data.info.device_reads_memory = true;
  data.info.transfer_bytes_max = std::min(request_bytes_ceiling, commands * data.command_bytes_max);
  return {};
}

result<> start_names(controller_data& data) noexcept {
  data.names = {};
  if (data.version < version(1, 3) || data.quirks.contains(quirk::no_descriptors)) {
    return {};
  }
  return start_identify<identify_cns::namespace_descriptors>(data);
}

void learn_names(controller_data& data) noexcept {
  data.names = parse_descriptors(std::span<const std::byte, identify_bytes>{data.admin_data});
}

result<> request_queues(controller_data& data) noexcept {
  return start_admin(data, set_feature_command(feature::number_of_queues,
                                               number_of_queues(data.options.queue_count,
                                                                data.options.queue_count)));
}

result<> learn_queue_count(controller_data& data, std::uint32_t granted) noexcept {
  const auto sq_count = static_cast<std::uint32_t>(bit_field(granted, 0, 16)) + 1;
  const auto cq_count = static_cast<std::uint32_t>(bit_field(granted, 16, 16)) + 1;
  const std::uint32_t count = std::min(sq_count, cq_count);
  if (count < data.options.queue_count) {
    data.hint = fmt::format("it has {} queues, one for each core: use so many cores", count);
    return fail(errc::invalid);
  }
  return {};
}

/// Queues that exist have theirs, or none: only the first bring-up decides.
bool wants_shadow_doorbells(const controller_data& data) noexcept {
  if (!data.queues.empty()) {
    return data.shadows_used;
  }
  const std::uint64_t end =
      sq_doorbell_offset(data.options.queue_count + 1, data.caps.doorbell_stride_bytes());
  return data.options.shadow_doorbells &&
         (data.controller_identity.oacs & oacs_doorbell_buffer) != 0 &&
         end - static_cast<std::uint64_t>(reg::doorbells) <= data.shadows.size();
}

result<> share_doorbells(controller_data& data) noexcept {
  data.shadows_used = wants_shadow_doorbells(data);
  if (!data.shadows_used) {
    return {};
  }
  std::ranges::fill(data.shadows, std::byte{0});
  std::ranges::fill(data.event_indices, std::byte{0});
  return start_admin(data, doorbell_buffer_command(data.address_of(data.shadows.data()),
                                                   data.address_of(data.event_indices.data())));
}

result<bool> until_doorbells_shared(controller_data& data, instant) noexcept {
  if (!data.admin_id) {
    return true;
  }
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  if (reply->status != 0 && !data.queues.empty()) {
    return fail(errc::bad_status, reply->status);
  }
  data.shadows_used = reply->status == 0;
  return true;
}

result<io_queue> make_io_queue(controller_data& data, std::uint16_t id) {
  const std::size_t sq_bytes = data.submission_entries() * sizeof(submission_entry);
  const std::size_t cq_bytes = data.completion_entries() * sizeof(completion_entry);
  const std::size_t sq_pages_bytes = align_up(sq_bytes, host_page_bytes);
  const std::size_t cq_pages_bytes = align_up(cq_bytes, host_page_bytes);
  io_queue queue;
  queue.id = queue_id{id};
  queue.control = std::make_unique<queue_control>();
  const std::size_t list_bytes = data.commands() * prp_list_bytes(data.prps());
  const auto pages = take_pages(data, sq_pages_bytes + cq_pages_bytes + list_bytes);
  if (!pages) {
    return std::unexpected{pages.error()};
  }
  queue.memory = *pages;
  queue.submission = as_entries<submission_entry>(pages->first(sq_bytes));
  queue.completion = as_entries<completion_entry>(pages->subspan(sq_pages_bytes, cq_bytes));
  queue.lists = pages->subspan(sq_pages_bytes + cq_pages_bytes, list_bytes);
  return queue;
}

/// The command that makes ring number `queue_step`: completion and submission queue in turn.
result<> create_next_ring(controller_data& data) noexcept {
  const io_queue& queue = data.queues[data.queue_step / 2];
  if (data.queue_step % 2 == 0) {
    const auto vector =
        data.wakes.empty() ? std::nullopt : std::optional<std::uint16_t>{raw(queue.id)};
    return start_admin(
        data, create_cq_command(queue.id, static_cast<std::uint32_t>(queue.completion.size()),
                                data.address_of(queue.completion.data()), vector));
  }
  return start_admin(
      data, create_sq_command(queue.id, static_cast<std::uint32_t>(queue.submission.size()),
                              data.address_of(queue.submission.data())));
}

result<> create_queues(controller_data& data) noexcept {
  while (data.queues.size() < data.options.queue_count) {
    auto queue = make_io_queue(data, static_cast<std::uint16_t>(data.queues.size() + 1));
    if (!queue) {
      return std::unexpected{queue.error()};
    }
    data.queues.push_back(std::move(*queue));
  }
  for (const io_queue& queue : data.queues) {
    std::ranges::fill(queue.completion, completion_entry{});  // phases of a time before the reset
  }
  data.queue_step = 0;
  return create_next_ring(data);
}

result<> learn_no_answer(controller_data&, std::uint32_t) noexcept {
  return {};
}

result<bool> until_queues_created(controller_data& data, instant now) noexcept {
  const auto created = after_admin<learn_no_answer>(data, now);
  if (!created || !*created) {
    return created;
  }
  if (++data.queue_step < 2 * data.queues.size()) {
    const auto started = create_next_ring(data);
    return started ? result<bool>{false} : std::unexpected{started.error()};
  }
  data.set_queues(queue_state::running);
  return true;
}

result<> identify_again(controller_data& data) noexcept {
  data.rescan_wanted = false;
  return start_identify<identify_cns::namespace_nvm>(data);
}

constexpr std::array rescan_table{
    step{"identify namespace again", step_limit::admin, identify_again,
         after_admin<learn_namespace>},
};

constexpr std::array enable_table{
    step{"reset", step_limit::transport, begin_reset, until_reset},
    step{"read PCI command", step_limit::answer, read_pci_command, after_access<learn_pci_command>},
    step{"enable bus mastering", step_limit::answer, enable_memory_and_master,
         after_access<learn_nothing>},
    step{"read configuration", step_limit::answer, start_read<reg::cc>,
         after_access<learn_configuration>},
    step{"disable", step_limit::answer, start_disable, after_access<learn_nothing>},
    step{"wait for disable", step_limit::ready, start_poll, until_disabled},
    step{"stop queues", step_limit::answer, stop_queues, until_queues_rewound},
    step{"size admin queues", step_limit::answer, size_admin_queues, after_access<learn_nothing>},
    step{"place admin submission queue", step_limit::answer, place_admin_submission,
         after_access<learn_nothing>},
    step{"place admin completion queue", step_limit::answer, place_admin_completion,
         after_access<learn_nothing>},
    step{"configure", step_limit::answer, configure, after_access<learn_nothing>},
    step{"read capabilities again", step_limit::answer, start_read<reg::cap, 8>,
         after_access<learn_capabilities_again>},
    step{"read ready timeout", step_limit::answer, read_ready_timeout,
         after_access<learn_ready_timeout>},
    step{"enable", step_limit::answer, enable, after_access<learn_nothing>},
    step{"wait for ready", step_limit::ready, start_poll,
         until_status<csts_ready, csts_ready, true>},
    step{"identify controller", step_limit::admin, start_identify<identify_cns::controller>,
         after_admin<learn_controller>},
    step{"identify command set", step_limit::admin, start_command_set,
         after_optional<learn_command_set>},
    step{"list namespaces", step_limit::admin, start_namespace_list, learn_namespaces},
    step{"identify namespace", step_limit::admin, start_identify<identify_cns::namespace_nvm>,
         after_admin<learn_namespace>},
    step{"read namespace names", step_limit::admin, start_names, after_optional<learn_names>},
    step{"request queues", step_limit::admin, request_queues, after_admin<learn_queue_count>},
    step{"share doorbells", step_limit::admin, share_doorbells, until_doorbells_shared},
    step{"assign interrupts", step_limit::answer, assign_interrupts, until_interrupts_assigned},
    step{"create queues", step_limit::admin, create_queues, until_queues_created},
    step{"configure events", step_limit::admin, configure_events, until_events_configured},
    step{"ask for events", step_limit::answer, request_events, done_at_once},
};

}  // namespace

std::span<const step> rescan_steps() noexcept {
  return rescan_table;
}
std::span<const step> enable_steps() noexcept {
  return enable_table;
}

}  // namespace runnel::nvme
