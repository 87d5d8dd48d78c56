#include "apps/target/error_log.h"

#include <algorithm>

namespace runnel::target {

void note_error(error_state& errors, const failed_command& failed) noexcept {
  constexpr std::uint16_t no_particular_field = 0xffff;
  nvme::error_log_entry entry{};
  entry.sq_id = failed.queue;
  entry.command_id = failed.command_id;
  entry.status_and_phase = nvme::status_word(failed.status, 0);
  entry.parameter_location = no_particular_field;
  entry.first_lba = failed.first;
  entry.nsid = failed.nsid;
  entry.error_count = errors.count + 1;
  errors.entries[errors.count++ % error_entries_max] = entry;
}

void move_errors(error_state& from, error_state& log) noexcept {
  const std::uint64_t kept = std::min<std::uint64_t>(from.count, error_entries_max);
  log.count += from.count - kept;  // of these nothing is known but that they were
  for (std::uint64_t i = from.count - kept; i < from.count; ++i) {
    nvme::error_log_entry entry = from.entries[i % error_entries_max];
    entry.error_count = log.count + 1;
    log.entries[log.count++ % error_entries_max] = entry;
  }
  from.count = 0;
}

std::array<nvme::error_log_entry, error_entries_max> describe_errors(
    const error_state& errors) noexcept {
  std::array<nvme::error_log_entry, error_entries_max> page{};
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(errors.count, error_entries_max); ++i) {
    page[i] = errors.entries[(errors.count - 1 - i) % error_entries_max];
  }
  return page;
}

}  // namespace runnel::target
