#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "drivers/vfio/blocking_calls.h"
#include "mempool/base/check.h"
#include "mempool/base/unique_fd.h"

namespace runnel::sim {

/// Has blocking calls made in this thread: at once, or when the test says so.
class deferred_calls final : public vfio::blocking_calls {
 public:
  /// What the test holds on to; outlives the calls.
  struct control {
    bool at_once = true;
    bool refuses = false;  // with queue_full
    std::uint32_t last = 0;
    std::map<std::uint32_t, std::unique_ptr<vfio::blocking_job>> waiting;
    std::map<std::uint32_t, std::unique_ptr<vfio::blocking_job>> done;
    std::set<std::uint32_t> abandoned;
    unique_fd event{::eventfd(0, EFD_NONBLOCK)};

    /// Some other thread gets to it.
    void run_all() {
      for (auto& [id, job] : std::exchange(waiting, {})) {
        job->run();
        if (!abandoned.contains(id)) {
          done.emplace(id, std::move(job));
        }
      }
      show();
    }
    /// The event is readable while something is done.
    void show() const {
      std::uint64_t count = done.size();
      static_cast<void>(::read(event.get(), &count, sizeof(count)));
      count = done.size();
      CHECK(::write(event.get(), &count, sizeof(count)) == sizeof(count));
    }
  };

  explicit deferred_calls(control& by) : by_{&by} {}

  [[nodiscard]] result<ticket> start(std::unique_ptr<vfio::blocking_job>& job) noexcept override {
    if (by_->refuses) {
      return fail(errc::queue_full);
    }
    by_->waiting.emplace(++by_->last, std::move(job));
    if (by_->at_once) {
      by_->run_all();
    }
    return ticket{by_->last};
  }
  [[nodiscard]] std::unique_ptr<vfio::blocking_job> take(ticket which) noexcept override {
    auto found = by_->done.extract(static_cast<std::uint32_t>(which));
    by_->show();
    return found.empty() ? nullptr : std::move(found.mapped());
  }
  void abandon(ticket which) noexcept override {
    const auto id = static_cast<std::uint32_t>(which);
    CHECK(by_->done.contains(id) || by_->waiting.contains(id));
    by_->done.erase(id);
    by_->show();
    by_->abandoned.insert(id);
  }
  [[nodiscard]] int event_fd() const noexcept override { return by_->event.get(); }

 private:
  control* by_;
};

}  // namespace runnel::sim
