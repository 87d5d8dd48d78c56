#include "mempool/private_memory.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"

namespace runnel {
namespace {

void* map_anonymous(std::size_t bytes, int flags) noexcept {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/// Makes every page be there now, not on the data path, and none be copied after a fork.
/// @error os: the kernel has not so many; errno says why
result<> populate(std::span<std::byte> memory) noexcept {
  madvise(memory.data(), memory.size(), MADV_DONTFORK);
  if (madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0) {
    return {};
  }
  if (errno != EINVAL) {
    return std::unexpected{os_error()};
  }
  std::memset(memory.data(), 0, memory.size());  // a kernel before 5.14
  return {};
}

}  // namespace

outcome<private_memory> private_memory::create(std::size_t bytes) {
  CHECK(bytes > 0);
  if (has_huge_pages(huge_bytes) && bytes <= huge_pages_free(huge_bytes) * huge_bytes) {
    const std::size_t whole = align_up(bytes, huge_bytes);
    void* mapped = map_anonymous(whole, MAP_HUGETLB | MAP_HUGE_2MB);
    if (mapped != MAP_FAILED) {
      const std::span all{static_cast<std::byte*>(mapped), whole};
      private_memory made{all, all.first(bytes), page_kind::huge};
      if (populate(all)) {
        return made;
      }
    }
    // Somebody was faster, or a control group limits huge pages: normal pages serve as well.
  }
  if (bytes > available_memory_bytes()) {
    return memory_shortage({errc::no_memory}, bytes);
  }
  const std::size_t with_slack = bytes + huge_bytes;  // to begin where a huge page may
  void* mapped = map_anonymous(with_slack, MAP_NORESERVE);
  if (mapped == MAP_FAILED) {
    return memory_shortage(os_error(), bytes);
  }
  const auto first = reinterpret_cast<std::uintptr_t>(mapped);
  const std::span all{static_cast<std::byte*>(mapped), with_slack};
  private_memory made{all, all.subspan(align_up(first, huge_bytes) - first, bytes),
                      page_kind::normal};
  madvise(made.bytes_.data(), bytes, MADV_HUGEPAGE);  // a wish: kernels without are only slower
  if (const auto there = populate(made.bytes_); !there) {
    return memory_shortage(there.error(), bytes);
  }
  return made;
}

private_memory::private_memory(private_memory&& other) noexcept
    : mapped_{std::exchange(other.mapped_, {})},
      bytes_{std::exchange(other.bytes_, {})},
      kind_{other.kind_} {}

private_memory& private_memory::operator=(private_memory&& other) noexcept {
  private_memory taken{std::move(other)};
  std::swap(mapped_, taken.mapped_);
  std::swap(bytes_, taken.bytes_);
  std::swap(kind_, taken.kind_);
  return *this;
}

private_memory::~private_memory() {
  if (!mapped_.empty()) {
    munmap(mapped_.data(), mapped_.size());
  }
}

}  // namespace runnel
