// Goal: a peer that lies, babbles or dies costs its own connection and nothing else: no crash, no
// leak, no touch of memory it was not given. Method: the scripted peer tells one lie per test; at
// the end every byte of an honest session is spoiled in turn. Run it under ASan.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "drivers/mmio.h"
#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio/user_client.h"
#include "mempool/sigbus.h"
#include "tests/sim/client_and_peer.h"

namespace runnel::vfio {
namespace {

using sim::byte_vector;
using sim::bytes_of;
using sim::scripted_peer;
using vfio_user::command;
using vfio_user::command_header;
using vfio_user::region_access_payload;

using message = scripted_peer::message;

[[nodiscard]] std::size_t open_fds() {
  const std::filesystem::directory_iterator fds{"/proc/self/fd"};
  return static_cast<std::size_t>(std::distance(begin(fds), end(fds)));
}

[[nodiscard]] std::string name_of(const auto& each) {
  return each.param.name;
}

struct answer_lie {
  const char* name;
  void (*tell)(scripted_peer& peer, const message& asked);
};

// ---- answers to an operation ----

class AnswerLies : public sim::client_and_peer, public testing::WithParamInterface<answer_lie> {};

TEST_P(AnswerLies, EndTheConnectionAndEveryTicket) {
  bring_up_ready();
  const auto which = client.region_read(0, 0, 4);
  ASSERT_TRUE(which.has_value());
  GetParam().tell(peer, hear());
  expect_gone(errc::protocol);
  EXPECT_EQ(client.reason().operation, "talk vfio-user with");
  EXPECT_EQ(client.take(*which)->status.code, errc::device_gone);
}

void say_read(scripted_peer& peer, const message& asked, std::uint32_t count, std::size_t bytes) {
  auto fixed = asked.as<region_access_payload>();
  fixed.count = count;
  byte_vector payload = bytes_of(fixed);
  payload.resize(payload.size() + bytes);
  peer.reply(asked, payload);
}

/// The right answer but for the header.
void say_head(scripted_peer& peer, const message& asked, std::uint16_t id, command what) {
  const message pretended{.head = command_header(id, what, 0), .payload = {}, .fds = {}};
  peer.reply(pretended, bytes_of(asked.as<region_access_payload>(), std::uint32_t{}));
}

TEST_F(AnswerLies, EndTheStreamForThePeerToo) {
  bring_up_ready();
  peer.say_raw(byte_vector(16));  // no header says so
  expect_gone(errc::protocol);
  EXPECT_TRUE(peer.client_left);
}

INSTANTIATE_TEST_SUITE_P(
    Each, AnswerLies,
    testing::Values(
        answer_lie{"less_than_asked", [](auto& peer, auto& asked) { say_read(peer, asked, 3, 3); }},
        answer_lie{"more_than_asked", [](auto& peer, auto& asked) { say_read(peer, asked, 5, 5); }},
        answer_lie{"a_megabyte", [](auto& peer, auto& asked) { say_read(peer, asked, mib, mib); }},
        answer_lie{"count_without_data",
                   [](auto& peer, auto& asked) { say_read(peer, asked, 4, 0); }},
        answer_lie{"data_without_count",
                   [](auto& peer, auto& asked) { say_read(peer, asked, 0, 4); }},
        answer_lie{"huge_count", [](auto& peer, auto& asked) { say_read(peer, asked, ~0U, 4); }},
        answer_lie{"empty", [](auto& peer, auto& asked) { peer.reply(asked); }},
        answer_lie{"another_id",
                   [](auto& peer, auto& asked) {
                     say_head(peer, asked, asked.head.id ^ 1U, command::region_read);
                   }},
        answer_lie{"an_old_generation",
                   [](auto& peer, auto& asked) {
                     say_head(peer, asked, asked.head.id ^ 64U, command::region_read);
                   }},
        answer_lie{"another_command",
                   [](auto& peer, auto& asked) {
                     say_head(peer, asked, asked.head.id, command::region_write);
                   }},
        answer_lie{"size_below_a_header",
                   [](auto& peer, auto& asked) {
                     auto head = vfio_user::reply_header(asked.head, 0);
                     head.size = 15;
                     peer.say_raw(bytes_of(head));
                   }},
        answer_lie{"size_of_four_gigabytes",
                   [](auto& peer, auto& asked) {
                     auto head = vfio_user::reply_header(asked.head, 0);
                     head.size = ~0U;
                     peer.say_raw(bytes_of(head));
                   }},
        answer_lie{"neither_command_nor_reply",
                   [](auto& peer, auto& asked) {
                     auto head = vfio_user::reply_header(asked.head, 0);
                     head.flags = 2;
                     peer.say_raw(bytes_of(head));
                   }}),
    [](const auto& each) { return name_of(each); });

TEST_F(AnswerLies, ASecondAnswerToTheSameQuestionEndsTheConnection) {
  bring_up_ready();
  const auto which = client.reset();
  ASSERT_TRUE(which.has_value());
  const auto asked = hear();
  peer.reply(asked);
  EXPECT_EQ(wait_for(*which)->status, error{});
  peer.reply(asked);
  expect_gone(errc::protocol);
}

TEST_F(AnswerLies, AnAnswerLongerThanItsQuestionAllowsEndsTheConnection) {
  bring_up_ready();
  const auto which = client.reset();
  ASSERT_TRUE(which.has_value());
  peer.reply(hear(), byte_vector(1));
  expect_gone(errc::protocol);
}

// ---- the introduction ----

struct bring_up_lie {
  const char* name;
  command about;
  scripted_peer::answer tell;
  error expected{errc::protocol};
};

class BringUpLies : public sim::client_and_peer,
                    public testing::WithParamInterface<bring_up_lie> {};

TEST_P(BringUpLies, AreNoticedBeforeTheDeviceIsReady) {
  peer.answers[GetParam().about] = GetParam().tell;
  bring_up();
  expect_gone(GetParam().expected.code);
  EXPECT_EQ(client.reason().what, GetParam().expected);
}

[[nodiscard]] bring_up_lie version_lie(const char* name, std::uint16_t major, std::uint16_t minor,
                                       const char* text) {
  return {name, command::version, [=](scripted_peer& peer, const message& asked) {
            peer.say_version(asked, major, minor, text);
          }};
}
[[nodiscard]] bring_up_lie device_lie(const char* name, std::uint32_t regions, std::uint32_t irqs) {
  return {name, command::device_get_info, [=](scripted_peer& peer, const message& asked) {
            peer.say_device(asked, regions, irqs);
          }};
}
[[nodiscard]] bring_up_lie irq_lie(const char* name, std::uint32_t index, std::uint32_t count) {
  return {name, command::device_get_irq_info, [=](scripted_peer& peer, const message& asked) {
            peer.reply(asked, bytes_of(uapi::irq_info{
                                  .argsz = 16, .flags = 1, .index = index, .count = count}));
          }};
}
[[nodiscard]] bring_up_lie short_lie(const char* name, command about) {
  return {name, about,
          [](scripted_peer& peer, const message& asked) { peer.reply(asked, byte_vector(3)); }};
}

INSTANTIATE_TEST_SUITE_P(
    Each, BringUpLies,
    testing::Values(
        version_lie("major_1", 1, 0, ""), version_lie("minor_above_ours", 0, 2, ""),
        version_lie("no_json", 0, 1, "capabilities"),
        version_lie("no_transfer", 0, 1, R"({"capabilities":{"max_data_xfer_size":0}})"),
        version_lie("no_pages", 0, 1, R"({"capabilities":{"pgsizes":0}})"),
        version_lie("no_maps", 0, 1, R"({"capabilities":{"max_dma_maps":0}})"),
        version_lie("negative_fds", 0, 1, R"({"capabilities":{"max_msg_fds":-1}})"),
        bring_up_lie{"version_refused",
                     command::version,
                     [](auto& peer, auto& asked) { peer.refuse(asked, EPERM); },
                     {errc::os, EPERM}},
        short_lie("version_short", command::version),
        bring_up_lie{"version_without_end", command::version,
                     [](auto& peer, auto& asked) { peer.reply(asked, byte_vector(mib)); }},
        bring_up_lie{"region_without_end", command::device_get_region_info,
                     [](auto& peer, auto& asked) { peer.reply(asked, byte_vector(mib)); }},
        device_lie("regions_65", 65, 5), device_lie("regions_without_end", ~0U, 5),
        device_lie("irqs_65", 9, 65), device_lie("irqs_without_end", 9, ~0U),
        short_lie("device_short", command::device_get_info),
        short_lie("region_short", command::device_get_region_info),
        bring_up_lie{"another_region", command::device_get_region_info,
                     [](auto& peer, auto& asked) {
                       peer.say_region(asked, scripted_peer::region(5, 4096));
                     }},
        bring_up_lie{"regions_refused",
                     command::device_get_region_info,
                     [](auto& peer, auto& asked) { peer.refuse(asked, EIO); },
                     {errc::os, EIO}},
        irq_lie("another_interrupt", 1, 1), irq_lie("vectors_2049", 0, 2049),
        short_lie("interrupt_short", command::device_get_irq_info)),
    [](const auto& each) { return name_of(each); });

TEST_F(BringUpLies, SixtyFourRegionsAndInterruptsAreStillTrue) {
  peer.answers[command::device_get_info] = [](auto& from, auto& asked) {
    from.say_device(asked, 64, 64);
  };
  bring_up_ready();
  EXPECT_EQ(client.info().region_count, 64U);
  EXPECT_EQ(client.region_at(63).size, 0U);
}

// ---- files that come with regions ----

class HostileFiles : public sim::client_and_peer {
 protected:
  /// Brings up with a BAR of two pages, described so and in these files.
  void bring_up_with(uapi::region_info described, std::vector<int> files) {
    peer.answers[command::device_get_region_info] = [=](scripted_peer& from, const message& asked) {
      const auto index = asked.as<uapi::region_info>().index;
      index == 0 ? from.reply(asked, bytes_of(described), files)
                 : from.say_region(asked, scripted_peer::region(index, 0));
    };
    bring_up_ready();
  }
  [[nodiscard]] bool mappable() { return !client.map_region(0, 0x1000, 0x1000).empty(); }

