#include <utility>

#include "drivers/vfio/kernel_device.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/check.h"

// What takes the kernel long: opening a device, resetting it, and closing it for good.
namespace runnel::vfio {
namespace {

constexpr std::uint16_t reset_command = 1;  // names the operation in the table

/// When closing is tried again where there was no memory for it, or too much else to be done.
constexpr nanoseconds close_retry = std::chrono::milliseconds{1};

}  // namespace

/// Opens the device and asks it what it is.
class kernel_device::open_job final : public blocking_job {
 public:
  open_job(syscalls& system, std::unique_ptr<device_opening> opening, std::string object)
      : system_{&system}, opening_{std::move(opening)}, object_{std::move(object)} {}

  void run() noexcept override {
    auto opened = opening_->open();
    opening_.reset();
    if (!opened) {
      facts = std::unexpected{opened.error()};
      return;
    }
    facts = learn_device(*system_, opened->fd(), object_);
    if (facts) {
      device = std::move(*opened);
    }
  }

  attached_device device;
  outcome<device_facts> facts;

 private:
  syscalls* system_;
  std::unique_ptr<device_opening> opening_;
  std::string object_;
};

/// Resets a device, or all that hangs on its bus. Has descriptors of its own, for we may go.
class kernel_device::reset_job final : public blocking_job {
 public:
  reset_job(syscalls& system, kernel_fd device, std::string object)
      : system_{&system}, device_{std::move(device)}, object_{std::move(object)} {}

  /// Makes it a hot reset. @error os
  [[nodiscard]] result<> take_bus(std::span<const owned_group> groups) {
    hot_ = true;
    for (const owned_group& each : groups) {
      auto own = system_->duplicate(each.fd);
      if (!own) {
        return std::unexpected{own.error()};
      }
      groups_.push_back({.number = each.number, .fd = own->get()});
      fds_.push_back(std::move(*own));
    }
    return {};
  }

  void run() noexcept override {
    ended = hot_ ? do_hot_reset(*system_, device_.get(), groups_, object_) : reset_function();
    fds_.clear();
    device_.reset();
  }

  outcome<> ended;

 private:
  [[nodiscard]] outcome<> reset_function() {
    const auto reset = system_->ioctl(device_.get(), uapi::ioctls::device_reset, 0);
    return reset ? outcome<>{} : fail(reset.error(), "reset", object_);
  }

  syscalls* system_;
  kernel_fd device_;
  std::string object_;
  bool hot_ = false;
  std::vector<owned_group> groups_;  // which all have one of
  std::vector<kernel_fd> fds_;
};

/// The last descriptor of a device resets it.
class kernel_device::close_job final : public blocking_job {
 public:
  explicit close_job(attached_device open) : device{std::move(open)} {}
  void run() noexcept override { const attached_device gone = std::move(device); }

