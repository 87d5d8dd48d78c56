// Goal: no device, whatever it says and whenever, breaks the driver, has it touch memory that is
// not the request's, or end a request twice. Method: the input is a program of the driver's user
// and, at each thing that the device does, of its lies (hostile_device.h), on a clock that the
// program moves.

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "drivers/nvme/controller.h"
#include "drivers/nvme/queue_pair.h"
#include "mempool/base/check.h"
#include "mempool/window.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/hostile_device.h"

namespace runnel::fuzz {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t depth = 4;
constexpr int turns_to_settle = 400;
constexpr int turns_to_retire = 20;
constexpr std::uint32_t idle_turns_max = 40;
constexpr std::size_t window_bytes = 256 * kib;
constexpr std::size_t data_bytes = 64 * kib;

window make_window() {
  return std::move(*window::create({.bytes = window_bytes, .huge = false}));
}

/// Memory that devices may touch; as new for each input.
window& memory() {
  static window all = make_window();
  return all;
}

/// @param bits  a byte whose low two bits are the kind of user
device_traits traits_from(std::uint32_t bits) {
  constexpr std::array<std::uint32_t, 8> ids{
      0,           0,           0,           0x2263'126f,  // the last: no descriptors
      0xa809'144d, 0xa821'144d, 0x0100'1bb1, 0x5845'8086,  // zeroes, late, late and none, no list
  };
  return {.map_doorbells = (bits & 3U) != 1,
          .shadow_doorbells = (bits & 4U) != 0,
          .interrupts = (bits & 8U) != 0,
          .pci_id = ids[bits >> 4U & 7U],
          .version = (bits & 128U) != 0 ? nvme::version(1, 2) : nvme::version(2, 0)};
}

class user {
 public:
  explicit user(byte_program program)
      : program_{program}, data_{*memory().allocate(data_bytes, 4096)} {
    const std::uint32_t bits = program_.take_byte();
    const std::uint32_t kind = bits & 3U;
    begins_well_ = program_.below(4) != 0;
    auto made = std::make_unique<hostile_device>(program_, traits_from(bits));
    hostile_device& device = *made;
    device_ = &device;
    subject_ = std::make_unique<nvme::controller>(
        std::move(made), device, memory(),
        nvme::controller_options{
            .name = "fuzz",
            .queue_count = kind == 2 ? 2U : 1U,
            .queue_depth = depth,
            .doorbells = kind == 3 ? nvme::doorbell_policy::burst : nvme::doorbell_policy::eager,
            .interrupts = true,
            .io_limit = 16s,         // a sixteenth of it is a turn without anything to do
            .format_limit = 1min});  // what one waits for is to end within `turns_to_settle`
  }
  user(const user&) = delete;
  user& operator=(const user&) = delete;
  ~user() {
    queues_.clear();
    subject_.reset();
    memory().release(data_);
    if (memory().quarantined_bytes() != 0) {
      memory() = make_window();  // the device was lost while it could reach it
    }
    CHECK(memory().free_bytes() == window_bytes);
  }

  void run() {
    device_->be_honest(begins_well_);
    settle();
    device_->be_honest(false);
    while (!program_.empty()) {
      step();
    }
    subject_->shutdown();
    settle();
    CHECK(subject_->state() == nvme::controller_state::closed ||
          subject_->state() == nvme::controller_state::failed);
    for (int i = 0; i < turns_to_retire && !(at_rest_ && waiting_.empty()); ++i) {
      pass(1s);
    }
    poll();
    look();
    CHECK(waiting_.empty());  // with its device gone or off, every request has ended
  }

 private:
  void step() {
    switch (program_.below(16)) {
      case 0:
      case 1:
      case 2:
        return submit();
      case 3:
        return pass(program_.pick(std::array<nanoseconds, 4>{1ms, 100ms, 1s, 6s}));
      case 4:
        static_cast<void>(subject_->reset());  // refused unless it is ready
        return;
      case 5:
        return ask();
      case 6:
        return make_queue();
      case 8:
      case 9:
        return doze();
      case 10:
        return idle(false);
      case 11:
        return idle(true);
      case 12:
      case 13:
        for (std::uint32_t requests = 1 + program_.below(16); requests > 0; --requests) {
          submit();
        }
        return;
      case 14:
        return move_memory();
      default:
        return run_turns(1 + program_.below(8));
    }
  }

  /// Time passes: in 17 turns or so a command is over its time.
  void idle(bool honest) {
    const std::uint32_t turns = std::min(8U << program_.below(4), idle_turns_left_);
    idle_turns_left_ -= turns;
    device_->be_honest(honest);
    run_turns(turns);
    device_->be_honest(false);
  }

  void run_turns(std::uint32_t count) {
    for (; count > 0; --count) {
      turn();
    }
  }

  void turn() {
    poll();
    const instant next = subject_->advance(now_);
    at_rest_ = next == never;
    now_ = next == never ? now_ + 1ms : std::max(next, now_ + 1us);
  }
  void pass(nanoseconds time) {
    now_ += time;
    turn();
  }
  /// Until bring-up, reset or shutdown has come to an end, good or bad.
  void settle() {
    const auto busy = [this] {
      return subject_->state() == nvme::controller_state::connecting ||
             subject_->state() == nvme::controller_state::closing;
    };
    for (int i = 0; i < turns_to_settle && busy(); ++i) {
      turn();
      now_ += 500ms;
    }
    CHECK(!busy());  // every wait has a deadline
    make_queue();
  }

