#include "drivers/nvme/registers.h"

#include <array>
#include <bit>
#include <span>

namespace runnel::nvme {

result<> register_port::read(vfio::pci_region where, std::uint64_t offset,
                             std::uint32_t bytes) noexcept {
  CHECK(idle());
  const auto started = transport_->region_read(static_cast<std::uint32_t>(where), offset, bytes);
  if (!started) {
    return std::unexpected{started.error()};
  }
  under_way_ = *started;
  absent_value_ = all_ones >> (64 - 8 * bytes);
  return {};
}

result<> register_port::write(vfio::pci_region where, std::uint64_t offset, std::uint64_t value,
                              std::uint32_t bytes) noexcept {
  CHECK(idle());
  const auto image = std::bit_cast<std::array<std::byte, sizeof value>>(value);
  const auto started = transport_->region_write(static_cast<std::uint32_t>(where), offset,
                                                std::span{image}.first(bytes));
  if (!started) {
    return std::unexpected{started.error()};
  }
  under_way_ = *started;
  absent_value_ = 0;
  return {};
}

std::optional<result<std::uint64_t>> register_port::take() noexcept {
  CHECK(!idle());
  const auto reply = transport_->take(*under_way_);
  if (!reply) {
    return std::nullopt;
  }
  under_way_.reset();
  if (reply->status.code != errc::ok) {
    return std::unexpected{reply->status};
  }
  if (absent_value_ == 0) {
    return result<std::uint64_t>{0};
  }
  if (reply->value == absent_value_) {
    return fail(errc::device_gone);
  }
  return reply->value;
}

void register_port::abandon() noexcept {
  if (under_way_) {
    transport_->abandon(*under_way_);
    under_way_.reset();
  }
}

}  // namespace runnel::nvme