  attached_device device;
};

kernel_device::kernel_device(syscalls& system, std::unique_ptr<blocking_calls> elsewhere,
                             std::unique_ptr<device_opener> opener, kernel_device_options options)
    : system_{&system},
      elsewhere_{std::move(elsewhere)},
      opener_{std::move(opener)},
      options_{options},
      alarms_{elsewhere_->event_fd()},
      areas_{system} {
  CHECK(opener_ != nullptr);
}

kernel_device::~kernel_device() {
  areas_.unmap();  // first: what is mapped keeps a device open
  abandon_opening();
  for (const auto& job : {resetting_, closing_}) {
    if (job) {
      elsewhere_->abandon(*job);
    }
  }
  if (device_) {
    std::unique_ptr<blocking_job> closing = std::make_unique<close_job>(std::move(device_));
    if (const auto started = elsewhere_->start(closing); started) {
      elsewhere_->abandon(*started);
    }  // else it is closed here and now
  }
}

instant kernel_device::advance(instant now) noexcept {
  heed_alarms();
  if (state_ == transport_state::connecting) {
    opening_ ? finish_opening(now) : begin_opening(now);
  }
  finish_reset();
  if (state_ == transport_state::leaving) {
    go_on_leaving();
  }
  if (state_ == transport_state::gone) {
    return never;
  }
  const instant deadline = operations_.apply_deadlines(now, options_.reset_timeout);
  if (std::exchange(news_, false)) {
    return now;  // somebody may wait for it
  }
  switch (state_) {
    case transport_state::connecting:
      return opening_deadline_;
    case transport_state::leaving:
      return resetting_ || closing_ ? deadline : now + close_retry;
    default:
      return deadline;
  }
}

void kernel_device::begin_opening(instant now) {
  if (alarms_.event_fd() < 0) {
    leave({.what = {errc::no_memory},
           .operation = "open",
           .object = opener_->object(),
           .hint = "raise the limit of open files: `ulimit -n`"});
    return;
  }
  auto prepared = opener_->prepare();
  if (!prepared) {
    leave(std::move(prepared.error()));
    return;
  }
  std::unique_ptr<blocking_job> job =
      std::make_unique<open_job>(*system_, std::move(*prepared), opener_->object());
  const auto started = elsewhere_->start(job);
  if (!started) {
    leave({.what = started.error(),
           .operation = "open",
           .object = opener_->object(),
           .hint = "too much is being opened at once"});
    return;
  }
  opening_ = *started;
  opening_deadline_ = now + options_.open_timeout;
  finish_opening(now);
}

void kernel_device::finish_opening(instant now) {
  const auto job = elsewhere_->take(*opening_);
  if (job == nullptr) {
    if (now >= opening_deadline_) {
      abandon_opening();
      leave({.what = {errc::timed_out},
             .operation = "open",
             .object = opener_->object(),
             .hint = "the kernel is still busy with it; its log may say why"});
    }
    return;
  }
  opening_.reset();
  if (auto taken = take_over(static_cast<open_job&>(*job)); !taken) {
    leave(std::move(taken.error()));
    return;
  }
  state_ = transport_state::ready;
}

/// What it has opened meanwhile is closed like all else, which takes long.
void kernel_device::abandon_opening() noexcept {
  if (!opening_) {
    return;
  }
  if (const auto job = elsewhere_->take(*opening_); job != nullptr) {
    device_ = std::move(static_cast<open_job&>(*job).device);
  } else {
    elsewhere_->abandon(*opening_);
  }
  opening_.reset();
}

outcome<> kernel_device::take_over(open_job& ended) {
  if (!ended.facts) {
    return std::unexpected{std::move(ended.facts.error())};
  }
  device_ = std::move(ended.device);
  if (auto joined = opener_->opened(); !joined) {
    return joined;
  }
  facts_ = std::move(*ended.facts);
  if (const auto armed = alarms_.arm(*system_, device_.fd(), facts_.irqs); !armed) {
    return fail(armed.error(), "ask for the alarms of", opener_->object());
  }
  irqs_enabled_.assign(facts_.irqs.size(), false);
  return {};
}

void kernel_device::heed_alarms() {
  const bool failed = alarms_.take_error();
  const bool wanted_back = alarms_.take_request();
  if (state_ != transport_state::ready) {
    return;  // it is leaving already
  }
  failed_ = failed_ || failed;
  if (wanted_back || areas_.faulted()) {
    leave({.what = {errc::device_gone},
           .operation = "use",
           .object = opener_->object(),
           .hint = wanted_back
                       ? "the kernel takes it back: it is being unbound or unplugged"
                       : "its registers went away: it was unplugged, reset or put to sleep"});
  }
}

result<ticket> kernel_device::reset() noexcept {
  const result<> admitted = admit();
  if (admitted && (facts_.info.flags & uapi::device_flags::reset) == 0) {
    return fail(errc::unsupported);
  }
  return start_reset(false);
}

result<ticket> kernel_device::hot_reset() noexcept {
  return start_reset(true);
}

result<ticket> kernel_device::start_reset(bool hot) noexcept {
  if (const result<> admitted = admit(); !admitted) {
    return std::unexpected{admitted.error()};
  }
  reset_hint_.clear();
  operation* const under = operations_.start(reset_command, 0);
  if (under == nullptr) {
    return fail(errc::queue_full);
  }
  auto made = make_reset(hot);
  if (!made) {
    return settle(*under, std::unexpected{made.error()});
  }
  std::unique_ptr<blocking_job> job = std::move(*made);
  const auto running = elsewhere_->start(job);
  if (!running) {
    operations_.withdraw(*under);
    return std::unexpected{running.error()};
  }
  resetting_ = *running;
  reset_id_ = operation_table::message_id(under->id);
  return under->id;
}

result<std::unique_ptr<kernel_device::reset_job>> kernel_device::make_reset(bool hot) noexcept {
  auto own = system_->duplicate(device_.fd());
  if (!own) {
    return std::unexpected{own.error()};
  }
  auto job = std::make_unique<reset_job>(*system_, std::move(*own), opener_->object());
  if (const auto taken = hot ? job->take_bus(opener_->groups()) : result<>{}; !taken) {
    return std::unexpected{taken.error()};
  }
  return job;
}

void kernel_device::finish_reset() noexcept {
  const auto job = resetting_ ? elsewhere_->take(*resetting_) : nullptr;
  if (job == nullptr) {
    return;
  }
  resetting_.reset();
  const outcome<>& ended = static_cast<const reset_job&>(*job).ended;
  reset_hint_ = ended ? std::string{} : ended.error().hint;
  if (auto* const waiting = operations_.waiting_for(reset_id_); waiting != nullptr) {
    operations_.reply(*waiting, ended ? error{} : ended.error().what);
  }
  news_ = true;
}

void kernel_device::leave(failure why) {
  state_ = transport_state::leaving;
  reason_ = std::move(why);
}

bool kernel_device::give_back() noexcept {
  if (state_ != transport_state::leaving && state_ != transport_state::gone) {
    leave({.what = {errc::device_gone},
           .operation = "use",
           .object = opener_->object(),
           .hint = "it was given back, for nothing could turn it off"});
  }
  return true;
}

/// The kernel gets back all that we have of the device: what is mapped, its descriptors, and last
/// its place in the domain. Once nothing is open it has been reset and reaches no memory.
void kernel_device::go_on_leaving() noexcept {
  if (!areas_.replace()) {
    return;  // a map keeps the device open
  }
  if (device_ && !resetting_) {
    std::unique_ptr<blocking_job> job = std::make_unique<close_job>(std::move(device_));
    if (const auto started = elsewhere_->start(job); started) {
      closing_ = *started;
    } else {
      device_ = std::move(static_cast<close_job&>(*job).device);  // again later
    }
  }
  if (closing_ && elsewhere_->take(*closing_) != nullptr) {
    closing_.reset();
  }
  if (!device_ && !closing_) {
    opener_->let_go();
    state_ = transport_state::gone;
    operations_.end_all({errc::device_gone});
  }
}

}  // namespace runnel::vfio
