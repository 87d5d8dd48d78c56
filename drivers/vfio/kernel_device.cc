#include "drivers/vfio/kernel_device.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::vfio {
namespace {

// What names an operation in the table that is over when it starts; no peer sees it.
constexpr std::uint16_t settled_command = 0;

constexpr error cut_off{errc::os, EIO};  // the kernel did less than it was asked to

/// Configuration space and ROMs are read in pieces no longer than this, each on its own boundary:
/// kernels differ in what they make of others.
constexpr std::size_t piece_bytes_max = 4;

/// The longest of 4, 2 and 1 that begins here and fits.
[[nodiscard]] std::size_t piece_bytes(std::uint64_t offset, std::size_t left) noexcept {
  std::size_t bytes = piece_bytes_max;
  while (bytes > left || offset % bytes != 0) {
    bytes /= 2;
  }
  return bytes;
}

[[nodiscard]] bool goes_in_pieces(std::uint32_t index) noexcept {
  return index == static_cast<std::uint32_t>(pci_region::config) ||
         index == static_cast<std::uint32_t>(pci_region::rom);
}

/// The same for `count` vectors from the first on; the others have none.
[[nodiscard]] std::vector<std::int32_t> padded(std::span<const int> eventfds, std::size_t start,
                                               std::size_t count) {
  std::vector<std::int32_t> all(count, -1);
  std::ranges::copy(eventfds, all.begin() + static_cast<std::ptrdiff_t>(start));
  return all;
}

}  // namespace

const failure& kernel_device::reason() const noexcept {
  CHECK(state_ >= transport_state::leaving);
  return reason_;
}

const region_info& kernel_device::region_at(std::uint32_t index) const noexcept {
  return index < facts_.regions.size() ? facts_.regions[index] : absent_region_;
}

const irq_info& kernel_device::irq_at(std::uint32_t index) const noexcept {
  return index < facts_.irqs.size() ? facts_.irqs[index] : absent_irq_;
}

std::span<std::byte> kernel_device::map_region(std::uint32_t index, std::uint64_t offset,
                                               std::uint64_t length) noexcept {
  const region_info& region = region_at(index);
  const bool offered = std::ranges::any_of(region.areas, [&](const region_area& area) {
    return offset >= area.offset && range_within(offset - area.offset, length, area.length);
  });
  if (state_ != transport_state::ready || length == 0 || !offered) {
    return {};
  }
  return areas_.map(device_.fd(), region.file_offset + offset,
                    length);  // else system calls reach it
}

result<ticket> kernel_device::region_read(std::uint32_t index, std::uint64_t offset,
                                          std::uint32_t bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes); !good) {
    return std::unexpected{good.error()};
  }
  operation* const under = operations_.start(settled_command, bytes);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  const auto into = std::span{transfer_}.first(bytes);
  const result<> read = read_bytes(index, offset, into);
  return settle(*under, read, into);
}

result<ticket> kernel_device::region_write(std::uint32_t index, std::uint64_t offset,
                                           std::span<const std::byte> bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes.size()); !good) {
    return std::unexpected{good.error()};
  }
  operation* const under = operations_.start(settled_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  return settle(*under, write_bytes(index, offset, bytes));
}

result<> kernel_device::region_post(std::uint32_t index, std::uint64_t offset,
                                    std::span<const std::byte> bytes) noexcept {
  if (const result<> good = check_access(index, offset, bytes.size()); !good) {
    return good;
  }
  static_cast<void>(write_bytes(index, offset, bytes));  // nobody waits for what came of it
  return {};
}

result<ticket> kernel_device::set_irqs(std::uint32_t index, std::uint32_t start,
                                       std::span<const int> eventfds) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  const std::uint32_t vectors = irq_at(index).count;
  if (vectors == 0 || !range_within(start, eventfds.size(), vectors)) {
    return fail(errc::invalid);
  }
  operation* const under = operations_.start(settled_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  return settle(*under, change_irqs(index, start, eventfds));
}

/// Where vectors cannot be added later, the first call takes all there are, if the machine has
/// them.
result<> kernel_device::change_irqs(std::uint32_t index, std::uint32_t start,
                                    std::span<const int> eventfds) noexcept {
  const irq_info& irq = irq_at(index);
  if (eventfds.empty() && !irqs_enabled_[index]) {
    return {};  // which the kernel would refuse
  }
  const bool takes_all = !irqs_enabled_[index] && (irq.flags & uapi::irq_flags::noresize) != 0;
  auto left = takes_all ? set_vectors(index, 0, padded(eventfds, start, irq.count))
                        : set_vectors(index, start, eventfds);
  if (takes_all && left && *left > 0) {
    left = set_vectors(index, 0, padded(eventfds, start, start + eventfds.size()));
  }
  if (!left) {
    return std::unexpected{left.error()};
  }
  if (*left > 0) {
    return fail(errc::os, ENOSPC);
  }
  irqs_enabled_[index] = !eventfds.empty();
  return {};
}

/// @return 0: done; else how many vectors the machine still has
result<int> kernel_device::set_vectors(std::uint32_t index, std::uint32_t start,
                                       std::span<const int> fds) noexcept {
  namespace flag = uapi::irq_set_flags;
  const std::uint32_t data = fds.empty() ? flag::data_none : flag::data_eventfd;
  const std::size_t bytes = sizeof(uapi::irq_set) + fds.size() * sizeof(std::int32_t);
  const uapi::irq_set head{.argsz = static_cast<std::uint32_t>(bytes),
                           .flags = data | flag::action_trigger,
                           .index = index,
                           .start = fds.empty() ? 0 : start,
                           .count = static_cast<std::uint32_t>(fds.size())};
  std::vector<std::byte> asked(bytes);
  std::memcpy(asked.data(), &head, sizeof(head));
  std::ranges::copy(std::as_bytes(fds), asked.begin() + sizeof(head));
  return ioctl_on(*system_, device_.fd(), uapi::ioctls::device_set_irqs, *asked.data());
}

