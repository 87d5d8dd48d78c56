// Goal: what a kernel or a server refuses is refused with the same errno whether it is real or
// fake, and that errno reaches the driver. Method: the table of refusals below, provoked through a
// transport and its domain; each row is printed with what came of it.
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <span>
#include <vector>

#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/conformance/errno_table.h"
#include "tests/sim/conformance/suite.h"

namespace runnel::sim {
namespace {

class ErrnoConformance : public Conformance {
 public:
  /// The errno that an operation ended with. Our own checks have none and must not be hit.
  [[nodiscard]] static int number_of(error status) {
    EXPECT_TRUE(status == good || status.code == errc::os) << to_string(status);
    return static_cast<int>(status.detail);
  }
  [[nodiscard]] int feature(std::uint32_t flags, std::size_t data_bytes = 0) {
    const std::vector<std::byte> data(data_bytes);
    return number_of(end(device().device_feature(flags, data)));
  }
  [[nodiscard]] int attach(std::uint32_t index, int fd) {
    return number_of(end(device().set_irqs(index, 0, {&fd, 1})));
  }
  [[nodiscard]] int trigger_first(std::uint32_t index) { return number_of(trigger(index, 0, 1)); }
  [[nodiscard]] int read_register() {
    return number_of(finish(device(), device().region_read(bar, version_at, 4)).status);
  }
  void write_command(std::uint16_t value) { EXPECT_EQ(write(config, command_at, value), good); }
  /// Maps, and unmaps what was mapped.
  [[nodiscard]] int map_once(std::span<std::byte> memory) {
    region piece;
    piece.address = memory.data();
    piece.length = memory.size();
    piece.iova_offset = lent_memory::bus - reinterpret_cast<std::uintptr_t>(memory.data());
    const int answer = number_of(map(piece));
    EXPECT_TRUE(answer != 0 || unmap(piece) == good);
    return answer;
  }
  [[nodiscard]] std::span<std::byte> registers() {
    return device().map_region(bar, device().region_at(bar).areas.front().offset, page);
  }
  [[nodiscard]] int sleep_until(const vfio::uapi::device_low_power_entry_with_wakeup& woken) {
    return number_of(end(device().device_feature(
        vfio::uapi::features::low_power_entry_with_wakeup | vfio::uapi::feature_flags::set,
        bytes_of(woken))));
  }
  [[nodiscard]] int set_event_write(const vfio::event_write& what, int eventfd) {
    return number_of(end(device().set_ioeventfd(what, eventfd)));
  }
  [[nodiscard]] int make_event_write(const vfio::event_write& what) {
    return set_event_write(what, event_.get());
  }
  [[nodiscard]] int end_event_write(const vfio::event_write& what) {
    return set_event_write(what, -1);
  }
  [[nodiscard]] std::uint64_t table_offset() { return read(config, capability(0x11) + 4, 4) & ~7U; }
  using Conformance::admin_attributes_at;
  static constexpr std::uint32_t pin = intx;
  static constexpr std::uint32_t messages = msix;
  static constexpr std::uint16_t memory_on = memory_and_master;

