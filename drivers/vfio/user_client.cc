#include "drivers/vfio/user_client.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <utility>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel::vfio {
namespace {

using vfio_user::command;
using vfio_user::wire_bytes;

/// When a socket that was full is tried again: no event tells that it has room.
constexpr nanoseconds send_retry = std::chrono::microseconds{200};

/// Posted messages are not answered, so they need no id of their own.
constexpr std::uint16_t posted_id = 0;

constexpr std::uint64_t page_bytes = 4 * kib;

/// Whether the file is memory and has these bytes. Touching a page of a disk's file, or of one that
/// a process provides, can wait; touching one beyond the end raises SIGBUS. Huge pages are refused:
/// regions are small, and a fault could only be repaired in whole ones.
[[nodiscard]] bool holds_in_memory(int fd, std::uint64_t first, std::uint64_t bytes) noexcept {
  struct stat status{};
  struct statfs file_system{};
  if (::fstat(fd, &status) != 0 || ::fstatfs(fd, &file_system) != 0) {
    return false;
  }
  return S_ISREG(status.st_mode) && file_system.f_type == TMPFS_MAGIC &&
         range_within(first, bytes, static_cast<std::uint64_t>(status.st_size));
}

/// Who maps a region reads and writes it; without both rights a touch would be a fault.
[[nodiscard]] bool reads_and_writes(const region_info& region) noexcept {
  constexpr std::uint32_t both = uapi::region_flags::read | uapi::region_flags::write;
  return (region.flags & both) == both;
}

[[nodiscard]] vfio_user::region_access_payload access_to(std::uint32_t index, std::uint64_t offset,
                                                         std::size_t bytes) noexcept {
  return {.offset = offset, .region = index, .count = static_cast<std::uint32_t>(bytes)};
}

/// How many of `eventfds` one message can carry: all present or all absent, and not too many.
[[nodiscard]] std::size_t run_length(std::span<const int> eventfds, std::size_t fds_max) noexcept {
  const bool present = eventfds.front() >= 0;
  const auto end =
      std::ranges::find_if(eventfds, [present](int fd) { return (fd >= 0) != present; });
  const auto same = static_cast<std::size_t>(end - eventfds.begin());
  return present ? std::min(same, fds_max) : same;
}

[[nodiscard]] std::uint16_t count_runs(std::span<const int> eventfds,
                                       std::size_t fds_max) noexcept {
  std::uint16_t runs = 0;
  while (!eventfds.empty()) {
    eventfds = eventfds.subspan(run_length(eventfds, fds_max));
    ++runs;
  }
  return runs;
}

}  // namespace

user_client::user_client(std::unique_ptr<vfio_user::channel> to, client_options options)
    : options_{std::move(options)},
      channel_{std::move(to)},
      outbox_{2 * vfio_user::message_bytes_max} {
  CHECK(channel_ != nullptr);
}

user_client::~user_client() {
  guard_.reset();  // before its addresses mean something else
  for (const auto area : mapped_areas_) {
    ::munmap(area.data(), area.size());  // cannot fail for what mmap returned
  }
}

instant user_client::advance(instant now) noexcept {
  if (state_ == transport_state::gone) {
    return never;
  }
  if (guard_ && guard_->poisoned()) {
    lose({errc::device_gone}, "reach", "its process cut off a region that was mapped");
    return never;
  }
  flush();
  const bool more = state_ != transport_state::gone && receive_messages();
  instant next = operations_.apply_deadlines(now, answer_timeout());
  if (state_ == transport_state::connecting) {
    continue_bring_up();
    next = operations_.apply_deadlines(now, answer_timeout());  // of what it has asked
  }
  if (state_ == transport_state::gone) {
    return never;
  }
  if (more) {
    return now;
  }
  return outbox_.empty() ? next : std::min(next, now + send_retry);
}

const failure& user_client::reason() const noexcept {
  CHECK(state_ == transport_state::gone);
  return reason_;
}

