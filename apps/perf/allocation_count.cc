#include "apps/perf/allocation_count.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "mempool/base/sanitizer.h"

#if defined(RUNNEL_ADDRESS_SANITIZER) || defined(RUNNEL_THREAD_SANITIZER)
#define RUNNEL_SANITIZED
#include <sanitizer/allocator_interface.h>
#endif

namespace {
constinit thread_local std::uint64_t allocations = 0;
}  // namespace

namespace runnel::perf {
std::uint64_t allocations_of_this_thread() noexcept {
  return allocations;
}
}  // namespace runnel::perf

#ifdef RUNNEL_SANITIZED

// The sanitizer owns malloc; it tells us instead.
namespace {
const int hooks_installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { ++allocations; }, [](const volatile void*) {});
}  // namespace

#else

// Definitions in the program win over the C library's, also for calls made by other libraries.
extern "C" {

// NOLINTBEGIN(readability-identifier-naming, bugprone-reserved-identifier): the C library's names
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* old, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
// NOLINTEND(readability-identifier-naming, bugprone-reserved-identifier)

void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}

void* calloc(std::size_t count, std::size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}

void* realloc(void* old, std::size_t bytes) {
  ++allocations;
  return __libc_realloc(old, bytes);
}

void* memalign(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}

int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  ++allocations;
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}

// With 64-bit file offsets programs call mmap64; libraries built without call mmap.
// NOLINTNEXTLINE(readability-function-size): the C library's own
void* mmap64(void* address, std::size_t length, int protection, int flags, int fd, off64_t offset) {
  ++allocations;
  // The raw call returns the address or, having set errno, -1: exactly MAP_FAILED.
  return reinterpret_cast<void*>(  // NOLINT(performance-no-int-to-ptr)
      syscall(SYS_mmap, address, length, protection, flags, fd, offset));
}

void* mmap_of_others(void*, std::size_t, int, int, int, off64_t) __asm__("mmap")
    __attribute__((alias("mmap64")));

}  // extern "C"

#endif
