#include "runtime/io/address.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <utility>

#include "drivers/pci/address.h"
#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel::io {
namespace {

constexpr std::string_view parse_operation = "read the address";
constexpr std::string_view size_operation = "read the size";
constexpr std::string_view schemes_hint =
    "addresses are vfio-user:PATH, file:PATH, ram:SIZE, null:[SIZE] or pci:DDDD:BB:DD.F";
constexpr std::uint64_t null_bytes = 1024 * gib;  // takes no memory, so it may well be large

/// One option, and what becomes of its value: why it is none, or nothing.
struct option {
  std::string_view name;
  std::optional<std::string> (*read)(std::string_view value, address& into);
};

std::optional<std::uint64_t> read_number(std::string_view text, bool with_suffix) noexcept;

template <std::optional<std::uint32_t> address::* Value, std::uint32_t Maximum, bool WithSuffix>
std::optional<std::string> read_uint(std::string_view text, address& into) {
  if ((into.*Value).has_value()) {
    return "is given twice";
  }
  const auto number = read_number(text, WithSuffix);
  if (!number || *number == 0 || *number > Maximum) {
    return "is a number from 1 to " + std::to_string(Maximum);
  }
  into.*Value = static_cast<std::uint32_t>(*number);
  return std::nullopt;
}

std::optional<std::string> read_way(std::string_view text, address& into) {
  if (into.via) {
    return "is given twice";
  }
  for (const pci::way each :
       {pci::way::cdev, pci::way::group, pci::way::compat, pci::way::noiommu}) {
    if (text == pci::to_string(each)) {
      into.via = each;
      return std::nullopt;
    }
  }
  return "is cdev, group, compat or noiommu";
}

constexpr option namespace_option{"ns", read_uint<&address::namespace_id, 0xffff'fffe, false>};
constexpr option depth_option{"queue_depth", read_uint<&address::queue_depth, 65536, false>};
constexpr option block_option{"block_size", read_uint<&address::block_bytes, 65536, true>};
constexpr option way_option{"via", read_way};

struct scheme_rule {
  std::string_view name;
  scheme kind;
  bool takes_size;
  std::uint64_t default_bytes;  // 0: something must be named
  std::span<const option> options;
};

constexpr std::array nvme_options{namespace_option, depth_option};
constexpr std::array pci_options{namespace_option, depth_option, way_option};
constexpr std::array soft_options{block_option, depth_option};

constexpr std::array<scheme_rule, 5> scheme_rules{{
    {"vfio-user", scheme::vfio_user, false, 0, nvme_options},
    {"file", scheme::file, false, 0, soft_options},
    {"ram", scheme::ram, true, 0, soft_options},
    {"null", scheme::null, true, null_bytes, soft_options},
    {"pci", scheme::pci, false, 0, pci_options},
}};

std::unexpected<failure> refuse(std::string_view text, std::string hint) {
  return fail({errc::invalid}, std::string{parse_operation}, "\"" + std::string{text} + "\"",
              std::move(hint));
}

const scheme_rule* find_rule(std::string_view name) noexcept {
  for (const scheme_rule& rule : scheme_rules) {
    if (rule.name == name) {
      return &rule;
    }
  }
  return nullptr;
}

const option* find_option(const scheme_rule& rule, std::string_view name) noexcept {
  const auto found = std::ranges::find(rule.options, name, &option::name);
  return found == rule.options.end() ? nullptr : &*found;
}

std::string option_hint(const scheme_rule& rule) {
  std::string hint = "options of ";
  hint += rule.name;
  std::string_view before = " are ";
  for (const option& each : rule.options) {
    hint += before;
    hint += each.name;
    hint += "=";
    before = ", ";
  }
  return hint + ", joined by &";
}

unsigned suffix_shift(char suffix) noexcept {
  switch (suffix | 0x20) {
    case 'k':
      return 10;
    case 'm':
      return 20;
    case 'g':
      return 30;
    case 't':
      return 40;
    default:
      return 0;
  }
}

/// Digits with or without a suffix; empty for anything else and for what exceeds 64 bits.
std::optional<std::uint64_t> read_number(std::string_view text, bool with_suffix) noexcept {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  if (problem != std::errc{}) {
    return std::nullopt;
  }
  const std::string_view rest{stop, static_cast<std::size_t>(end - stop)};
  if (rest.empty()) {
    return number;
  }
  const unsigned shift = rest.size() == 1 && with_suffix ? suffix_shift(rest[0]) : 0;
  if (shift == 0) {
    return std::nullopt;
  }
  return checked_mul(number, std::uint64_t{1} << shift);
}

/// `name=value`. @return why not
std::optional<std::string> read_option(std::string_view text, const scheme_rule& rule,
                                       address& into) {
  const std::size_t equals = text.find('=');
  const option* const known = find_option(rule, text.substr(0, equals));
  if (known == nullptr || equals == std::string_view::npos) {
    return option_hint(rule);
  }
  auto problem = known->read(text.substr(equals + 1), into);
  if (problem) {
    problem->insert(0, std::string{known->name} + " ");
  }
  return problem;
}

std::optional<std::string> read_query(std::string_view query, const scheme_rule& rule,
                                      address& into) {
  for (;;) {
    const std::size_t ampersand = query.find('&');
    auto problem = read_option(query.substr(0, ampersand), rule, into);
    if (problem || ampersand == std::string_view::npos) {
      return problem;
    }
    query.remove_prefix(ampersand + 1);
  }
}

}  // namespace

outcome<address> parse_address(std::string_view text) {
  const std::size_t colon = text.find(':');
  const scheme_rule* const rule =
      colon == std::string_view::npos ? nullptr : find_rule(text.substr(0, colon));
  if (rule == nullptr) {
    return refuse(text, std::string{schemes_hint});
  }
  const std::string_view rest = text.substr(colon + 1);
  const std::size_t mark = rest.rfind('?');
  address parsed;
  parsed.text = text;
  parsed.kind = rule->kind;
  parsed.target = rest.substr(0, mark);
  if (parsed.target.empty() && rule->default_bytes == 0) {
    return refuse(text, std::string{schemes_hint});
  }
  if (parsed.kind == scheme::pci && !pci::parse_address(parsed.target)) {
    return refuse(text, "a PCI address is DDDD:BB:DD.F or BB:DD.F: pci:0000:01:00.0");
  }
  if (rule->takes_size) {
    const auto bytes = parsed.target.empty() ? std::optional{rule->default_bytes}
                                             : read_number(parsed.target, true);
    if (!bytes || *bytes == 0) {
      return refuse(text, "the size is a number with or without k, m, g or t: " +
                              std::string{rule->name} + ":256m");
    }
    parsed.bytes = *bytes;
  }
  if (mark != std::string_view::npos) {
    auto problem = read_query(rest.substr(mark + 1), *rule, parsed);
    if (problem) {
      return refuse(text, std::move(*problem));
    }
  }
  return parsed;
}

outcome<std::uint64_t> parse_size(std::string_view text) {
  const auto bytes = read_number(text, true);
  if (!bytes) {
    return fail({errc::invalid}, std::string{size_operation}, "\"" + std::string{text} + "\"",
                "write a number with or without k, m, g or t: 4k");
  }
  return *bytes;
}

bool is_usage_error(const failure& what) noexcept {
  return what.what.code == errc::invalid &&
         (what.operation == parse_operation || what.operation == size_operation);
}

}  // namespace runnel::io