const region_info& user_client::region_at(std::uint32_t index) const noexcept {
  return index < info_.region_count ? regions_[index] : absent_region_;
}

const irq_info& user_client::irq_at(std::uint32_t index) const noexcept {
  return index < info_.irq_count ? irqs_[index] : absent_irq_;
}

std::span<std::byte> user_client::map_region(std::uint32_t index, std::uint64_t offset,
                                             std::uint64_t length) noexcept {
  const region_info& region = region_at(index);
  const bool offered = std::ranges::any_of(region.areas, [&](const region_area& area) {
    return offset >= area.offset && range_within(offset - area.offset, length, area.length);
  });
  const auto first = checked_add(region.file_offset, offset);
  if (state_ != transport_state::ready || length == 0 || !offered || !reads_and_writes(region) ||
      !first || !holds_in_memory(region.fd, *first, length)) {
    return {};
  }
  if (!guard_) {
    if (auto guard = sigbus_guard::create(std::byte{0xff}); guard) {  // as an absent device
      guard_ = std::move(*guard);
    }
  }
  if (!guard_ || mapped_areas_.size() == sigbus_guard::ranges_max) {
    return {};  // messages reach it too, and cannot fault
  }
  const std::uint64_t mapped_bytes = align_up(length, page_bytes);  // faults come by the page
  void* const address = ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd,
                               static_cast<off_t>(*first));
  if (address == MAP_FAILED) {
    return {};
  }
  const std::span<std::byte> area{static_cast<std::byte*>(address), mapped_bytes};
  guard_->cover(mapped_areas_.size(), area);
  mapped_areas_.push_back(area);
  return area.first(length);
}

result<ticket> user_client::region_read(std::uint32_t index, std::uint64_t offset,
                                        std::uint32_t bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes); !good) {
    return std::unexpected{good.error()};
  }
  const auto fixed = access_to(index, offset, bytes);
  return ask({.what = command::region_read,
              .fixed = wire_bytes(fixed),
              .reply_bytes = static_cast<std::uint32_t>(sizeof(fixed)) + bytes});
}

result<ticket> user_client::region_write(std::uint32_t index, std::uint64_t offset,
                                         std::span<const std::byte> bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes.size()); !good) {
    return std::unexpected{good.error()};
  }
  const auto fixed = access_to(index, offset, bytes.size());
  return ask({.what = command::region_write,
              .fixed = wire_bytes(fixed),
              .data = bytes,
              .reply_bytes = sizeof(fixed)});
}

result<> user_client::region_post(std::uint32_t index, std::uint64_t offset,
                                  std::span<const std::byte> bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes.size()); !good) {
    return good;
  }
  if (const result<> sent = send_all(); !sent) {
    return sent;  // it would wait behind others
  }
  const auto fixed = access_to(index, offset, bytes.size());
  const auto head = vfio_user::command_header(posted_id, command::region_write,
                                              sizeof(fixed) + bytes.size(), false);
  if (const result<> queued = outbox_.push(head, wire_bytes(fixed), bytes); !queued) {
    return queued;
  }
  const result<> sent = send_all();
  if (!sent) {
    outbox_.take_back();  // it will be posted again
  }
  return sent;
}

result<ticket> user_client::set_irqs(std::uint32_t index, std::uint32_t start,
                                     std::span<const int> eventfds) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  const std::uint32_t vectors = irq_at(index).count;
  if (vectors == 0 || !range_within(start, eventfds.size(), vectors)) {
    return fail(errc::invalid);
  }
  constexpr std::uint32_t fixed_bytes = sizeof(uapi::irq_set);
  if (eventfds.empty()) {
    return send_irq_trigger({.index = index, .start = 0, .count = 0});  // which disables it
  }
  operation* const op = operations_.start(std::to_underlying(command::device_set_irqs), fixed_bytes,
                                          count_runs(eventfds, message_fds_max_));
  if (op == nullptr) {
    return fail(errc::queue_full);
  }
  while (!eventfds.empty()) {
    const auto run = eventfds.first(run_length(eventfds, message_fds_max_));
    if (const result<> sent = send_irq_run(*op, index, start, run); !sent) {
      operations_.reply(*op, sent.error());  // the ticket tells; earlier runs are under way
    }
    start += static_cast<std::uint32_t>(run.size());
    eventfds = eventfds.subspan(run.size());
  }
  const ticket started = op->id;
  flush();
  return started;
}

