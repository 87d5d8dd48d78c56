#pragma once

#include <cstdint>

namespace runnel {

/// The processor's ways of doing nothing for a moment, cheaper than a loop of `pause`.
enum class nap_kind : std::uint8_t {
  pause,   // it has none of those below
  tpause,  // WAITPKG, Intel: the timed form of umwait
  mwaitx,  // MONITORX, AMD: with its timer
};

struct cpuid_words {
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
};
using cpuid_function = cpuid_words (*)(std::uint32_t leaf, std::uint32_t subleaf) noexcept;

/// What this processor says of itself; zero for leaves that it does not have.
[[nodiscard]] cpuid_words this_cpuid(std::uint32_t leaf, std::uint32_t subleaf) noexcept;

/// The best nap of a processor that answers so. @spec Intel SDM 2 CPUID; AMD APM 3 appendix E
[[nodiscard]] nap_kind find_nap(cpuid_function ask) noexcept;

/// Lets the core rest for `nap_cycles` of its time stamp counter, or a few with `pause`. Timed, not
/// woken by a store: a core polls more places than the one line that such an instruction can watch.
/// @pre this processor has `kind`
void nap(nap_kind kind) noexcept;

inline constexpr std::uint32_t nap_cycles = 4096;  // one or two microseconds

}  // namespace runnel
