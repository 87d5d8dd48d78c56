#pragma once

#include <bit>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/target/fake_host.h"
#include "apps/target/vfio_user_transport.h"
#include "drivers/vfio_user/server.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"
#include "tests/fuzz/byte_program.h"
#include "tests/sim/echo_device.h"

namespace runnel::fuzz {

/// A disk that must be told of memory before it may use it, and takes its time or says no.
class reaching_disk final : public target::fake::disk {
 public:
  reaching_disk() : disk{512, 64} { info_.device_reads_memory = true; }
  [[nodiscard]] result<ticket> map(const region&) noexcept override { return start(); }
  [[nodiscard]] result<ticket> unmap(const region&) noexcept override { return start(); }
  [[nodiscard]] std::optional<result<>> take(ticket) noexcept override {
    return answers ? std::optional{answer} : std::nullopt;
  }

  bool starts = true;
  bool answers = true;
  result<> answer;

 private:
  [[nodiscard]] result<ticket> start() const noexcept {
    return starts ? result<ticket>{ticket{1}} : fail(errc::queue_full);
  }
};

/// What a server of the fuzzer serves: one of our models, and its disturbances.
class served_model {
 public:
  virtual ~served_model() = default;
  [[nodiscard]] virtual vfio_user::device_model& device() = 0;
  virtual void poll(instant now) = 0;
  virtual void disturb(byte_program& program, vfio_user::server& server) = 0;
  virtual void behave(vfio_user::server& server) = 0;
};

class served_echo final : public served_model {
 public:
  vfio_user::device_model& device() override { return echo_; }
  void poll(instant) override {}
  void disturb(byte_program& program, vfio_user::server& server) override {
    echo_.stall(program.below(2) != 0, server);
    echo_.raise(program.below(sim::echo_device::vectors));
  }
  void behave(vfio_user::server& server) override { echo_.stall(false, server); }

 private:
  sim::echo_device echo_;
};

class served_nvme final : public served_model {
 public:
  explicit served_nvme(target::doorbell_mode doorbells) {
    system_.nqn = "nqn.2014-08.org.nvmexpress:uuid:fuzz";
    system_.namespaces.push_back({&disk_, {}});
    system_.transfer_bytes_max = 16 * kib;  // half the disk: tables of what is larger cost time
    paths_.push_back({.queue = std::move(*disk_.make_queue(64)),
                      .block_count = disk_.info().block_count,
                      .block_shift = 9});
    endpoint_.emplace(
        system_, paths_, std::vector<block_device*>{&disk_},
        target::endpoint_options{
            .controller = {.id = 1, .queues = {.io_queues = 2, .entries = 16, .vectors = 20}},
            .doorbells = doorbells,
            .on_trouble = [](const failure& why) { CHECK(!why.operation.empty()); }});
  }
  vfio_user::device_model& device() override { return *endpoint_; }
  void attach(vfio_user::server& server) { endpoint_->answer_through(server); }
  void poll(instant now) override {
    endpoint_->poll(now);
    static_cast<void>(endpoint_->take_answered());
  }
  void disturb(byte_program& program, vfio_user::server&) override {
    disk_.how = program.below(2) == 0 ? target::fake::disk::mode::delayed
                                      : target::fake::disk::mode::in_place;
    disk_.room = program.take_byte();
    disk_.may_finish = program.below(8);
    disk_.starts = !program.rarely(4);
    disk_.answers = !program.rarely(4);
    disk_.answer = program.rarely(4) ? result<>{fail(errc::no_memory)} : result<>{};
  }
  void behave(vfio_user::server&) override {
    disk_.room = disk_.may_finish = 1U << 20U;
    disk_.starts = disk_.answers = true;
  }

 private:
  reaching_disk disk_;
  target::subsystem system_;
  std::vector<target::namespace_path> paths_;
  std::optional<target::vfio_user_endpoint> endpoint_;
};

}  // namespace runnel::fuzz
