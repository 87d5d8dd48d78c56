#pragma once

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/fake_vfio/machine.h"

namespace runnel::sim {

/// What both kinds of descriptors of a device do alike, as vfio-pci does it.
/// @spec Linux vfio_pci_core.c
class device_operations : public kernel_file {
 public:
  static constexpr unsigned region_shift = 40;  // a region's number is in the file's offset
  static constexpr std::uint32_t regions = 9;
  static constexpr std::size_t event_writes_max = 1000;

  [[nodiscard]] std::int64_t pread(std::span<std::byte> into, std::uint64_t offset) override {
    make_event_writes();
    return function().read(static_cast<std::uint32_t>(offset >> region_shift), offset & offset_mask,
                           into);
  }
  [[nodiscard]] std::int64_t pwrite(std::span<const std::byte> from,
                                    std::uint64_t offset) override {
    return function().write(static_cast<std::uint32_t>(offset >> region_shift),
                            offset & offset_mask, from);
  }
  [[nodiscard]] std::optional<backing> mmap(std::uint64_t offset, std::uint64_t bytes) override {
    const std::uint64_t inside = offset & offset_mask;
    const bool table = inside < table_end && inside + bytes > pci_function::msix_table;
    if (offset >> region_shift != 0 || !range_within(inside, bytes, pci_function::bar_bytes) ||
        (table && !function().options.msix_mappable)) {
      return std::nullopt;
    }
    return backing{.fd = function().bar_fd(), .offset = inside};
  }

 protected:
  device_operations(machine& on, pci_function& function) : machine_{&on}, function_{&function} {}

  [[nodiscard]] machine& host() const { return *machine_; }
  [[nodiscard]] pci_function& function() const { return *function_; }

  /// The first user resets the device, the last one too.
  void open_function() const {
    if (function().opened++ == 0) {
      function().power_on();
    }
  }
  void close_function() const {
    if (--function().opened == 0) {
      function().irqs.release();
      function().asleep = false;
      function().told_when_woken.reset();
      function().power_on();
    }
  }

  [[nodiscard]] int device_ioctl(unsigned long request, std::uintptr_t argument) {
    namespace ask = vfio::uapi::ioctls;
    switch (request) {
      case ask::device_get_info:
        return tell_device(argument);
      case ask::device_get_region_info:
        return tell_region(argument);
      case ask::device_get_irq_info:
        return function().irqs.info(argument);
      case ask::device_set_irqs:
        return function().irqs.set(argument);
      case ask::device_reset:
        if (!function().options.resets) {
          return -EINVAL;
        }
        function().reset();
        return 0;
      case ask::device_get_pci_hot_reset_info:
        return tell_hot_reset(argument);
      case ask::device_pci_hot_reset:
        return hot_reset(argument);
      case ask::device_ioeventfd:
        return set_event_write(user<vfio::uapi::device_ioeventfd>(argument));
      case ask::device_feature:
        return host().options.version < 507 ? -ENOTTY : do_feature(argument);
      default:
        return -ENOTTY;
    }
  }

  /// Of what a hot reset resets: our own and whether the caller may.
  [[nodiscard]] virtual bool owns(const pci_function& other, std::uintptr_t reset) const = 0;
  /// What names a function in hot_reset_info.
  [[nodiscard]] virtual std::uint32_t name_of(const pci_function& other) const = 0;
  [[nodiscard]] virtual std::uint32_t hot_reset_info_flags() const = 0;

  [[nodiscard]] std::vector<pci_function*> slot() const {
    std::vector<pci_function*> found;
    const auto slot_of = [](const pci_function& each) {
      return each.options.address.substr(0, each.options.address.size() - 2);
    };
    for (const auto& each : host().functions) {
      if (slot_of(*each) == slot_of(function())) {
        found.push_back(each.get());
      }
    }
    return found;
  }

 private:
  static constexpr std::uint64_t offset_mask = (std::uint64_t{1} << region_shift) - 1;
  static constexpr std::uint64_t table_end = pci_function::msix_table + 0x1000;

  [[nodiscard]] int tell_device(std::uintptr_t argument) const {
    auto& told = user<vfio::uapi::device_info>(argument);
    if (told.argsz < vfio::uapi::device_info_bytes_min) {
      return -EINVAL;
    }
    told.flags = vfio::uapi::device_flags::pci | vfio::uapi::device_flags::reset;
    told.num_regions = regions + (function().options.own_region ? 1 : 0);
    told.num_irqs = interrupts::kinds;
    return 0;
  }

