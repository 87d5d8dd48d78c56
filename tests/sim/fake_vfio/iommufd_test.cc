// Goal: the fake kernel's iommufd and device nodes do what they are told to: other versions,
// devices and limits. Rules that any kernel can be asked for are in tests/sim/conformance. Method:
// bare system calls; what is expected was measured on kernels.
#include <gtest/gtest.h>

#include "tests/sim/fake_vfio/testing.h"

namespace runnel::sim {
namespace {

namespace of = uapi::iommufd;

/// A device bound to an iommufd with one address space, not attached.
struct cdev_user : raw_user {
  explicit cdev_user(const machine_options& options = {}) : raw_user{options} {
    iommu = open("/dev/iommu");
    device = open("/dev/vfio/devices/vfio0");
    of::ioas_alloc alloc{.size = sizeof(alloc), .flags = 0, .out_ioas_id = 0};
    EXPECT_EQ(ask(iommu, of::ioctls::ioas_alloc, alloc), 0);
    ioas = alloc.out_ioas_id;
  }
  [[nodiscard]] int bind(std::uint32_t flags = 0, const void* token = nullptr) {
    uapi::device_bind_iommufd asked{
        .argsz = token == nullptr ? uapi::bind_iommufd_bytes_min : std::uint32_t{sizeof(asked)},
        .flags = flags,
        .iommufd = iommu.get(),
        .out_devid = 0,
        .token_uuid_ptr = reinterpret_cast<std::uintptr_t>(token)};
    const int answer = ask(device, uapi::ioctls::device_bind_iommufd, asked);
    devid = asked.out_devid;
    return answer;
  }
  [[nodiscard]] int attach(std::uint32_t to, std::uint32_t flags = 0) {
    uapi::device_attach_iommufd_pt asked{
        .argsz = flags == 0 ? uapi::attach_iommufd_pt_bytes_min : std::uint32_t{sizeof(asked)},
        .flags = flags,
        .pt_id = to,
        .pasid = 1};
    return ask(device, uapi::ioctls::device_attach_iommufd_pt, asked);
  }
  [[nodiscard]] int map_ioas(std::uint64_t iova, std::uint64_t bytes, std::uint32_t flags = 7) {
    of::ioas_map asked{.size = sizeof(asked),
                       .flags = flags,
                       .ioas_id = ioas,
                       .reserved = 0,
                       .user_va = reinterpret_cast<std::uintptr_t>(memory),
                       .length = bytes,
                       .iova = iova};
    return ask(iommu, of::ioctls::ioas_map, asked);
  }
  [[nodiscard]] int unmap_ioas(std::uint64_t iova, std::uint64_t bytes) {
    of::ioas_unmap asked{.size = sizeof(asked), .ioas_id = ioas, .iova = iova, .length = bytes};
    return ask(iommu, of::ioctls::ioas_unmap, asked);
  }
  vfio::kernel_fd iommu;
  vfio::kernel_fd device;
  std::uint32_t ioas = 0;
  std::uint32_t devid = 0;
};

TEST(FakeCdev, ATokenIsKnownSinceItsVersion) {
  const std::array<std::byte, 16> token{};
  for (const auto& [version, expected] : {std::pair{612U, EINVAL}, std::pair{617U, 0}}) {
    cdev_user user{{.functions = {{.token = "a VF's"}}, .version = version}};
    EXPECT_EQ(user.bind(), EACCES);
    EXPECT_EQ(user.bind(uapi::bind_flag_token, token.data()), expected) << version;
  }
}

TEST(FakeCdev, IsAttachedReplacedAndDetached) {
  cdev_user user;
  ASSERT_EQ(user.bind(), 0);
  EXPECT_EQ(user.attach(user.ioas), 0);
  of::hwpt_alloc hwpt{.size = sizeof(hwpt),
                      .flags = 0,
                      .dev_id = user.devid,
                      .pt_id = user.ioas,
                      .out_hwpt_id = 0,
                      .reserved = 0,
                      .data_type = 0,
                      .data_len = 0,
                      .data_uptr = 0,
                      .fault_id = 0,
                      .reserved2 = 0};
  EXPECT_EQ(user.ask(user.iommu, of::ioctls::hwpt_alloc, hwpt), 0);
  EXPECT_EQ(user.attach(hwpt.out_hwpt_id), 0);
  of::destroy gone{.size = sizeof(gone), .id = user.ioas};
  EXPECT_EQ(user.ask(user.iommu, of::ioctls::destroy, gone), EBUSY);
  uapi::device_detach_iommufd_pt detach{.argsz = 8, .flags = 0, .pasid = 0};
  EXPECT_EQ(user.ask(user.device, uapi::ioctls::device_detach_iommufd_pt, detach), 0);
  hwpt.flags = of::hwpt_flags::dirty_tracking;
  EXPECT_EQ(user.ask(user.iommu, of::ioctls::hwpt_alloc, hwpt), EOPNOTSUPP);
}

TEST(FakeCdev, APasidIsRefusedAsItsVersionDoes) {
  for (const auto& [version, expected] : {std::pair{612U, EINVAL}, std::pair{615U, EOPNOTSUPP}}) {
    cdev_user user{{.version = version}};
    ASSERT_EQ(user.bind(), 0);
    EXPECT_EQ(user.attach(user.ioas, uapi::attach_pasid), expected) << version;
  }
}

TEST(FakeIoas, RangesNarrowWithTheDevice) {
  cdev_user user;
  std::array<of::iova_range, 4> ranges{};
  of::ioas_iova_ranges asked{.size = sizeof(asked),
                             .ioas_id = user.ioas,
                             .num_iovas = 4,
                             .reserved = 0,
                             .allowed_iovas = reinterpret_cast<std::uintptr_t>(ranges.data()),
                             .out_iova_alignment = 0};
  EXPECT_EQ(user.ask(user.iommu, of::ioctls::ioas_iova_ranges, asked), 0);
  EXPECT_EQ(asked.num_iovas, 1U);
  EXPECT_EQ(ranges[0].last, ~std::uint64_t{0});
  ASSERT_EQ(user.bind(), 0);
  ASSERT_EQ(user.attach(user.ioas), 0);
  asked.num_iovas = 4;
  EXPECT_EQ(user.ask(user.iommu, of::ioctls::ioas_iova_ranges, asked), 0);
  EXPECT_EQ(ranges[1].start, 0xfef00000U);
  EXPECT_EQ(asked.out_iova_alignment, page);
}

TEST(FakeIoas, MemoryBeyondTheLimitIsRefused) {
  cdev_user user{{.memlock = 4 * page}};
  EXPECT_EQ(user.map_ioas(0x100000, 2 * page), 0);
  EXPECT_EQ(user.map_ioas(0x200000, 3 * page), ENOMEM);
  EXPECT_EQ(user.unmap_ioas(0, ~std::uint64_t{0}), 0);
  EXPECT_EQ(user.map_ioas(0x200000, 3 * page), 0);
}

TEST(FakeIoas, StructuresMayGrowByZeros) {
  raw_user user;
  const auto iommu = user.open("/dev/iommu");
  struct {
    of::ioas_alloc known{.size = sizeof(of::ioas_alloc) + 4, .flags = 0, .out_ioas_id = 0};
    std::uint32_t newer = 0;
  } asked;
  EXPECT_EQ(user.ask(iommu, of::ioctls::ioas_alloc, asked), 0);
}

TEST(FakeIoas, FilesAreMappedSinceTheirVersion) {
  for (const auto& [version, expected] : {std::pair{612U, ENOTTY}, std::pair{613U, 0}}) {
    cdev_user user{{.version = version}};
    user.kernel.under.memory_of_file[3] = raw_user::memory;
    of::ioas_map_file asked{.size = sizeof(asked),
                            .flags = 7,
                            .ioas_id = user.ioas,
                            .fd = 3,
                            .start = page,
                            .length = page,
                            .iova = 0x100000};
    EXPECT_EQ(user.ask(user.iommu, of::ioctls::ioas_map_file, asked), expected) << version;
  }
}

}  // namespace
}  // namespace runnel::sim
