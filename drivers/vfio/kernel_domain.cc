#include "drivers/vfio/kernel_domain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/units.h"

namespace runnel::vfio {

result<> kernel_domain::map(const region& memory) noexcept {
  const std::scoped_lock lock{mutex_};
  if (const result<> good = check(memory); !good) {
    return good;
  }
  const std::size_t users = maps_.add(memory);
  if (users == 0) {
    return fail(errc::invalid);  // part of it is mapped already
  }
  if (users > 1) {
    return {};
  }
  const result<> mapped = may_lock(memory.length) ? ask_map(memory) : fail(errc::os, ENOMEM);
  if (!mapped) {
    maps_.erase(memory);
    return mapped;
  }
  mapped_bytes_ += memory.length;
  return {};
}

result<> kernel_domain::check(const region& memory) const noexcept {
  const std::uint64_t first = raw(memory.first_iova());
  const std::uint64_t last = first + (memory.length - 1);
  if (memory.length == 0 || memory.permissions == access::none || last < first ||
      !reaches(first, last) || !is_aligned(first | memory.length, limits_.page_bytes)) {
    return fail(errc::invalid);
  }
  if (!translates()) {
    return fail(errc::device_gone);
  }
  const bool fits = maps_.size() < limits_.maps_max || maps_.holds(memory);
  return fits ? result<>{} : fail(errc::no_memory);
}

bool kernel_domain::may_lock(std::uint64_t bytes) const noexcept {
  const std::uint64_t limit = system_->memlock_limit();
  return bytes <= limit && mapped_bytes_ <= limit - bytes;
}

result<> kernel_domain::unmap(const region& memory) noexcept {
  const std::scoped_lock lock{mutex_};
  if (!translates()) {
    return fail(errc::device_gone);
  }
  const auto users = maps_.give_up(memory);
  if (!users) {
    return fail(errc::invalid);
  }
  if (*users > 0) {
    return {};
  }
  if (const result<> unmapped = ask_unmap(memory); !unmapped) {
    return unmapped;
  }
  maps_.erase(memory);
  mapped_bytes_ -= memory.length;
  return {};
}

std::vector<iova_range> kernel_domain::allowed_ranges() const {
  const std::scoped_lock lock{mutex_};
  return ranges_;
}

domain_limits kernel_domain::limits() const noexcept {
  const std::scoped_lock lock{mutex_};
  return limits_;
}

std::string kernel_domain::map_hint(error what, const region& memory) const {
  const std::scoped_lock lock{mutex_};
  const std::uint64_t first = raw(memory.first_iova());
  const std::uint64_t last = first + (memory.length - 1);
  if (what == error{errc::os, ENOMEM}) {
    return may_lock(memory.length) ? "others of this user lock memory too, or the kernel has none"
                                   : memlock_hint(memory.length);
  }
  if (what.code == errc::no_memory || what == error{errc::os, ENOSPC}) {
    return fmt::format(
        "{} mappings are made of {}: use larger pages, or raise "
        "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
        maps_.size(), limits_.maps_max);
  }
  if (what.code != errc::invalid || reaches(first, last)) {
    return {};
  }
  std::string hint =
      fmt::format("our memory is at {:#x}-{:#x}, its IOMMU lets it reach", first, last);
  for (const iova_range& each : ranges_) {
    hint += fmt::format(" {:#x}-{:#x}", each.first, each.last);
  }
  return hint + ": only another device, or a machine with a wider IOMMU, will do";
}

void kernel_domain::learn(std::vector<iova_range> ranges, domain_limits limits) noexcept {
  ranges_ = std::move(ranges);
  limits_ = limits;
}

void kernel_domain::forget_maps() noexcept {
  maps_.clear();
  mapped_bytes_ = 0;
}

bool kernel_domain::reaches(std::uint64_t first, std::uint64_t last) const noexcept {
  return std::ranges::any_of(
      ranges_, [&](const iova_range& each) { return first >= each.first && last <= each.last; });
}

/// @param bytes  that shall be mapped beside what is
std::string kernel_domain::memlock_hint(std::uint64_t bytes) const {
  return fmt::format(
      "{} KiB may be locked and {} KiB are: raise the limit to {} KiB or more, as by "
      "`ulimit -l` or memlock in /etc/security/limits.conf",
      system_->memlock_limit() / kib, mapped_bytes_ / kib, (mapped_bytes_ + bytes) / kib);
}

}  // namespace runnel::vfio