  [[nodiscard]] int tell_region(std::uintptr_t argument) const {
    namespace flag = vfio::uapi::region_flags;
    auto& told = user<vfio::uapi::region_info>(argument);
    constexpr std::uint32_t vga = 8;
    const bool is_own = told.index == pci_function::own_region && function().options.own_region;
    if (told.argsz < sizeof(told) || (told.index >= vga && !is_own)) {
      return -EINVAL;
    }
    told.flags = 0;
    told.size = 0;
    told.offset = std::uint64_t{told.index} << region_shift;
    told.cap_offset = 0;
    if (told.index == 7) {
      told.flags = flag::read | flag::write;
      told.size = pci_function::config_bytes;
    } else if (told.index == 0) {
      told.flags = flag::read | flag::write | flag::mmap;
      told.size = pci_function::bar_bytes;
      if (function().options.msix_mappable) {
        add_capability(told,
                       vfio::uapi::info_cap_header{
                           .id = vfio::uapi::region_caps::msix_mappable, .version = 1, .next = 0});
      }
    } else if (is_own) {
      told.flags = flag::read | flag::write;
      told.size = pci_function::own_bytes;
      add_capability(told,
                     vfio::uapi::region_info_cap_type{
                         .header = {.id = vfio::uapi::region_caps::type, .version = 1, .next = 0},
                         .type = function().options.own_region->type,
                         .subtype = function().options.own_region->subtype});
    }
    return 0;
  }
  template <class Capability>
  static void add_capability(vfio::uapi::region_info& told, const Capability& only) {
    constexpr auto needed = static_cast<std::uint32_t>(sizeof(told) + sizeof(only));
    told.flags |= vfio::uapi::region_flags::caps;
    if (told.argsz < needed) {
      told.argsz = needed;
      return;
    }
    told.cap_offset = sizeof(told);
    std::memcpy(reinterpret_cast<std::byte*>(&told) + sizeof(told), &only, sizeof(only));
  }

  /// @spec Linux vfio_pci_rdwr.c, vfio_pci_ioeventfd
  [[nodiscard]] int set_event_write(const vfio::uapi::device_ioeventfd& asked) {
    const std::uint64_t bytes = asked.flags;
    const std::uint64_t offset = asked.offset & offset_mask;
    const bool in_bar = asked.offset >> region_shift == 0 &&
                        range_within(offset, bytes, pci_function::bar_bytes) &&
                        !(offset < table_end && offset + bytes > pci_function::msix_table);
    if (asked.argsz < sizeof(asked) || !std::has_single_bit(bytes) || bytes > sizeof(asked.data) ||
        asked.fd < -1 || !in_bar) {
      return -EINVAL;
    }
    event_write wanted{.offset = offset, .bytes = bytes, .value = asked.data, .event = {}};
    const auto same = std::ranges::find(event_writes_, wanted);
    if (asked.fd < 0) {
      return same == event_writes_.end() ? -ENODEV : (event_writes_.erase(same), 0);
    }
    if (same != event_writes_.end()) {
      return -EEXIST;
    }
    if (event_writes_.size() >= event_writes_max) {
      return -ENOSPC;
    }
    if (const int wrong = interrupts::take_eventfd(asked.fd, wanted.event); wrong != 0) {
      return wrong;
    }
    event_writes_.push_back(std::move(wanted));
    return 0;
  }
  /// What eventfds have asked for since. The kernel does it at once; here nobody sees a difference.
  void make_event_writes() const {
    for (const event_write& each : event_writes_) {
      pollfd fired{.fd = each.event.get(), .events = POLLIN, .revents = 0};
      std::uint64_t count = 0;
      if (::poll(&fired, 1, 0) == 1 && ::read(fired.fd, &count, sizeof(count)) == sizeof(count)) {
        static_cast<void>(function().write(
            0, each.offset, std::as_bytes(std::span{&each.value, 1}).first(each.bytes)));
      }
    }
  }

