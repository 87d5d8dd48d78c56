#include "drivers/vfio/device_facts.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <optional>
#include <span>
#include <utility>

#include "drivers/vfio/capability_chain.h"
#include "drivers/vfio/info_reply.h"
#include "drivers/vfio/region_reply.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/bits.h"
#include "mempool/base/units.h"

namespace runnel::vfio {
namespace {

constexpr std::uint64_t table_page_bytes = 4 * kib;
constexpr std::uint32_t vectors_max = 2048;  // of one interrupt, as PCI's MSI-X
constexpr std::uint32_t bars = 6;
constexpr auto config = static_cast<std::uint32_t>(pci_region::config);

/// Where a device keeps its MSI-X table.
struct msix_table {
  std::uint32_t bar = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// Reads configuration space.
class config_reader {
 public:
  config_reader(syscalls& system, int fd, const region_info& region)
      : system_{&system}, fd_{fd}, region_{&region} {}

  template <class T>
  [[nodiscard]] std::optional<T> read(std::uint64_t offset) const {
    std::array<std::byte, sizeof(T)> bytes{};
    const auto got = system_->pread(fd_, bytes, region_->file_offset + offset);
    return got && *got == sizeof(T) ? read_front<T>(bytes) : std::nullopt;
  }

 private:
  syscalls* system_;
  int fd_;
  const region_info* region_;
};

/// @spec PCI Local Bus 3.0 §6.7, §6.8.2: a list of capabilities, each below 256; 0x11 is MSI-X
[[nodiscard]] std::optional<msix_table> find_msix_table(const config_reader& reader) {
  constexpr std::uint8_t list = 0x34;
  constexpr std::uint8_t msix = 0x11;
  constexpr int capabilities_max = 48;  // of four bytes or more in 192
  auto at = reader.read<std::uint8_t>(list);
  for (int i = 0; i < capabilities_max && at && *at != 0; ++i) {
    const auto where = static_cast<std::uint64_t>(*at & ~3U);
    const auto id = reader.read<std::uint8_t>(where);
    if (id == msix) {
      const auto control = reader.read<std::uint16_t>(where + 2);
      const auto place = reader.read<std::uint32_t>(where + 4);
      if (!control || !place) {
        return std::nullopt;
      }
      constexpr std::uint64_t entry_bytes = 16;
      return msix_table{.bar = *place & 7U,
                        .offset = *place & ~7U,
                        .bytes = ((*control & 0x7ffU) + 1) * entry_bytes};
    }
    at = reader.read<std::uint8_t>(where + 1);
  }
  return std::nullopt;
}

/// Whole pages of the area before and behind the table.
[[nodiscard]] std::vector<region_area> around(const region_area& area, const msix_table& table) {
  const std::uint64_t first = align_down(table.offset, table_page_bytes);
  const std::uint64_t end = align_up(table.offset + table.bytes, table_page_bytes);
  const std::uint64_t area_end = area.offset + area.length;
  std::vector<region_area> left;
  if (area.offset < first) {
    left.push_back({.offset = area.offset, .length = std::min(first, area_end) - area.offset});
  }
  if (area_end > end) {
    const std::uint64_t from = std::max(end, area.offset);
    left.push_back({.offset = from, .length = area_end - from});
  }
  return left;
}

[[nodiscard]] bool maps_its_table(std::span<const std::byte> reply) {
  const auto raw = read_front<uapi::region_info>(reply);
  const bool has_caps = (raw->flags & uapi::region_flags::caps) != 0;
  capability_chain chain{reply, sizeof(*raw), has_caps ? raw->cap_offset : 0};
  for (auto next = chain.next(); next && *next; next = chain.next()) {
    if ((*next)->id == uapi::region_caps::msix_mappable ||
        (*next)->id == uapi::region_caps::sparse_mmap) {
      return true;  // or its areas leave it out
    }
  }
  return false;
}

/// Asks one thing after the other of one device.
class learner {
 public:
  learner(syscalls& system, int fd) : system_{&system}, fd_{fd} {}

