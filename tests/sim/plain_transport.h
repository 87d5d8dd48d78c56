#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/transport.h"

namespace runnel::sim {

/// The way to a device of one BAR, configuration space and perhaps MSI-X; itself what the device's
/// memory accesses go through. What the device does is for whoever derives.
class plain_transport : public vfio::device_transport, public vfio::iommu_domain {
 public:
  [[nodiscard]] int event_fd() const noexcept override { return -1; }
  [[nodiscard]] vfio::transport_state state() const noexcept override { return state_; }
  [[nodiscard]] const failure& reason() const noexcept override { return reason_; }
  [[nodiscard]] const vfio::device_info& info() const noexcept override { return info_; }
  [[nodiscard]] const vfio::region_info& region_at(std::uint32_t index) const noexcept override {
    return index == 0 ? bar0_ : index == 7 ? config_ : absent_;
  }
  [[nodiscard]] const vfio::irq_info& irq_at(std::uint32_t index) const noexcept override {
    return index == static_cast<std::uint32_t>(vfio::pci_irq::msix) ? msix_ : no_irq_;
  }

  [[nodiscard]] result<ticket> region_write(std::uint32_t index, std::uint64_t offset,
                                            std::span<const std::byte> bytes) noexcept override {
    store(index, offset, bytes);
    return answer(0);
  }
  [[nodiscard]] result<> region_post(std::uint32_t index, std::uint64_t offset,
                                     std::span<const std::byte> bytes) noexcept override {
    if (state_ == vfio::transport_state::gone) {
      return fail(errc::device_gone);
    }
    if (!post_fits()) {
      return fail(errc::queue_full);
    }
    store(index, offset, bytes);
    return {};
  }
  [[nodiscard]] result<ticket> set_irqs(std::uint32_t, std::uint32_t,
                                        std::span<const int>) noexcept override {
    return fail(errc::unsupported);
  }
  [[nodiscard]] result<ticket> trigger_irqs(const vfio::irq_vectors&) noexcept override {
    return fail(errc::unsupported);
  }
  [[nodiscard]] result<ticket> reset() noexcept override { return fail(errc::unsupported); }
  [[nodiscard]] result<ticket> hot_reset() noexcept override { return fail(errc::unsupported); }
  [[nodiscard]] result<ticket> device_feature(std::uint32_t,
                                              std::span<const std::byte>) noexcept override {
    return fail(errc::unsupported);
  }

  [[nodiscard]] std::vector<vfio::iova_range> allowed_ranges() const override { return {{}}; }
  [[nodiscard]] vfio::domain_limits limits() const noexcept override { return {}; }
  [[nodiscard]] result<ticket> set_dirty_tracking(bool) noexcept override {
    return fail(errc::unsupported);
  }

 protected:
  /// @param vectors  of MSI-X
  plain_transport(std::uint64_t bar_bytes, std::uint32_t vectors) {
    bar0_.size = bar_bytes;
    config_.size = 0x100;
    msix_.count = vectors;
  }

  virtual void store(std::uint32_t index, std::uint64_t offset,
                     std::span<const std::byte> bytes) = 0;
  /// What is taken by `take`, with this value.
  [[nodiscard]] virtual result<ticket> answer(std::uint64_t value) = 0;
  /// Whether one more posted write does.
  [[nodiscard]] virtual bool post_fits() = 0;

  vfio::transport_state state_ = vfio::transport_state::connecting;
  failure reason_;

 private:
  vfio::device_info info_{.flags = 0, .region_count = 9, .irq_count = 5};
  vfio::region_info bar0_;
  vfio::region_info config_;
  vfio::region_info absent_;
  vfio::irq_info no_irq_;
  vfio::irq_info msix_;
};

}  // namespace runnel::sim
