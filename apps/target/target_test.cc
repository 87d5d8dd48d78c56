// Goal: the library entry: a target serves clients on its sockets one after another, stops while
// one is connected, makes written data durable, and says what is wrong instead of starting. Method:
// a real engine on one core and real sockets; our vfio-user client on the test's thread.

#include "apps/target/target.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>

#include "apps/target/fake_host.h"
#include "drivers/vfio/user_client.h"

namespace runnel::target {
namespace {

using namespace std::chrono_literals;

class Target : public testing::Test {
 protected:
  Target()
      : directory{std::filesystem::temp_directory_path() /
                  ("runnel-target-" + std::to_string(getpid()))} {
    std::filesystem::create_directory(directory);
    engine_options small;
    small.window_bytes = 4 * mib;
    small.huge_pages = false;
    host = std::move(*engine::create(small));
    options.on_event = [this](const port_event& event) {
      came += event.what == port_event::kind::client_came ? 1U : 0U;
      left += event.what == port_event::kind::client_left ? 1U : 0U;
    };
  }
  ~Target() override {
    served.reset();
    host.reset();
    std::filesystem::remove_all(directory);
  }

  std::string path(const char* name) const { return directory / name; }
  void listen(const char* name) { options.listeners.push_back(path(name)); }
  void add(const std::string& address) {
    options.namespaces.push_back(*io::parse_address(address));
  }
  /// @return the complaint, empty when it serves
  std::string start() {
    auto made = target::create(*host, options);
    if (!made) {
      return made.error().message();
    }
    served = std::move(*made);
    EXPECT_TRUE(served->start().has_value());
    return {};
  }
  /// Has a target over that disk, not started. @return the disk, which is the target's
  template <class Disk>
  outcome<Disk*> make_over(std::unique_ptr<Disk> disk) {
    Disk* const borrowed = disk.get();
    std::vector<served_device> devices;
    devices.push_back({.device = io::device_pointer{disk.release()}});
    auto made = target::create(*host, options, std::move(devices));
    if (!made) {
      return std::unexpected{std::move(made.error())};
    }
    served = std::move(*made);
    return borrowed;
  }
  io::device_pointer open_disk(const char* name) const {
    auto disk = io::open_block(
        *io::parse_address("vfio-user:" + path(name)),
        {.memory = host->memory(), .clock = host->clock(), .kernel = host->kernel()});
    EXPECT_TRUE(disk.has_value());
    return std::move(*disk);
  }
  /// Writes the first block through the target's NVMe controller.
  block_status write_block(block_device& disk) const {
    const auto queue = std::move(*disk.make_queue(8));
    const std::span<std::byte> bytes = *host->memory().allocate(page_bytes, page_bytes);
    const segment piece{bytes.data(), disk.info().block_bytes, &host->memory().memory()};
    std::array<block_request, 1> request{
        {{.segments = &piece, .segment_count = 1, .blocks = 1, .op = block_op::write}}};
    queue->submit(request);
    queue->flush();
    std::array<block_completion, 1> done;
    EXPECT_TRUE(wait_until(nullptr, [&] { return queue->poll(done) == 1; }));
    return done[0].status;
  }

  /// Serves the client's side until `done`. @return false after 10 s
  template <class Done>
  static bool wait_until(vfio::user_client* client, Done done) {
    const tsc_clock clock;
    const instant deadline = clock.now() + 10s;
    while (!done()) {
      if (clock.now() >= deadline) {
        return false;
      }
      if (client == nullptr) {
        ::poll(nullptr, 0, 1);
        continue;
      }
      client->advance(clock.now());
      pollfd readable{.fd = client->event_fd(), .events = POLLIN, .revents = 0};
      ::poll(&readable, 1, 1);
    }
    return true;
  }
  std::unique_ptr<vfio::user_client> connect(const char* name) const {
    auto link = vfio_user::connect_socket(path(name).c_str());
    EXPECT_TRUE(link.has_value());
    return std::make_unique<vfio::user_client>(
        std::move(*link), vfio::client_options{.object = name, .greeting_timeout = 10s});
  }
  static bool ready(vfio::user_client& client) {
    return wait_until(&client,
                      [&] { return client.state() != vfio::transport_state::connecting; }) &&
           client.state() == vfio::transport_state::ready;
  }