result<ticket> kernel_device::trigger_irqs(const irq_vectors& which) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  if (which.count == 0 || !range_within(which.start, which.count, irq_at(which.index).count)) {
    return fail(errc::invalid);
  }
  operation* const under = operations_.start(settled_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  uapi::irq_set asked{.argsz = sizeof(asked),
                      .flags = uapi::irq_set_flags::data_none | uapi::irq_set_flags::action_trigger,
                      .index = which.index,
                      .start = which.start,
                      .count = which.count};
  const auto done = ioctl_on(*system_, device_.fd(), uapi::ioctls::device_set_irqs, asked);
  return settle(*under, done ? result<>{} : std::unexpected{done.error()});
}

result<ticket> kernel_device::set_ioeventfd(const event_write& what, int eventfd) noexcept {
  if (const result<> good = check_access(what.index, what.offset, what.bytes); !good) {
    return std::unexpected{good.error()};
  }
  if (!std::has_single_bit(what.bytes) || what.bytes > sizeof(what.value) ||
      !is_aligned(what.offset, what.bytes)) {
    return fail(errc::invalid);
  }
  operation* const under = operations_.start(settled_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  static_assert(uapi::ioeventfd_flags::bits_64 == sizeof(std::uint64_t));  // flags are bytes
  uapi::device_ioeventfd asked{.argsz = sizeof(asked),
                               .flags = what.bytes,
                               .offset = region_at(what.index).file_offset + what.offset,
                               .data = what.value,
                               .fd = eventfd,
                               .reserved = 0};
  const auto done = ioctl_on(*system_, device_.fd(), uapi::ioctls::device_ioeventfd, asked);
  return settle(*under, done ? result<>{} : std::unexpected{done.error()});
}

result<ticket> kernel_device::device_feature(std::uint32_t flags,
                                             std::span<const std::byte> data) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  if (data.size() > transfer_bytes_max) {
    return fail(errc::invalid);
  }
  operation* const under = operations_.start(settled_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  const uapi::device_feature head{
      .argsz = static_cast<std::uint32_t>(sizeof(uapi::device_feature) + data.size()),
      .flags = flags};
  std::vector<std::byte> asked(head.argsz);
  std::memcpy(asked.data(), &head, sizeof(head));
  std::ranges::copy(data, asked.begin() + sizeof(head));
  const auto done = ioctl_on(*system_, device_.fd(), uapi::ioctls::device_feature, *asked.data());
  return settle(*under, done ? result<>{} : std::unexpected{done.error()},
                std::span{asked}.subspan(sizeof(head)));
}

std::optional<transport_reply> kernel_device::take(ticket which) noexcept {
  return operations_.take(which);
}

result<> kernel_device::admit() const noexcept {
  switch (state_) {
    case transport_state::connecting:
    case transport_state::leaving:
      return fail(errc::busy);
    case transport_state::gone:
      return fail(errc::device_gone);
    case transport_state::ready:
      return resetting_ ? fail(errc::busy) : result<>{};
  }
  __builtin_unreachable();
}

result<> kernel_device::check_access(std::uint32_t index, std::uint64_t offset,
                                     std::size_t bytes) const noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return admitted;
  }
  const bool good = bytes > 0 && bytes <= transfer_bytes_max &&
                    range_within(offset, bytes, region_at(index).size);
  return good ? result<>{} : fail(errc::invalid);
}

ticket kernel_device::settle(operation& under, const result<>& outcome,
                             std::span<const std::byte> data) noexcept {
  operations_.reply(under, outcome ? error{} : outcome.error(),
                    outcome ? data : std::span<const std::byte>{});
  news_ = true;
  return under.id;
}

result<> kernel_device::read_bytes(std::uint32_t index, std::uint64_t offset,
                                   std::span<std::byte> into) noexcept {
  const std::uint64_t base = region_at(index).file_offset;
  while (!into.empty()) {
    const std::size_t bytes =
        goes_in_pieces(index) ? piece_bytes(offset, into.size()) : into.size();
    const auto read = system_->pread(device_.fd(), into.first(bytes), base + offset);
    if (!read) {
      return std::unexpected{read.error()};
    }
    if (*read != bytes) {
      return std::unexpected{cut_off};
    }
    into = into.subspan(bytes);
    offset += bytes;
  }
  return {};
}

result<> kernel_device::write_bytes(std::uint32_t index, std::uint64_t offset,
                                    std::span<const std::byte> from) noexcept {
  const std::uint64_t base = region_at(index).file_offset;
  while (!from.empty()) {
    const std::size_t bytes =
        goes_in_pieces(index) ? piece_bytes(offset, from.size()) : from.size();
    const auto written = system_->pwrite(device_.fd(), from.first(bytes), base + offset);
    if (!written) {
      return std::unexpected{written.error()};
    }
    if (*written != bytes) {
      return std::unexpected{cut_off};
    }
    from = from.subspan(bytes);
    offset += bytes;
  }
  return {};
}

}  // namespace runnel::vfio
