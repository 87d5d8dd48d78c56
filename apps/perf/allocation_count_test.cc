// Goal: no way to memory escapes the counter that `heap_allocations` is made of, and an allocation
// inside the measured interval shows in the result.

#include "apps/perf/allocation_count.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "apps/perf/session.h"
#include "mempool/base/sanitizer.h"
#include "tests/sim/core.h"

namespace runnel::perf {
namespace {

using std::chrono::seconds;

constexpr std::size_t bytes = 4096;
void* kept = nullptr;

/// What nobody sees the compiler need not allocate.
void keep(void* made) {
  kept = made;
  asm volatile("" : : "m"(kept) : "memory");
}

template <class Allocate>
std::uint64_t counted(Allocate&& allocate) {
  const std::uint64_t before = allocations_of_this_thread();
  allocate();
  return allocations_of_this_thread() - before;
}

TEST(AllocationCount, EveryWayToMemoryIsCounted) {
#if defined(RUNNEL_THREAD_SANITIZER)
  GTEST_SKIP() << "it does not tell of aligned memory";
#endif
  EXPECT_GE(counted([] { keep(std::malloc(bytes)); }), 1U);
  EXPECT_GE(counted([] { keep(std::realloc(kept, 2 * bytes)); }), 1U);
  std::free(kept);
  EXPECT_GE(counted([] { keep(std::calloc(1, bytes)); }), 1U);
  std::free(kept);
  EXPECT_GE(counted([] { keep(std::aligned_alloc(64, bytes)); }), 1U);
  std::free(kept);
  EXPECT_GE(counted([] {
              void* made = nullptr;
              EXPECT_EQ(posix_memalign(&made, 64, bytes), 0);
              keep(made);
            }),
            1U);
  std::free(kept);
  EXPECT_GE(counted([] { keep(::operator new(bytes)); }), 1U);
  ::operator delete(kept);
}

// Sanitizers map memory as they like.
#if !defined(RUNNEL_ADDRESS_SANITIZER) && !defined(RUNNEL_THREAD_SANITIZER)
TEST(AllocationCount, MapsAreCountedUnderBothNames) {
  for (const char* name : {"mmap", "mmap64"}) {
    using function = void* (*)(void*, std::size_t, int, int, int, off_t);
    const auto map = reinterpret_cast<function>(::dlsym(RTLD_DEFAULT, name));
    ASSERT_NE(map, nullptr);
    void* mapped = MAP_FAILED;
    EXPECT_EQ(counted([&] {
                mapped = map(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              }),
              1U)
        << name;
    ASSERT_NE(mapped, MAP_FAILED);
    ::munmap(mapped, bytes);
  }
}
#endif

TEST(AllocationCount, AnotherThreadsAllocationsAreItsOwn) {
  std::thread other;
  std::uint64_t of_other = 0;
  const std::uint64_t before = allocations_of_this_thread();
  other = std::thread{[&of_other] {
    of_other = counted([] { keep(std::malloc(bytes)); });
    std::free(kept);
  }};
  const std::uint64_t after = allocations_of_this_thread();
  other.join();
  EXPECT_EQ(of_other, 1U);
  EXPECT_LE(after - before, 4U) << "what starting a thread takes";
}

/// What a session reports that does one I/O in its measured interval, and whatever `during` does.
template <class During>
std::uint64_t heap_allocations_of(During&& during) {
  sim::core core;
  options asked;
  asked.warmup = seconds{1};
  asked.duration = seconds{1};
  block_info device;
  device.block_bytes = 512;
  session work{asked, device, {.first = 0, .count = 100}, core.loop, core.clock};
  work.begin();
  planned_io io;
  core.clock.advance_to(core.clock.now() + seconds{1});
  core.loop.turn();
  EXPECT_TRUE(work.plan(io, {}));  // the warm-up has ended
  during();
  const instant started = work.start(io);
  work.finish(io, started, {}, {});
  core.clock.advance_to(core.clock.now() + seconds{2});
  core.loop.turn();
  EXPECT_FALSE(work.plan(io, {}));
  return work.take_result().heap_allocations;
}

TEST(AllocationCount, AnAllocationInTheMeasuredIntervalShows) {
  EXPECT_EQ(heap_allocations_of([] {}), 0U);
  EXPECT_EQ(heap_allocations_of([] { keep(::operator new(bytes)); }), 1U);
  ::operator delete(kept);
}

}  // namespace
}  // namespace runnel::perf
