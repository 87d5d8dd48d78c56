#include "apps/cli/core_list.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "runtime/cores.h"

namespace runnel::cli {
namespace {

constexpr unsigned core_max = 65535;  // whether it exists is seen later

std::optional<std::uint64_t> parse_number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, value, base);
  if (problem != std::errc{} || stop != end) {
    return std::nullopt;
  }
  return value;
}

std::vector<unsigned> cores_of_mask(std::uint64_t mask) {
  std::vector<unsigned> cores;
  for (unsigned core = 0; core < 64; ++core) {
    if ((mask >> core & 1U) != 0) {
      cores.push_back(core);
    }
  }
  return cores;
}

/// "3" or "2-5". False when it is neither.
bool append_range(std::string_view item, std::vector<unsigned>& cores) {
  const std::size_t dash = item.find('-');
  const auto first = parse_number(item.substr(0, dash), 10);
  const auto last =
      dash == std::string_view::npos ? first : parse_number(item.substr(dash + 1), 10);
  if (!first || !last || *first > *last || *last > core_max) {
    return false;
  }
  for (auto core = static_cast<unsigned>(*first); core <= *last; ++core) {
    cores.push_back(core);
  }
  return true;
}

}  // namespace

outcome<std::vector<unsigned>> parse_core_list(std::string_view text) {
  const auto refuse = [text] {
    return fail({errc::invalid}, "read core list", "\"" + std::string{text} + "\"",
                "write cores as 0,2-5 or as a mask 0x3c");
  };
  std::vector<unsigned> cores;
  if (text.starts_with("0x")) {
    const auto mask = parse_number(text.substr(2), 16);
    if (!mask || *mask == 0) {
      return refuse();
    }
    return cores_of_mask(*mask);
  }
  if (text.starts_with('[') && text.ends_with(']')) {
    text = text.substr(1, text.size() - 2);
  }
  for (;;) {
    const std::size_t comma = text.find(',');
    if (!append_range(text.substr(0, comma), cores)) {
      return refuse();
    }
    if (comma == std::string_view::npos) {
      break;
    }
    text.remove_prefix(comma + 1);
  }
  std::sort(cores.begin(), cores.end());
  cores.erase(std::unique(cores.begin(), cores.end()), cores.end());
  return cores;
}

outcome<std::vector<unsigned>> choose_cores(const std::string& option, default_core otherwise) {
  if (!option.empty()) {
    return parse_core_list(option);
  }
  const auto allowed = allowed_cores();
  if (!allowed) {
    return std::unexpected{allowed.error()};
  }
  return std::vector<unsigned>{
      raw(otherwise == default_core::first ? allowed->front() : allowed->back())};
}

}  // namespace runnel::cli
