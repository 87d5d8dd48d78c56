#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/uapi/cdev.h"
#include "drivers/vfio/uapi/iommufd.h"
#include "drivers/vfio/uapi/kvm.h"
#include "drivers/vfio/uapi/type1.h"
#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/conformance/subject.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::sim {

namespace uapi = vfio::uapi;
namespace iommu = vfio::uapi::iommufd;

/// A user of a kernel, real or fake, who asks it by bare system calls. Whoever is asked by its
/// group or by its node is opened step by step, so that each step can be left out.
class bare_user {
 public:
  static constexpr std::uint64_t bus = 0x4000'0000;
  static constexpr std::uint32_t read_write = 3;

  bare_user(kernel_side kernel, way how) : kernel_{std::move(kernel)}, how_{how} {}

  vfio::kernel_fd container;  // or iommufd
  vfio::kernel_fd group;
  vfio::kernel_fd device;
  std::uint32_t ioas = 0;

  // Opening.

  [[nodiscard]] int open(const std::string& path, vfio::kernel_fd& into) {
    auto opened = system().open(path.c_str(), O_RDWR);
    into = opened ? std::move(*opened) : vfio::kernel_fd{};
    return opened ? 0 : static_cast<int>(opened.error().detail);
  }
  [[nodiscard]] std::string group_path() const {
    return "/dev/vfio/" + std::to_string(kernel_.group);
  }
  [[nodiscard]] const std::string& node_path() const { return kernel_.node; }
  [[nodiscard]] const std::string& address() const { return kernel_.address; }

  void open_container() {
    ASSERT_EQ(open(how_ == way::group ? "/dev/vfio/vfio" : "/dev/iommu", container), 0);
  }
  [[nodiscard]] int set_container(std::int32_t fd) {
    return ask(group, uapi::ioctls::group_set_container, fd);
  }
  [[nodiscard]] int set_iommu(std::uintptr_t type = uapi::extensions::type1v2_iommu) {
    return number_of(system().ioctl(container.get(), uapi::ioctls::set_iommu, type));
  }
  [[nodiscard]] int get_device(const std::string& name) {
    const auto fd = system().ioctl(group.get(), uapi::ioctls::group_get_device_fd,
                                   reinterpret_cast<std::uintptr_t>(name.c_str()));
    device = fd ? vfio::kernel_fd{system(), *fd} : vfio::kernel_fd{};
    return number_of(fd);
  }
  [[nodiscard]] int bind(std::int32_t iommufd) {
    uapi::device_bind_iommufd asked{.argsz = uapi::bind_iommufd_bytes_min,
                                    .flags = 0,
                                    .iommufd = iommufd,
                                    .out_devid = 0,
                                    .token_uuid_ptr = 0};
    return ask(device, uapi::ioctls::device_bind_iommufd, asked);
  }
  [[nodiscard]] int attach(std::uint32_t to, std::uint32_t flags = 0) {
    uapi::device_attach_iommufd_pt asked{
        .argsz = uapi::attach_iommufd_pt_bytes_min, .flags = flags, .pt_id = to, .pasid = 0};
    return ask(device, uapi::ioctls::device_attach_iommufd_pt, asked);
  }
  [[nodiscard]] int attach_pasid(std::uint32_t to) {
    uapi::device_attach_iommufd_pt asked{
        .argsz = sizeof(asked), .flags = uapi::attach_pasid, .pt_id = to, .pasid = 1};
    return ask(device, uapi::ioctls::device_attach_iommufd_pt, asked);
  }
  void alloc_ioas() {
    iommu::ioas_alloc asked{.size = sizeof(asked), .flags = 0, .out_ioas_id = 0};
    ASSERT_EQ(ask(container, iommu::ioctls::ioas_alloc, asked), 0);
    ioas = asked.out_ioas_id;
  }
  /// All the steps, to a device that is translated for.
  void open_all() {
    open_container();
    if (how_ == way::cdev) {
      alloc_ioas();
      ASSERT_EQ(open(node_path(), device), 0);
      ASSERT_EQ(bind(container.get()), 0);
      ASSERT_EQ(attach(ioas), 0);
      return;
    }
    ASSERT_EQ(open(group_path(), group), 0);
    ASSERT_EQ(set_container(container.get()), 0);
    ASSERT_EQ(set_iommu(), 0);
    ASSERT_EQ(get_device(address()), 0);
  }

  // KVM, which may be told of the group or of the device.

  vfio::kernel_fd machine;
  vfio::kernel_fd kvm;  // its device for VFIO

  void open_kvm() {
    vfio::kernel_fd all;
    ASSERT_EQ(open("/dev/kvm", all), 0) << "try `modprobe kvm-amd` or kvm-intel";
    const auto made = system().ioctl(all.get(), uapi::kvm::ioctls::create_vm, 0);
    ASSERT_TRUE(made.has_value());
    machine = vfio::kernel_fd{system(), *made};
    ASSERT_EQ(make_kvm(kvm), 0);
  }
  [[nodiscard]] int make_kvm(vfio::kernel_fd& into) {
    uapi::kvm::create_device asked{.type = uapi::kvm::dev_type_vfio, .fd = 0, .flags = 0};
    const int answer = ask(machine, uapi::kvm::ioctls::create_device, asked);
    into = answer == 0 ? vfio::kernel_fd{system(), static_cast<int>(asked.fd)} : vfio::kernel_fd{};
    return answer;
  }
  [[nodiscard]] int tell_kvm(std::uint64_t attribute, std::int32_t file) {
    uapi::kvm::device_attr asked{.flags = 0,
                                 .group = uapi::kvm::vfio_file,
                                 .attr = attribute,
                                 .addr = reinterpret_cast<std::uintptr_t>(&file)};
    return ask(kvm, uapi::kvm::ioctls::set_device_attr, asked);
  }
  [[nodiscard]] int tell_kvm(std::uint64_t attribute) {
    return tell_kvm(attribute, how_ == way::cdev ? device.get() : group.get());
  }
  /// As far as one may be told of: nothing of the device is open.
  void open_what_kvm_knows() {
    open_container();
    if (how_ == way::cdev) {
      ASSERT_EQ(open(node_path(), device), 0);
      return;
    }
    ASSERT_EQ(open(group_path(), group), 0);
    ASSERT_EQ(set_container(container.get()), 0);
    ASSERT_EQ(set_iommu(), 0);
  }

