#include "drivers/vfio/mapped_areas.h"

#include <utility>

namespace runnel::vfio {
namespace {

constexpr std::byte absent_device{0xff};  // what is read of one

}  // namespace

std::span<std::byte> mapped_areas::map(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
  if (!guard_) {
    if (auto guard = sigbus_guard::create(absent_device); guard) {
      guard_ = std::move(*guard);
    }
  }
  if (!guard_ || areas_.size() == sigbus_guard::ranges_max) {
    return {};
  }
  const auto mapped = system_->mmap(fd, offset, bytes);
  if (!mapped) {
    return {};
  }
  guard_->cover(areas_.size(), *mapped);
  areas_.push_back(*mapped);
  return *mapped;
}

bool mapped_areas::replace() noexcept {
  while (replaced_ < areas_.size() && system_->replace(areas_[replaced_])) {
    ++replaced_;
  }
  return replaced_ == areas_.size();
}

void mapped_areas::unmap() noexcept {
  guard_.reset();  // before the addresses mean something else
  for (const auto area : areas_) {
    system_->munmap(area);
  }
  areas_.clear();
  replaced_ = 0;
}

}  // namespace runnel::vfio
