#include "runtime/io/address.h"

#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel::io {
namespace {

constexpr std::string_view parse_operation = "read the address";
constexpr std::string_view size_operation = "read the size";
constexpr std::string_view schemes_hint =
    "addresses are vfio-user:PATH, file:PATH, ram:SIZE, null:[SIZE] or pci:DDDD:BB:DD.F";
constexpr std::uint64_t null_bytes = 1024 * gib;  // takes no memory, so it may well be large

/// One option and where its value goes.
struct option {
  std::string_view name;
  std::optional<std::uint32_t> address::* value;
  bool is_size;  // takes k, m, g
  std::uint32_t maximum;
};

constexpr option namespace_option{"ns", &address::namespace_id, false, 0xffff'fffe};
constexpr option depth_option{"queue_depth", &address::queue_depth, false, 65536};
constexpr option block_option{"block_size", &address::block_bytes, true, 65536};

struct scheme_rule {
  std::string_view name;
  scheme kind;
  bool takes_size;
  std::uint64_t default_bytes;  // 0: something must be named
  std::array<const option*, 2> options;
};

constexpr std::array<scheme_rule, 5> scheme_rules{{
    {"vfio-user", scheme::vfio_user, false, 0, {&namespace_option, &depth_option}},
    {"file", scheme::file, false, 0, {&block_option, &depth_option}},
    {"ram", scheme::ram, true, 0, {&block_option, &depth_option}},
    {"null", scheme::null, true, null_bytes, {&block_option, &depth_option}},
    {"pci", scheme::pci, false, 0, {&namespace_option, &depth_option}},
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
  for (const option* each : rule.options) {
    if (each->name == name) {
      return each;
    }
  }
  return nullptr;
}

std::string option_hint(const scheme_rule& rule) {
  std::string hint = "options of ";
  hint += rule.name;
  hint += " are ";
  hint += rule.options[0]->name;
  hint += "=N and ";
  hint += rule.options[1]->name;
  hint += "=N, joined by &";
  return hint;
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
  const std::string name{known->name};
  if ((into.*known->value).has_value()) {
    return name + " is given twice";
  }
  const auto number = read_number(text.substr(equals + 1), known->is_size);
  if (!number || *number == 0 || *number > known->maximum) {
    return name + " is a number from 1 to " + std::to_string(known->maximum);
  }
  into.*known->value = static_cast<std::uint32_t>(*number);
  return std::nullopt;
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
