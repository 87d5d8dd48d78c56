#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mempool/base/unique_fd.h"
#include "mempool/region.h"
#include "tests/sim/conformance/subject.h"
#include "tests/sim/edge_numbers.h"

// What the tests of the suite have in common: a device of each kind, and short words for what is
// done with it.
namespace runnel::sim {

/// A word or more as bytes.
template <class T>
[[nodiscard]] std::array<std::byte, sizeof(T)> bytes_of(T value) {
  return std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
}

/// Memory that the device may be given: pages of a memfd, at this bus address.
class lent_memory {
 public:
  static constexpr std::uint64_t bus = 0x4000'0000;

  explicit lent_memory(std::size_t pages) : file_{::memfd_create("lent", MFD_CLOEXEC)} {
    EXPECT_EQ(::ftruncate(file_.get(), static_cast<off_t>(pages * page)), 0);
    void* const at =
        ::mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    bytes_ = {static_cast<std::byte*>(at), pages * page};
  }
  lent_memory(const lent_memory&) = delete;
  lent_memory& operator=(const lent_memory&) = delete;
  ~lent_memory() { ::munmap(bytes_.data(), bytes_.size()); }

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  /// @param at  bus address of the first page of all
  [[nodiscard]] region piece(std::size_t first_page, std::size_t pages,
                             std::uint64_t at = bus) const {
    region made;
    made.address = bytes_.data() + first_page * page;
    made.length = pages * page;
    made.iova_offset = at - reinterpret_cast<std::uintptr_t>(bytes_.data());
    made.fd = file_.get();
    made.fd_offset = first_page * page;
    return made;
  }

 private:
  unique_fd file_;
  std::span<std::byte> bytes_;
};

/// Eventfds to be attached to vectors.
class listeners {
 public:
  explicit listeners(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      events_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      fds_.push_back(events_.back().get());
    }
  }
  [[nodiscard]] std::span<const int> fds() const { return fds_; }
  /// How often each was told since it was asked last.
  [[nodiscard]] std::vector<std::uint64_t> heard() const {
    std::vector<std::uint64_t> counts;
    for (const int fd : fds_) {
      std::uint64_t count = 0;
      counts.push_back(::read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0);
    }
    return counts;
  }

 private:
  std::vector<unique_fd> events_;
  std::vector<int> fds_;
};

class Conformance : public testing::TestWithParam<subject_kind> {
 protected:
  static constexpr std::uint32_t bar = 0;
  static constexpr std::uint32_t config = 7;
  static constexpr std::uint32_t intx = 0;
  static constexpr std::uint32_t msix = 2;
  static constexpr std::uint64_t command_at = 4;  // in configuration space
  static constexpr std::uint16_t memory_and_master = 6;
  static constexpr std::uint64_t version_at = 8;  // in BAR 0; what is written to the others is kept
  static constexpr std::uint64_t admin_attributes_at = 0x24;
  static constexpr std::uint64_t admin_submission_at = 0x28;
  static constexpr error good{};

  Conformance() : under{GetParam().make()} { open(); }
  ~Conformance() override { under->close(); }

  void open() {
    under->open();
    ASSERT_EQ(device().state(), vfio::transport_state::ready);
    ASSERT_EQ(write(config, command_at, memory_and_master), good);
  }
  [[nodiscard]] bool is_kernel() const { return GetParam().how != way::vfio_user; }
  [[nodiscard]] vfio::device_transport& device() { return under->transport(); }
  [[nodiscard]] vfio::iommu_domain& domain() { return under->domain(); }

  /// The end of what was started; a failure to start counts as one.
  template <class Owner>
  [[nodiscard]] vfio::transport_reply finish(Owner& owner, result<ticket> started) {
    constexpr int turns_max = 10'000;
    if (!started) {
      return {.status = started.error(), .value = 0, .data = {}};
    }
    for (int i = 0; i < turns_max; ++i) {
      if (const auto reply = owner.take(*started)) {
        return *reply;
      }
      under->turn();
    }
    ADD_FAILURE() << "no result";
    return {.status = {errc::busy}, .value = 0, .data = {}};
  }
  [[nodiscard]] error end(result<ticket> started) { return finish(device(), started).status; }
  [[nodiscard]] error map(const region& memory) {
    return finish(domain(), domain().map(memory)).status;
  }
  [[nodiscard]] error unmap(const region& memory) {
    return finish(domain(), domain().unmap(memory)).status;
  }
  [[nodiscard]] std::uint64_t read(std::uint32_t index, std::uint64_t offset, std::uint32_t bytes) {
    const auto reply = finish(device(), device().region_read(index, offset, bytes));
    EXPECT_EQ(reply.status, good) << index << " " << offset << " " << bytes;
    return reply.value;
  }
  template <class Word>
  [[nodiscard]] error write(std::uint32_t index, std::uint64_t offset, Word value) {
    return end(device().region_write(index, offset, bytes_of(value)));
  }
  /// Where configuration space has the capability; 0: nowhere.
  [[nodiscard]] std::uint64_t capability(std::uint8_t wanted) {
    constexpr std::uint64_t first_at = 0x34;
    std::uint64_t at = read(config, first_at, 1);
    for (int links = 0; at != 0 && links < 48; ++links) {
      if (read(config, at, 1) == wanted) {
        return at;
      }
      at = read(config, at + 1, 1);
    }
    return 0;
  }
  [[nodiscard]] error trigger(std::uint32_t index, std::uint32_t start, std::uint32_t count) {
    return end(device().trigger_irqs({.index = index, .start = start, .count = count}));
  }

  std::unique_ptr<subject> under;
};

}  // namespace runnel::sim
