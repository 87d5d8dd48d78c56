#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "drivers/block.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/region.h"

// How a driver reaches its device, whatever is in between: kernel groups, cdev, or a socket.
namespace runnel::vfio {

/// @spec vfio-user, VFIO uapi: VFIO_DEVICE_FLAGS_*
struct device_info {
  std::uint32_t flags = 0;
  std::uint32_t region_count = 0;
  std::uint32_t irq_count = 0;
};

/// Bytes [offset, offset + length) of a region that may be mapped.
struct region_area {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

/// What a region beyond the numbered ones is. A PCI vendor's has the flag 1 << 31 and its id.
/// @spec VFIO_REGION_TYPE_*, VFIO_REGION_SUBTYPE_*
struct region_type {
  std::uint32_t type = 0;  // 0: a numbered one
  std::uint32_t subtype = 0;

  friend bool operator==(const region_type&, const region_type&) = default;
};

struct region_info {
  std::uint32_t flags = 0;  // VFIO_REGION_INFO_FLAG_*
  std::uint64_t size = 0;   // 0: the region is absent
  std::uint64_t file_offset = 0;
  int fd = -1;  // borrowed from the transport; -1 when only messages reach the region
  std::vector<region_area> areas;  // what may be mapped; empty: nothing
  region_type type = {};
};

struct irq_info {
  std::uint32_t flags = 0;  // VFIO_IRQ_INFO_*
  std::uint32_t count = 0;
};

/// Region numbers of a PCI device. @spec VFIO_PCI_*_REGION_INDEX
enum class pci_region : std::uint32_t {
  bar0 = 0,
  bar4 = 4,
  bar5 = 5,
  rom = 6,
  config = 7,
  vga = 8
};
/// Interrupt numbers of a PCI device. @spec VFIO_PCI_*_IRQ_INDEX
enum class pci_irq : std::uint32_t { intx = 0, msi = 1, msix = 2, err = 3, req = 4 };

/// Vectors [start, start + count) of one interrupt.
struct irq_vectors {
  std::uint32_t index = 0;
  std::uint32_t start = 0;
  std::uint32_t count = 0;
};

/// A write that an eventfd makes, of 1, 2, 4 or 8 bytes at a multiple of that.
struct event_write {
  std::uint32_t index = 0;  // the region
  std::uint64_t offset = 0;
  std::uint32_t bytes = 4;
  std::uint64_t value = 0;
};

/// How one started operation ended.
struct transport_reply {
  error status;                     // code ok, or why not; `os` carries the peer's errno
  std::uint64_t value = 0;          // region reads up to 8 bytes, little-endian
  std::span<const std::byte> data;  // region reads and features; valid until the next call
};

enum class transport_state : std::uint8_t {
  connecting,
  ready,
  leaving,  // takes no operation any more, but may reach memory until it is gone
  gone,
};

/// One device. Operations that can take time are started and return a ticket; `take` hands out the
/// result once it is there. Nothing here waits or calls back; results appear during `advance`.
///
/// @context one thread. At most `operations_max` operations are in flight (then queue_full).
class device_transport {
 public:
  static constexpr std::size_t operations_max = 64;
  /// Most bytes of one region read or write, or of one feature's data.
  static constexpr std::uint32_t transfer_bytes_max = 4096;

  virtual ~device_transport() = default;

  /// Sends, receives, applies deadlines. @return next deadline; `never` if none
  virtual instant advance(instant now) noexcept = 0;
  [[nodiscard]] virtual int event_fd() const noexcept = 0;  // readable when `advance` has work

  [[nodiscard]] virtual transport_state state() const noexcept = 0;
  /// Why the device is leaving or gone. @pre it is
  [[nodiscard]] virtual const failure& reason() const noexcept = 0;

  /// Whether the device has failed since this was asked last, says who sees it: it should be reset.
  [[nodiscard]] virtual bool take_error() noexcept { return false; }

  // Known once `ready`, unchanging. Regions and interrupts beyond the device's count are absent
  // (size or count 0), never an error.
  [[nodiscard]] virtual const device_info& info() const noexcept = 0;
  [[nodiscard]] virtual const region_info& region_at(std::uint32_t index) const noexcept = 0;
  [[nodiscard]] virtual const irq_info& irq_at(std::uint32_t index) const noexcept = 0;