  [[nodiscard]] int tell_hot_reset(std::uintptr_t argument) const {
    auto& told = user<vfio::uapi::pci_hot_reset_info>(argument);
    if (told.argsz < sizeof(told)) {
      return -EINVAL;
    }
    if (!host().options.hot_resets) {
      return -ENODEV;
    }
    const auto functions = slot();
    told.flags = hot_reset_info_flags();
    told.count = static_cast<std::uint32_t>(functions.size());
    std::vector<vfio::uapi::pci_dependent_device> devices;
    for (const pci_function* each : functions) {
      const auto devfn = static_cast<std::uint8_t>(each->options.address.back() - '0');
      devices.push_back({.group_id = name_of(*each), .segment = 0, .bus = 1, .devfn = devfn});
      if (devices.back().group_id == vfio::uapi::pci_devid_not_owned) {
        told.flags &= ~vfio::uapi::hot_reset_flags::dev_id_owned;
      }
    }
    const std::size_t bytes = devices.size() * sizeof(devices[0]);
    if (told.argsz - sizeof(told) < bytes) {
      return -ENOSPC;
    }
    std::memcpy(reinterpret_cast<std::byte*>(&told) + sizeof(told), devices.data(), bytes);
    return 0;
  }
  [[nodiscard]] int hot_reset(std::uintptr_t argument) {
    if (user<vfio::uapi::pci_hot_reset>(argument).argsz < sizeof(vfio::uapi::pci_hot_reset)) {
      return -EINVAL;
    }
    if (!host().options.hot_resets) {
      return -ENODEV;
    }
    const auto functions = slot();
    if (!std::ranges::all_of(functions, [&](const auto* each) { return owns(*each, argument); })) {
      return -EINVAL;
    }
    if (!host().options.hot_resets_succeed) {
      return -ENOTTY;
    }
    std::ranges::for_each(functions, [](auto* each) { each->reset(); });
    return 0;
  }

  /// A feature that there is: what may be done with it, how long it is, and how it is done.
  struct feature_rule {
    std::uint32_t number;
    unsigned since;  // kernel
    std::uint32_t ops;
    std::size_t bytes_min;
    int (*act)(pci_function& function, std::byte* data);
  };
  [[nodiscard]] static const std::vector<feature_rule>& rules() {
    namespace feature = vfio::uapi::features;
    namespace flag = vfio::uapi::feature_flags;
    static const std::vector<feature_rule> all{
        {feature::pci_vf_token, 507, flag::set, 16,
         [](pci_function& function, std::byte* data) {
           std::copy_n(data, function.vf_token.size(), function.vf_token.begin());
           return 0;
         }},
        {feature::low_power_entry, 601, flag::set, 0,
         [](pci_function& function, std::byte*) {
           return std::exchange(function.asleep, true) ? -EINVAL : 0;
         }},
        {feature::low_power_entry_with_wakeup, 601, flag::set,
         sizeof(vfio::uapi::device_low_power_entry_with_wakeup),
         [](pci_function& function, std::byte* data) {
           vfio::uapi::device_low_power_entry_with_wakeup asked{};
           std::memcpy(&asked, data, sizeof(asked));
           unique_fd event;
           const int wrong = asked.wakeup_eventfd < 0
                                 ? -EBADF
                                 : interrupts::take_eventfd(asked.wakeup_eventfd, event);
           if (wrong != 0 || std::exchange(function.asleep, true)) {
             return wrong != 0 ? wrong : -EINVAL;
           }
           function.told_when_woken = std::move(event);
           return 0;
         }},
        {feature::low_power_exit, 601, flag::set, 0,
         [](pci_function& function, std::byte*) {
           function.asleep = false;
           function.told_when_woken.reset();
           return 0;
         }},
        {feature::dma_buf, 619, flag::get, sizeof(vfio::uapi::device_feature_dma_buf),
         [](pci_function& function, std::byte*) { return ::dup(function.bar_fd()); }}};
    return all;
  }
  [[nodiscard]] int do_feature(std::uintptr_t argument) {
    namespace flag = vfio::uapi::feature_flags;
    const auto& asked = user<vfio::uapi::device_feature>(argument);
    const std::uint32_t ops = asked.flags & (flag::get | flag::set);
    const bool probe = (asked.flags & flag::probe) != 0;
    if (asked.argsz < sizeof(asked) || (asked.flags & ~flag::all) != 0 ||
        (ops == (flag::get | flag::set) && !probe)) {
      return -EINVAL;
    }
    const auto rule =
        std::ranges::find(rules(), asked.flags & flag::feature_mask, &feature_rule::number);
    const bool is_pfs = rule != rules().end() && rule->number == vfio::uapi::features::pci_vf_token;
    if (rule == rules().end() || rule->since > host().options.version ||
        (is_pfs && !function().options.has_virtual_functions)) {
      return -ENOTTY;
    }
    if ((ops & ~rule->ops) != 0) {
      return -EINVAL;
    }
    if (probe) {
      return 0;
    }
    if (ops == 0 || asked.argsz - sizeof(asked) < rule->bytes_min) {
      return -EINVAL;
    }
    return rule->act(function(), reinterpret_cast<std::byte*>(argument) + sizeof(asked));
  }

  struct event_write {
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint64_t value;
    unique_fd event;

    friend bool operator==(const event_write& one, const event_write& other) {
      return one.offset == other.offset && one.bytes == other.bytes && one.value == other.value;
    }
  };

  machine* machine_;
  pci_function* function_;
  std::vector<event_write> event_writes_;
};

}  // namespace runnel::sim
