#include "drivers/nvme/controller.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::nvme {
namespace {

constexpr nanoseconds watch_interval = std::chrono::seconds{1};
constexpr nanoseconds io_limit_max = std::chrono::hours{1};
constexpr std::uint32_t resets_in_a_row = 3;

/// The last of them take more than the controller along.
constexpr reset_scope scope_of(std::uint32_t resets_left) noexcept {
  return resets_left == 0   ? reset_scope::bus
         : resets_left == 1 ? reset_scope::function
                            : reset_scope::controller;
}

}  // namespace

controller::controller(std::unique_ptr<vfio::device_transport> transport,
                       vfio::iommu_domain& domain, window& memory, controller_options options)
    : transport_{std::move(transport)}, data_{*transport_, domain, memory, std::move(options)} {
  CHECK(data_.options.queue_count > 0 && data_.options.queue_count < io_queue_entries_max);
  CHECK(data_.options.io_limit > nanoseconds{0} && data_.options.io_limit <= io_limit_max);
  data_.info.address = data_.options.name;
  data_.info.note = data_.options.note;
}

controller::~controller() {
  for (const io_queue& queue : data_.queues) {
    CHECK(!queue.control->attached.load(std::memory_order_acquire));  // pairs with its destructor
  }
  give_memory_back();
}

void controller::give_memory_back() noexcept {
  const auto give_back = [this](std::byte* first, std::size_t bytes) {
    const std::span piece{first, bytes};
    if (bytes == 0) {
      return;
    }
    data_.device_quiet ? data_.memory.release(piece) : data_.memory.quarantine(piece);
  };
  for (const io_queue& queue : data_.queues) {
    give_back(queue.memory.data(), queue.memory.size());
  }
  give_back(data_.admin_memory.data(), data_.admin_memory.size());
}

outcome<std::unique_ptr<block_queue>> controller::make_queue(std::uint32_t depth) {
  const controller_options& options = data_.options;
  if (state_ != controller_state::ready) {
    return fail({errc::device_gone}, "make a queue of", options.name, "it is not ready");
  }
  if (depth == 0 || depth > options.queue_depth) {
    return fail({errc::invalid}, "make a queue of", options.name,
                fmt::format("depth {} is not between 1 and {}, the depth it was opened with", depth,
                            options.queue_depth));
  }
  const auto free = std::ranges::find(data_.queues, false, &io_queue::taken);
  if (free == data_.queues.end()) {
    return fail({errc::invalid}, "make a queue of", options.name,
                fmt::format("it was opened with {}, and all are taken", options.queue_count));
  }
  free->taken = true;
  return std::make_unique<queue_pair>(data_.parts_of(*free, depth));
}

result<ticket> controller::map(const region& memory) noexcept {
  const transport_guard::turn held{data_.guard};
  return held ? data_.domain.map(memory) : fail(errc::queue_full);
}

result<ticket> controller::unmap(const region& memory) noexcept {
  const transport_guard::turn held{data_.guard};
  return held ? data_.domain.unmap(memory) : fail(errc::queue_full);
}

std::optional<result<>> controller::take(ticket which) noexcept {
  const transport_guard::turn held{data_.guard};
  const auto reply = held ? data_.domain.take(which) : std::nullopt;
  if (!reply) {
    return std::nullopt;
  }
  if (reply->status.code != errc::ok) {
    return std::unexpected{reply->status};
  }
  return result<>{};
}

const failure& controller::reason() const noexcept {
  CHECK(state_ == controller_state::failed);
  return *reason_;
}

std::string controller::mishap() const {
  const auto told = [](const failure& why) {
    return why.hint.empty() ? why.operation + ": " + to_string(why.what) : why.hint;
  };
  if (state_ == controller_state::failed) {
    return told(*reason_);
  }
  const controller_events& past = data_.events;
  return past.resets == 0
             ? std::string{}
             : fmt::format("it was reset {} {}, last because {}", past.resets,
                           past.resets == 1 ? "time" : "times", told(*past.reset_reason));
}

result<> controller::reset() noexcept {
  if (state_ != controller_state::ready) {
    return fail(errc::busy);
  }
  state_ = controller_state::connecting;
  reset_wanted_ = true;
  return {};
}

void controller::shutdown() noexcept {
  if (state_ == controller_state::failed || state_ == controller_state::closed) {
    return;
  }
  state_ = controller_state::closing;
  shutdown_wanted_ = true;
}

result<> controller::ask(const admin_question& what) noexcept {
  if (state_ != controller_state::ready) {
    return fail(errc::device_gone);
  }
  if (question_ != question_state::none) {
    return fail(errc::busy);
  }
  data_.question = what;
  question_ = question_state::wanted;
  return {};
}

