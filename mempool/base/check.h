#pragma once

/// Aborts with the place and the expression when one of *our own* invariants is broken, in every
/// build. Never used on bytes a guest, a wire or a device supplied: those are validated.
#define CHECK(condition)                                      \
  do {                                                        \
    if (!(condition)) [[unlikely]] {                          \
      ::runnel::check_failed(#condition, __FILE__, __LINE__); \
    }                                                         \
  } while (false)

namespace runnel {

[[noreturn, gnu::cold]] void check_failed(const char* condition, const char* file,
                                          int line) noexcept;

}  // namespace runnel
