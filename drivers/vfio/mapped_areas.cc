#include "drivers/vfio/mapped_areas.h"

#include <utility>

namespace runnel::vfio {

std::span<std::byte> mapped_areas::map(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
  const auto mapped = system_->mmap(fd, offset, bytes);
  if (!mapped) {
    return {};
  }
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
  for (const auto area : areas_) {
    system_->munmap(area);
  }
  areas_.clear();
  replaced_ = 0;
}

}  // namespace runnel::vfio