result<> controller::read_log(log_page page, std::uint32_t bytes) noexcept {
  if (bytes == 0 || bytes > host_page_bytes || !is_aligned(bytes, 4)) {
    return fail(errc::invalid);
  }
  return ask({.command = get_log_command(page, bytes, iova{}),
              .data_bytes = bytes,
              .limit = data_.options.admin_limit});
}

result<> controller::get_feature(feature which, feature_select select) noexcept {
  return ask({.command = get_feature_command(which, select), .limit = data_.options.admin_limit});
}

result<> controller::set_feature(feature which, std::uint32_t value) noexcept {
  if (which == feature::number_of_queues) {
    return fail(errc::invalid);
  }
  return ask({.command = set_feature_command(which, value), .limit = data_.options.admin_limit});
}

result<> controller::format(std::uint8_t format, erase how) noexcept {
  if (format > data_.namespace_identity.nlbaf || format >= data_.namespace_identity.lbaf.size()) {
    return fail(errc::invalid);
  }
  return ask(
      {.command = format_command(data_.nsid, format, how), .limit = data_.options.format_limit});
}

std::optional<result<admin_answer>> controller::take_answer() noexcept {
  if (question_ == question_state::none || state_ == controller_state::failed ||
      state_ == controller_state::closed) {
    question_ = question_state::none;
    return fail(errc::device_gone);
  }
  if (question_ == question_state::wanted) {
    return std::nullopt;
  }
  if (std::exchange(question_, question_state::none) == question_state::late) {
    return fail(errc::timed_out);
  }
  if (data_.answer.status != 0) {
    return fail(errc::bad_status, data_.answer.status);
  }
  return admin_answer{.value = data_.answer.value,
                      .data = std::span{data_.answer_data}.first(data_.question.data_bytes)};
}

instant controller::advance(instant now) noexcept {
  const transport_guard::turn held{data_.guard};
  if (!held) {
    return now;
  }
  transport_->advance(now);
  heed_transport(now);
  if (now >= tick_at_) {
    tick_at_ = now + data_.options.io_limit / ticks_per_command;
    data_.tick();
  }
  while ((activity_ != activity::none || begin_next(now)) && run_step(now)) {
  }
  // Again, for what was just started: it is sent, and has a deadline.
  const instant transport_deadline = transport_->advance(now);
  if (activity_ != activity::none) {
    return std::min(transport_deadline, now + step_poll_interval);
  }
  return std::min({transport_deadline, watch_at_, watch_at_ == never ? never : tick_at_});
}

void controller::heed_transport(instant now) noexcept {
  const vfio::transport_state state = transport_->state();
  const bool failed = transport_->take_error();
  if (state == vfio::transport_state::gone && watch_at_ != never) {
    fail_with(transport_->reason(), now);
    end_requests();
  }
  if (state_ == controller_state::failed || state_ == controller_state::closed) {
    return;
  }
  if (state == vfio::transport_state::leaving) {
    fail_with(transport_->reason(), now);  // what is in flight may still be carried out
    return;
  }
  if (!failed || !ran_ || state_ == controller_state::closing) {
    return;  // bring-up finds out by itself, and so does shutdown
  }
  failure why{.what = {errc::bad_status},
              .operation = "watch",
              .object = data_.options.name,
              .hint = "the device reported an uncorrectable error of its PCI link (AER)"};
  if (!may_mend(why.what)) {
    return fail_with(std::move(why), now);
  }
  begin_mending(std::move(why));
  data_.scope = std::max(data_.scope, reset_scope::function);  // its link may have been reset
}

/// Chooses what to do next; false: nothing.
bool controller::begin_next(instant now) noexcept {
  const bool over = state_ == controller_state::failed || state_ == controller_state::closed;
  if (over && now < watch_at_) {
    return false;
  }
  if (state_ == controller_state::ready) {
    take_events(data_);
  }
  if (state_ == controller_state::failed) {
    begin(activity::retire, retire_steps(), now);
  } else if (!attached_) {
    begin(activity::attach, attach_steps(), now);
  } else if (reset_wanted_) {
    begin(activity::enable, enable_steps(), now);
  } else if (shutdown_wanted_) {  // of a controller that runs: bring-up and reset end first
    begin(activity::shutdown, shutdown_steps(), now);
  } else if (data_.find_late_queue() != nullptr) {
    begin(activity::abort, abort_steps(), now);
  } else if (question_ == question_state::wanted) {
    begin(activity::question, question_steps(), now);
  } else if (data_.event_logs != 0) {
    begin(activity::event, event_steps(), now);
  } else if (data_.rescan_wanted) {
    begin(activity::rescan, rescan_steps(), now);
  } else if (now >= watch_at_) {
    begin(activity::watch, watch_steps(), now);
  } else {
    return false;
  }
  return true;
}

void controller::begin(activity what, std::span<const step> steps, instant now) noexcept {
  activity_ = what;
  steps_ = steps;
  at_ = 0;
  enter_step(now);
}

