#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <type_traits>

namespace runnel {

/// What a caller may branch on.
enum class errc : std::uint16_t {
  ok = 0,
  queue_full = 1,  // poll, then retry; nothing was taken
  device_gone,     // the device, its process or its connection is no more
  timed_out,       // a deadline passed
  bad_status,      // the device answered with an error; detail is its status field
  os,              // the operating system refused; detail is errno
  invalid,         // the request itself is wrong
  unsupported,     // a correct request that this object cannot serve
  protocol,        // the peer broke the protocol
  no_memory,       // a pool, window or table is exhausted
  cancelled,       // the waiting task was cancelled
  busy,            // somebody else owns the object
  not_found,       // no object of that name
  data_differs,    // what was read is not what was written
};

/// An outcome that is not success, small enough for hot paths: 8 bytes, no strings.
struct error {
  errc code = errc::ok;
  std::uint32_t detail = 0;  // errno for `os`; status field for `bad_status`

  friend bool operator==(const error&, const error&) = default;
};
static_assert(sizeof(error) == 8 && std::is_trivially_copyable_v<error>);

template <class T = void>
using result = std::expected<T, error>;

/// The current errno as an error.
[[nodiscard]] error os_error() noexcept;

/// "timed out", "No such file or directory", "status 0x281".
[[nodiscard]] std::string to_string(error what);

/// An outcome on the control plane, with everything a user needs to act on it. Built where the
/// object is known; printed once, on one line, where the outcome is handled.
struct failure {
  error what;
  std::string operation;  // "connect"
  std::string object;     // "vfio-user:/run/a.sock"
  std::string hint;       // what to do about it; may be empty

  /// "connect vfio-user:/run/a.sock: Connection refused; start `runnel target` there first"
  [[nodiscard]] std::string message() const;
};

template <class T = void>
using outcome = std::expected<T, failure>;

/// Shorthand for `return fail(...)`.
[[nodiscard]] std::unexpected<failure> fail(error what, std::string operation, std::string object,
                                            std::string hint = {});
[[nodiscard]] inline std::unexpected<error> fail(errc code, std::uint32_t detail = 0) noexcept {
  return std::unexpected{error{code, detail}};
}

}  // namespace runnel