  [[nodiscard]] result<device_facts> learn() {
    uapi::device_info device{.argsz = uapi::device_info_bytes_min,
                             .flags = 0,
                             .num_regions = 0,
                             .num_irqs = 0,
                             .cap_offset = 0,
                             .pad = 0};
    if (const auto asked = ioctl_on(*system_, fd_, uapi::ioctls::device_get_info, device); !asked) {
      return std::unexpected{asked.error()};
    }
    if (device.num_regions > kernel_regions_max || device.num_irqs > kernel_irqs_max) {
      return fail(errc::protocol);
    }
    facts_.info = {
        .flags = device.flags, .region_count = device.num_regions, .irq_count = device.num_irqs};
    for (std::uint32_t i = 0; i < device.num_regions; ++i) {
      if (const result<> learned = learn_region(i); !learned) {
        return std::unexpected{learned.error()};
      }
    }
    for (std::uint32_t i = 0; i < device.num_irqs; ++i) {
      if (const result<> learned = learn_irq(i); !learned) {
        return std::unexpected{learned.error()};
      }
    }
    if (is_absent()) {
      return fail(errc::device_gone);
    }
    leave_out_msix_table();
    return std::move(facts_);
  }

 private:
  [[nodiscard]] result<> learn_region(std::uint32_t index) {
    const uapi::region_info asked{.argsz = sizeof(asked),
                                  .flags = 0,
                                  .index = index,
                                  .cap_offset = 0,
                                  .size = 0,
                                  .offset = 0};
    const auto reply = ask_info(*system_, fd_, uapi::ioctls::device_get_region_info,
                                std::as_bytes(std::span{&asked, 1}));
    facts_.regions.emplace_back();
    maps_table_.push_back(reply && maps_its_table(*reply));
    if (!reply) {
      const bool absent = reply.error() == error{errc::os, EINVAL};  // as VGA mostly is
      return absent ? result<>{} : std::unexpected{reply.error()};
    }
    auto region = parse_region_info(*reply, index);
    if (!region) {
      return std::unexpected{region.error()};
    }
    region->fd = fd_;
    facts_.regions.back() = std::move(*region);
    return {};
  }

  [[nodiscard]] result<> learn_irq(std::uint32_t index) {
    uapi::irq_info irq{.argsz = sizeof(irq), .flags = 0, .index = index, .count = 0};
    facts_.irqs.emplace_back();
    if (const auto asked = ioctl_on(*system_, fd_, uapi::ioctls::device_get_irq_info, irq);
        !asked) {
      const bool absent = asked.error() == error{errc::os, EINVAL};
      return absent ? result<>{} : std::unexpected{asked.error()};
    }
    if (irq.count > vectors_max) {
      return fail(errc::protocol);
    }
    facts_.irqs.back() = {.flags = irq.flags, .count = irq.count};
    return {};
  }

  [[nodiscard]] bool has_config() const {
    return facts_.regions.size() > config && facts_.regions[config].size != 0;
  }
  /// Where no device answers all bits read as one, which is nobody's vendor.
  [[nodiscard]] bool is_absent() const {
    constexpr std::uint16_t nobody = 0xffff;
    return has_config() &&
           config_reader{*system_, fd_, facts_.regions[config]}.read<std::uint16_t>(0) == nobody;
  }
  void leave_out_msix_table() {
    if (!has_config()) {
      return;
    }
    const auto table = find_msix_table({*system_, fd_, facts_.regions[config]});
    if (!table || table->bar >= bars || maps_table_[table->bar]) {
      return;
    }
    std::vector<region_area> left;
    for (const region_area& area : facts_.regions[table->bar].areas) {
      std::ranges::copy(around(area, *table), std::back_inserter(left));
    }
    facts_.regions[table->bar].areas = std::move(left);
  }

  syscalls* system_;
  int fd_;
  device_facts facts_;
  std::vector<bool> maps_table_;  // for each region
};

}  // namespace

outcome<device_facts> learn_device(syscalls& system, int fd, const std::string& object) {
  auto facts = learner{system, fd}.learn();
  if (!facts) {
    return fail(facts.error(), "ask for the regions and interrupts of", object,
                facts.error().code == errc::device_gone
                    ? "it does not answer: is it powered, and its slot?"
                    : "");
  }
  return std::move(*facts);
}

}  // namespace runnel::vfio
