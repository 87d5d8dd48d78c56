// Goal: a device that is in use is woken up and rung as if nothing had happened: it sleeps between
// two commands, and an eventfd rings its doorbell. Method: an NVMe controller that answers Identify
// where one is there; on fake kernels the registers alone.
#include "drivers/mmio.h"
#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/conformance/live_controller.h"
#include "tests/sim/conformance/suite.h"

namespace runnel::sim {
namespace {

namespace feature = vfio::uapi::features;
namespace flag = vfio::uapi::feature_flags;

class UseConformance : public Conformance {
 protected:
  static constexpr std::uint64_t status_at = 0x1c;

  /// Whoever is on the other side has done it at last.
  template <class Condition>
  [[nodiscard]] bool comes_true(const Condition& condition) {
    constexpr int turns_max = 300;
    for (int i = 0; i < turns_max; ++i) {
      if (condition()) {
        return true;
      }
      under->turn();
    }
    return false;
  }
  [[nodiscard]] bool is_live() const { return !GetParam().name.starts_with("fake"); }

  void enable() {
    ASSERT_EQ(map(memory_.piece(0, live_controller::pages)), good);
    controller_.enable([this](std::uint64_t offset, std::uint64_t value, bool wide) {
      EXPECT_EQ(
          wide ? write(bar, offset, value) : write(bar, offset, static_cast<std::uint32_t>(value)),
          good);
    });
    ASSERT_TRUE(comes_true([this] { return (read(bar, status_at, 4) & 1U) != 0; }));
  }
  /// One Identify from end to end.
  template <class Ring>
  void expect_identify_works(const Ring& ring) {
    ring(controller_.place_identify());
    EXPECT_TRUE(comes_true([this] { return controller_.is_done(); }));
    EXPECT_TRUE(controller_.told_itself());
  }
  void ring(std::uint32_t tail) { EXPECT_EQ(write(bar, live_controller::doorbell_at, tail), good); }
  [[nodiscard]] error ask(std::uint32_t flags, std::span<const std::byte> data = {}) {
    return end(device().device_feature(flags, data));
  }
  static void fire(int eventfd) {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(eventfd, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  }

 private:
  lent_memory memory_{live_controller::pages};
  live_controller controller_{memory_};
};

INSTANTIATE_TEST_SUITE_P(Each, UseConformance, testing::ValuesIn(subject_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(UseConformance, AnEventWritesItsRegisterUntilItIsTakenAway) {
  const listeners event{1};
  const vfio::event_write what{.offset = admin_attributes_at, .value = 0x0007'0005};
  const auto set = device().set_ioeventfd(what, event.fds()[0]);
  if (!is_kernel()) {
    EXPECT_EQ(set.error().code, errc::unsupported);
    return;
  }
  ASSERT_EQ(end(set), good);
  ASSERT_EQ(write(bar, admin_attributes_at, std::uint32_t{0}), good);
  fire(event.fds()[0]);
  EXPECT_TRUE(comes_true([&] { return read(bar, admin_attributes_at, 4) == what.value; }));
  ASSERT_EQ(end(device().set_ioeventfd(what, -1)), good);
  fire(event.fds()[0]);
  EXPECT_EQ(event.heard().front(), 1U) << "nobody has taken it";
}

TEST_P(UseConformance, AnEventIsOneAlignedWriteInsideARegion) {
  if (!is_kernel()) {
    GTEST_SKIP() << "no kernel is in between";
  }
  const std::uint64_t last = device().region_at(bar).size;
  for (const vfio::event_write& wrong :
       {vfio::event_write{.offset = admin_attributes_at, .bytes = 3},
        vfio::event_write{.offset = admin_attributes_at, .bytes = 16},
        vfio::event_write{.offset = admin_attributes_at, .bytes = 0},
        vfio::event_write{.offset = admin_attributes_at + 2, .bytes = 4},
        vfio::event_write{.offset = last, .bytes = 4},
        vfio::event_write{.index = 99, .offset = 0, .bytes = 4}}) {
    EXPECT_EQ(device().set_ioeventfd(wrong, -1).error().code, errc::invalid)
        << wrong.index << " " << wrong.offset << " " << wrong.bytes;
  }
}

TEST_P(UseConformance, AnEventRingsTheDoorbellOfAController) {
  if (!is_live() || !is_kernel()) {
    GTEST_SKIP() << "nobody answers, or no kernel is in between";
  }
  enable();
  expect_identify_works([this](std::uint32_t tail) { ring(tail); });
  expect_identify_works([this](std::uint32_t tail) {
    const listeners event{1};
    const vfio::event_write bell{.offset = live_controller::doorbell_at, .value = tail};
    ASSERT_EQ(end(device().set_ioeventfd(bell, event.fds()[0])), good);
    fire(event.fds()[0]);
  });
}

TEST_P(UseConformance, ItSleepsBetweenTwoCommandsAndIsAsBefore) {
  const listeners woken{1};
  const listeners ears{2};
  const auto entry = bytes_of(vfio::uapi::device_low_power_entry_with_wakeup{
      .wakeup_eventfd = woken.fds()[0], .reserved = 0});
  const std::uint32_t sleep = feature::low_power_entry_with_wakeup | flag::set;
  if (!is_kernel() || GetParam().kernel_version < 601) {
    EXPECT_EQ(ask(sleep, entry), (error{errc::os, ENOTTY}));
    return;
  }
  ASSERT_EQ(end(device().set_irqs(msix, 0, ears.fds())), good);
  const auto registers =
      device().map_region(bar, device().region_at(bar).areas.front().offset, page);
  ASSERT_FALSE(registers.empty());
  const auto version = mmio_read<std::uint32_t>(registers.data() + version_at);
  if (is_live()) {
    enable();
    expect_identify_works([this](std::uint32_t tail) { ring(tail); });
  }
  ASSERT_EQ(ask(sleep, entry), good);
  ASSERT_EQ(ask(feature::low_power_exit | flag::set), good);
  EXPECT_EQ(mmio_read<std::uint32_t>(registers.data() + version_at), version);
  EXPECT_EQ(trigger(msix, 1, 1), good);
  EXPECT_EQ(ears.heard()[1], 1U);
  if (is_live()) {
    expect_identify_works([this](std::uint32_t tail) { ring(tail); });
  }
  EXPECT_EQ(device().state(), vfio::transport_state::ready);
}

TEST_P(UseConformance, WhoeverSleepsIsToldThatSomebodyElseWokeIt) {
  if (!is_kernel() || GetParam().kernel_version < 601) {
    GTEST_SKIP() << "nothing sleeps there";
  }
  const listeners woken{1};
  const auto entry = bytes_of(vfio::uapi::device_low_power_entry_with_wakeup{
      .wakeup_eventfd = woken.fds()[0], .reserved = 0});
  const std::uint32_t sleep = feature::low_power_entry_with_wakeup | flag::set;
  for (int i = 0; i < 2; ++i) {  // it may sleep again
    ASSERT_EQ(ask(sleep, entry), good);
    EXPECT_EQ(woken.heard().front(), 0U) << "it sleeps";
    ASSERT_TRUE(under->wake());
    EXPECT_TRUE(comes_true([&] { return woken.heard().front() == 1U; }));
    EXPECT_EQ(read(bar, version_at, 4), 0x0001'0400U);
  }
  EXPECT_EQ(device().state(), vfio::transport_state::ready);
}

}  // namespace
}  // namespace runnel::sim