result<> user_client::send_irq_run(operation& under, std::uint32_t index, std::uint32_t start,
                                   std::span<const int> run) noexcept {
  const uapi::irq_set assign{
      .argsz = sizeof(uapi::irq_set),
      .flags = uapi::irq_set_flags::data_eventfd | uapi::irq_set_flags::action_trigger,
      .index = index,
      .start = start,
      .count = static_cast<std::uint32_t>(run.size())};
  const auto head = vfio_user::command_header(operation_table::message_id(under.id),
                                              command::device_set_irqs, sizeof(assign));
  const bool present = run.front() >= 0;  // no descriptors: these vectors lose theirs
  return outbox_.push(head, wire_bytes(assign), {}, present ? run : std::span<const int>{});
}

result<ticket> user_client::trigger_irqs(const irq_vectors& which) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  if (which.count == 0 || !range_within(which.start, which.count, irq_at(which.index).count)) {
    return fail(errc::invalid);
  }
  return send_irq_trigger(which);
}

result<ticket> user_client::send_irq_trigger(const irq_vectors& which) noexcept {
  const uapi::irq_set trigger{
      .argsz = sizeof(uapi::irq_set),
      .flags = uapi::irq_set_flags::data_none | uapi::irq_set_flags::action_trigger,
      .index = which.index,
      .start = which.start,
      .count = which.count};
  return ask({.what = command::device_set_irqs,
              .fixed = wire_bytes(trigger),
              .reply_bytes = sizeof(trigger)});
}

result<ticket> user_client::reset() noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  return ask({.what = command::device_reset});
}

result<ticket> user_client::hot_reset() noexcept {
  return fail(errc::unsupported);  // a device of its own: there is no bus to share
}

result<ticket> user_client::device_feature(std::uint32_t flags,
                                           std::span<const std::byte> data) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  if (data.size() > transfer_bytes_max) {
    return fail(errc::invalid);
  }
  const auto bytes = static_cast<std::uint32_t>(sizeof(uapi::device_feature) + data.size());
  const uapi::device_feature fixed{.argsz = bytes, .flags = flags};
  return ask({.what = command::device_feature,
              .fixed = wire_bytes(fixed),
              .data = data,
              .reply_bytes = bytes});
}

result<ticket> user_client::map(const region& memory) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  const std::uint64_t first = raw(memory.first_iova());
  if (memory.length == 0 || memory.permissions == access::none ||
      !is_aligned(first | memory.length, limits_.page_bytes)) {
    return fail(errc::invalid);
  }
  if (maps_.size() >= limits_.maps_max) {
    return fail(errc::no_memory);
  }
  if (!maps_.add(memory)) {
    return fail(errc::invalid);  // part of it is mapped already
  }
  const vfio_user::dma_map_payload fixed{
      .argsz = sizeof(fixed),
      .flags = std::to_underlying(memory.permissions),  // the same bits
      .offset = memory.fd_offset,
      .iova = first,
      .size = memory.length};
  const std::size_t fds = memory.fd >= 0 ? 1 : 0;
  const auto started = ask({.what = command::dma_map,
                            .fixed = wire_bytes(fixed),
                            .fds = {&memory.fd, fds},
                            .reply_bytes = sizeof(fixed),
                            .maps = &memory});
  if (!started) {
    static_cast<void>(maps_.remove(iova{first}, memory.length));  // was added above
  }
  return started;
}

