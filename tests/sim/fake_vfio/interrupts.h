#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "drivers/vfio/transport.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/unique_fd.h"
#include "tests/sim/fake_vfio/file.h"

namespace runnel::sim {

/// The interrupts of a PCI function as vfio-pci offers them: INTx, MSI and MSI-X of which one is in
/// use at a time, ERR and REQ beside it.
/// @spec Linux vfio_pci_intrs.c
class interrupts {
 public:
  static constexpr std::uint32_t kinds = 5;

  struct layout {
    std::array<std::uint32_t, kinds> counts{1, 32, 65, 1, 1};
    bool dynamic_msix = true;
    std::uint32_t available = 2048;  // vectors that the machine has left
  };
  explicit interrupts(const layout& made_of) : layout_{made_of} {}

  [[nodiscard]] int info(std::uintptr_t argument) const {
    auto& asked = user<vfio::uapi::irq_info>(argument);
    const bool absent = asked.index == err && layout_.counts[err] == 0;  // others count 0
    if (asked.argsz < sizeof(asked) || asked.index >= kinds || absent) {
      return -EINVAL;
    }
    namespace flag = vfio::uapi::irq_flags;
    asked.flags = flag::eventfd;
    if (asked.index == intx) {
      asked.flags |= flag::maskable | flag::automasked;
    } else if (asked.index != msix || !layout_.dynamic_msix) {
      asked.flags |= flag::noresize;
    }
    asked.count = layout_.counts[asked.index];
    return 0;
  }

  [[nodiscard]] int set(std::uintptr_t argument) {
    namespace flag = vfio::uapi::irq_set_flags;
    const auto& asked = user<vfio::uapi::irq_set>(argument);
    if (const int wrong = check(asked); wrong != 0) {
      return wrong;
    }
    const std::uint32_t action = asked.flags & flag::action_all;
    if (action != flag::action_trigger) {
      const bool masks = action == flag::action_mask || action == flag::action_unmask;
      return asked.index == intx && masks ? 0 : -ENOTTY;
    }
    const auto* const data = reinterpret_cast<const std::byte*>(argument) + sizeof(asked);
    return asked.index >= err ? set_single(asked, data) : set_vectors(asked, data);
  }

  /// The device raises it.
  void raise(std::uint32_t index, std::uint32_t vector) const {
    if (index >= err ? static_cast<bool>(single_[index - err])
                     : active_ == index && vector < vectors_.size() && vectors_[vector]) {
      signal(index >= err ? single_[index - err] : vectors_[vector]);
    }
  }
  [[nodiscard]] std::size_t allocated() const { return vectors_.size(); }
  /// Any negative number is none. Eventfds are files of no type. @return 0 or an errno
  [[nodiscard]] static int take_eventfd(std::int32_t fd, unique_fd& into) {
    struct stat status{};
    if (fd >= 0 && ::fstat(fd, &status) != 0) {
      return -EBADF;
    }
    if (fd >= 0 && (status.st_mode & S_IFMT) != 0) {
      return -EINVAL;
    }
    into = unique_fd{fd < 0 ? -1 : ::dup(fd)};
    return 0;
  }
  void release() {
    disable();
    single_ = {};
  }

 private:
  static constexpr auto intx = static_cast<std::uint32_t>(vfio::pci_irq::intx);
  static constexpr auto msix = static_cast<std::uint32_t>(vfio::pci_irq::msix);
  static constexpr auto err = static_cast<std::uint32_t>(vfio::pci_irq::err);
  static constexpr std::uint32_t none = ~0U;

