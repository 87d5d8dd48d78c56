#include "apps/target/registers.h"

#include <algorithm>
#include <cstring>

#include "drivers/nvme/spec.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {
namespace {

/// The registers that there are, as the host sees them; all others read as zero.
struct register_image {
  std::uint64_t cap = 0;
  std::uint32_t vs = 0;
  std::uint32_t intms = 0;
  std::uint32_t intmc = 0;
  std::uint32_t cc = 0;
  std::uint32_t reserved18 = 0;
  std::uint32_t csts = 0;
  std::uint32_t nssr = 0;
  std::uint32_t aqa = 0;
  std::uint64_t asq = 0;
  std::uint64_t acq = 0;
};
static_assert(sizeof(register_image) == 0x38);
static_assert(offsetof(register_image, intms) == static_cast<std::size_t>(nvme::reg::intms));
static_assert(offsetof(register_image, cc) == static_cast<std::size_t>(nvme::reg::cc));
static_assert(offsetof(register_image, csts) == static_cast<std::size_t>(nvme::reg::csts));
static_assert(offsetof(register_image, aqa) == static_cast<std::size_t>(nvme::reg::aqa));
static_assert(offsetof(register_image, asq) == static_cast<std::size_t>(nvme::reg::asq));
static_assert(offsetof(register_image, acq) == static_cast<std::size_t>(nvme::reg::acq));

constexpr std::uint32_t cc_writable = 0x00fffff1;
constexpr std::uint32_t aqa_writable = 0x0fff0fff;
constexpr std::uint64_t queue_address_writable = ~std::uint64_t{0xfff};

}  // namespace

void register_file::read(std::size_t offset, std::span<std::byte> out) const noexcept {
  const register_image image{.cap = capabilities_,
                             .vs = version_,
                             .intms = state_.interrupt_mask,
                             .intmc = state_.interrupt_mask,
                             .cc = state_.configuration,
                             .csts = state_.status,
                             .aqa = state_.admin_queues,
                             .asq = state_.admin_sq,
                             .acq = state_.admin_cq};
  // CRTO counts 500 ms, as CAP.TO does: both say the same.
  const std::uint32_t ready_timeout = capabilities_ >> 24U & 0xffU;
  std::ranges::fill(out, std::byte{0});
  const overlap common = find_overlap(offset, out.size(), 0, sizeof image);
  std::memcpy(out.data() + common.in_access,
              std::as_bytes(std::span{&image, 1}).data() + common.in_range, common.bytes);
  const overlap ready = find_overlap(offset, out.size(), static_cast<std::size_t>(nvme::reg::crto),
                                     sizeof ready_timeout);
  std::memcpy(out.data() + ready.in_access,
              std::as_bytes(std::span{&ready_timeout, 1}).data() + ready.in_range, ready.bytes);
}

void register_file::write(std::size_t offset, std::span<const std::byte> in) noexcept {
  // INTMS and INTMC take ones and keep nothing, so they begin as zero: bytes that this write does
  // not touch neither set nor clear.
  register_image image{.cc = state_.configuration,
                       .aqa = state_.admin_queues,
                       .asq = state_.admin_sq,
                       .acq = state_.admin_cq};
  const overlap common = find_overlap(offset, in.size(), 0, sizeof image);
  std::memcpy(std::as_writable_bytes(std::span{&image, 1}).data() + common.in_range,
              in.data() + common.in_access, common.bytes);
  state_.interrupt_mask = (state_.interrupt_mask | image.intms) & ~image.intmc;
  state_.configuration = image.cc & cc_writable;
  state_.admin_queues = image.aqa & aqa_writable;
  state_.admin_sq = image.asq & queue_address_writable;
  state_.admin_cq = image.acq & queue_address_writable;
}

}  // namespace runnel::target
