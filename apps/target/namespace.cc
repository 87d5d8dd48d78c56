#include "apps/target/namespace.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace runnel::target {
namespace {

/// FNV-1a with a final mix, so that texts that differ at their end differ everywhere.
std::uint64_t hash(std::string_view text, std::uint64_t seed) noexcept {
  std::uint64_t value = 0xcbf29ce484222325 ^ seed;
  for (const char letter : text) {
    value = (value ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  }
  value = (value ^ value >> 30U) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27U) * 0x94d049bb133111eb;
  return value ^ value >> 31U;
}

void mark(std::uint8_t& byte, std::uint8_t kept, std::uint8_t set) noexcept {
  byte = static_cast<std::uint8_t>((byte & kept) | set);
}

}  // namespace

namespace_identity derive_identity(std::string_view subsystem_nqn, std::uint32_t nsid,
                                   std::string_view address) {
  const std::string text =
      std::string{subsystem_nqn} + '\n' + std::to_string(nsid) + '\n' + std::string{address};
  const std::array<std::uint64_t, 2> words{hash(text, 0), hash(text, 0x9e3779b97f4a7c15)};

  namespace_identity identity;
  std::memcpy(identity.uuid.data(), words.data(), sizeof words);
  identity.nguid = identity.uuid;
  std::copy_n(identity.uuid.begin() + 8, identity.eui64.size(), identity.eui64.begin());

  // UUID version 8 (free form) of the usual variant. @spec RFC 9562 §5.8
  mark(identity.uuid[6], 0x0f, 0x80);
  mark(identity.uuid[8], 0x3f, 0x80);
  // The second lowest bit of an EUI's first byte says that no registrar assigned it; in an NGUID
  // the EUI's company part begins at byte 8.
  mark(identity.eui64[0], 0xfc, 0x02);
  mark(identity.nguid[8], 0xfc, 0x02);
  return identity;
}

}  // namespace runnel::target
