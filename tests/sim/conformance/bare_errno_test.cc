// Goal: the fake kernel is as the real one where our transports never look: what they check before
// they ask, and each step of opening left out. Method: the table of refusals below, provoked by
// bare system calls, each by a user of its own; each row is printed with what came of it.
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <utility>

#include "tests/sim/conformance/bare_user.h"
#include "tests/sim/conformance/errno_table.h"

namespace runnel::sim {
namespace {

namespace set_flag = vfio::uapi::irq_set_flags;
constexpr std::uint64_t bus = bare_user::bus;
constexpr std::uint64_t bar = 0;
constexpr std::uint64_t config = 7;
constexpr std::uint32_t msix = 2;
constexpr std::uint32_t err = 3;
constexpr unsigned overflow_since = 618;  // type1 has a word of its own for what wraps

/// On the way to a device: each row takes its own steps.
const errno_row<bare_user> refusals_on_the_way[] = {
    // Containers and groups.
    {"a map before there is a group",
     {EINVAL, ENODEV, no_row, no_row},
     [](bare_user& on) {
       on.open_container();
       return on.map({});
     }},
    {"an IOMMU before there is a group",
     {EINVAL, ENODEV, no_row, no_row},
     [](bare_user& on) {
       on.open_container();
       return on.set_iommu();
     }},
    {"an IOMMU a second time",
     {EINVAL, 0, no_row, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.set_iommu();
     }},
    {"an IOMMU of an unknown type",
     {ENODEV, EINVAL, no_row, no_row},
     [](bare_user& on) {
       on.open_container();
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       EXPECT_EQ(on.set_container(on.container.get()), 0);
       return on.set_iommu(99);
     }},
    {"a container a second time",
     {EINVAL, EINVAL, no_row, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.set_container(on.container.get());
     }},
    {"a container that is no descriptor",
     {EBADF, EBADF, no_row, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       return on.set_container(-1);
     },
     {.since = 601, .before = EINVAL}},
    {"a container that is a group",
     {EBADFD, EBADFD, no_row, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       return on.set_container(on.group.get());
     },
     {.since = 602, .before = EINVAL}},
    {"a device before there is a container",
     {EINVAL, EINVAL, no_row, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       return on.get_device(on.address());
     }},
    {"a device before its container has an IOMMU",  // which an iommufd need not be told
     {EINVAL, 0, no_row, no_row},
     [](bare_user& on) {
       on.open_container();
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       EXPECT_EQ(on.set_container(on.container.get()), 0);
       return on.get_device(on.address());
     }},
    {"a device of another group",
     {ENODEV, ENODEV, no_row, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.get_device("0000:7f:1f.7");
     }},
    {"no container, while a device is open",  // a device keeps its iommufd by itself
     {EBUSY, 0, no_row, no_row},
     [](bare_user& on) {
       on.open_all();
       int nothing = 0;
       return on.ask(on.group, uapi::ioctls::group_unset_container, nothing);
     }},
    {"the group, while it is open",
     {EBUSY, EBUSY, EBUSY, no_row},
     [](bare_user& on) {
       on.open_all();
       vfio::kernel_fd second;
       return on.open(on.group_path(), second);
     }},
    {"the device once more",
     {0, 0, EINVAL, no_row},
     [](bare_user& on) {
       on.open_all();
       const vfio::kernel_fd first = std::move(on.device);
       if (on.group) {
         return on.get_device(on.address());
       }
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.bind(on.container.get());
     }},
    // Nodes and iommufd.
    {"a device that is not bound, asked",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.device_info();
     }},
    {"a device that is not bound, read",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.read(config, 0, 4);
     }},
    {"bound to no descriptor",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.bind(-1);
     }},
    {"bound to what is no iommufd",
     {no_row, no_row, EBADFD, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.bind(on.device.get());
     }},
    {"bound a second time",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.bind(on.container.get());
     }},
    {"bound while its group is open",
     {no_row, no_row, EBUSY, no_row},
     [](bare_user& on) {
       on.open_container();
       EXPECT_EQ(on.open(on.group_path(), on.group), 0);
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       return on.bind(on.container.get());
     }},
    {"attached to what is not there",
     {no_row, no_row, ENOENT, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.attach(77);
     }},
    {"attached with a PASID",
     {no_row, no_row, EOPNOTSUPP, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.attach_pasid(on.ioas);
     },
     {.since = 615, .before = EINVAL, .how = way::cdev}},
    {"attached with an unknown flag",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       on.open_all();
       return on.attach(on.ioas, 1U << 9);
     }},
    {"attached where something is mapped out of reach",
     {no_row, no_row, EADDRINUSE, no_row},
     [](bare_user& on) {
       on.open_container();
       on.alloc_ioas();
       EXPECT_EQ(on.map({.iova = 0xfee0'0000}), 0);
       EXPECT_EQ(on.open(on.node_path(), on.device), 0);
       EXPECT_EQ(on.bind(on.container.get()), 0);
       return on.attach(on.ioas);
     }},
    {"an address space destroyed while it is used",
     {no_row, no_row, EBUSY, no_row},
     [](bare_user& on) {
       on.open_all();
       iommu::destroy asked{.size = sizeof(asked), .id = on.ioas};
       return on.ask(on.container, iommu::ioctls::destroy, asked);
     }},
    {"what is not there destroyed",
     {no_row, no_row, ENOENT, no_row},
     [](bare_user& on) {
       on.open_container();
       iommu::destroy asked{.size = sizeof(asked), .id = 77};
       return on.ask(on.container, iommu::ioctls::destroy, asked);
     }},
    {"an address space with an unknown flag",
     {no_row, no_row, EOPNOTSUPP, no_row},
     [](bare_user& on) {
       on.open_container();
       iommu::ioas_alloc asked{.size = sizeof(asked), .flags = 1, .out_ioas_id = 0};
       return on.ask(on.container, iommu::ioctls::ioas_alloc, asked);
     }},
    {"a structure that is too short",
     {no_row, no_row, EINVAL, no_row},
     [](bare_user& on) {
       on.open_container();
       iommu::ioas_alloc asked{.size = sizeof(asked) - 1, .flags = 0, .out_ioas_id = 0};
       return on.ask(on.container, iommu::ioctls::ioas_alloc, asked);
     }},
    {"a structure with fields of the future",
     {no_row, no_row, E2BIG, no_row},
     [](bare_user& on) {
       on.open_container();
       struct {
         iommu::ioas_alloc known{.size = sizeof(known) + 4, .flags = 0, .out_ioas_id = 0};
         std::uint32_t unknown = 1;
       } asked;
       return on.ask(on.container, iommu::ioctls::ioas_alloc, asked);
     }},
    {"more ranges than there is room for",
     {no_row, no_row, EMSGSIZE, no_row},
     [](bare_user& on) {
       on.open_all();
       iommu::iova_range one{};
       iommu::ioas_iova_ranges asked{.size = sizeof(asked),
                                     .ioas_id = on.ioas,
                                     .num_iovas = 1,
                                     .reserved = 0,
                                     .allowed_iovas = reinterpret_cast<std::uintptr_t>(&one),
                                     .out_iova_alignment = 0};
       const int answer = on.ask(on.container, iommu::ioctls::ioas_iova_ranges, asked);
       EXPECT_EQ(asked.num_iovas, 2U);
       return answer;
     }},
    {"a request that nobody knows",
     {EINVAL, ENOTTY, ENOTTY, no_row},
     [](bare_user& on) {
       on.open_container();
       std::uint32_t nothing = 0;
       return on.ask(on.container, 0x3bff, nothing);
     }},
};

/// Of an open device.
const errno_row<bare_user> refusals_when_open[] = {
    // Maps.
    {"a map twice",
     {EEXIST, EEXIST, EEXIST, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.map({}), 0);
       return on.map({});
     }},
    {"a map on no page",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map({.iova = bus + 8}); }},
    {"a map of part of a page",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map({.bytes = page / 2}); }},
    {"a map of nothing",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map({.bytes = 0}); }},
    {"a map into the window of interrupts",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map({.iova = 0xfee0'0000}); }},
    {"a map beyond what the IOMMU translates",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map({.iova = 1ULL << 62}); }},
    {"a map that wraps",
     {EOVERFLOW, EOVERFLOW, EOVERFLOW, no_row},
     [](bare_user& on) { return on.map({.iova = top - (page - 1), .bytes = 2 * page}); },
     {.since = overflow_since, .before = EINVAL}},
    {"a map that gives no right",
     {EINVAL, no_row, EINVAL, no_row},
     [](bare_user& on) { return on.map({.rights = 0}); }},
    {"a map with an unknown flag",
     {EINVAL, EINVAL, EOPNOTSUPP, no_row},
     [](bare_user& on) { return on.map({.more_flags = 1U << 9}); }},
    // Unmaps.
    {"part of a map unmapped",
     {EINVAL, ENOENT, ENOENT, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.map({.bytes = 2 * page}), 0);
       return on.unmap(bus, page);
     }},
    {"a hole unmapped",
     {0, 0, ENOENT, no_row},
     [](bare_user& on) {
       const int answer = on.unmap(bus, page);
       EXPECT_TRUE(answer != 0 || on.unmapped == 0);
       return answer;
     }},
    {"two maps and a hole unmapped at once",
     {0, 0, 0, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.map({}), 0);
       EXPECT_EQ(on.map({.iova = bus + 2 * page}), 0);
       const int answer = on.unmap(bus, 4 * page);
       EXPECT_EQ(on.unmapped, 2 * page);
       return answer;
     }},
    {"nothing unmapped",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.unmap(bus, 0); }},
    {"a hole that begins on no page unmapped",
     {EINVAL, 0, ENOENT, no_row},
     [](bare_user& on) { return on.unmap(bus + 8, page); }},
    {"unmapped to the end and around",
     {EOVERFLOW, EOVERFLOW, EOVERFLOW, no_row},
     [](bare_user& on) { return on.unmap(top - (page - 1), 2 * page); },
     {.since = overflow_since, .before = EINVAL}},
    // The device.
    {"a region asked with too little room",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.region_info(0, sizeof(uapi::region_info) - 1); }},
    {"VGA of what has none",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.region_info(8, sizeof(uapi::region_info)); }},
    {"a region beyond the last",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.region_info(9, sizeof(uapi::region_info)); }},
    {"configuration space read beyond its end",
     {EFAULT, EFAULT, EFAULT, no_row},
     [](bare_user& on) { return on.read(config, 4096 - 2, 4); }},
    {"a BAR read across its end, which cuts it off",
     {EIO, EIO, EIO, no_row},
     [](bare_user& on) { return on.read(bar, 0x4000 - 4, 8); }},
    {"a BAR read beyond its end",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.read(bar, 0x4000, 4); }},
    {"a BAR read that is not there",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.read(2, 0, 4); }},
    {"a region read that is beyond the last",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.read(9, 0, 4); }},
    {"a BAR mapped beyond its end",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map_device(bar, 0x3000, 2 * page); }},
    {"configuration space mapped",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.map_device(config, 0, page); }},
    {"a BAR mapped with its MSI-X table",
     {0, 0, 0, no_row},
     [](bare_user& on) { return on.map_device(bar, 0, 0x4000); }},
    // Interrupts.
    {"MSI, where it may be absent, asked",
     {0, 0, 0, no_row},
     [](bare_user& on) { return on.irq_info(1); }},
    {"an interrupt beyond the last asked",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.irq_info(5); }},
    {"an interrupt disabled that is not on",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) {
       return on.set_irqs(set_flag::data_none | set_flag::action_trigger, {.index = msix});
     }},
    {"ERR disabled that is not on",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) {
       return on.set_irqs(set_flag::data_none | set_flag::action_trigger, {.index = err});
     }},
    {"vectors without an action",
     {ENOTTY, ENOTTY, ENOTTY, no_row},
     [](bare_user& on) { return on.set_irqs(set_flag::data_none, {.index = msix, .count = 1}); }},
    {"MSI-X masked",
     {ENOTTY, ENOTTY, ENOTTY, no_row},
     [](bare_user& on) {
       return on.set_irqs(set_flag::data_none | set_flag::action_mask, {.index = msix, .count = 1});
     }},
    {"vectors beyond the last",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) {
       return on.set_irqs(set_flag::data_none | set_flag::action_trigger,
                          {.index = msix, .start = 64, .count = 2});
     }},
    {"an eventfd that is no descriptor",
     {EBADF, EBADF, EBADF, no_row},
     [](bare_user& on) {
       const std::array fds{999'999};
       return on.set_irqs(set_flag::data_eventfd | set_flag::action_trigger,
                          {.index = msix, .count = 1}, fds);
     }},
    {"eventfds with too few of them",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) {
       const std::array fds{-1};
       return on.set_irqs(set_flag::data_eventfd | set_flag::action_trigger,
                          {.index = msix, .count = 2}, fds);
     }},
};

