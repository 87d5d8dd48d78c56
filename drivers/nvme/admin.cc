#include "drivers/nvme/admin.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::nvme {
namespace {

constexpr std::uint32_t block_shift_min = 9;   // 512 bytes
constexpr std::uint32_t block_shift_max = 16;  // 64 KiB

submission_entry command(admin_opcode opcode) noexcept {
  submission_entry entry{};
  entry.opcode = static_cast<std::uint8_t>(opcode);
  return entry;
}

template <std::size_t Size>
std::optional<std::array<std::uint8_t, Size>> name_from(std::span<const std::byte> bytes) {
  std::array<std::uint8_t, Size> name{};
  if (bytes.size() != Size) {
    return std::nullopt;
  }
  std::memcpy(name.data(), bytes.data(), Size);
  return name;
}

}  // namespace

result<command_id> admin_queue::submit(submission_entry command) noexcept {
  const auto free = std::ranges::find(slots_, slot_state::free, &slot::state);
  if (free == slots_.end()) {
    return fail(errc::queue_full);
  }
  free->state = slot_state::sent;
  command.command_id = static_cast<std::uint16_t>(free - slots_.begin());
  submission_.slot() = command;
  submission_.push();
  submission_.publish();
  return command_id{command.command_id};
}

void admin_queue::poll() noexcept {
  completion_view completion{};
  for (std::uint32_t seen = 0; seen < entries && completion_.next(completion); ++seen) {
    const std::uint16_t id = completion.command_id;
    if (id >= slots_.size() || slots_[id].state != slot_state::sent) {
      continue;  // an answer to nothing we asked; the step that waits has a deadline
    }
    slots_[id] = {.state = slot_state::answered,
                  .reply = {.status = completion.status,
                            .value = static_cast<std::uint32_t>(
                                read_once(completion.entry->command_specific))}};
  }
  completion_.publish(true);
  submission_.publish();  // a posted doorbell that had no room
}

std::optional<admin_reply> admin_queue::take(command_id which) noexcept {
  CHECK(raw(which) < slots_.size());
  slot& asked = slots_[raw(which)];
  CHECK(asked.state != slot_state::free);
  if (asked.state != slot_state::answered) {
    return std::nullopt;
  }
  asked.state = slot_state::free;
  return asked.reply;
}

void admin_queue::rewind() noexcept {
  submission_.rewind();
  completion_.rewind();
  slots_.fill(slot{});
}

submission_entry identify_command(identify_cns what, std::uint32_t nsid, iova data) {
  submission_entry entry = command(admin_opcode::identify);
  entry.nsid = nsid;
  entry.prp1 = raw(data);
  entry.cdw10 = static_cast<std::uint32_t>(what);
  return entry;
}

submission_entry get_feature_command(feature which, feature_select select) {
  submission_entry entry = command(admin_opcode::get_features);
  entry.cdw10 = static_cast<std::uint32_t>(which) | static_cast<std::uint32_t>(select) << 8U;
  return entry;
}

submission_entry set_feature_command(feature which, std::uint32_t value) {
  submission_entry entry = command(admin_opcode::set_features);
  entry.cdw10 = static_cast<std::uint32_t>(which);
  entry.cdw11 = value;
  return entry;
}

submission_entry format_command(std::uint32_t nsid, std::uint8_t format, erase how) {
  CHECK(format < 64);
  submission_entry entry = command(admin_opcode::format_nvm);
  entry.nsid = nsid;
  entry.cdw10 = (format & 0xfU) | static_cast<std::uint32_t>(how) << 9U |
                (std::uint32_t{format} >> 4U) << 12U;
  return entry;
}

submission_entry create_cq_command(queue_id queue, std::uint32_t entries, iova ring,
                                   std::optional<std::uint16_t> vector) {
  submission_entry entry = command(admin_opcode::create_io_cq);
  entry.prp1 = raw(ring);
  entry.cdw10 = create_queue_cdw10(raw(queue), entries);
  entry.cdw11 = create_queue_contiguous;
  if (vector) {
    entry.cdw11 |= create_cq_interrupts | std::uint32_t{*vector} << 16U;
  }
  return entry;
}

submission_entry create_sq_command(queue_id queue, std::uint32_t entries, iova ring) {
  submission_entry entry = command(admin_opcode::create_io_sq);
  entry.prp1 = raw(ring);
  entry.cdw10 = create_queue_cdw10(raw(queue), entries);
  entry.cdw11 = create_queue_contiguous | std::uint32_t{raw(queue)} << 16U;  // its own CQ
  return entry;
}

