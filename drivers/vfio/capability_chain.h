#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/checked.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// The structure at the front of `bytes`, copied out once; empty when it does not fit.
template <class T>
[[nodiscard]] std::optional<T> read_front(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < sizeof(T)) {
    return std::nullopt;
  }
  T value{};
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

/// One capability behind an info structure.
struct info_capability {
  std::uint16_t id = 0;
  std::uint16_t version = 0;
  std::span<const std::byte> bytes;  // from its header to the end of what was received
};

/// Walks the capabilities behind an info structure of a kernel or a peer, whatever they say: a
/// capability begins behind the one before it and within the reply, or the chain is broken. So a
/// walk ends, after at most one step for each eight bytes.
/// @spec Linux vfio_info_cap_add: capabilities are appended, each linked from the one before
class capability_chain {
 public:
  /// @param reply  from the first byte of the structure to the end of what was received
  /// @param fixed  bytes of the structure
  /// @param first  its `cap_offset`; 0: there are none
  capability_chain(std::span<const std::byte> reply, std::size_t fixed,
                   std::uint32_t first) noexcept
      : reply_{reply}, end_of_previous_{fixed}, next_{first} {}

  /// The next capability; none at the end. @error protocol, then and ever after
  [[nodiscard]] result<std::optional<info_capability>> next() noexcept {
    if (next_ == 0) {
      return std::nullopt;
    }
    const bool follows = next_ >= end_of_previous_ &&
                         range_within(next_, sizeof(uapi::info_cap_header), reply_.size());
    if (!follows) {
      return fail(errc::protocol);
    }
    const auto bytes = reply_.subspan(next_);
    const auto header = read_front<uapi::info_cap_header>(bytes);
    end_of_previous_ = std::uint64_t{next_} + sizeof(*header);
    next_ = header->next;
    return info_capability{.id = header->id, .version = header->version, .bytes = bytes};
  }

 private:
  std::span<const std::byte> reply_;
  std::uint64_t end_of_previous_;
  std::uint32_t next_;
};

}  // namespace runnel::vfio