  void make_queue() {
    if (auto made = subject_->make_queue(depth)) {
      queues_.push_back(std::move(*made));
    }
  }

  /// @pre there is one
  block_queue& any_queue() { return *queues_[program_.below(queues_.size())]; }

  /// The core of a queue sleeps, if it may.
  void doze() {
    if (queues_.empty()) {
      return;
    }
    block_queue& queue = any_queue();
    if (queue.arm() && queue.wake_fd() < 0) {  // nothing tells: then nothing comes
      CHECK(std::ranges::none_of(waiting_, [&](const auto& each) { return each.first == &queue; }));
    }
    turn();
    queue.disarm();
  }

  void submit() {
    if (queues_.empty()) {
      return;
    }
    std::array<segment, 3> segments{};
    const std::uint32_t count = 1 + program_.below(segments.size());
    std::size_t total = 0;
    for (segment& piece : std::span{segments}.first(count)) {
      const std::size_t first =
          program_.below(64) * std::size_t{512} + (program_.rarely(8) ? 2 : 0);
      piece = {.address = data_.data() + first,
               .length = std::min<std::size_t>((1 + program_.below(64)) * std::size_t{512},
                                               data_bytes - first),
               .memory = program_.rarely(32) ? nullptr : &memory().memory()};
      total += piece.length;
    }
    const auto blocks = static_cast<std::uint32_t>(total / 512);
    block_request request{.tag = next_tag_,
                          .segments = segments.data(),
                          .segment_count = count,
                          .blocks = program_.rarely(8) ? program_.take<std::uint16_t>() : blocks,
                          .first = lba{program_.take_byte()},
                          .op = program_.pick(std::array{
                              block_op::read, block_op::write, block_op::flush, block_op::compare,
                              block_op::write_zeroes, block_op::deallocate, block_op::verify})};
    if (!has_data(request.op)) {
      request.segment_count = 0;
    }
    if (request.op == block_op::flush) {
      request.blocks = 0;
    }
    request.force_unit_access = program_.rarely(4);
    block_queue& queue = any_queue();
    queue.submit({&request, 1});
    if (request.state == block_state::pending) {
      waiting_.emplace(&queue, next_tag_++);
    }
    if (program_.below(4) != 3) {
      queue.flush();
    }
  }

  void poll() {
    std::array<block_completion, 8> out;
    for (const auto& queue : queues_) {
      for (const block_completion& each : std::span{out}.first(queue->poll(out))) {
        CHECK(waiting_.erase({queue.get(), each.tag}) == 1);
      }
      queue->flush();
    }
  }

  /// Maps memory of the user's, or unmaps it.
  void move_memory() {
    if (moving_) {
      if (subject_->take(*moving_)) {
        moving_.reset();
      }
      return;
    }
    const auto started = own_mapped_ ? subject_->unmap(own_) : subject_->map(own_);
    if (started) {
      own_mapped_ = !own_mapped_;
      moving_ = *started;
    }
  }

  /// What is shown of a device, or of its end.
  void look() {
    for (const char each : nvme::text_of(subject_->details().controller_identity.sn)) {
      CHECK(each >= ' ' && each <= '~');
    }
    CHECK(subject_->state() != nvme::controller_state::failed ||
          subject_->reason().what.code != errc::ok);
  }

  /// Asks one question; it is refused when it is wrong, or while another is under way.
  void ask() {
    constexpr std::array<std::uint32_t, 4> sizes{512, 4096, 64, 3};
    const auto which = static_cast<nvme::feature>(program_.take_byte());
    switch (program_.below(4)) {
      case 0:
        static_cast<void>(subject_->get_feature(which, nvme::feature_select::supported));
        break;
      case 1:
        static_cast<void>(subject_->set_feature(which, program_.take_byte()));
        break;
      case 2:
        static_cast<void>(
            subject_->format(program_.below<std::uint8_t>(6), nvme::erase::user_data));
        break;
      default:
        static_cast<void>(
            subject_->read_log(nvme::log_page::health_information, program_.pick(sizes)));
    }
    for (int i = 0; i < 3; ++i) {
      turn();
      if (const auto answer = subject_->take_answer()) {
        CHECK(!*answer || (*answer)->data.size() <= 4096);
        return;
      }
    }
  }

  byte_program program_;
  std::span<std::byte> data_;
  hostile_device* device_ = nullptr;
  bool begins_well_ = false;
  std::unique_ptr<nvme::controller> subject_;
  std::vector<std::unique_ptr<block_queue>> queues_;
  std::set<std::pair<const block_queue*, std::uint64_t>> waiting_;  // with its tag
  std::uint64_t next_tag_ = 1;
  instant now_{1s};
  region own_;
  bool own_mapped_ = false;
  std::optional<ticket> moving_;  // `own_`
  bool at_rest_ = false;          // the controller has nothing left to do
  std::uint32_t idle_turns_left_ = idle_turns_max;
};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runnel::fuzz::user{runnel::fuzz::byte_program{{data, size}}}.run();
  return 0;
}
