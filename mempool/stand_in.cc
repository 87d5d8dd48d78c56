#include "mempool/stand_in.h"

#include <sys/mman.h>

#include <cstring>

namespace runnel {

/// Filled elsewhere and moved: mapped in place it would be seen empty for a moment.
result<> put_stand_in(std::span<std::byte> pages, std::byte filler) noexcept {
  void* const fresh = ::mmap(nullptr, pages.size(), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) {
    return std::unexpected{os_error()};
  }
  if (filler != std::byte{0}) {
    std::memset(fresh, std::to_integer<int>(filler), pages.size());
  }
  if (::mremap(fresh, pages.size(), pages.size(), MREMAP_MAYMOVE | MREMAP_FIXED, pages.data()) ==
      MAP_FAILED) {
    const error why = os_error();
    ::munmap(fresh, pages.size());
    return std::unexpected{why};
  }
  return {};
}

}  // namespace runnel