  // Memory.

  struct wanted_map {
    std::uint64_t iova = bus;
    std::uint64_t bytes = page;
    std::uint32_t rights = read_write;
    std::uint32_t more_flags = 0;
  };
  [[nodiscard]] int map(const wanted_map& wanted) {
    if (how_ == way::cdev) {
      iommu::ioas_map asked{
          .size = sizeof(asked),
          .flags = iommu::map_flags::fixed_iova | wanted.rights << 1 | wanted.more_flags,
          .ioas_id = ioas,
          .reserved = 0,
          .user_va = reinterpret_cast<std::uintptr_t>(memory),
          .length = wanted.bytes,
          .iova = wanted.iova};
      return ask(container, iommu::ioctls::ioas_map, asked);
    }
    uapi::iommu_type1_dma_map asked{.argsz = sizeof(asked),
                                    .flags = wanted.rights | wanted.more_flags,
                                    .vaddr = reinterpret_cast<std::uintptr_t>(memory),
                                    .iova = wanted.iova,
                                    .size = wanted.bytes};
    return ask(container, uapi::ioctls::iommu_map_dma, asked);
  }
  /// @return the errno; 0 also when nothing was unmapped, which `unmapped` tells
  [[nodiscard]] int unmap(std::uint64_t iova, std::uint64_t bytes) {
    if (how_ == way::cdev) {
      iommu::ioas_unmap asked{
          .size = sizeof(asked), .ioas_id = ioas, .iova = iova, .length = bytes};
      const int answer = ask(container, iommu::ioctls::ioas_unmap, asked);
      unmapped = asked.length;
      return answer;
    }
    uapi::iommu_type1_dma_unmap asked{
        .argsz = sizeof(asked), .flags = 0, .iova = iova, .size = bytes};
    const int answer = ask(container, uapi::ioctls::iommu_unmap_dma, asked);
    unmapped = asked.size;
    return answer;
  }
  std::uint64_t unmapped = 0;
  alignas(page) static inline std::byte memory[4 * page];

  // The device.

  [[nodiscard]] int set_irqs(std::uint32_t flags, const vfio::irq_vectors& which,
                             std::span<const std::int32_t> fds = {}) {
    std::vector<std::byte> bytes(sizeof(uapi::irq_set) + fds.size_bytes());
    const uapi::irq_set head{.argsz = static_cast<std::uint32_t>(bytes.size()),
                             .flags = flags,
                             .index = which.index,
                             .start = which.start,
                             .count = which.count};
    std::memcpy(bytes.data(), &head, sizeof(head));
    std::ranges::copy(std::as_bytes(fds), bytes.begin() + sizeof(head));
    return ask(device, uapi::ioctls::device_set_irqs, *bytes.data());
  }
  [[nodiscard]] int region_info(std::uint32_t index, std::uint32_t argsz) {
    uapi::region_info asked{
        .argsz = argsz, .flags = 0, .index = index, .cap_offset = 0, .size = 0, .offset = 0};
    return ask(device, uapi::ioctls::device_get_region_info, asked);
  }
  [[nodiscard]] int irq_info(std::uint32_t index) {
    uapi::irq_info asked{.argsz = sizeof(asked), .flags = 0, .index = index, .count = 0};
    return ask(device, uapi::ioctls::device_get_irq_info, asked);
  }
  [[nodiscard]] int device_info() {
    uapi::device_info asked{};
    asked.argsz = sizeof(asked);
    return ask(device, uapi::ioctls::device_get_info, asked);
  }
  /// @param bytes  that were asked for; fewer are an error, EIO
  [[nodiscard]] int read(std::uint64_t region, std::uint64_t offset, std::size_t bytes) {
    std::array<std::byte, 16> into{};
    const auto got =
        system().pread(device.get(), std::span{into}.first(bytes), region_offset(region) + offset);
    return got && *got != bytes ? EIO : number_of(got);
  }
  [[nodiscard]] int map_device(std::uint64_t region, std::uint64_t offset, std::uint64_t bytes) {
    const auto mapped = system().mmap(device.get(), region_offset(region) + offset, bytes);
    if (mapped) {
      system().munmap(*mapped);
    }
    return number_of(mapped);
  }

  template <class T>
  [[nodiscard]] int ask(const vfio::kernel_fd& fd, unsigned long request, T& structure) {
    return number_of(vfio::ioctl_on(system(), fd.get(), request, structure));
  }
  [[nodiscard]] vfio::syscalls& system() const { return *kernel_.system; }

 private:
  [[nodiscard]] static std::uint64_t region_offset(std::uint64_t region) {
    constexpr unsigned shift = 40;  // as vfio-pci has it
    return region << shift;
  }
  template <class T>
  [[nodiscard]] static int number_of(const result<T>& answer) {
    return answer ? 0 : static_cast<int>(answer.error().detail);
  }

  kernel_side kernel_;
  way how_;
};

}  // namespace runnel::sim
