// Goal: calls that block are made elsewhere, their results come back once, and nothing of one that
// nobody waits for is left. Method: jobs that wait for the test.
#include "runtime/io/offloaded_calls.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <memory>
#include <semaphore>
#include <thread>
#include <utility>

#include "runtime/cores.h"

namespace runnel::io {
namespace {

/// Runs when it is let go, and tells when it has run and when it is gone.
class held_job final : public vfio::blocking_job {
 public:
  struct marks {
    std::binary_semaphore go{0};
    std::binary_semaphore gone{0};
    std::thread::id ran_on;
  };
  explicit held_job(marks& told) noexcept : told_{told} {}
  ~held_job() override { told_.gone.release(); }
  void run() noexcept override {
    told_.go.acquire();
    told_.ran_on = std::this_thread::get_id();
  }

 private:
  marks& told_;
};

class OffloadedCalls : public testing::Test {
 protected:
  ticket start(held_job::marks& told) {
    std::unique_ptr<vfio::blocking_job> job = std::make_unique<held_job>(told);
    const auto started = calls->start(job);
    EXPECT_TRUE(started.has_value());
    EXPECT_EQ(job, nullptr);
    return *started;
  }
  [[nodiscard]] bool readable(int within_ms) const {
    pollfd wait{.fd = calls->event_fd(), .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, within_ms) == 1;
  }
  static constexpr int long_ms = 10'000;

  offloader threads{*allowed_cores(), 4};
  std::unique_ptr<offloaded_calls> calls = std::move(*offloaded_calls::create(threads));
};

TEST_F(OffloadedCalls, AResultIsTakenOnceItIsThere) {
  held_job::marks told;
  const ticket which = start(told);
  EXPECT_EQ(calls->take(which), nullptr);
  EXPECT_FALSE(readable(0));
  told.go.release();
  ASSERT_TRUE(readable(long_ms));
  const auto job = calls->take(which);
  ASSERT_NE(job, nullptr);
  EXPECT_NE(told.ran_on, std::this_thread::get_id());
  EXPECT_FALSE(readable(0)) << "nothing is left to take";
}

TEST_F(OffloadedCalls, SeveralRunAtOnceAndTheEventStaysUntilAllAreTaken) {
  held_job::marks first_told;
  held_job::marks second_told;
  const ticket first = start(first_told);
  const ticket second = start(second_told);
  second_told.go.release();  // while the first still waits
  ASSERT_TRUE(readable(long_ms));
  first_told.go.release();
  while (calls->take(first) == nullptr) {
    ASSERT_TRUE(readable(long_ms));
  }
  EXPECT_TRUE(readable(long_ms));
  EXPECT_NE(calls->take(second), nullptr);
  EXPECT_FALSE(readable(0));
}

TEST_F(OffloadedCalls, WhatIsAbandonedRunsAndGoesWithoutATrace) {
  held_job::marks late_told;
  calls->abandon(start(late_told));
  held_job::marks early_told;
  const ticket early = start(early_told);
  early_told.go.release();
  ASSERT_TRUE(readable(long_ms));
  calls->abandon(early);
  early_told.gone.acquire();
  EXPECT_FALSE(readable(0));
  calls.reset();  // before the other has run
  late_told.go.release();
  late_told.gone.acquire();
}

TEST_F(OffloadedCalls, OneTooManyIsRefusedUntouched) {
  std::array<held_job::marks, offloaded_calls::calls_max> told;
  std::array<ticket, offloaded_calls::calls_max> started{};
  for (std::size_t i = 0; i < told.size(); ++i) {
    started[i] = start(told[i]);
  }
  held_job::marks over_told;
  std::unique_ptr<vfio::blocking_job> over = std::make_unique<held_job>(over_told);
  EXPECT_EQ(calls->start(over).error().code, errc::queue_full);
  EXPECT_NE(over, nullptr);
  for (std::size_t i = 0; i < told.size(); ++i) {
    told[i].go.release();
    calls->abandon(started[i]);
    told[i].gone.acquire();
  }
}

}  // namespace
}  // namespace runnel::io
