#include "drivers/vfio_user/device_model.h"

#include <cerrno>

// What a model says that does not override an optional operation: it has none.
namespace runnel::vfio_user {

answer device_model::trigger_irqs(const vfio::irq_vectors&) {
  return answer::refuse(ENOTSUP);
}

answer device_model::device_feature(request_id, std::uint32_t, std::span<std::byte>) {
  return answer::refuse(ENOTTY);
}

void device_model::request(unsigned) {}

int device_model::match_token_uuid(std::span<const std::byte> uuid) {
  return uuid.empty() ? 0 : EINVAL;
}

answer device_model::migration_set_state(request_id, std::uint32_t) {
  return answer::refuse(ENOTTY);
}

answer device_model::migration_get_state(std::uint32_t&) {
  return answer::refuse(ENOTTY);
}

answer device_model::migration_get_data_size(std::uint64_t&) {
  return answer::refuse(ENOTTY);
}

answer device_model::log_start(std::uint64_t, std::span<const vfio::region_area>) {
  return answer::refuse(ENOTTY);
}

answer device_model::log_stop() {
  return answer::refuse(ENOTTY);
}

answer device_model::log_read_and_clear(std::uint64_t, std::uint64_t, std::span<std::byte>) {
  return answer::refuse(ENOTTY);
}

}  // namespace runnel::vfio_user
