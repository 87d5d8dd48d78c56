#include "apps/target/client_guest_memory.h"

namespace runnel::target {

memory_run client_guest_memory::run_at(iova first, access wanted) const noexcept {
  std::uint64_t bytes = ~std::uint64_t{0};
  const vfio_user::resolved found = memory_.resolve_run(first, bytes, wanted);
  if (found.memory == hidden_) {
    return {};
  }
  return {found.address, bytes, found.memory};
}

}  // namespace runnel::target
