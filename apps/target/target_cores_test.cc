// Goal: a target on two cores serves one client's queues on both, byte for byte, while that client
// maps and unmaps memory, and one client after another. Method: a real engine with two cores, a
// real socket, our NVMe driver on the test's thread; under TSan also a proof that the cores share
// nothing by accident.

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>

#include "apps/target/target.h"
#include "runtime/cores.h"
#include "runtime/io/open.h"

namespace runnel::target {
namespace {

constexpr std::uint32_t block_bytes = 512;

class TargetOnTwoCores : public testing::Test {
 protected:
  void SetUp() override {
    const auto allowed = allowed_cores();
    ASSERT_TRUE(allowed.has_value());
    if (allowed->size() < 2) {
      GTEST_SKIP() << "this machine gives us one core";
    }
    std::filesystem::create_directory(directory);
    engine_options wanted;
    wanted.cores = {(*allowed)[0], (*allowed)[1]};
    wanted.window_bytes = 8 * mib;
    wanted.huge_pages = false;
    host = std::move(*engine::create(wanted));
    target_options options;
    options.listeners.push_back(directory / "a.sock");
    options.namespaces.push_back(*io::parse_address("ram:1m"));
    served = std::move(*target::create(*host, options));
    ASSERT_TRUE(served->start().has_value());
  }
  void TearDown() override {
    if (served) {
      EXPECT_TRUE(served->stop().has_value());
    }
    served.reset();
    host.reset();
    std::filesystem::remove_all(directory);
  }

  io::device_pointer open_disk() const {
    const auto where = io::parse_address("vfio-user:" + (directory / "a.sock").string());
    auto disk = io::open_block(*where, {.memory = host->memory(),
                                        .clock = host->clock(),
                                        .kernel = host->kernel(),
                                        .queues = 2,
                                        .queue_depth = 8});
    EXPECT_TRUE(disk.has_value()) << disk.error().message();
    return std::move(*disk);
  }

  /// Carries one request out, and meanwhile serves the device's control side.
  block_status carry_out(block_device& disk, block_queue& queue, block_request request) const {
    std::array<block_request, 1> burst{request};
    queue.submit(burst);
    queue.flush();
    std::array<block_completion, 1> done{};
    EXPECT_TRUE(wait_for(disk, [&] { return queue.poll(done) == 1; }));
    return done[0].status;
  }
  block_status move(block_device& disk, block_queue& queue, block_op op, std::uint64_t block,
                    std::span<std::byte> data) const {
    const segment piece{data.data(), data.size(), &host->memory().memory()};
    return carry_out(
        disk, queue,
        {.segments = &piece, .segment_count = 1, .blocks = 1, .first = lba{block}, .op = op});
  }

  template <class Done>
  bool wait_for(block_device& disk, Done done) const {
    const instant deadline = host->clock().now() + std::chrono::seconds{20};
    while (!done()) {
      const instant now = host->clock().now();
      if (now >= deadline) {
        return false;
      }
      disk.advance(now);
      ::poll(nullptr, 0, 0);
    }
    return true;
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("runnel-target-cores-" + std::to_string(getpid()));
  std::unique_ptr<engine> host;
  std::unique_ptr<target> served;
};

TEST_F(TargetOnTwoCores, WhatOneCoreWroteTheOtherReads) {
  const std::span<std::byte> data = *host->memory().allocate(4096, 4096);
  constexpr std::uint64_t clients = 3;
  constexpr std::uint64_t blocks = 40;
  for (std::uint64_t client = 0; client < clients; ++client) {
    const io::device_pointer disk = open_disk();
    std::array<std::unique_ptr<block_queue>, 2> queues{std::move(*disk->make_queue(8)),
                                                       std::move(*disk->make_queue(8))};
    for (std::uint64_t block = 0; block < blocks; ++block) {
      std::memset(data.data(), static_cast<int>(1 + block + client), block_bytes);
      ASSERT_EQ(move(*disk, *queues[block % 2], block_op::write, block, data.first(block_bytes)),
                block_status::success);
      std::memset(data.data(), 0, block_bytes);
      ASSERT_EQ(
          move(*disk, *queues[(block + 1) % 2], block_op::read, block, data.first(block_bytes)),
          block_status::success);
      EXPECT_EQ(data[block_bytes - 1], std::byte{static_cast<unsigned char>(1 + block + client)});
    }
  }
  ASSERT_TRUE(served->stop().has_value());
  for (std::size_t core = 0; core < 2; ++core) {
    EXPECT_EQ(served->counters_of_core(core).writes, clients * blocks / 2);
    EXPECT_EQ(served->counters_of_core(core).reads, clients * blocks / 2);
  }
}

TEST_F(TargetOnTwoCores, MemoryComesAndGoesUnderQueuesOfBothCores) {
  auto more = window::create({.bytes = 2 * mib, .huge = false});
  ASSERT_TRUE(more.has_value());
  const std::span<std::byte> guest = *more->allocate(4096, 4096);
  const std::span<std::byte> data = *host->memory().allocate(8192, 4096);
  const io::device_pointer disk = open_disk();
  const auto use = [&](block_queue& queue, std::span<std::byte> where, const region& memory) {
    const segment piece{where.data(), block_bytes, &memory};
    return carry_out(*disk, queue,
                     {.segments = &piece, .segment_count = 1, .blocks = 1, .op = block_op::read});
  };
  const auto ended = [&](const result<ticket>& started) {
    std::optional<result<>> end;
    return started && wait_for(*disk, [&] { return (end = disk->take(*started)).has_value(); }) &&
           end->has_value();
  };
  std::array<std::unique_ptr<block_queue>, 2> queues{std::move(*disk->make_queue(8)),
                                                     std::move(*disk->make_queue(8))};
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(ended(disk->map(more->memory())));
    for (const auto& queue : queues) {
      EXPECT_EQ(use(*queue, guest, more->memory()), block_status::success);
    }
    const segment piece{data.data(), block_bytes, &host->memory().memory()};
    std::array<block_request, 1> busy{{{.segments = &piece, .segment_count = 1, .blocks = 1}}};
    queues[1]->submit(busy);
    queues[1]->flush();
    ASSERT_TRUE(ended(disk->unmap(more->memory())));
    std::array<block_completion, 1> done{};
    ASSERT_TRUE(wait_for(*disk, [&] { return queues[1]->poll(done) == 1; }));
    EXPECT_EQ(done[0].status, block_status::success);
  }
}

}  // namespace
}  // namespace runnel::target