  /// Maps part of a region into this process. @return empty when it cannot be mapped: use messages.
  /// Owned by the transport; gone with it.
  [[nodiscard]] virtual std::span<std::byte> map_region(std::uint32_t index, std::uint64_t offset,
                                                        std::uint64_t length) noexcept = 0;

  // Started operations. @error queue_full, device_gone, busy (not ready), invalid (out of the
  // region, over transfer_bytes_max). A deadline counts from the next `advance`.
  [[nodiscard]] virtual result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                                   std::uint32_t bytes) noexcept = 0;
  [[nodiscard]] virtual result<ticket> region_write(std::uint32_t index, std::uint64_t offset,
                                                    std::span<const std::byte> bytes) noexcept = 0;
  /// A write nobody waits for; ordered with the others. It is on its way when this returns: nothing
  /// is left for `advance` to do. Errors of the device are not reported.
  /// @error queue_full: post it again. What cannot be taken back because its front has left goes on
  ///        then; so the device may see the write twice
  [[nodiscard]] virtual result<> region_post(std::uint32_t index, std::uint64_t offset,
                                             std::span<const std::byte> bytes) noexcept = 0;
  /// Assigns eventfds (borrowed during the call) to vectors start.. of one interrupt; an empty
  /// list disables the whole interrupt. @spec VFIO_DEVICE_SET_IRQS
  [[nodiscard]] virtual result<ticket> set_irqs(std::uint32_t index, std::uint32_t start,
                                                std::span<const int> eventfds) noexcept = 0;
  /// Has vectors fire as if the device had raised them, which proves the way that they take. Those
  /// without an eventfd stay silent. @spec VFIO_DEVICE_SET_IRQS with DATA_NONE
  /// @error invalid also for no vectors; in the reply `os` with EINVAL where the interrupt is not
  ///        in use
  [[nodiscard]] virtual result<ticket> trigger_irqs(const irq_vectors& which) noexcept = 0;
  /// Has the kernel make the write whenever the eventfd fires: so who has the eventfd, and not the
  /// device, rings a doorbell. What is mapped shows it a moment later. @spec VFIO_DEVICE_IOEVENTFD
  /// @param eventfd  borrowed during the call; -1: such a write is made no more
  /// @error          unsupported: no kernel is in between
  [[nodiscard]] virtual result<ticket> set_ioeventfd(const event_write&, int) noexcept {
    return fail(errc::unsupported);
  }
  // Until a reset has ended other operations may be refused as busy: what they found would mean
  // nothing. @error in the reply, too: unsupported, where there is no such reset
  [[nodiscard]] virtual result<ticket> reset() noexcept = 0;
  /// Of all functions of the slot or bus. @error busy, too: something that goes along is not ours
  [[nodiscard]] virtual result<ticket> hot_reset() noexcept = 0;
  /// What to do about the last reset, which failed; empty: it did not, or nothing is known.
  [[nodiscard]] virtual std::string_view reset_hint() const noexcept { return {}; }
  /// Gives the device back, for who cannot turn it off: it is leaving, then gone.
  /// @return false: that would not keep it from our memory, so it stays
  virtual bool give_back() noexcept { return false; }
  /// @param flags  feature number | GET, SET, PROBE. @spec VFIO_DEVICE_FEATURE
  [[nodiscard]] virtual result<ticket> device_feature(std::uint32_t flags,
                                                      std::span<const std::byte> data) noexcept = 0;

  /// The result of an operation, once; empty while it is under way. A ticket is spent when its
  /// result was handed out.
  [[nodiscard]] virtual std::optional<transport_reply> take(ticket which) noexcept = 0;
  /// Nobody will take this result: frees its place when it arrives.
  virtual void abandon(ticket which) noexcept = 0;
};

/// The region of that type. @return empty: the device has none
[[nodiscard]] inline std::optional<std::uint32_t> find_region(const device_transport& device,
                                                              const region_type& type) noexcept {
  for (std::uint32_t index = 0; index < device.info().region_count; ++index) {
    if (device.region_at(index).size != 0 && device.region_at(index).type == type) {
      return index;
    }
  }
  return std::nullopt;
}

}  // namespace runnel::vfio