submission_entry delete_cq_command(queue_id queue) {
  submission_entry entry = command(admin_opcode::delete_io_cq);
  entry.cdw10 = raw(queue);
  return entry;
}

submission_entry delete_sq_command(queue_id queue) {
  submission_entry entry = command(admin_opcode::delete_io_sq);
  entry.cdw10 = raw(queue);
  return entry;
}

submission_entry doorbell_buffer_command(iova shadows, iova event_indices) {
  submission_entry entry = command(admin_opcode::doorbell_buffer_config);
  entry.prp1 = raw(shadows);
  entry.prp2 = raw(event_indices);
  return entry;
}

submission_entry abort_command(queue_id queue, command_id which) {
  submission_entry entry = command(admin_opcode::abort);
  entry.cdw10 = raw(queue) | std::uint32_t{raw(which)} << 16U;
  return entry;
}

submission_entry get_log_command(log_page page, std::uint32_t bytes, iova data) {
  CHECK(bytes >= 4 && is_aligned(bytes, 4));
  const std::uint32_t dwords = bytes / 4 - 1;
  submission_entry entry = command(admin_opcode::get_log_page);
  entry.nsid = nsid_all;
  entry.prp1 = raw(data);
  entry.cdw10 = static_cast<std::uint32_t>(page) | log_retain_event | dwords << 16U;
  entry.cdw11 = dwords >> 16U;
  return entry;
}

result<namespace_format> parse_namespace(const identify_namespace& data) noexcept {
  if (data.nsze == 0) {
    return fail(errc::not_found);
  }
  const std::size_t index = data.format_index();
  if (index > data.nlbaf) {
    return fail(errc::protocol);
  }
  const lba_format& format = data.lbaf[index];  // format_index() has 6 bits
  if (format.ms != 0 || format.lbads < block_shift_min || format.lbads > block_shift_max) {
    return fail(errc::unsupported);
  }
  if (data.nsze > ~std::uint64_t{0} >> format.lbads) {
    return fail(errc::protocol);  // more bytes than can be numbered
  }
  return namespace_format{.block_bytes = 1U << format.lbads, .block_count = data.nsze};
}

result<std::uint32_t> parse_transfer_limit(const identify_controller& data,
                                           std::uint64_t page_bytes_min,
                                           std::uint32_t bytes_max) noexcept {
  const auto allows = [](std::uint8_t sizes, unsigned shift) {
    return (sizes & 0xfU) <= shift && shift <= (sizes >> 4U);
  };
  if (!allows(data.sqes, 6) || !allows(data.cqes, 4)) {
    return fail(errc::unsupported);
  }
  const auto page_shift = static_cast<unsigned>(std::countr_zero(page_bytes_min));
  if (data.mdts == 0 || data.mdts + page_shift >= 32) {
    return bytes_max;  // no limit, or one beyond any transfer of ours
  }
  return std::min(1U << (data.mdts + page_shift), bytes_max);
}

std::vector<std::uint32_t> parse_namespace_list(const namespace_list& data) {
  return {data.begin(), std::ranges::find(data, 0U)};
}

namespace_names parse_descriptors(std::span<const std::byte, identify_bytes> data) {
  namespace_names names;
  std::span<const std::byte> rest = data;
  while (rest.size() >= sizeof(namespace_descriptor)) {
    namespace_descriptor head{};
    std::memcpy(&head, rest.data(), sizeof head);
    rest = rest.subspan(sizeof head);
    if (head.nidt == 0 || head.nidl > rest.size()) {
      break;
    }
    const auto value = rest.first(head.nidl);
    rest = rest.subspan(head.nidl);
    switch (static_cast<namespace_id_type>(head.nidt)) {
      case namespace_id_type::eui64:
        names.eui64 = name_from<8>(value);
        break;
      case namespace_id_type::nguid:
        names.nguid = name_from<16>(value);
        break;
      case namespace_id_type::uuid:
        names.uuid = name_from<16>(value);
        break;
      case namespace_id_type::command_set:
        break;
    }
  }
  return names;
}

std::string text_of(std::span<const char> field) {
  std::string text{field.begin(), std::ranges::find(field, '\0')};
  text.erase(text.find_last_not_of(' ') + 1);
  std::ranges::replace_if(text, [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

}  // namespace runnel::nvme
