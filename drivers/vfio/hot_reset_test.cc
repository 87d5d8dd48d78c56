// Goal: all that a hot reset takes along is proven to be ours, or what is missing is named. Method:
// the planner on what kernels tell, and hot resets of the fake kernel's slots.
#include "drivers/vfio/hot_reset.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/fake_vfio/cdev_rig.h"
#include "tests/sim/fake_vfio/group_rig.h"

namespace runnel::vfio {
namespace {

using sim::cdev_rig;
using sim::finish;
using sim::function_options;
using sim::good;
using sim::group_rig;
using sim::machine_options;

using dependent = uapi::pci_dependent_device;

[[nodiscard]] std::vector<std::byte> hot_reset_reply(uapi::pci_hot_reset_info head,
                                                     std::span<const dependent> functions) {
  std::vector<std::byte> reply(sizeof(head) + functions.size_bytes());
  std::memcpy(reply.data(), &head, sizeof(head));
  std::ranges::copy(std::as_bytes(functions), reply.begin() + sizeof(head));
  return reply;
}

TEST(HotResetPlan, EveryGroupIsProvenOnce) {
  const std::array functions{
      dependent{.group_id = 12, .segment = 0, .bus = 1, .devfn = 0},
      dependent{.group_id = 13, .segment = 0, .bus = 1, .devfn = 1},
      dependent{.group_id = 12, .segment = 0x10, .bus = 0xaf, .devfn = 0xff}};
  const auto info =
      parse_hot_reset_info(hot_reset_reply({.argsz = 36, .flags = 0, .count = 3}, functions));
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->functions[1].address, "0000:01:00.1");
  EXPECT_EQ(info->functions[2].address, "0010:af:1f.7");
  const std::array groups{owned_group{.number = 11, .fd = 4}, owned_group{.number = 12, .fd = 5},
                          owned_group{.number = 13, .fd = 6}};
  EXPECT_EQ(plan_hot_reset(*info, groups, "pci:0000:01:00.0").value(),
            (std::vector<std::int32_t>{5, 6}));
  const auto refused = plan_hot_reset(*info, std::span{groups}.first(2), "pci:0000:01:00.0");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().what.code, errc::busy);
  EXPECT_EQ(refused.error().object, "pci:0000:01:00.0");
  EXPECT_EQ(
      refused.error().hint,
      "0000:01:00.1 of group 13 is not ours: run `runnel bind 0000:01:00.1` and open it here");
}

TEST(HotResetPlan, AnIommufdKnowsByItself) {
  namespace flag = uapi::hot_reset_flags;
  struct {
    const char* what;
    std::uint32_t flags;
    std::uint32_t sibling;
    const char* refused;  // the reason begins so; null: it is not
  } const cases[] = {
      {"bound here", flag::dev_id | flag::dev_id_owned, 7, nullptr},
      {"unused", flag::dev_id | flag::dev_id_owned, uapi::pci_devid_owned, nullptr},
      {"somebody else's", flag::dev_id, uapi::pci_devid_not_owned, "0000:01:00.1 is not ours"},
      {"of two minds", flag::dev_id | flag::dev_id_owned, uapi::pci_devid_not_owned,
       "0000:01:00.1 is not ours"},
      {"not owned, and nobody is named", flag::dev_id, 7, "something behind its bridge"},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    const std::array functions{
        dependent{.group_id = 6, .segment = 0, .bus = 1, .devfn = 0},
        dependent{.group_id = given.sibling, .segment = 0, .bus = 1, .devfn = 1}};
    const auto info = parse_hot_reset_info(
        hot_reset_reply({.argsz = 28, .flags = given.flags, .count = 2}, functions));
    ASSERT_TRUE(info.has_value());
    const auto plan = plan_hot_reset(*info, {}, "pci:0000:01:00.0");
    ASSERT_EQ(plan.has_value(), given.refused == nullptr);
    if (plan) {
      EXPECT_TRUE(plan->empty());
    } else {
      EXPECT_TRUE(plan.error().hint.starts_with(given.refused)) << plan.error().hint;
    }
  }
}

