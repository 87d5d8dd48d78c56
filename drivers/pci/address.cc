#include "drivers/pci/address.h"

#include <fmt/format.h>

#include <charconv>

namespace runnel::pci {
namespace {

constexpr std::size_t short_form_letters = 7;  // bb:dd.f
constexpr std::size_t domain_digits_min = 4;
constexpr std::size_t domain_digits_max = 8;

/// All of `digits` as a hexadecimal number up to `maximum`.
std::optional<std::uint32_t> parse_hex(std::string_view digits, std::uint32_t maximum) noexcept {
  std::uint32_t value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, problem] = std::from_chars(digits.data(), end, value, 16);
  if (problem != std::errc{} || stop != end || value > maximum) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::optional<address> parse_address(std::string_view text) noexcept {
  std::optional<std::uint32_t> domain = 0;
  if (text.size() > short_form_letters) {
    const std::size_t digits = text.size() - short_form_letters - 1;
    if (digits < domain_digits_min || digits > domain_digits_max || text[digits] != ':') {
      return std::nullopt;
    }
    domain = parse_hex(text.substr(0, digits), UINT32_MAX);
    text.remove_prefix(digits + 1);
  }
  if (text.size() != short_form_letters || text[2] != ':' || text[5] != '.') {
    return std::nullopt;
  }
  const auto bus = parse_hex(text.substr(0, 2), 0xff);
  const auto device = parse_hex(text.substr(3, 2), 31);
  const auto function = parse_hex(text.substr(6, 1), 7);
  if (!domain || !bus || !device || !function) {
    return std::nullopt;
  }
  return address{.domain = *domain,
                 .bus = static_cast<std::uint8_t>(*bus),
                 .device = static_cast<std::uint8_t>(*device),
                 .function = static_cast<std::uint8_t>(*function)};
}

std::string to_string(const address& where) {
  return fmt::format("{:04x}:{:02x}:{:02x}.{}", where.domain, where.bus, where.device,
                     where.function);
}

}  // namespace runnel::pci