  std::filesystem::path directory;
  std::unique_ptr<engine> host;
  target_options options;
  std::unique_ptr<target> served;
  std::atomic<unsigned> came{0};
  std::atomic<unsigned> left{0};
};

TEST_F(Target, ServesOneClientAfterAnotherOnEachSocket) {
  listen("a.sock");
  listen("b.sock");
  add("ram:1m");
  ASSERT_EQ(start(), "");
  auto first = connect("a.sock");
  auto other = connect("b.sock");
  auto second = connect("a.sock");
  EXPECT_TRUE(ready(*first));
  EXPECT_TRUE(ready(*other));
  EXPECT_EQ(second->state(), vfio::transport_state::connecting);  // waits its turn
  first.reset();
  EXPECT_TRUE(ready(*second));
  EXPECT_EQ(came, 3U);
  EXPECT_EQ(left, 1U);
  EXPECT_TRUE(served->stop().has_value());
  EXPECT_TRUE(
      wait_until(second.get(), [&] { return second->state() == vfio::transport_state::gone; }));
  EXPECT_EQ(left, 3U);
}

TEST_F(Target, RemovesItsSocketsAtTheEnd) {
  listen("a.sock");
  add("null:1m");
  ASSERT_EQ(start(), "");
  EXPECT_TRUE(std::filesystem::exists(path("a.sock")));
  EXPECT_TRUE(served->stop().has_value());
  EXPECT_TRUE(served->stop().has_value());  // once is enough
  served.reset();
  EXPECT_FALSE(std::filesystem::exists(path("a.sock")));
}

TEST_F(Target, MayBeDroppedWithoutEverBeingStarted) {
  listen("a.sock");
  add("null:1m");
  auto made = target::create(*host, options);
  ASSERT_TRUE(made.has_value());
  EXPECT_TRUE((*made)->system().volatile_cache == false);
  EXPECT_EQ((*made)->system().namespaces.size(), 1U);
}

TEST_F(Target, NamesAreTheSameEachTimeAndDifferentForOtherSockets) {
  listen("a.sock");
  add("null:1m");
  const std::string first = (*target::create(*host, options))->system().nqn;
  EXPECT_EQ((*target::create(*host, options))->system().nqn, first);
  listen("b.sock");
  EXPECT_NE((*target::create(*host, options))->system().nqn, first);
}

TEST_F(Target, SaysWhatIsWrongInsteadOfStarting) {
  EXPECT_NE(start().find("listener"), std::string::npos);
  listen("a.sock");
  EXPECT_NE(start().find("namespace"), std::string::npos);
  add("file:" + path("absent.img"));
  EXPECT_NE(start().find("absent.img"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path("a.sock")));  // devices come first
}

TEST_F(Target, MoreListenersThanACoreCanPollAreRefused) {
  add("null:1m");
  for (std::size_t i = 0; i <= target::listeners_max; ++i) {
    listen((std::to_string(i) + ".sock").c_str());
  }
  EXPECT_NE(start().find("listeners"), std::string::npos);
  options.listeners.pop_back();
  ASSERT_EQ(start(), "");
  EXPECT_TRUE(served->stop().has_value());
}

/// Its control side has a descriptor of a kind that nothing can wait for.
class unwatchable_disk final : public fake::disk {
 public:
  unwatchable_disk() : disk{512, 1024}, file_{::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)} {}
  [[nodiscard]] int event_fd() const noexcept override { return file_.get(); }

 private:
  unique_fd file_;
};

TEST_F(Target, AStartThatFailsSaysWhyAndLeavesNothingToStop) {
  listen("a.sock");
  ASSERT_TRUE(make_over(std::make_unique<unwatchable_disk>()).has_value());
  const auto started = served->start();
  ASSERT_FALSE(started.has_value());
  EXPECT_EQ(started.error().what.code, errc::os);
  served.reset();
}

class small_transfer_disk final : public fake::disk {
 public:
  explicit small_transfer_disk(std::uint32_t transfer_bytes_max) : disk{512, 1024} {
    info_.transfer_bytes_max = transfer_bytes_max;
  }
};

TEST_F(Target, TransfersOfOnePageAreTooSmallToBeServed) {
  listen("a.sock");
  const auto refused = make_over(std::make_unique<small_transfer_disk>(8191));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what.code, errc::unsupported);
  EXPECT_EQ(refused.error().object, "fake");
  ASSERT_TRUE(make_over(std::make_unique<small_transfer_disk>(12288)).has_value());
  EXPECT_EQ(served->system().transfer_bytes_max, 8192U);
}

TEST_F(Target, MakesWhatWasWrittenDurableWhenItStops) {
  listen("a.sock");
  auto disk = make_over(std::make_unique<fake::disk>(512, 1024));
  ASSERT_TRUE(disk.has_value());
  ASSERT_TRUE(served->start().has_value());
  const io::device_pointer client = open_disk("a.sock");
  EXPECT_EQ(write_block(*client), block_status::success);
  EXPECT_TRUE(served->stop().has_value());
  EXPECT_EQ(served->counters().writes, 1U);
  EXPECT_EQ((*disk)->flushes, 1U);
  EXPECT_EQ((*disk)->unflushed_writes, 0U);
}

TEST_F(Target, PayloadIsCountedWhereItIsCopied) {
  listen("a.sock");
  add("null:1m");
  add("ram:1m?block_size=4k");
  ASSERT_EQ(start(), "");
  for (const char* name : {"a.sock?ns=1", "a.sock?ns=2"}) {
    EXPECT_EQ(write_block(*open_disk(name)), block_status::success);
  }
  EXPECT_TRUE(served->stop().has_value());
  EXPECT_EQ(served->counters().bytes_written, 4096U + 512U);
  EXPECT_EQ(served->payload_bytes_copied(), 4096U);
}

TEST_F(Target, AFlushThatFailsAtTheEndIsSaid) {
  listen("a.sock");
  auto disk = make_over(std::make_unique<fake::disk>(512, 1024));
  ASSERT_TRUE(disk.has_value());
  (*disk)->status = block_status::write_fault;
  ASSERT_TRUE(served->start().has_value());
  const auto stopped = served->stop();
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().what.code, errc::bad_status);
  EXPECT_EQ(stopped.error().operation, "flush");
  EXPECT_EQ((*disk)->flushes, 1U);
}

TEST_F(Target, TheDepthOfQueuesIsThatOfTheAddress) {
  std::ofstream{path("disk.img")}.close();
  std::filesystem::resize_file(path("disk.img"), 1 * mib);
  listen("a.sock");
  add("file:" + path("disk.img") + "?queue_depth=65536");
  const std::string complaint = start();
  EXPECT_NE(complaint.find("65536"), std::string::npos) << complaint;
}

TEST_F(Target, ASocketThatIsServedIsNotTakenOver) {
  listen("a.sock");
  add("null:1m");
  ASSERT_EQ(start(), "");
  const auto second = target::create(*host, options);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().what.code, errc::busy);
  EXPECT_TRUE(served->stop().has_value());
}

}  // namespace
}  // namespace runnel::target
