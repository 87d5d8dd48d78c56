#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "mempool/base/check.h"
#include "mempool/stand_in.h"
#include "tests/sim/fake_vfio/cdev.h"
#include "tests/sim/fake_vfio/container.h"
#include "tests/sim/fake_vfio/group.h"
#include "tests/sim/fake_vfio/iommufd.h"
#include "tests/sim/fake_vfio/kvm.h"
#include "tests/sim/fake_vfio/machine.h"

namespace runnel::sim {

/// A kernel with VFIO and iommufd that is not there: system calls go to files of ours, which obey
/// the rules that were measured on the real one. It fails the call it is told to, and knows what
/// was not given back. Calls may come from any thread.
class fake_kernel final : public vfio::syscalls {
 public:
  explicit fake_kernel(const machine_options& options = {}) : under{options} {
    under.file_of = [this](int fd) { return file_of(fd); };
    under.give_fd = [this](std::shared_ptr<kernel_file> file) { return give(std::move(file)); };
  }
  fake_kernel(const fake_kernel&) = delete;
  fake_kernel& operator=(const fake_kernel&) = delete;
  ~fake_kernel() override {  // files go before what they stand on
    under.bar_maps.clear();
    files_.clear();
  }

  static constexpr int first_fd = 1'000'000;  // taken for a real one nowhere

  machine under;
  /// The call with this number fails, counted from 1 in `calls`; what gives back does its work all
  /// the same.
  struct plan {
    std::size_t call = 0;  // none
    int number = EIO;
  };
  plan fails;
  std::size_t calls = 0;
  int refuses_open = 0;  // with this errno

  struct leaks {
    std::size_t fds = 0;
    std::size_t bar_maps = 0;
    std::size_t stand_ins = 0;  // of BARs
    std::uint64_t pinned = 0;   // bytes
    int open_functions = 0;

    friend bool operator==(const leaks&, const leaks&) = default;
  };
  /// What is still held.
  [[nodiscard]] leaks held() const {
    const std::scoped_lock lock{one_at_a_time_};
    leaks all{.fds = files_.size(),
              .bar_maps = under.bar_maps.size(),
              .stand_ins = stand_ins_.size(),
              .pinned = under.account.charged};
    for (const auto& each : under.functions) {
      all.open_functions += each->opened;
    }
    return all;
  }

  /// How many of the system calls that can fail were never made.
  [[nodiscard]] std::size_t operations_left_out() const { return (~called_).count(); }

  /// What a device finds at a bus address; null where it reaches nothing: not translated, not
  /// allowed, or its bus master is off.
  [[nodiscard]] std::byte* dma(const pci_function& function, std::uint64_t first,
                               std::uint64_t bytes, access wanted) const {
    const std::scoped_lock lock{one_at_a_time_};
    const bool may = !function.absent && (function.command() & pci_function::bus_master) != 0;
    if (may && function.options.no_iommu) {
      return machine::memory_at(first);
    }
    return may && function.space != nullptr ? function.space->find(first, bytes, wanted) : nullptr;
  }

