#include "runtime/nap.h"

#include <cpuid.h>
#include <x86intrin.h>

#include "drivers/mmio.h"

namespace runnel {
namespace {

constexpr std::uint32_t extended_features = 7;
constexpr std::uint32_t waitpkg = 1U << 5U;  // of ECX
constexpr std::uint32_t extended_processor = 0x80000001;
constexpr std::uint32_t monitorx = 1U << 29U;  // of ECX
constexpr int pauses = 16;

[[gnu::target("waitpkg")]] void nap_by_tpause() noexcept {
  constexpr unsigned light = 1;  // C0.1: the faster to wake
  (void)_tpause(light, __rdtsc() + nap_cycles);
}

[[gnu::target("mwaitx")]] void nap_by_mwaitx() noexcept {
  constexpr unsigned timed = 2;
  constexpr unsigned light = 0xf0;  // C0
  std::uint64_t nobody_writes_here = 0;
  _mm_monitorx(&nobody_writes_here, 0, 0);
  _mm_mwaitx(timed, light, nap_cycles);
}

}  // namespace

cpuid_words this_cpuid(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  cpuid_words words;
  if (__get_cpuid_count(leaf, subleaf, &words.eax, &words.ebx, &words.ecx, &words.edx) == 0) {
    return {};
  }
  return words;
}

nap_kind find_nap(cpuid_function ask) noexcept {
  if ((ask(extended_features, 0).ecx & waitpkg) != 0) {
    return nap_kind::tpause;
  }
  if ((ask(extended_processor, 0).ecx & monitorx) != 0) {
    return nap_kind::mwaitx;
  }
  return nap_kind::pause;
}

void nap(nap_kind kind) noexcept {
  switch (kind) {
    case nap_kind::tpause:
      nap_by_tpause();
      break;
    case nap_kind::mwaitx:
      nap_by_mwaitx();
      break;
    case nap_kind::pause:
      for (int count = 0; count < pauses; ++count) {
        cpu_pause();
      }
      break;
  }
}

}  // namespace runnel
