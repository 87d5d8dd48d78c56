#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace runnel::doctor {

/// How a precondition is met.
enum class status : std::uint8_t {
  ok,
  warning,  // something works less well, or by fewer ways
  failed,   // `pci:` cannot work
};
[[nodiscard]] constexpr std::string_view to_string(status what) noexcept {
  constexpr std::string_view names[] = {"ok", "warning", "failed"};
  return names[static_cast<std::size_t>(what)];
}

/// A precondition: what was found, and what to do about it. Each text is one line.
struct check {
  std::string_view id;  // for programs: it stays the same
  doctor::status status = status::ok;
  std::string cause;
  std::string remedy;  // empty: nothing is to be done, which is so only when it is ok
};

[[nodiscard]] inline check good(std::string_view id, std::string found) {
  return {.id = id, .status = status::ok, .cause = std::move(found), .remedy = {}};
}
[[nodiscard]] inline check doubtful(std::string_view id, std::string cause, std::string remedy) {
  return {id, status::warning, std::move(cause), std::move(remedy)};
}
[[nodiscard]] inline check bad(std::string_view id, std::string cause, std::string remedy) {
  return {id, status::failed, std::move(cause), std::move(remedy)};
}

}  // namespace runnel::doctor
