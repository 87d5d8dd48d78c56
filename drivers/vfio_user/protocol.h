#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/channel.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

// The vfio-user messages as pure functions over bytes; both ends use them. Payloads that the kernel
// also has are the kernel's structures (drivers/vfio/uapi). Little-endian, like the host.
// @spec vfio-user 0.1 (QEMU docs/interop/vfio-user.rst)
namespace runnel::vfio_user {

inline constexpr std::uint16_t version_major = 0;
inline constexpr std::uint16_t version_minor = 1;

/// Most data bytes of one REGION or DMA read or write, both ways; what we announce.
inline constexpr std::size_t data_bytes_max = 1 * mib;
/// A whole message: header, fixed part (32 bytes at most) and data.
inline constexpr std::size_t message_bytes_max = data_bytes_max + 64;
/// Most bytes of capability text we read.
inline constexpr std::size_t version_text_bytes_max = 4096;

enum class command : std::uint16_t {
  version = 1,
  dma_map = 2,
  dma_unmap = 3,
  device_get_info = 4,
  device_get_region_info = 5,
  device_get_region_io_fds = 6,
  device_get_irq_info = 7,
  device_set_irqs = 8,
  region_read = 9,
  region_write = 10,
  dma_read = 11,   // server to client
  dma_write = 12,  // server to client
  device_reset = 13,
  region_write_multi = 15,
  device_feature = 16,
  mig_data_read = 17,
  mig_data_write = 18,
};

namespace header_flags {
inline constexpr std::uint32_t type_mask = 0xf;
inline constexpr std::uint32_t type_command = 0;
inline constexpr std::uint32_t type_reply = 1;
inline constexpr std::uint32_t no_reply = 1U << 4;  // the command must not be answered at all
inline constexpr std::uint32_t error = 1U << 5;     // a reply without payload; `error` says why
}  // namespace header_flags

/// Precedes every message, both ways. Descriptors travel with its first byte.
struct header {
  std::uint16_t id = 0;  // the sender's; echoed in the reply
  command what{};
  std::uint32_t size = 0;          // bytes of the message, this header included
  std::uint32_t flags = 0;         // header_flags
  std::uint32_t error_number = 0;  // positive errno, in replies with the error flag

