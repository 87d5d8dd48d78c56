#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "drivers/vfio/blocking_calls.h"
#include "mempool/base/unique_fd.h"
#include "runtime/offload.h"

namespace runnel::io {

/// Blocking calls of one device, made by the threads of an offloader, which outlives it.
class offloaded_calls final : public vfio::blocking_calls {
 public:
  static constexpr std::size_t calls_max = 4;

  /// @error os: no descriptor is left
  [[nodiscard]] static result<std::unique_ptr<offloaded_calls>> create(offloader& threads);
  offloaded_calls(const offloaded_calls&) = delete;
  offloaded_calls& operator=(const offloaded_calls&) = delete;
  ~offloaded_calls() override;

  [[nodiscard]] result<ticket> start(std::unique_ptr<vfio::blocking_job>& job) noexcept override;
  [[nodiscard]] std::unique_ptr<vfio::blocking_job> take(ticket which) noexcept override;
  void abandon(ticket which) noexcept override;
  [[nodiscard]] int event_fd() const noexcept override { return wake_.get(); }

 private:
  class call;
  using call_list = std::vector<std::unique_ptr<call>>;

  offloaded_calls(offloader& threads, unique_fd wake) noexcept;
  [[nodiscard]] call_list::iterator find(ticket which) noexcept;

  offloader* threads_;
  unique_fd wake_;  // counts calls that have ended
  call_list calls_;
  std::uint32_t last_id_ = 0;
};

}  // namespace runnel::io