result<ticket> user_client::unmap(const region& memory) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  if (!maps_.remove(memory.first_iova(), memory.length)) {
    return fail(errc::invalid);
  }
  const vfio_user::dma_unmap_payload fixed{
      .argsz = sizeof(fixed), .iova = raw(memory.first_iova()), .size = memory.length};
  const auto started =
      ask({.what = command::dma_unmap, .fixed = wire_bytes(fixed), .reply_bytes = sizeof(fixed)});
  if (!started) {
    static_cast<void>(maps_.add(memory));  // was removed above: nothing overlaps it
  }
  return started;
}

std::vector<iova_range> user_client::allowed_ranges() const {
  return {iova_range{}};  // no IOMMU in between: every bus address is as good
}

domain_limits user_client::limits() const noexcept {
  return limits_;
}

result<ticket> user_client::set_dirty_tracking(bool) noexcept {
  return fail(errc::unsupported);
}

std::optional<transport_reply> user_client::take(ticket which) noexcept {
  const operation& taken = operations_.at(which);
  auto reply = operations_.take(which);
  if (reply && reply->status.code != errc::ok) {
    forget_map(taken);
  }
  return reply;
}

void user_client::abandon(ticket which) noexcept {
  forget_map(operations_.at(which));
  operations_.abandon(which);
}

/// The owner of a region that was not mapped for sure may do with it what it likes.
void user_client::forget_map(const operation& ended) noexcept {
  if (ended.length != 0) {
    static_cast<void>(maps_.remove(ended.first, ended.length));  // an unmap may have come first
  }
}

result<> user_client::admit() const noexcept {
  switch (state_) {
    case transport_state::connecting:
      return fail(errc::busy);
    case transport_state::leaving:  // which takes no time here
    case transport_state::gone:
      return fail(errc::device_gone);
    case transport_state::ready:
      return {};
  }
  __builtin_unreachable();
}

result<> user_client::check_access(std::uint32_t index, std::uint64_t offset,
                                   std::size_t bytes) const noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return admitted;
  }
  const bool good =
      bytes > 0 && bytes <= transfer_bytes_ && range_within(offset, bytes, region_at(index).size);
  return good ? result<>{} : fail(errc::invalid);
}

result<ticket> user_client::ask(const question& asked) noexcept {
  operation* const op = operations_.start(std::to_underlying(asked.what), asked.reply_bytes);
  if (op == nullptr) {
    return fail(errc::queue_full);
  }
  if (asked.maps != nullptr) {
    op->first = asked.maps->first_iova();
    op->length = asked.maps->length;
  }
  const auto head = vfio_user::command_header(operation_table::message_id(op->id), asked.what,
                                              asked.fixed.size() + asked.data.size());
  if (const result<> queued = outbox_.push(head, asked.fixed, asked.data, asked.fds); !queued) {
    operations_.withdraw(*op);
    return std::unexpected{queued.error()};
  }
  const ticket started = op->id;
  flush();  // may end the connection: then the ticket says so
  return started;
}

void user_client::flush() noexcept {
  if (const result<> sent = outbox_.flush(*channel_); !sent) {
    lose(sent.error(), "send to", "its process ended the connection");
  }
}

/// @error queue_full (something waits for room in the socket), device_gone
result<> user_client::send_all() noexcept {
  flush();
  const result<> admitted = admit();
  return admitted && !outbox_.empty() ? fail(errc::queue_full) : admitted;
}

void user_client::lose(error what, std::string attempt, std::string hint) {
  state_ = transport_state::gone;
  reason_ = {.what = what,
             .operation = std::move(attempt),
             .object = options_.object,
             .hint = std::move(hint)};
  operations_.end_all({errc::device_gone});
  maps_.clear();
  channel_->hang_up();  // the peer learns that the memory it maps is not its any more
}

}  // namespace runnel::vfio