const errno_row<bare_user> refusals_of_kvm[] = {
    {"a second VFIO device of a machine",
     {EBUSY, EBUSY, EBUSY, no_row},
     [](bare_user& on) {
       vfio::kernel_fd second;
       return on.make_kvm(second);
     }},
    {"KVM told of it",
     {0, 0, 0, no_row},
     [](bare_user& on) { return on.tell_kvm(uapi::kvm::vfio_file_add); }},
    {"KVM told of it twice",
     {EEXIST, EEXIST, EEXIST, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.tell_kvm(uapi::kvm::vfio_file_add), 0);
       return on.tell_kvm(uapi::kvm::vfio_file_add);
     }},
    {"KVM has it forgotten",
     {0, 0, 0, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.tell_kvm(uapi::kvm::vfio_file_add), 0);
       return on.tell_kvm(uapi::kvm::vfio_file_del);
     }},
    {"KVM has it forgotten twice",
     {ENOENT, ENOENT, ENOENT, no_row},
     [](bare_user& on) {
       EXPECT_EQ(on.tell_kvm(uapi::kvm::vfio_file_add), 0);
       EXPECT_EQ(on.tell_kvm(uapi::kvm::vfio_file_del), 0);
       return on.tell_kvm(uapi::kvm::vfio_file_del);
     }},
    {"KVM has forgotten what it was never told of",
     {ENOENT, ENOENT, ENOENT, no_row},
     [](bare_user& on) { return on.tell_kvm(uapi::kvm::vfio_file_del); }},
    {"KVM told of no descriptor",
     {EBADF, EBADF, EBADF, no_row},
     [](bare_user& on) { return on.tell_kvm(uapi::kvm::vfio_file_add, -1); }},
    {"KVM told of a container",
     {EINVAL, EINVAL, EINVAL, no_row},
     [](bare_user& on) { return on.tell_kvm(uapi::kvm::vfio_file_add, on.container.get()); }},
    {"KVM told something else",
     {ENXIO, ENXIO, ENXIO, no_row},
     [](bare_user& on) { return on.tell_kvm(77); }},
    {"KVM told once the device is open",  // too late, and no kernel says so
     {0, 0, 0, no_row},
     [](bare_user& on) {
       if (on.group) {
         EXPECT_EQ(on.get_device(on.address()), 0);
       } else {
         EXPECT_EQ(on.bind(on.container.get()), 0);
       }
       return on.tell_kvm(uapi::kvm::vfio_file_add);
     }},
};

