#include "runtime/thread.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <memory>

#include "mempool/base/check.h"

namespace runnel {
namespace {

struct entry {
  pinned_thread::function run;
  void* context;
};

void* enter(void* argument) noexcept {
  const std::unique_ptr<entry> taken{static_cast<entry*>(argument)};
  taken->run(taken->context);
  return nullptr;
}

/// @return 0 or an errno. The affinity is set before the thread runs: nothing it touches first
/// lands on another core's memory.
int create(pthread_t& handle, std::span<const core_id> cores, entry& what) {
  const unsigned count = raw(std::ranges::max(cores)) + 1;
  cpu_set_t* set = CPU_ALLOC(count);
  const std::size_t set_bytes = CPU_ALLOC_SIZE(count);
  CPU_ZERO_S(set_bytes, set);
  for (const core_id core : cores) {
    CPU_SET_S(raw(core), set_bytes, set);
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  int problem = pthread_attr_setaffinity_np(&attributes, set_bytes, set);
  if (problem == 0) {
    problem = pthread_create(&handle, &attributes, enter, &what);
  }
  pthread_attr_destroy(&attributes);
  CPU_FREE(set);
  return problem;
}

}  // namespace

outcome<pinned_thread> pinned_thread::start(std::span<const core_id> cores, const std::string& name,
                                            function run, void* context) {
  auto what = std::make_unique<entry>(entry{run, context});
  pthread_t handle{};
  const int problem = create(handle, cores, *what);
  if (problem != 0) {
    return fail({errc::os, static_cast<std::uint32_t>(problem)}, "start a thread on core",
                std::to_string(raw(cores.front())),
                "check `ulimit -u` and the cpuset of this process");
  }
  (void)what.release();                                    // the thread has it now
  pthread_setname_np(handle, name.substr(0, 15).c_str());  // only a label: failure changes nothing
  return pinned_thread{handle};
}

pinned_thread::~pinned_thread() {
  if (joinable_) {
    CHECK(pthread_join(handle_, nullptr) == 0);
  }
}

off_core_clock::off_core_clock() noexcept
    : file_{open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)} {}

nanoseconds off_core_clock::read() const noexcept {
  std::array<char, 128> text{};  // "on core, off core, slices"
  const ssize_t length = file_ ? pread(file_.get(), text.data(), text.size(), 0) : 0;
  const char* const end = text.data() + std::max<ssize_t>(length, 0);
  const char* const space = std::find(static_cast<const char*>(text.data()), end, ' ');
  std::int64_t ns = 0;
  if (space != end) {
    std::from_chars(space + 1, end, ns);
  }
  return nanoseconds{ns};
}

}  // namespace runnel