  [[nodiscard]] static std::uint32_t data_bytes(std::uint32_t flags) {
    namespace flag = vfio::uapi::irq_set_flags;
    switch (flags & flag::data_all) {
      case flag::data_none:
        return 0;
      case flag::data_bool:
        return 1;
      case flag::data_eventfd:
        return sizeof(std::int32_t);
      default:
        return ~0U;
    }
  }
  [[nodiscard]] int check(const vfio::uapi::irq_set& asked) const {
    namespace flag = vfio::uapi::irq_set_flags;
    const std::uint32_t size = data_bytes(asked.flags);
    const std::uint32_t count = asked.index < kinds ? layout_.counts[asked.index] : 0;
    if (asked.argsz < sizeof(asked) || (asked.flags & ~(flag::data_all | flag::action_all)) != 0 ||
        size == ~0U || asked.count >= ~0U - asked.start || asked.start >= count ||
        asked.start + asked.count > count) {
      return -EINVAL;
    }
    const std::uint64_t needed = std::uint64_t{size} * asked.count;
    const bool whole = size == 0 || (asked.count != 0 && asked.argsz - sizeof(asked) >= needed);
    return whole ? 0 : -EINVAL;
  }

  [[nodiscard]] int set_vectors(const vfio::uapi::irq_set& asked, const std::byte* data) {
    namespace flag = vfio::uapi::irq_set_flags;
    const bool by_eventfd = (asked.flags & flag::data_eventfd) != 0;
    if (active_ == asked.index && asked.count == 0) {
      disable();
      return 0;
    }
    if (active_ != none && active_ != asked.index) {
      return -EINVAL;  // another kind is in use
    }
    if (!by_eventfd) {
      if (active_ != asked.index) {
        return -EINVAL;
      }
      for (std::uint32_t i = asked.start; i < asked.start + asked.count; ++i) {
        const bool wanted =
            (asked.flags & flag::data_none) != 0 || data[i - asked.start] != std::byte{0};
        if (wanted) {
          raise(asked.index, i);
        }
      }
      return 0;
    }
    return attach(asked, data);
  }

  [[nodiscard]] int attach(const vfio::uapi::irq_set& asked, const std::byte* data) {
    const std::size_t needed = std::size_t{asked.start} + asked.count;
    const bool first = active_ == none;
    if (!first && needed > vectors_.size() && (asked.index != msix || !layout_.dynamic_msix)) {
      return -EINVAL;  // vectors are allocated once
    }
    if (first && needed > layout_.available) {
      return layout_.available == 0 ? -ENOSPC : static_cast<int>(layout_.available);
    }
    std::vector<unique_fd> fds(asked.count);
    for (std::uint32_t i = 0; i < asked.count; ++i) {
      std::int32_t fd = -1;
      std::memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
      if (const int wrong = take_eventfd(fd, fds[i]); wrong != 0) {
        return wrong;
      }
    }
    active_ = asked.index;
    vectors_.resize(std::max(vectors_.size(), needed));
    std::ranges::move(fds, vectors_.begin() + asked.start);
    return 0;
  }

  [[nodiscard]] int set_single(const vfio::uapi::irq_set& asked, const std::byte* data) {
    namespace flag = vfio::uapi::irq_set_flags;
    unique_fd& held = single_[asked.index - err];
    if ((asked.flags & flag::data_eventfd) != 0) {
      std::int32_t fd = -1;
      std::memcpy(&fd, data, sizeof(fd));
      return fd < -1 ? 0 : take_eventfd(fd, held);
    }
    if (!held) {
      return -EINVAL;
    }
    if (asked.count == 0) {
      held.reset();
    } else if ((asked.flags & flag::data_none) != 0 || *data != std::byte{0}) {
      signal(held);
    }
    return 0;
  }

  static void signal(const unique_fd& eventfd) {
    const std::uint64_t one = 1;
    static_cast<void>(::write(eventfd.get(), &one, sizeof(one)) == sizeof(one));
  }
  void disable() {
    vectors_.clear();
    active_ = none;
  }

  layout layout_;
  std::uint32_t active_ = none;  // which of INTx, MSI, MSI-X
  std::vector<unique_fd> vectors_;
  std::array<unique_fd, 2> single_;
};

}  // namespace runnel::sim