  static constexpr std::uint32_t read_write_mmap = 7;
  uapi::region_info bar = scripted_peer::region(0, 0x2000, read_write_mmap);
};

TEST_F(HostileFiles, AWholeRegionIsMappableWhenItsFileIsLongEnough) {
  bring_up_with(bar, {peer.bar_file.get()});
  EXPECT_TRUE(mappable());
}

TEST_F(HostileFiles, AFileThatIsTooShortIsNotMapped) {
  const unique_fd file = sim::make_file(0x1fff);
  bring_up_with(bar, {file.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, AnOffsetThatWrapsIsNotMapped) {
  bar.offset = ~0ULL - 0xfff;
  bring_up_with(bar, {peer.bar_file.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, WhatIsNotAFileIsNotMapped) {
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  bring_up_with(bar, {event.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, AFileOnADiskIsNotMapped) {
  const auto path = testing::TempDir() + "region_XXXXXX";
  std::vector<char> name{path.c_str(), path.c_str() + path.size() + 1};
  const unique_fd file{::mkostemp(name.data(), O_CLOEXEC)};
  ASSERT_TRUE(file);
  ::unlink(name.data());
  ASSERT_EQ(::ftruncate(file.get(), 0x2000), 0);
  struct statfs where{};
  ASSERT_EQ(::fstatfs(file.get(), &where), 0);
  if (where.f_type == TMPFS_MAGIC) {
    GTEST_SKIP() << testing::TempDir() << " is in memory";
  }
  bring_up_with(bar, {file.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, ARegionThatCannotBeWrittenIsNotMapped) {
  bar.flags = uapi::region_flags::read | uapi::region_flags::mmap;
  bring_up_with(bar, {peer.bar_file.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, AFileThatCannotBeWrittenIsNotMapped) {
  const auto path = "/proc/self/fd/" + std::to_string(peer.bar_file.get());
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  bring_up_with(bar, {file.get()});
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, WithoutAFileThereAreNoAreas) {
  bring_up_with(bar, {});
  EXPECT_TRUE(client.region_at(0).areas.empty());
  EXPECT_FALSE(mappable());
}

TEST_F(HostileFiles, AFileWithoutAreasIsClosed) {
  bar.flags = 3;
  const std::size_t before = open_fds();
  bring_up_with(bar, {peer.bar_file.get()});
  settle();
  EXPECT_EQ(open_fds(), before);
}

TEST_F(HostileFiles, MoreFilesThanOneAreClosed) {
  const std::size_t before = open_fds();
  bring_up_with(bar, std::vector<int>(vfio_user::message_fds_max, peer.bar_file.get()));
  settle();
  EXPECT_EQ(open_fds(), before + 1);
}

TEST_F(HostileFiles, MappedAreasAreBounded) {
  bring_up_with(bar, {peer.bar_file.get()});
  std::size_t count = 0;
  while (count < 100 && mappable()) {
    ++count;
  }
  EXPECT_EQ(count, sigbus_guard::ranges_max);
}

void handle(int, siginfo_t* info, void*) {
  if (!handle_sigbus(*info)) {
    std::abort();
  }
}

/// Rings a doorbell there when the file has been cut off.
void touch_after_the_end(std::span<std::byte> area, const unique_fd& file) {
  ASSERT_FALSE(area.empty());
  struct sigaction ours{};
  struct sigaction before{};
  ours.sa_sigaction = &handle;
  ours.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGBUS, &ours, &before), 0);
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  mmio_write<std::uint8_t>(area.data(), 1);
  ASSERT_EQ(::sigaction(SIGBUS, &before, nullptr), 0);
}

TEST_F(HostileFiles, AFileThatShrinksUnderAMappingEndsTheConnectionOnly) {
  bring_up_with(bar, {peer.bar_file.get()});
  touch_after_the_end(client.map_region(0, 0x1000, 0x1000), peer.bar_file);
  expect_gone(errc::device_gone);
}

TEST_F(HostileFiles, AnAreaThatIsNoWholePageMayShrinkToo) {
  bar.size = 0x1040;
  bring_up_with(bar, {peer.bar_file.get()});
  const auto area = client.map_region(0, 0x1000, 0x40);
  EXPECT_EQ(area.size(), 0x40U);
  touch_after_the_end(area, peer.bar_file);
  expect_gone(errc::device_gone);
}

TEST_F(HostileFiles, AFileOfHugePagesIsNotMapped) {
  bar.size = 2 * mib;
  const unique_fd file{::memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB)};
  if (!file || ::ftruncate(file.get(), 2 * mib) != 0) {
    GTEST_SKIP() << "this kernel has no huge pages";
  }
  bring_up_with(bar, {file.get()});
  EXPECT_TRUE(client.map_region(0, 0, 0x1000).empty());
}

// ---- every byte spoiled in turn ----

/// Passes everything on but one byte of what arrives, which it changes.
class spoiling_channel final : public vfio_user::channel {
 public:
  spoiling_channel(std::unique_ptr<vfio_user::channel> inner, std::size_t at, std::byte change)
      : inner_{std::move(inner)}, at_{at}, change_{change} {}

  result<std::size_t> send(std::span<const std::byte> bytes,
                           std::span<const int> fds) noexcept override {
    return inner_->send(bytes, fds);
  }
  result<std::size_t> receive(std::span<std::byte> into,
                              vfio_user::fd_list& fds) noexcept override {
    const auto got = inner_->receive(into, fds);
    if (got && at_ < position_ + *got && at_ >= position_) {
      into[at_ - position_] ^= change_;
    }
    position_ += got.value_or(0);
    return got;
  }
  void hang_up() noexcept override { inner_->hang_up(); }
  [[nodiscard]] int event_fd() const noexcept override { return -1; }

 private:
  std::unique_ptr<vfio_user::channel> inner_;
  std::size_t at_;
  std::size_t position_ = 0;
  std::byte change_;
};

TEST(SpoiledSession, EndsReadyOrGoneWhicheverByteIsWrong) {
  constexpr std::size_t session_bytes = 1200;  // of the introduction and two answers
  std::size_t gone = 0;
  for (std::size_t at = 0; at < session_bytes; ++at) {
    auto [ours, theirs] = vfio_user::memory_channel_pair(at);
    scripted_peer peer{std::move(theirs)};
    peer.answers[command::region_read] = [](auto& from, auto& asked) {
      from.reply(asked, bytes_of(asked.template as<region_access_payload>(), std::uint64_t{}));
    };
    const auto change = std::byte{static_cast<unsigned char>(1U << at % 8)};
    user_client client{std::make_unique<spoiling_channel>(std::move(ours), at, change),
                       {.object = "spoiled"}};
    instant now{};
    int turns_ready = 0;
    for (int turn = 0; turn < 1500 && turns_ready < 200; ++turn) {
      if (client.state() == transport_state::gone) {
        break;
      }
      if (client.state() == transport_state::ready && turns_ready++ % 50 == 0) {
        static_cast<void>(client.region_read(0, 0, 8));  // its result is of no interest
        static_cast<void>(client.map_region(0, 0x1000, 0x1000));
      }
      now += std::chrono::milliseconds{5};
      client.advance(now);
      peer.advance();
    }
    EXPECT_NE(client.state(), transport_state::connecting) << "byte " << at;
    gone += client.state() == transport_state::gone ? 1U : 0U;
  }
  EXPECT_GT(gone, 100U) << "the bytes were not spoiled";
}

}  // namespace
}  // namespace runnel::vfio