  [[nodiscard]] constexpr bool is_reply() const noexcept {
    return (flags & header_flags::type_mask) == header_flags::type_reply;
  }
  [[nodiscard]] constexpr bool wants_reply() const noexcept {
    return (flags & header_flags::no_reply) == 0;
  }
  [[nodiscard]] constexpr bool is_error() const noexcept {
    return (flags & header_flags::error) != 0;
  }
  [[nodiscard]] constexpr std::size_t payload_bytes() const noexcept {
    return size - sizeof(header);
  }
};
static_assert(sizeof(header) == 16);
static_assert(offsetof(header, what) == 2);
static_assert(offsetof(header, size) == 4);
static_assert(offsetof(header, flags) == 8);
static_assert(offsetof(header, error_number) == 12);

/// VERSION, both ways; capability text may follow.
struct version_numbers {
  std::uint16_t major = version_major;
  std::uint16_t minor = version_minor;
};
static_assert(sizeof(version_numbers) == 4);

namespace dma_map_flags {
inline constexpr std::uint32_t read = 1U << 0;
inline constexpr std::uint32_t write = 1U << 1;
inline constexpr std::uint32_t mmap = 1U << 2;  // reach it by mmap; so do we without being told
}  // namespace dma_map_flags

/// DMA_MAP command; with one descriptor, or none for a range that only messages reach.
struct dma_map_payload {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;   // dma_map_flags
  std::uint64_t offset = 0;  // in the descriptor's file
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
};
static_assert(sizeof(dma_map_payload) == 32);
static_assert(offsetof(dma_map_payload, iova) == 16);

namespace dma_unmap_flags {
inline constexpr std::uint32_t all = 1U << 1;  // everything; iova and size are 0
}  // namespace dma_unmap_flags

/// DMA_UNMAP, command and reply.
struct dma_unmap_payload {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
};
static_assert(sizeof(dma_unmap_payload) == 24);
static_assert(offsetof(dma_unmap_payload, iova) == 8);

/// DEVICE_GET_INFO, command and reply: the head of the kernel's structure.
struct device_info_payload {
  std::uint32_t argsz = 0;
  std::uint32_t flags = 0;  // vfio::uapi::device_flags
  std::uint32_t num_regions = 0;
  std::uint32_t num_irqs = 0;
};
static_assert(sizeof(device_info_payload) == vfio::uapi::device_info_bytes_min);

/// REGION_READ and REGION_WRITE, commands and replies; `count` bytes of data follow the read's
/// reply and the write's command.
struct region_access_payload {
  std::uint64_t offset = 0;
  std::uint32_t region = 0;
  std::uint32_t count = 0;
};
static_assert(sizeof(region_access_payload) == 16);

/// DMA_READ and DMA_WRITE, commands and replies; data follows as above.
struct dma_access_payload {
  std::uint64_t iova = 0;
  std::uint64_t count = 0;  // 8 bytes: the specification's table says 4, peers send 8
};
static_assert(sizeof(dma_access_payload) == 16);

/// Anything that is copied between wire and memory as it is.
template <class T>
concept wire_struct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>;

/// The bytes of `value`, borrowed.
template <wire_struct T>
[[nodiscard]] std::span<const std::byte> wire_bytes(const T& value) noexcept {
  return std::as_bytes(std::span{&value, 1});
}

/// Copies a structure from the front of `bytes`; what follows it is the caller's.
/// @error protocol (too short)
template <wire_struct T>
[[nodiscard]] result<T> read_wire(std::span<const std::byte> bytes) noexcept {
  T value{};
  if (bytes.size() < sizeof(T)) {
    return fail(errc::protocol);
  }
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/// @pre `into` has room
template <wire_struct T>
void write_wire(std::span<std::byte> into, const T& value) noexcept {
  std::ranges::copy(wire_bytes(value), into.begin());
}

/// A command's header. @param payload_bytes  what follows it
[[nodiscard]] constexpr header command_header(std::uint16_t id, command what,
                                              std::size_t payload_bytes,
                                              bool wants_reply = true) noexcept {
  return {.id = id,
          .what = what,
          .size = static_cast<std::uint32_t>(sizeof(header) + payload_bytes),
          .flags = header_flags::type_command | (wants_reply ? 0 : header_flags::no_reply)};
}

/// The header of the answer to `request`.
[[nodiscard]] constexpr header reply_header(const header& request,
                                            std::size_t payload_bytes) noexcept {
  return {.id = request.id,
          .what = request.what,
          .size = static_cast<std::uint32_t>(sizeof(header) + payload_bytes),
          .flags = header_flags::type_reply};
}

/// The whole answer to a `request` that failed: nothing follows.
[[nodiscard]] constexpr header error_header(const header& request, int error_number) noexcept {
  return {.id = request.id,
          .what = request.what,
          .size = sizeof(header),
          .flags = header_flags::type_reply | header_flags::error,
          .error_number = static_cast<std::uint32_t>(error_number)};
}

/// The errno by which the other side learns of an error of ours.
[[nodiscard]] int errno_of(error what) noexcept;

/// After an error the stream has lost its frame: end the connection.
/// @error protocol (short, size below 16 or above `message_bytes_max`, neither command nor reply)
[[nodiscard]] result<header> parse_header(std::span<const std::byte> bytes) noexcept;

/// What one side tells about itself at the start. Defaults are those of the specification.
struct capabilities {
  std::uint64_t max_msg_fds = 1;
  std::uint64_t max_data_xfer_size = 1 * mib;
  std::uint64_t max_dma_maps = 65535;
  std::uint64_t pgsizes = 4096;

  friend bool operator==(const capabilities&, const capabilities&) = default;
};

struct version_info {
  version_numbers numbers;
  capabilities limits;
};

/// Absent text, `{}` and unknown keys are fine: defaults hold for what is not said.
/// @error protocol (short, text not terminated, too long or not JSON, numbers of a wrong kind)
/// @context allocates
[[nodiscard]] result<version_info> parse_version(std::span<const std::byte> payload);

/// The payload, terminator included. Short enough that the reply fits QEMU's buffer, which is as
/// long as its own request (214 bytes). @context allocates
[[nodiscard]] std::string encode_version(const version_info& info);

/// @error protocol (length), invalid (argsz, unknown flags, no access, size 0, range wraps)
[[nodiscard]] result<dma_map_payload> parse_dma_map(std::span<const std::byte> payload) noexcept;

/// @error protocol (length), invalid (argsz, unknown flags, size 0 without `all`, range wraps)
[[nodiscard]] result<dma_unmap_payload> parse_dma_unmap(
    std::span<const std::byte> payload) noexcept;

/// The fixed part of REGION_WRITE, DMA_WRITE or of a read's reply, with the data behind it.
template <wire_struct T>
struct with_data {
  T fixed;
  std::span<const std::byte> data;  // exactly `fixed.count` bytes, borrowed from the payload
};

/// @error protocol (length differs from what `count` says, or over `data_bytes_max`)
template <wire_struct T>
[[nodiscard]] result<with_data<T>> parse_with_data(std::span<const std::byte> payload) noexcept {
  auto fixed = read_wire<T>(payload);
  if (!fixed) {
    return std::unexpected{fixed.error()};
  }
  const auto data = payload.subspan(sizeof(T));
  if (fixed->count != data.size() || data.size() > data_bytes_max) {
    return fail(errc::protocol);
  }
  return with_data<T>{.fixed = *fixed, .data = data};
}

}  // namespace runnel::vfio_user
