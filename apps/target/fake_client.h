#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apps/target/fake_driver.h"
#include "apps/target/vfio_user_transport.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/server.h"
#include "mempool/pages.h"

// For tests: a vfio-user client with memory of its own and a served controller, in one thread over
// a channel in memory, on a clock that only the test moves.
namespace runnel::target::fake {

using vfio::pci_irq;
using vfio::pci_region;

inline constexpr std::size_t ram_bytes = 4 * mib;
inline constexpr std::uint64_t admin_sq = 0x10'0000'0000;  // where the client puts its memory
inline constexpr std::uint64_t admin_cq = admin_sq + 0x1000;
inline constexpr std::uint64_t io_sq = admin_sq + 0x2000;
inline constexpr std::uint64_t io_cq = admin_sq + 0x3000;
inline constexpr std::uint64_t data = admin_sq + 0x10000;

constexpr std::uint32_t number(pci_region which) {
  return static_cast<std::uint32_t>(which);
}
constexpr std::uint32_t number(pci_irq which) {
  return static_cast<std::uint32_t>(which);
}

/// Shared memory of a client.
class shared_ram {
 public:
  explicit shared_ram(std::size_t bytes) : file_{std::move(*allocate_pages(bytes, false))} {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd.get(), 0);
    memory.address = static_cast<std::byte*>(at);
    memory.length = bytes;
    memory.iova_offset = admin_sq - reinterpret_cast<std::uintptr_t>(at);
    memory.fd = file_.fd.get();
  }
  shared_ram(const shared_ram&) = delete;
  shared_ram& operator=(const shared_ram&) = delete;
  ~shared_ram() { munmap(memory.address, memory.length); }

  [[nodiscard]] std::byte* at(std::uint64_t address) const {
    return memory.address + (address - admin_sq);
  }

  region memory;

 private:
  page_file file_;
};

/// A disk that must be told of memory before it may use it.
class dma_disk : public block_device {
 public:
  explicit dma_disk(disk& below) : info_{below.info()} { info_.device_reads_memory = true; }
  [[nodiscard]] const block_info& info() const noexcept override { return info_; }
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t) override {
    return fail({errc::unsupported}, "make", "queue");
  }
  [[nodiscard]] result<ticket> map(const region&) noexcept override {
    ++maps;
    return ticket{1};
  }
  [[nodiscard]] result<ticket> unmap(const region&) noexcept override {
    ++unmaps;
    return ticket{2};
  }
  [[nodiscard]] std::optional<result<>> take(ticket) noexcept override {
    return answers ? std::optional{answer} : std::nullopt;
  }

  [[nodiscard]] std::string map_hint(error, const region&) const override {
    return "its IOMMU does not reach that far";
  }

  unsigned maps = 0;
  unsigned unmaps = 0;
  bool answers = true;
  result<> answer;

 private:
  block_info info_;
};

class served_controller : public testing::Test {
 protected:
  explicit served_controller(doorbell_mode doorbells = doorbell_mode::mapped)
      : rung{doorbells}, drive{512, 1024}, dma{drive}, ram{ram_bytes} {
    system.nqn = "nqn.2014-08.org.nvmexpress:uuid:test";
    system.namespaces.push_back({&drive, {}});
    paths.push_back({.queue = std::move(*drive.make_queue(64)), .block_count = 1024});
    endpoint.emplace(
        system, paths, std::vector<block_device*>{&dma},
        endpoint_options{.controller = {},
                         .doorbells = doorbells,
                         .on_trouble = [this](const failure& why) { troubles.push_back(why); }});
    server = std::move(*vfio_user::server::create(*endpoint, {}));
    endpoint->answer_through(*server);
    connect();
  }
  ~served_controller() override {
    client.reset();
    drive.may_finish = 1024;
    dma.answers = true;
    turn(50);
    EXPECT_EQ(server->state(), vfio_user::server_state::idle);
  }

  void connect() {
    auto [ours, theirs] = vfio_user::memory_channel_pair(++seed);
    server->attach(std::move(ours));
    client = std::make_unique<vfio::user_client>(std::move(theirs),
                                                 vfio::client_options{.object = "test"});
    turn(200);
    ASSERT_EQ(client->state(), vfio::transport_state::ready);
  }

  void turn(int times = 20) {
    for (int i = 0; i < times; ++i) {
      now += std::chrono::microseconds{10};
      if (client) {
        client->advance(now);
      }
      endpoint->poll(now);
      server->advance(now);
    }
  }

