#include "drivers/vfio_user/protocol.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>

#include "mempool/base/checked.h"

namespace runnel::vfio_user {
namespace {

using nlohmann::json;

/// The number at `key` if there is one. False: something else is there.
bool read_number(const json& object, const char* key, std::uint64_t& out) {
  const auto found = object.find(key);
  if (found == object.end()) {
    return true;
  }
  if (!found->is_number_unsigned()) {
    return false;
  }
  out = found->get<std::uint64_t>();
  return true;
}

/// Limits from the text; defaults where it is silent.
std::optional<capabilities> parse_capabilities(std::string_view text) {
  capabilities limits;
  // Neither callback nor exceptions: a text that is not JSON gives a discarded value.
  const json document = json::parse(text.begin(), text.end(), nullptr, false);
  if (!document.is_object()) {
    return std::nullopt;
  }
  const auto said = document.find("capabilities");
  if (said == document.end()) {
    return limits;
  }
  if (!said->is_object() || !read_number(*said, "max_msg_fds", limits.max_msg_fds) ||
      !read_number(*said, "max_data_xfer_size", limits.max_data_xfer_size) ||
      !read_number(*said, "max_dma_maps", limits.max_dma_maps) ||
      !read_number(*said, "pgsizes", limits.pgsizes)) {
    return std::nullopt;
  }
  return limits;
}

/// The last byte of [first, first + size) exists. The range may end at 2^64.
bool has_last_byte(std::uint64_t first, std::uint64_t size) {
  return size != 0 && checked_add(first, size - 1).has_value();
}

}  // namespace

int errno_of(error what) noexcept {
  switch (what.code) {
    case errc::ok:
      return 0;
    case errc::os:
      return static_cast<int>(what.detail);
    case errc::no_memory:
      return ENOMEM;
    case errc::busy:
      return EEXIST;
    default:
      return EINVAL;
  }
}

result<header> parse_header(std::span<const std::byte> bytes) noexcept {
  const auto head = read_wire<header>(bytes);
  if (!head) {
    return head;
  }
  const std::uint32_t type = head->flags & header_flags::type_mask;
  const bool known_type = type == header_flags::type_command || type == header_flags::type_reply;
  if (!known_type || head->size < sizeof(header) || head->size > message_bytes_max) {
    return fail(errc::protocol);
  }
  return head;
}

result<version_info> parse_version(std::span<const std::byte> payload) {
  const auto numbers = read_wire<version_numbers>(payload);
  if (!numbers) {
    return std::unexpected{numbers.error()};
  }
  const auto text = payload.subspan(sizeof(version_numbers));
  if (text.empty()) {
    return version_info{.numbers = *numbers, .limits = {}};
  }
  if (text.size() > version_text_bytes_max || text.back() != std::byte{0}) {
    return fail(errc::protocol);
  }
  const auto limits =
      parse_capabilities({reinterpret_cast<const char*>(text.data()), text.size() - 1});
  if (!limits) {
    return fail(errc::protocol);
  }
  return version_info{.numbers = *numbers, .limits = *limits};
}

std::string encode_version(const version_info& info) {
  const auto numbers = wire_bytes(info.numbers);
  std::string payload{reinterpret_cast<const char*>(numbers.data()), numbers.size()};
  payload += fmt::format(R"({{"capabilities":{{"max_msg_fds":{},"max_data_xfer_size":{},)"
                         R"("max_dma_maps":{},"pgsizes":{}}}}})",
                         info.limits.max_msg_fds, info.limits.max_data_xfer_size,
                         info.limits.max_dma_maps, info.limits.pgsizes);
  payload += '\0';
  return payload;
}

result<dma_map_payload> parse_dma_map(std::span<const std::byte> payload) noexcept {
  constexpr std::uint32_t access_flags = dma_map_flags::read | dma_map_flags::write;
  const auto map = read_wire<dma_map_payload>(payload);
  if (!map) {
    return map;
  }
  if (payload.size() != sizeof(dma_map_payload)) {
    return fail(errc::protocol);
  }
  const bool flags_good =
      (map->flags & ~(access_flags | dma_map_flags::mmap)) == 0 && (map->flags & access_flags) != 0;
  if (map->argsz < sizeof(dma_map_payload) || !flags_good || !has_last_byte(map->iova, map->size) ||
      !has_last_byte(map->offset, map->size)) {
    return fail(errc::invalid);
  }
  return map;
}

result<dma_unmap_payload> parse_dma_unmap(std::span<const std::byte> payload) noexcept {
  const auto unmap = read_wire<dma_unmap_payload>(payload);
  if (!unmap) {
    return unmap;
  }
  if (payload.size() != sizeof(dma_unmap_payload)) {
    return fail(errc::protocol);
  }
  const bool range_good = unmap->flags == dma_unmap_flags::all
                              ? unmap->iova == 0 && unmap->size == 0
                              : unmap->flags == 0 && has_last_byte(unmap->iova, unmap->size);
  if (unmap->argsz < sizeof(dma_unmap_payload) || !range_good) {
    return fail(errc::invalid);
  }
  return unmap;
}

}  // namespace runnel::vfio_user
