// Goal: no bytes of a peer or a device break what takes them apart, and what is let through keeps
// its promises. Method: the first byte names a parser, the rest is what it gets; stateless.

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/nvme/admin.h"
#include "drivers/vfio/region_reply.h"
#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/feature.h"
#include "drivers/vfio_user/irq_set.h"
#include "drivers/vfio_user/protocol.h"
#include "drivers/vfio_user/region_info.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/feature_model.h"

namespace runnel::fuzz {
namespace {

using namespace vfio_user;
using bytes = std::span<const std::byte>;

void check_range(std::uint64_t first, std::uint64_t size) {
  CHECK(size != 0);
  CHECK(checked_add(first, size - 1).has_value());
}

void header_of(bytes wire) {
  const auto head = parse_header(wire);
  if (!head) {
    return;
  }
  CHECK(head->size >= sizeof(header) && head->size <= message_bytes_max);
  CHECK(head->payload_bytes() <= message_bytes_max - sizeof(header));
  CHECK(parse_header(wire_bytes(reply_header(*head, 0)))->is_reply());
  CHECK(error_header(*head, errno_of({errc::os, 5})).is_error());
}

/// What we understood, we can say, and understand again.
void version_of(bytes payload) {
  const auto said = parse_version(payload);
  if (!said) {
    return;
  }
  const std::string again = encode_version(*said);
  const auto heard = parse_version(std::as_bytes(std::span{again}));
  CHECK(heard && heard->limits == said->limits);
}

/// Capabilities put together from what they are made of.
void capabilities_of(bytes choices) {
  constexpr std::array<std::string_view, 16> pieces{"{",
                                                    "}",
                                                    "\"capabilities\":",
                                                    "\"max_msg_fds\":",
                                                    "\"max_data_xfer_size\":",
                                                    ",",
                                                    "1",
                                                    "\"max_dma_maps\":",
                                                    "\"pgsizes\":",
                                                    "\"migration\":",
                                                    "4096",
                                                    "-1",
                                                    "{\"capabilities\":{",
                                                    "null",
                                                    "[",
                                                    "18446744073709551615"};
  std::string payload(sizeof(version_numbers), '\0');
  for (const std::byte choice : choices.first(std::min<std::size_t>(choices.size(), 64))) {
    payload += pieces[std::to_integer<std::size_t>(choice) % pieces.size()];
  }
  version_of(std::as_bytes(std::span{payload.c_str(), payload.size() + 1}));
}

void dma_map_of(bytes payload) {
  if (const auto map = parse_dma_map(payload)) {
    check_range(map->iova, map->size);
    check_range(map->offset, map->size);
    CHECK((map->flags & (dma_map_flags::read | dma_map_flags::write)) != 0);
  }
}

void dma_unmap_of(bytes payload) {
  const auto unmap = parse_dma_unmap(payload);
  if (unmap && (unmap->flags & dma_unmap_flags::all) == 0) {
    check_range(unmap->iova, unmap->size);
  }
}

template <class T>
void access_of(bytes payload) {
  if (const auto access = parse_with_data<T>(payload)) {
    CHECK(access->data.size() == access->fixed.count);
    CHECK(access->data.size() + sizeof(T) == payload.size());
  }
}

void region_of(bytes reply) {
  std::uint32_t index = 0;
  std::memcpy(&index, reply.data(), std::min(reply.size(), sizeof index));
  const auto region =
      vfio::parse_region_info(reply.subspan(std::min(reply.size(), sizeof index)), index);
  if (!region) {
    return;
  }
  for (const vfio::region_area& area : region->areas) {
    CHECK(range_within(area.offset, area.length, region->size));
  }
  std::vector<std::byte> said(region_info_bytes(*region));
  encode_region_info(*region, index, said);
}

void interrupts_of(bytes payload) {
  const device_layout& layout = feature_model::layout();
  const std::size_t fds = payload.empty() ? 0 : std::to_integer<std::size_t>(payload[0]) % 17;
  const auto change = check_irq_set(payload.subspan(payload.empty() ? 0 : 1), fds, layout);
  if (!change) {
    CHECK(change.error() > 0);
    return;
  }
  CHECK(change->index < layout.irqs.size());
  CHECK(range_within(change->start, change->count, layout.irqs[change->index].count));
  CHECK(change->what != irq_change::kind::attach || change->count == fds);
}

void feature_of(bytes payload) {
  const auto asked = read_wire<vfio::uapi::device_feature>(payload);
  if (!asked || check_feature_header(asked->argsz, asked->flags) != 0) {
    return;
  }
  const bytes sent = payload.subspan(sizeof(*asked));
  std::vector<std::byte> data(sent.begin(), sent.end());
  feature_model model;
  const answer given =
      run_feature(model, feature_model::layout(), request_id{1}, asked->flags, data);
  CHECK(given.is_later() || given.errno_value() >= 0);
}

/// The features with structures of their own, with room for them.
void log_feature_of(bytes choices) {
  byte_program program{choices};
  const auto number = program.pick(
      std::array{feature::dma_logging_start, feature::migration, feature::dma_logging_report,
                 feature::mig_data_size, feature::mig_device_state, feature::dma_logging_stop});
  const std::uint32_t flags = static_cast<std::uint32_t>(number) | program.below(8) << 16U;
  const std::uint64_t page = std::uint64_t{1} << program.below(64);
  std::vector<std::byte> data(program.below(128));
  const auto put = [&](std::size_t at, std::uint64_t value) {
    if (data.size() >= at + sizeof value) {
      write_wire(std::span{data}.subspan(at), value);
    }
  };
  for (std::size_t at = 0; at < data.size(); at += sizeof page) {
    put(at, program.take_near(page));
  }
  if (number == feature::dma_logging_start) {
    put(0, page);
    put(8, program.take_near(2) & 0xffff'ffffU);
  }
  feature_model model;
  CHECK(run_feature(model, feature_model::layout(), request_id{1}, flags, data).errno_value() >= 0);
}

template <class Page>
Page page_of(bytes wire) {
  Page page{};
  std::memcpy(&page, wire.data(), std::min(wire.size(), sizeof page));
  return page;
}

/// What a device tells of itself; pages that are mostly zero, as devices' are.
void identity_of(bytes wire) {
  const auto space = nvme::parse_namespace(page_of<nvme::identify_namespace>(wire));
  CHECK(!space || (space->block_bytes >= 512 && space->block_count != 0));
  const auto limit =
      nvme::parse_transfer_limit(page_of<nvme::identify_controller>(wire), 4096, 1U << 20U);
  CHECK(!limit || (*limit >= 4096 && *limit <= 1U << 20U));
  CHECK(nvme::parse_namespace_list(page_of<nvme::namespace_list>(wire)).size() <= 1024);
  const auto descriptors = page_of<std::array<std::byte, nvme::identify_bytes>>(wire);
  static_cast<void>(nvme::parse_descriptors(descriptors));
  const nvme::identify_controller controller = page_of<nvme::identify_controller>(wire);
  CHECK(nvme::text_of(controller.mn).size() <= controller.mn.size());
}

constexpr std::array parsers{header_of,
                             version_of,
                             dma_map_of,
                             dma_unmap_of,
                             access_of<region_access_payload>,
                             access_of<dma_access_payload>,
                             region_of,
                             interrupts_of,
                             feature_of,
                             identity_of,
                             capabilities_of,
                             log_feature_of};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace runnel::fuzz;
  byte_program program{{data, size}};
  const auto parser = program.pick(parsers);
  parser(program.take_bytes(size));
  return 0;
}