class BareErrnoConformance : public testing::TestWithParam<subject_kind> {
 protected:
  static void expect_refusal(const errno_row<bare_user>& each, bare_user& asking) {
    const int expected = each.expected_of(GetParam());
    if (expected == no_row) {
      return;
    }
    const int answer = each.provoke(asking);
    fmt::print("{:52} {:12} {}\n", each.what, GetParam().name, name_of_errno(answer));
    EXPECT_EQ(name_of_errno(answer), name_of_errno(expected)) << each.what;
  }
};

INSTANTIATE_TEST_SUITE_P(Each, BareErrnoConformance, testing::ValuesIn(subject_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(BareErrnoConformance, EachIsRefusedWithTheErrnoOfTheTable) {
  const auto place = GetParam().make();
  const auto kernel = place->kernel();
  if (!kernel) {
    GTEST_SKIP() << "there is no kernel to ask";
  }
  for (const errno_row<bare_user>& each : refusals_on_the_way) {
    bare_user asking{*kernel, GetParam().how};
    expect_refusal(each, asking);
  }
  for (const errno_row<bare_user>& each : refusals_of_kvm) {
    bare_user asking{*kernel, GetParam().how};
    asking.open_kvm();
    asking.open_what_kvm_knows();
    expect_refusal(each, asking);
  }
  for (const errno_row<bare_user>& each : refusals_when_open) {
    bare_user asking{*kernel, GetParam().how};
    asking.open_all();
    expect_refusal(each, asking);
  }
}

}  // namespace
}  // namespace runnel::sim
