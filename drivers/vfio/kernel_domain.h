#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "drivers/vfio/counted_maps.h"
#include "drivers/vfio/domain.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// What the kernel's two kinds of translation have in common: which addresses are allowed, what is
/// mapped, and what to say when that does not work. Maps are made in place, one system call each; a
/// region that several devices ask for is mapped once, until the last of them gives it up.
///
/// @context any thread; a map blocks while the kernel pins its pages
class kernel_domain {
 public:
  kernel_domain(const kernel_domain&) = delete;
  kernel_domain& operator=(const kernel_domain&) = delete;
  virtual ~kernel_domain() = default;

  /// Learns what the devices reach now. After every one that was opened.
  [[nodiscard]] virtual outcome<> refresh() = 0;

  /// @error as `iommu_domain::map`, and os
  [[nodiscard]] result<> map(const region& memory) noexcept;
  /// What could not be unmapped stays in the way of others: the device may still reach it.
  [[nodiscard]] result<> unmap(const region& memory) noexcept;
  [[nodiscard]] std::vector<iova_range> allowed_ranges() const;
  [[nodiscard]] domain_limits limits() const noexcept;
  /// What to do about an error of `map`; empty: nothing is known.
  [[nodiscard]] virtual std::string map_hint(error what, const region& memory) const;

 protected:
  kernel_domain(syscalls& system, std::string path) : system_{&system}, path_{std::move(path)} {}

  [[nodiscard]] syscalls& system() const noexcept { return *system_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Of what follows, and of what `translates` says. Held for all of it.
  [[nodiscard]] std::mutex& mutex() const noexcept { return mutex_; }
  [[nodiscard]] std::size_t maps() const noexcept { return maps_.size(); }
  [[nodiscard]] std::uint64_t page_bytes() const noexcept { return limits_.page_bytes; }
  void learn(std::vector<iova_range> ranges, domain_limits limits) noexcept;
  /// Nothing is mapped any more.
  void forget_maps() noexcept;

 private:
  /// Whether there is anything that a map could be made in.
  [[nodiscard]] virtual bool translates() const noexcept = 0;
  [[nodiscard]] virtual result<> ask_map(const region& memory) noexcept = 0;
  [[nodiscard]] virtual result<> ask_unmap(const region& memory) noexcept = 0;

  [[nodiscard]] result<> check(const region& memory) const noexcept;
  [[nodiscard]] bool reaches(std::uint64_t first, std::uint64_t last) const noexcept;
  [[nodiscard]] bool may_lock(std::uint64_t bytes) const noexcept;
  [[nodiscard]] std::string memlock_hint(std::uint64_t bytes) const;

  syscalls* system_;
  std::string path_;
  mutable std::mutex mutex_;  // of all below
  std::vector<iova_range> ranges_{iova_range{}};
  domain_limits limits_;
  counted_maps maps_;
  std::uint64_t mapped_bytes_ = 0;
};

}  // namespace runnel::vfio