 private:
  unique_fd event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};

namespace feature = vfio::uapi::features;
namespace flag = vfio::uapi::feature_flags;

const errno_row<ErrnoConformance> refusals[] = {
    {"memory that is not there",
     {EFAULT, EFAULT, EFAULT, 0},
     [](ErrnoConformance& on) {
       void* const at = ::mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       ::munmap(at, page);
       return on.map_once({static_cast<std::byte*>(at), page});
     }},
    {"a BAR as memory",
     {0, EFAULT, EFAULT, 0},
     [](ErrnoConformance& on) { return on.map_once(on.registers()); }},
    {"trigger of an interrupt that is off",
     {EINVAL, EINVAL, EINVAL, EINVAL},
     [](ErrnoConformance& on) { return on.trigger_first(ErrnoConformance::messages); }},
    {"trigger of INTx that is off",
     {EINVAL, EINVAL, EINVAL, EINVAL},
     [](ErrnoConformance& on) { return on.trigger_first(ErrnoConformance::pin); }},
    {"INTx beside MSI-X",
     {EINVAL, EINVAL, EINVAL, 0},
     [](ErrnoConformance& on) {
       const listeners ear{1};
       EXPECT_EQ(on.attach(ErrnoConformance::messages, ear.fds()[0]), 0);
       return on.attach(ErrnoConformance::pin, ear.fds()[0]);
     }},
    {"an eventfd that is a file",
     {EINVAL, EINVAL, EINVAL, EINVAL},
     [](ErrnoConformance& on) {
       return on.attach(ErrnoConformance::messages, unique_fd{::memfd_create("", 0)}.get());
     }},
    {"an eventfd below -1",
     {0, 0, 0, 0},
     [](ErrnoConformance& on) { return on.attach(ErrnoConformance::messages, -2); }},
    {"registers while memory is off",
     {EIO, EIO, EIO, 0},
     [](ErrnoConformance& on) {
       on.write_command(0);
       const int answer = on.read_register();
       on.write_command(ErrnoConformance::memory_on);
       return answer;
     }},
    {"an unknown feature",
     {ENOTTY, ENOTTY, ENOTTY, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(0x6fff | flag::get, 8); }},
    {"an unknown feature, probed",
     {ENOTTY, ENOTTY, ENOTTY, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(0x6fff | flag::probe | flag::get); }},
    {"a feature got and set at once",
     {EINVAL, EINVAL, EINVAL, EINVAL},
     [](ErrnoConformance& on) { return on.feature(0x6fff | flag::get | flag::set, 8); }},
    {"a reserved flag of a feature",
     {EINVAL, EINVAL, EINVAL, EINVAL},
     [](ErrnoConformance& on) {
       return on.feature(feature::low_power_entry | flag::set | 1U << 20);
     }},
    {"a feature that is there, probed",
     {0, 0, 0, ENOTTY},
     [](ErrnoConformance& on) {
       return on.feature(feature::low_power_entry | flag::probe | flag::set);
     },
     {.since = 601, .before = ENOTTY}},
    {"a feature that is there, asked nothing",
     {EINVAL, EINVAL, EINVAL, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(feature::low_power_entry); },
     {.since = 601, .before = ENOTTY}},
    {"a feature that can only be set, got",
     {EINVAL, EINVAL, EINVAL, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(feature::low_power_entry | flag::get, 8); },
     {.since = 601, .before = ENOTTY}},
    {"registers while it sleeps",  // a call wakes it
     {0, 0, 0, no_row},
     [](ErrnoConformance& on) {
       EXPECT_EQ(on.feature(feature::low_power_entry | flag::set), 0);
       const int answer = on.read_register();
       EXPECT_EQ(on.feature(feature::low_power_exit | flag::set), 0);
       return answer;
     },
     {.since = 601}},
    {"sleep while it sleeps",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](ErrnoConformance& on) {
       EXPECT_EQ(on.feature(feature::low_power_entry | flag::set), 0);
       const int answer = on.feature(feature::low_power_entry | flag::set);
       EXPECT_EQ(on.feature(feature::low_power_exit | flag::set), 0);
       return answer;
     },
     {.since = 601}},
    {"no sleep, of what is awake",
     {0, 0, 0, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(feature::low_power_exit | flag::set); },
     {.since = 601, .before = ENOTTY}},
    {"sleep with an eventfd that is no descriptor",
     {EBADF, EBADF, EBADF, ENOTTY},
     [](ErrnoConformance& on) {
       return on.sleep_until({.wakeup_eventfd = 999'999, .reserved = 0});
     },
     {.since = 601, .before = ENOTTY}},
    {"sleep with an eventfd that is a file",
     {EINVAL, EINVAL, EINVAL, ENOTTY},
     [](ErrnoConformance& on) {
       const unique_fd file{::memfd_create("", 0)};
       return on.sleep_until({.wakeup_eventfd = file.get(), .reserved = 0});
     },
     {.since = 601, .before = ENOTTY}},
    {"sleep with less than an eventfd",
     {EINVAL, EINVAL, EINVAL, ENOTTY},
     [](ErrnoConformance& on) {
       return on.feature(feature::low_power_entry_with_wakeup | flag::set, 4);
     },
     {.since = 601, .before = ENOTTY}},
    {"an event's write into the MSI-X table",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](ErrnoConformance& on) { return on.make_event_write({.offset = on.table_offset()}); }},
    {"an event's write to configuration space",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](ErrnoConformance& on) { return on.make_event_write({.index = 7, .offset = 4}); }},
    {"an event's write, made twice",
     {EEXIST, EEXIST, EEXIST, no_row},
     [](ErrnoConformance& on) {
       const vfio::event_write what{.offset = ErrnoConformance::admin_attributes_at};
       EXPECT_EQ(on.make_event_write(what), 0);
       const int answer = on.make_event_write(what);
       EXPECT_EQ(on.end_event_write(what), 0);
       return answer;
     }},
    {"an event's write that is not there, ended",
     {ENODEV, ENODEV, ENODEV, no_row},
     [](ErrnoConformance& on) {
       return on.end_event_write({.offset = ErrnoConformance::admin_attributes_at});
     }},
    {"an event's write by what is a file",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](ErrnoConformance& on) {
       const unique_fd file{::memfd_create("", 0)};
       return on.set_event_write({.offset = ErrnoConformance::admin_attributes_at}, file.get());
     }},
    {"the token of what has no virtual functions",
     {ENOTTY, ENOTTY, ENOTTY, ENOTTY},
     [](ErrnoConformance& on) { return on.feature(feature::pci_vf_token | flag::set, 16); }},
};

INSTANTIATE_TEST_SUITE_P(Each, ErrnoConformance, testing::ValuesIn(subject_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(ErrnoConformance, WhatIsRefusedIsRefusedWithTheErrnoOfTheTable) {
  for (const errno_row<ErrnoConformance>& each : refusals) {
    const int expected = each.expected_of(GetParam());
    if (expected == no_row) {
      continue;
    }
    const int answer = each.provoke(*this);
    fmt::print("{:44} {:12} {}\n", each.what, GetParam().name, name_of_errno(answer));
    EXPECT_EQ(name_of_errno(answer), name_of_errno(expected)) << each.what;
    for (const std::uint32_t index : {ErrnoConformance::pin, ErrnoConformance::messages}) {
      EXPECT_EQ(end(device().set_irqs(index, 0, {})), good) << each.what;
    }
  }
}

}  // namespace
}  // namespace runnel::sim
