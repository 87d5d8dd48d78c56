// Goal: no info structure of a kernel, with whatever capabilities behind it, breaks what takes it
// apart, and what is let through keeps its promises. Method: the first byte names a parser, the
// rest is what it gets; stateless.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drivers/vfio/capability_chain.h"
#include "drivers/vfio/hot_reset.h"
#include "drivers/vfio/region_reply.h"
#include "drivers/vfio/type1_reply.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "tests/fuzz/byte_program.h"

namespace runnel::fuzz {
namespace {

using bytes = std::span<const std::byte>;

void chain_of(bytes reply) {
  byte_program program{reply};
  const auto first = program.take<std::uint16_t>();
  vfio::capability_chain chain{reply, sizeof(first), first};
  std::size_t steps = 0;
  for (auto next = chain.next(); next && *next; next = chain.next()) {
    CHECK((*next)->bytes.size() >= sizeof(vfio::uapi::info_cap_header));
    CHECK((*next)->bytes.data() + (*next)->bytes.size() == reply.data() + reply.size());
    CHECK(++steps <= reply.size() / sizeof(vfio::uapi::info_cap_header));
  }
}

void region_of(bytes reply) {
  const auto raw = vfio::read_front<vfio::uapi::region_info>(reply);
  const auto region = vfio::parse_region_info(reply, raw ? raw->index : 0);
  if (!region) {
    return;
  }
  for (const vfio::region_area& area : region->areas) {
    CHECK(range_within(area.offset, area.length, region->size));
  }
}

void type1_of(bytes reply) {
  const auto info = vfio::parse_type1_info(reply);
  if (!info) {
    return;
  }
  CHECK((info->page_bytes & (info->page_bytes - 1)) == 0);
  CHECK(info->page_bytes != 0);
  for (const vfio::iova_range& range : info->ranges) {
    CHECK(range.first <= range.last);
  }
}

/// What is planned is descriptors of ours, each once, and one of every group that goes along.
void hot_reset_of(bytes reply) {
  const std::array groups{vfio::owned_group{.number = 0, .fd = 10},
                          vfio::owned_group{.number = 12, .fd = 11}};
  const auto told = vfio::parse_hot_reset_info(reply);
  const auto plan = told ? vfio::plan_hot_reset(*told, groups, "pci:0000:01:00.0")
                         : outcome<std::vector<std::int32_t>>{};
  if (!told || !plan) {
    return;
  }
  CHECK(plan->size() <= (told->by_iommufd ? 0 : groups.size()));
  for (const vfio::hot_reset_function& each : told->functions) {
    CHECK(each.address.size() >= sizeof("0000:00:00.0") - 1);
    const auto fd = each.group_or_id == 0 ? 10 : 11;
    CHECK(told->by_iommufd ? each.group_or_id != vfio::uapi::pci_devid_not_owned
                           : std::ranges::find(*plan, fd) != plan->end());
  }
}

constexpr std::array parsers{chain_of, region_of, type1_of, hot_reset_of};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace runnel::fuzz;
  byte_program program{{data, size}};
  const auto parser = program.pick(parsers);
  parser(program.take_bytes(size));
  return 0;
}
