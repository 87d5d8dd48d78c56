#include <utility>

#include "apps/target/vfio_user_transport.h"

// What only the target's owner can mend, told once for each client, for hosts try again.
namespace runnel::target {

void vfio_user_endpoint::report_if_fatal() {
  const controller_state& state = session_->nvme.state();
  if ((state.registers.status & nvme::csts_fatal) == 0 || session_->failure_told) [[likely]] {
    return;
  }
  session_->failure_told = true;
  if (!options_.on_trouble || session_->memory.shrunk()) {
    return;  // the server ends a client that shrank its memory, and says why
  }
  const bool unshared = state.memory_unshared || session_->memory_without_file;
  options_.on_trouble(
      {.what = {errc::invalid},
       .operation = "enable the controller",
       .object = options_.name,
       .hint = unshared ? "the client does not share its memory: give QEMU -object "
                          "memory-backend-memfd,id=m,size=SIZE,share=on -machine memory-backend=m"
                        : "its admin queues are not in its memory, or CC asks for what CAP does "
                          "not offer"});
}

void vfio_user_endpoint::report_unreachable(error why) {
  if (options_.on_trouble && !std::exchange(session_->failure_told, true)) {
    options_.on_trouble({.what = why,
                         .operation = "map memory of the client of",
                         .object = options_.name,
                         .hint = mapper_.hint()});
  }
}

}  // namespace runnel::target
