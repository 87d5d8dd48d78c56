#include "drivers/vfio/domain_share.h"

#include <algorithm>

namespace runnel::vfio {

void domain_share::let_go() noexcept {
  gone_ = true;
  for (const region& memory : maps_) {
    static_cast<void>(domain_->unmap(memory));  // what fails stays in the way of others there
  }
  maps_.clear();
}

result<ticket> domain_share::map(const region& memory) noexcept {
  if (gone_) {
    return fail(errc::device_gone);
  }
  if (tickets_.full()) {
    return fail(errc::queue_full);
  }
  const result<> mapped = domain_->map(memory);
  if (mapped) {
    maps_.push_back(memory);
  }
  return settle(mapped);
}

result<ticket> domain_share::unmap(const region& memory) noexcept {
  if (gone_) {
    return fail(errc::device_gone);
  }
  if (tickets_.full()) {
    return fail(errc::queue_full);
  }
  const auto same = std::ranges::find_if(maps_, [&memory](const region& each) {
    return each.address == memory.address && each.length == memory.length &&
           each.first_iova() == memory.first_iova();
  });
  if (same == maps_.end()) {
    return fail(errc::invalid);
  }
  const result<> unmapped = domain_->unmap(*same);
  maps_.erase(same);
  return settle(unmapped);
}

/// What the kernel says comes with the ticket; that nobody need ask it comes at once.
result<ticket> domain_share::settle(const result<>& ended) noexcept {
  if (!ended && ended.error().code != errc::os) {
    return std::unexpected{ended.error()};
  }
  return tickets_.settle(ended ? error{} : ended.error());
}

}  // namespace runnel::vfio
