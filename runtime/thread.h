#pragma once

#include <pthread.h>

#include <span>
#include <string>
#include <utility>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel {

/// A named thread on some cores; joined by its destructor, so make it stop first.
class pinned_thread {
 public:
  using function = void (*)(void* context) noexcept;

  /// @param cores  where it may run  @pre not empty
  /// @param name  cut to the 15 characters the kernel keeps
  /// @error os, naming the first core
  [[nodiscard]] static outcome<pinned_thread> start(std::span<const core_id> cores,
                                                    const std::string& name, function run,
                                                    void* context);

  pinned_thread(pinned_thread&& other) noexcept
      : handle_{other.handle_}, joinable_{std::exchange(other.joinable_, false)} {}
  pinned_thread& operator=(pinned_thread&&) = delete;
  pinned_thread(const pinned_thread&) = delete;
  pinned_thread& operator=(const pinned_thread&) = delete;
  ~pinned_thread();

 private:
  explicit pinned_thread(pthread_t handle) noexcept : handle_{handle} {}

  pthread_t handle_;
  bool joinable_ = true;
};

/// How long a thread has been ready to run while others were on its core.
class off_core_clock {
 public:
  /// Of the calling thread. @context opens a file, for then it need not be opened later
  off_core_clock() noexcept;
  /// Since that thread began; 0 where the kernel does not tell. @context one system call
  [[nodiscard]] nanoseconds read() const noexcept;

 private:
  unique_fd file_;
};

}  // namespace runnel
