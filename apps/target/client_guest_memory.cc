#include "apps/target/client_guest_memory.h"

namespace runnel::target {

memory_run client_guest_memory::run_at(iova first, access wanted) const noexcept {
  std::uint64_t bytes = ~std::uint64_t{0};
  const vfio_user::resolved found = memory_.resolve_run(first, bytes, wanted);
  if (found.memory == hidden_) {
    return {};
  }
  return {found.address, bytes, found.memory};
}

std::byte* client_guest_memory::resolve(iova first, std::uint64_t bytes,
                                        access wanted) const noexcept {
  std::byte* const begin = memory_.resolve(first, bytes, wanted).address;
  // The hidden region may be any of those that are spanned.
  for (std::uint64_t seen = 0; begin != nullptr && seen < bytes;) {
    const memory_run part = run_at(first + seen, wanted);
    if (part.address == nullptr) {
      return nullptr;
    }
    seen += part.bytes;
  }
  return begin;
}

}  // namespace runnel::target