TEST(HotResetPlan, WhatMakesNoSenseBreaksTheProtocol) {
  const std::array functions{dependent{.group_id = 12, .segment = 0, .bus = 1, .devfn = 0}};
  for (const std::uint32_t count : {0U, 2U, 0x2000'0001U, ~0U}) {
    EXPECT_EQ(
        parse_hot_reset_info(hot_reset_reply({.argsz = 20, .flags = 0, .count = count}, functions))
            .error()
            .code,
        errc::protocol)
        << count;
  }
  const std::vector<dependent> many(hot_reset_functions_max + 1, functions[0]);
  EXPECT_FALSE(parse_hot_reset_info(hot_reset_reply({.argsz = 0, .flags = 0, .count = 513}, many)));
  EXPECT_TRUE(parse_hot_reset_info(hot_reset_reply({.argsz = 0, .flags = 0, .count = 512}, many)));
  EXPECT_FALSE(parse_hot_reset_info({}));
}

/// Two functions of a slot in groups of their own.
[[nodiscard]] machine_options two_functions() {
  return {.functions = {{}, {.address = "0000:01:00.1", .group = 13, .node = "vfio1"}}};
}

TEST(HotReset, OfGroupsTakesAllThatAreOpenInTheDomain) {
  group_rig on{two_functions()};
  const auto device = on.open(0);
  const auto resets = on.function(1).resets_done;
  auto resetting = device->hot_reset();
  device->advance(on.now);
  EXPECT_EQ(finish(*device, resetting).status.code, errc::busy);
  EXPECT_NE(device->reset_hint().find("0000:01:00.1 of group 13 is not ours"), std::string::npos);
  EXPECT_EQ(on.function(1).resets_done, resets);

  const auto sibling = on.open(1);
  const auto before = on.function(1).resets_done;
  resetting = device->hot_reset();
  device->advance(on.now);
  EXPECT_EQ(finish(*device, resetting).status, good);
  EXPECT_EQ(device->reset_hint(), "");
  EXPECT_EQ(on.function(1).resets_done, before + 1);
}

TEST(HotReset, OfNodesIsJudgedByTheIommufd) {
  cdev_rig on{two_functions()};
  const auto device = on.open(0);
  auto resetting = device->hot_reset();
  device->advance(on.now);
  EXPECT_EQ(finish(*device, resetting).status.code, errc::busy);
  EXPECT_NE(device->reset_hint().find("0000:01:00.1 is not ours"), std::string::npos);
  const auto sibling = on.open(1);
  const auto before = on.function(1).resets_done;
  resetting = device->hot_reset();
  device->advance(on.now);
  EXPECT_EQ(finish(*device, resetting).status, good);
  EXPECT_EQ(on.function(1).resets_done, before + 1);
}

TEST(HotReset, IsUnsupportedWhereNoBridgeCan) {
  for (const bool seems_so : {false, true}) {
    group_rig on{{.hot_resets = seems_so, .hot_resets_succeed = false}};
    const auto device = on.open();
    const auto resetting = device->hot_reset();
    device->advance(on.now);
    EXPECT_EQ(finish(*device, resetting).status.code, errc::unsupported);
    EXPECT_NE(device->reset_hint().find("nothing above it can"), std::string::npos);
  }
}

TEST(HotReset, IsDoneElsewhereAndKeepsWhatItNeeds) {
  group_rig on{two_functions()};
  auto device = on.open(0);
  auto sibling = on.open(1);
  const auto before = on.function(1).resets_done;
  on.calls.at_once = false;
  ASSERT_TRUE(device->hot_reset().has_value());
  sibling.reset();
  device.reset();
  on.domain.reset();
  on.calls.run_all();
  EXPECT_GT(on.function(1).resets_done, before);
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

}  // namespace
}  // namespace runnel::vfio