  [[nodiscard]] result<vfio::kernel_fd> open(const char* path, int) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    if (fails_now(operation::open)) {
      return failed(-fails.number);
    }
    if (refuses_open != 0) {
      return failed(-refuses_open);
    }
    const int fd = open_path(path);
    return fd < 0 ? failed(fd) : result<vfio::kernel_fd>{vfio::kernel_fd{*this, fd}};
  }
  [[nodiscard]] result<vfio::kernel_fd> duplicate(int fd) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    const auto file = file_of(fd);
    if (fails_now(operation::duplicate) || file == nullptr) {
      return failed(file == nullptr ? -EBADF : -fails.number);
    }
    return vfio::kernel_fd{*this, give(file)};
  }
  void close(int fd) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    static_cast<void>(fails_now(operation::close));
    CHECK(files_.erase(fd) == 1);  // closing twice is a bug of the caller
  }

  [[nodiscard]] result<int> ioctl(int fd, unsigned long request,
                                  std::uintptr_t argument) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    if (fails_now(operation::ioctl)) {
      return failed(-fails.number);
    }
    const auto file = file_of(fd);
    const int answer = file == nullptr ? -EBADF : file->ioctl(request, argument);
    return answer < 0 ? failed(answer) : result<int>{answer};
  }

  [[nodiscard]] result<std::span<std::byte>> mmap(int fd, std::uint64_t offset,
                                                  std::uint64_t bytes) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    const auto file = file_of(fd);
    if (fails_now(operation::mmap)) {
      return failed(-fails.number);
    }
    const auto backing = file == nullptr ? std::nullopt : file->mmap(offset, bytes);
    if (!backing) {
      return failed(file == nullptr ? -EBADF : -EINVAL);
    }
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, backing->fd,
                            static_cast<off_t>(backing->offset));
    if (at == MAP_FAILED) {
      return failed(-errno);
    }
    under.bar_maps.push_back({.at = {static_cast<std::byte*>(at), bytes}, .of = file});
    return under.bar_maps.back().at;
  }
  [[nodiscard]] result<> replace(std::span<std::byte> mapped) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    if (fails_now(operation::replace)) {
      return failed(-fails.number);
    }
    CHECK(put_stand_in(mapped, std::byte{0xff}).has_value());
    CHECK(forget_bar_map(mapped));
    stand_ins_.push_back(mapped);
    return {};
  }
  void munmap(std::span<std::byte> mapped) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    static_cast<void>(fails_now(operation::munmap));
    ::munmap(mapped.data(), mapped.size());
    const auto same = [&](const auto& each) { return each.data() == mapped.data(); };
    CHECK(forget_bar_map(mapped) || std::erase_if(stand_ins_, same) == 1);
  }

  [[nodiscard]] result<std::size_t> pread(int fd, std::span<std::byte> into,
                                          std::uint64_t offset) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    const auto file = file_of(fd);
    return fails_now(operation::pread)
               ? failed(-fails.number)
               : counted(file == nullptr ? -EBADF : file->pread(into, offset));
  }
  [[nodiscard]] result<std::size_t> pwrite(int fd, std::span<const std::byte> from,
                                           std::uint64_t offset) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    const auto file = file_of(fd);
    return fails_now(operation::pwrite)
               ? failed(-fails.number)
               : counted(file == nullptr ? -EBADF : file->pwrite(from, offset));
  }
  [[nodiscard]] result<> read_pagemap(int, const std::byte* first,
                                      std::span<std::uint64_t> entries) noexcept override {
    const std::scoped_lock lock{one_at_a_time_};
    if (fails_now(operation::read_pagemap)) {
      return failed(-fails.number);
    }
    for (std::uint64_t& entry : entries) {
      entry = under.pagemap_entry(first);
      first += page;
    }
    return {};
  }
  [[nodiscard]] std::uint64_t memlock_limit() noexcept override { return under.account.limit; }

 private:
  [[nodiscard]] static std::unexpected<error> failed(std::int64_t negative) noexcept {
    return std::unexpected{error{errc::os, static_cast<std::uint32_t>(-negative)}};
  }
  [[nodiscard]] static result<std::size_t> counted(std::int64_t answer) noexcept {
    return answer < 0 ? failed(answer) : result<std::size_t>{static_cast<std::size_t>(answer)};
  }
  /// The system calls of the seam that can fail.
  enum class operation : std::uint8_t {
    open,
    duplicate,
    close,
    ioctl,
    mmap,
    replace,
    munmap,
    pread,
    pwrite,
    read_pagemap
  };
  static constexpr std::size_t operations = 10;

  [[nodiscard]] bool fails_now(operation which) noexcept {
    called_.set(static_cast<std::size_t>(which));
    return ++calls == fails.call;
  }

  [[nodiscard]] std::shared_ptr<kernel_file> file_of(int fd) const {
    const auto found = files_.find(fd);
    return found == files_.end() ? nullptr : found->second;
  }
  [[nodiscard]] bool forget_bar_map(std::span<std::byte> mapped) {
    return std::erase_if(under.bar_maps, [&](const bar_map& each) {
             return each.at.data() == mapped.data() && each.at.size() == mapped.size();
           }) == 1;
  }
  int give(std::shared_ptr<kernel_file> file) {
    int fd = first_fd;
    while (files_.contains(fd)) {
      ++fd;
    }
    files_.emplace(fd, std::move(file));
    return fd;
  }

  /// @return a descriptor, or an errno as a negative number
  [[nodiscard]] int open_path(std::string_view path) {
    constexpr std::string_view groups = "/dev/vfio/";
    constexpr std::string_view nodes = "/dev/vfio/devices/";
    if (path == "/dev/vfio/vfio") {
      return give(std::make_shared<container_file>(under));
    }
    if (path == "/dev/kvm") {
      return give(std::make_shared<kvm_file>(under));
    }
    if (path == "/proc/self/pagemap") {
      return give(std::make_shared<pagemap_file>());
    }
    if (path == "/dev/iommu") {
      return under.options.iommufd ? give(std::make_shared<iommufd_file>(under)) : -ENOENT;
    }
    if (path.starts_with(nodes)) {
      pci_function* const function =
          under.find(&function_options::node, std::string{path.substr(nodes.size())});
      const bool there = under.options.iommufd && under.options.version >= 606 &&
                         function != nullptr && function->options.driver == "vfio-pci";
      return there ? give(std::make_shared<cdev_file>(under, *function)) : -ENOENT;
    }
    if (path.starts_with(groups)) {
      return open_group(std::string{path.substr(groups.size())});
    }
    return -ENOENT;
  }
  [[nodiscard]] int open_group(const std::string& name) {
    for (const auto& each : under.functions) {
      if ((each->options.no_iommu ? "noiommu-" : "") + std::to_string(each->options.group) !=
          name) {
        continue;
      }
      bool taken = !under.open_groups[each->options.group].expired();
      under.each_of_group(each->options.group,
                          [&](const pci_function& member) { taken = taken || member.by_cdev; });
      if (taken) {
        return -EBUSY;
      }
      const auto group = std::make_shared<group_file>(under, each->options.group);
      under.open_groups[each->options.group] = group;
      return give(group);
    }
    return -ENOENT;
  }

  mutable std::mutex one_at_a_time_;
  std::map<int, std::shared_ptr<kernel_file>> files_;
  std::vector<std::span<std::byte>> stand_ins_;
  std::bitset<operations> called_;
};

}  // namespace runnel::sim