void controller::enter_step(instant now) noexcept {
  started_ = false;
  data_.hint.clear();
  deadline_ = now + limit_of(steps_[at_], data_);
}

/// True: there may be another step; false: it waits, or it failed.
bool controller::run_step(instant now) noexcept {
  const step& current = steps_[at_];
  if (!started_) {
    const auto begun = current.start(data_);
    if (!begun && begun.error().code != errc::queue_full) {
      return fail_step(begun.error(), now);
    }
    started_ = begun.has_value();
  }
  if (started_) {
    const auto done = current.check(data_, now);
    if (!done && !is_out_of_reach(done.error())) {
      return fail_step(done.error(), now);
    }
    if (!done) {
      started_ = false;  // it is asked again
      data_.hint = "its registers read as ones: it was unplugged, or never ends a reset";
    } else if (*done) {
      if (++at_ == steps_.size()) {
        finish_activity(now);
      } else {
        enter_step(now);
      }
      return true;
    }
  }
  if (now >= deadline_) {
    if (data_.hint.empty()) {
      const auto limit =
          std::chrono::duration_cast<std::chrono::milliseconds>(limit_of(current, data_));
      data_.hint = fmt::format("the device did not answer within {} ms", limit.count());
    }
    return fail_step({errc::timed_out}, now);
  }
  return false;
}

void controller::finish_activity(instant now) noexcept {
  switch (std::exchange(activity_, activity::none)) {
    case activity::none:
      break;
    case activity::attach:
      attached_ = true;
      reset_wanted_ = true;
      break;
    case activity::enable:
      reset_wanted_ = false;
      data_.scope = reset_scope::controller;
      watch_at_ = now + watch_interval;
      if (!std::exchange(ran_, true)) {
        resets_left_ = resets_in_a_row;
      }
      if (state_ == controller_state::connecting) {
        state_ = controller_state::ready;
      }
      break;
    case activity::watch:
      watch_at_ = now + watch_interval;
      resets_left_ = resets_in_a_row;
      break;
    case activity::abort:
    case activity::event:
    case activity::rescan:
      break;
    case activity::question:
      question_ = question_state::answered;
      break;
    case activity::shutdown:
      shutdown_wanted_ = false;
      state_ = controller_state::closed;
      end_requests();
      break;
    case activity::retire:
      end_requests();
      break;
  }
}

/// Whether a device that ran reads as ones: it is being reset, perhaps by others, or not there. The
/// transport finds out about the latter.
bool controller::is_out_of_reach(error what) const noexcept {
  return what.code == errc::device_gone && ran_ && state_ != controller_state::failed &&
         transport_->state() == vfio::transport_state::ready;
}

/// True: it is to be mended, by steps that begin now.
bool controller::fail_step(error what, instant now) {
  const bool is_last_try = activity_ == activity::retire;
  failure why{.what = what,
              .operation = steps_[at_].name,
              .object = data_.options.name,
              .hint = what.code == errc::device_gone && data_.hint.empty()
                          ? "the device is no longer there"
                          : data_.hint};
  if (may_mend(what)) {
    begin_mending(std::move(why));
    return true;
  }
  fail_with(std::move(why), now);
  const bool is_given_back = is_last_try && transport_->give_back();
  if (data_.device_quiet || (is_last_try && !is_given_back && what.code == errc::device_gone)) {
    end_requests();
  }
  return false;
}

/// Whether a reset may help: the device ran, is there, and was late or wrong. One that is another
/// than before stays so.
bool controller::may_mend(error what) const noexcept {
  return resets_left_ != 0 &&
         (state_ == controller_state::ready || state_ == controller_state::connecting) &&
         (what.code == errc::timed_out || what.code == errc::bad_status);
}

void controller::begin_mending(failure why) noexcept {
  data_.scope = scope_of(--resets_left_);
  ++data_.events.resets;
  data_.events.reset_reason = std::move(why);
  data_.abandon_step();
  if (activity_ == activity::question) {
    question_ = question_state::late;
  }
  activity_ = activity::none;
  state_ = controller_state::connecting;
  reset_wanted_ = true;
}

/// Begins no request any more. Those in flight may still be carried out by a device that is late.
void controller::fail_with(failure why, instant now) noexcept {
  data_.abandon_step();
  activity_ = activity::none;
  if (state_ == controller_state::failed) {  // it could not be retired
    watch_at_ = now + watch_interval;
    return;
  }
  data_.set_queues(queue_state::failed);
  reason_ = std::move(why);
  state_ = controller_state::failed;
  watch_at_ = now;
}

/// @pre the device reaches no memory of ours any more
void controller::end_requests() noexcept {
  data_.set_queues(queue_state::gone);
  watch_at_ = never;
}

}  // namespace runnel::nvme
