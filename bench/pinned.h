#pragma once

#include "bench/need.h"
#include "mempool/base/units.h"
#include "runtime/thread.h"

namespace runnel::bench {

/// Runs `work` on that core; it has ended when the thread is destroyed.
template <class Work>
[[nodiscard]] pinned_thread start_on(core_id core, const char* name, Work& work) {
  return need(pinned_thread::start(
      {&core, 1}, name, [](void* context) noexcept { (*static_cast<Work*>(context))(); }, &work));
}

}  // namespace runnel::bench
