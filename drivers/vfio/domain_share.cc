#include "drivers/vfio/domain_share.h"

#include <algorithm>

namespace runnel::vfio {

domain_share::~domain_share() {
  for (const region& memory : maps_) {
    if (const auto started = domain_->unmap(memory); started) {
      static_cast<void>(domain_->take(*started));  // what fails stays in the way of others there
    }
  }
}

result<ticket> domain_share::map(const region& memory) noexcept {
  if (tickets_.full()) {
    return fail(errc::queue_full);
  }
  const auto started = domain_->map(memory);
  if (!started) {
    return started;
  }
  const error status = domain_->take(*started)->status;
  if (status == error{}) {
    maps_.push_back(memory);
  }
  return tickets_.settle(status);
}

result<ticket> domain_share::unmap(const region& memory) noexcept {
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
  const auto started = domain_->unmap(*same);
  if (!started) {
    return started;
  }
  maps_.erase(same);
  return tickets_.settle(domain_->take(*started)->status);
}

}  // namespace runnel::vfio