  /// The result of an operation if it ends within some turns.
  std::optional<vfio::transport_reply> ended(const result<ticket>& started) {
    EXPECT_TRUE(started.has_value());
    for (int i = 0; i < 100 && started; ++i) {
      if (auto reply = client->take(*started)) {
        return reply;
      }
      turn(1);
    }
    return std::nullopt;
  }
  bool succeeds(const result<ticket>& started) {
    const auto reply = ended(started);
    return reply && reply->status.code == errc::ok;
  }

  template <class Word>
  void write(pci_region where, std::uint64_t offset, Word value) {
    EXPECT_TRUE(
        succeeds(client->region_write(number(where), offset, std::as_bytes(std::span{&value, 1}))));
  }
  template <class Word>
  Word read(pci_region where, std::uint64_t offset) {
    const auto reply = ended(client->region_read(number(where), offset, sizeof(Word)));
    return reply ? static_cast<Word>(reply->value) : Word{};
  }
  std::uint32_t status() {
    return read<std::uint32_t>(pci_region::bar0, static_cast<std::uint64_t>(nvme::reg::csts));
  }

  void map_ram() { ASSERT_TRUE(succeeds(client->map(ram.memory))); }
  void enable() {
    std::memset(ram.memory.address, 0, 0x10000);
    admin_tail = admin_head = io_tail = io_head = 0;
    write<std::uint16_t>(pci_region::config, 4, 0x0006);
    write(pci_region::bar0, 0x24, nvme::admin_queue_attributes(16, 16));
    write(pci_region::bar0, 0x28, admin_sq);
    write(pci_region::bar0, 0x30, admin_cq);
    write(pci_region::bar0, 0x14, nvme::enabled_configuration(4096));
  }

  void ring(std::uint64_t index, std::uint32_t value) {
    std::span<std::byte> mapped =
        client->map_region(0, doorbell_area::offset, doorbell_area::bytes);
    if (!mapped.empty()) {
      mmio_write(mapped.data() + cache_line_bytes * index, value);
    } else {
      const std::uint64_t stride = rung == doorbell_mode::shadow ? sizeof value : cache_line_bytes;
      const std::uint64_t offset = doorbell_area::offset + stride * index;
      const auto post = [&] {
        return client->region_post(0, offset, std::as_bytes(std::span{&value, 1})).has_value();
      };
      bool left = post();
      for (int i = 0; i < 100 && !left; ++i) {  // the channel pauses
        left = post();
      }
      EXPECT_TRUE(left);
    }
  }
  std::optional<std::uint16_t> answer_at(std::uint64_t queue, std::uint32_t index) {
    nvme::completion_entry entry{};
    std::memcpy(&entry, ram.at(queue + 16 * std::uint64_t{index}), sizeof entry);
    return (entry.status_and_phase & 1U) != 0
               ? std::optional{nvme::status_of(entry.status_and_phase)}
               : std::nullopt;
  }
  /// Sends an admin command of the first lap. @return its status, if it ends
  std::optional<std::uint16_t> order(const nvme::submission_entry& command) {
    std::memcpy(ram.at(admin_sq + 64 * std::uint64_t{admin_tail}), &command, sizeof command);
    ring(0, ++admin_tail);
    turn();
    return answer_at(admin_cq, admin_head++);
  }
  void make_queues(std::uint32_t cdw11 = 1) {
    ASSERT_EQ(order(machine::create_cq(1, 16, io_cq, cdw11)), 0);
    ASSERT_EQ(order(machine::create_sq(1, 16, io_sq, 1)), 0);
  }
  void submit(nvme::io_opcode what, std::uint64_t block, std::uint64_t where = data) {
    const nvme::submission_entry command = machine::io(what, block, 1, where);
    std::memcpy(ram.at(io_sq + 64 * std::uint64_t{io_tail}), &command, sizeof command);
    ring(2, ++io_tail);
    turn();
  }

  doorbell_mode rung;
  disk drive;
  dma_disk dma;
  shared_ram ram;
  subsystem system;
  std::vector<namespace_path> paths;
  std::vector<failure> troubles;
  std::optional<vfio_user_endpoint> endpoint;
  std::unique_ptr<vfio_user::server> server;
  std::unique_ptr<vfio::user_client> client;
  instant now{};
  std::uint64_t seed = 1;
  std::uint32_t admin_tail = 0, admin_head = 0, io_tail = 0, io_head = 0;
};

}  // namespace runnel::target::fake
