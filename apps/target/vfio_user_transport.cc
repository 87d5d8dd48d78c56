#include "apps/target/vfio_user_transport.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "drivers/vfio/transport.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/check.h"

namespace runnel::target {

using vfio::pci_irq;
using vfio::pci_region;
using vfio_user::answer;
using vfio_user::request_id;
namespace uapi = vfio::uapi;

namespace {

constexpr std::uint32_t bar0_bytes =
    std::bit_ceil(std::uint32_t{doorbell_area::offset + doorbell_area::bytes});
constexpr std::uint32_t bar4_bytes = 0x1000;
constexpr std::uint32_t bar5_bytes = 0x1000;
constexpr std::size_t region_count = 9;
constexpr std::size_t irq_count = 5;
constexpr std::uint64_t bytes_per_table_entry = 16;
// A map without a descriptor that is smaller than this is a ROM or a BAR, not the host's memory.
constexpr std::size_t ram_bytes_min = mib;

constexpr std::size_t at(pci_region which) noexcept {
  return static_cast<std::size_t>(which);
}
constexpr std::size_t at(pci_irq which) noexcept {
  return static_cast<std::size_t>(which);
}

pci_config_options config_options(const queue_limits& limits) {
  static_assert(queues_max * bytes_per_table_entry <= bar4_bytes);
  return {.bar0_bytes = bar0_bytes,
          .bar4_bytes = bar4_bytes,
          .bar5_bytes = bar5_bytes,
          .vector_count = limits.vectors};
}

controller_ports with_memory(controller_ports ports, const guest_memory& memory,
                             const guest_memory& others_memory) noexcept {
  ports.memory = &memory;
  ports.others_memory = &others_memory;
  return ports;
}

}  // namespace

vfio_user_endpoint::session::session(const subsystem& system, const controller_options& options,
                                     const vfio_user::client_memory& client,
                                     const controller_ports& ports)
    : memory{client}, nvme{system, options, with_memory(ports, memory, others_memory)} {}

vfio_user_endpoint::vfio_user_endpoint(const subsystem& system, std::span<namespace_path> paths,
                                       const std::vector<block_device*>& devices,
                                       endpoint_options options)
    : system_{system},
      paths_{paths},
      options_{std::move(options)},
      config_{config_options(options_.controller.queues)},
      msix_{options_.controller.queues.vectors},
      msix_table_(bar4_bytes),
      mapper_{devices} {
  if (options_.doorbells == doorbell_mode::shadow) {
    // The doorbells lie as close as they can, since their shadow is one page.
    options_.controller.shadow_doorbells = true;
    options_.controller.queues.doorbell_stride_bytes = sizeof(std::uint32_t);
  }
  describe_layout();
}

void vfio_user_endpoint::describe_layout() {
  layout_.flags = uapi::device_flags::reset | uapi::device_flags::pci;
  layout_.regions.resize(region_count);
  for (const auto& [which, bytes] : {std::pair{pci_region::bar0, std::size_t{bar0_bytes}},
                                     std::pair{pci_region::bar4, msix_table_.size()},
                                     std::pair{pci_region::bar5, std::size_t{bar5_bytes}},
                                     std::pair{pci_region::config, pci_config::bytes}}) {
    layout_.regions[at(which)].flags = uapi::region_flags::read | uapi::region_flags::write;
    layout_.regions[at(which)].size = bytes;
  }
  layout_.irqs.resize(irq_count);
  layout_.irqs[at(pci_irq::intx)] = {
      .flags = uapi::irq_flags::eventfd | uapi::irq_flags::maskable | uapi::irq_flags::automasked,
      .count = 1};
  // Without NORESIZE clients add vectors one by one, and none is ever without its eventfd.
  layout_.irqs[at(pci_irq::msix)] = {.flags = uapi::irq_flags::eventfd,
                                     .count = static_cast<std::uint32_t>(msix_.size())};
}

/// A page of its own for each client: the last one may still have its page mapped.
std::span<std::byte> vfio_user_endpoint::make_doorbells() {
  vfio::region_info& bar0 = layout_.regions[at(pci_region::bar0)];
  bar0.flags &= ~uapi::region_flags::mmap;
  bar0.fd = -1;
  bar0.areas.clear();
  std::ranges::fill(trapped_doorbells_, std::byte{0});
  if (options_.doorbells != doorbell_mode::mapped) {
    return trapped_doorbells_;
  }
  outcome<doorbell_area> page = doorbell_area::create(bar0_bytes);
  if (!page) {
    if (options_.on_trouble) {
      options_.on_trouble(page.error());  // slower, but it works
    }
    return trapped_doorbells_;
  }
  mapped_doorbells_.emplace(std::move(*page));
  bar0.flags |= uapi::region_flags::mmap;
  bar0.fd = mapped_doorbells_->fd();
  bar0.areas = {{.offset = doorbell_area::offset, .length = doorbell_area::bytes}};
  return mapped_doorbells_->memory();
}

void vfio_user_endpoint::open_device(vfio_user::client_memory& memory) {
  CHECK(!session_ && waiting_ == waiting::nothing);
  config_.reset();
  session_.emplace(system_, options_.controller, memory,
                   controller_ports{.interrupts = this,
                                    .paths = paths_,
                                    .doorbells = make_doorbells(),
                                    .others = options_.others});
  session_->nvme.pause();  // until it may master the bus
}

bool vfio_user_endpoint::close_device() {
  if (!session_) {
    return true;
  }
  waiting_ = waiting::nothing;  // nobody is there to be answered
  session_->nvme.pause();
  session_->nvme.poll({});  // there is nobody to be interrupted
  if (!session_->nvme.quiet() || !let_go_of_memory()) {
    return false;
  }
  former_ += session_->nvme.counters();
  session_.reset();
  mapped_doorbells_.reset();
  msix_.clear();
  pin_.clear();
  pin_masked_ = false;
  std::ranges::fill(msix_table_, std::byte{0});
  return true;
}

/// @return true when no device reaches any memory of the client any more
bool vfio_user_endpoint::let_go_of_memory() {
  if (!mapper_.idle()) {
    // The order of a request that was waiting, or one of ours. A device that does not let go is
    // gone for us: it keeps its own hold of the file, never of our addresses.
    static_cast<void>(mapper_.advance());
  }
  while (mapper_.idle()) {
    const region* left = mapper_.any_mapped();
    if (left == nullptr) {
      return true;
    }
    mapper_.unmap(*left);
    static_cast<void>(mapper_.advance());
  }
  return false;
}

io_counters vfio_user_endpoint::counters() const noexcept {
  io_counters sum = former_;
  if (session_) {
    sum += session_->nvme.counters();
  }
  return sum;
}

std::uint32_t vfio_user_endpoint::poll(instant now) noexcept {
  if (!session_) {
    return 0;
  }
  std::uint32_t work = session_->nvme.poll(now);
  if (work != 0) {
    report_if_fatal();
  }
  if (waiting_ != waiting::nothing) {
    if (const std::optional<int> ended = go_on()) {
      waiting_ = waiting::nothing;
      server_->reply(request_id_, *ended);
      answered_ = true;
      ++work;
    }
  }
  return work;
}

bool vfio_user_endpoint::arm() noexcept {
  return !session_ || (waiting_ == waiting::nothing && !mapped_doorbells_ && session_->nvme.arm());
}

void vfio_user_endpoint::disarm() noexcept {
  if (session_) {
    session_->nvme.disarm();
  }
}

answer vfio_user_endpoint::wait(waiting what, request_id id, const region* memory) {
  CHECK(waiting_ == waiting::nothing);
  waiting_ = what;
  request_id_ = id;
  region_ = memory;
  const std::optional<int> ended = go_on();
  if (!ended) {
    return answer::later();
  }
  waiting_ = waiting::nothing;
  return *ended == 0 ? answer::ok() : answer::refuse(*ended);
}

std::optional<int> vfio_user_endpoint::go_on() {
  switch (waiting_) {
    case waiting::reset:
      if (!session_->nvme.quiet()) {
        return std::nullopt;
      }
      reset_function();
      return 0;
    case waiting::bus_master_off:
      return session_->nvme.quiet() ? std::optional{0} : std::nullopt;
    case waiting::map:
    case waiting::add:
      return map();
    case waiting::leave:
    case waiting::drain:
    case waiting::unmap:
      return drain();
    case waiting::nothing:
      break;
  }
  return 0;
}

/// Memory comes in two steps: all devices reach it, then all cores know it.
std::optional<int> vfio_user_endpoint::map() {
  if (waiting_ == waiting::map) {
    const std::optional<result<>> ended = mapper_.advance();
    if (!ended) {
      return std::nullopt;
    }
    if (!*ended) {
      report_unreachable(ended->error());
      return EIO;  // it stays hidden, for the server is about to free it
    }
    waiting_ = waiting::add;
  }
  if (!session_->nvme.stand_still()) {
    return std::nullopt;
  }
  session_->memory.hide(nullptr);
  if (!options_.others.empty()) {
    session_->others_memory.add(vfio_user::client_memory::first_of(*region_), *region_);
  }
  session_->nvme.memory_added();
  return 0;
}

/// Memory leaves in three steps: no core knows it any more, no command uses it, no device reaches
/// it.
std::optional<int> vfio_user_endpoint::drain() {
  if (waiting_ == waiting::leave) {
    if (!session_->nvme.stand_still()) {
      return std::nullopt;
    }
    session_->others_memory.remove(*region_);
    session_->nvme.memory_leaving();
    waiting_ = waiting::drain;
  }
  if (waiting_ == waiting::drain) {
    if (!session_->nvme.memory_left()) {
      return std::nullopt;
    }
    if (mapper_.needless(*region_)) {
      return 0;
    }
    mapper_.unmap(*region_);
    waiting_ = waiting::unmap;
  }
  const std::optional<result<>> ended = mapper_.advance();
  if (!ended) {
    return std::nullopt;
  }
  return *ended ? 0 : EBUSY;
}

answer vfio_user_endpoint::read(request_id, std::uint32_t region, std::uint64_t offset,
                                std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  switch (static_cast<pci_region>(region)) {
    case pci_region::bar0:
      session_->nvme.read_register(offset, out);
      break;
    case pci_region::bar4:
      std::memcpy(out.data(), msix_table_.data() + offset, out.size());
      break;
    case pci_region::bar5:
      read_pending_bits(offset, out);
      break;
    case pci_region::config:
      config_.read(offset, out);
      break;
    default:
      return answer::refuse(EINVAL);
  }
  return answer::ok();
}

answer vfio_user_endpoint::write(request_id id, std::uint32_t region, std::uint64_t offset,
                                 std::span<const std::byte> in) {
  switch (static_cast<pci_region>(region)) {
    case pci_region::bar0:
      write_registers(offset, in);
      break;
    case pci_region::bar4:
      std::memcpy(msix_table_.data() + offset, in.data(), in.size());
      break;
    case pci_region::bar5:
      break;  // read-only
    case pci_region::config:
      return write_config(id, offset, in);
    default:
      return answer::refuse(EINVAL);
  }
  return answer::ok();
}

void vfio_user_endpoint::read_pending_bits(std::uint64_t offset, std::span<std::byte> out) const {
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t bit = 0; bit < 8; ++bit) {
      const std::size_t vector = (offset + i) * 8 + bit;
      if (vector < msix_.size() && msix_.pending(vector)) {
        out[i] |= std::byte{1} << bit;
      }
    }
  }
}

void vfio_user_endpoint::write_registers(std::uint64_t offset, std::span<const std::byte> in) {
  session_->nvme.write_register(offset, in);
  report_if_fatal();
  update_pin();  // the host may have cleared its interrupt mask
}

answer vfio_user_endpoint::write_config(request_id id, std::uint64_t offset,
                                        std::span<const std::byte> in) {
  const pci_config_effects effects = config_.write(offset, in);
  if (effects.interrupts) {
    msix_.mask(config_.msix_masked());
  }
  if (effects.reset) {
    return reset(id);
  }
  if (effects.command || effects.interrupts) {
    update_pin();
  }
  if (!effects.command) {
    return answer::ok();
  }
  if (config_.bus_master()) {
    session_->nvme.resume();
    return answer::ok();
  }
  // A host that reads the bit back as zero may take its memory away.
  session_->nvme.pause();
  return wait(waiting::bus_master_off, id);
}

answer vfio_user_endpoint::reset(request_id id) {
  session_->nvme.pause();
  return wait(waiting::reset, id);
}

void vfio_user_endpoint::reset_function() {
  session_->nvme.reset();
  config_.reset();
  msix_.mask(false);
  pin_masked_ = false;
}

answer vfio_user_endpoint::dma_map(request_id id, const region& added) {
  if (added.address == nullptr) {
    session_->memory_without_file |= added.length >= ram_bytes_min;
    return answer::ok();
  }
  if (mapper_.needless(added)) {
    return wait(waiting::add, id, &added);
  }
  session_->memory.hide(&added);
  mapper_.map(added);
  return wait(waiting::map, id, &added);
}

answer vfio_user_endpoint::dma_unmap(request_id id, const region& leaving) {
  if (leaving.address == nullptr) {
    return answer::ok();  // it was never in use
  }
  return wait(waiting::leave, id, &leaving);
}

interrupt_lines* vfio_user_endpoint::lines_of(std::uint32_t index) noexcept {
  switch (static_cast<pci_irq>(index)) {
    case pci_irq::intx:
      return &pin_;
    case pci_irq::msix:
      return &msix_;
    case pci_irq::msi:
    case pci_irq::err:
    case pci_irq::req:
      break;
  }
  return nullptr;
}

answer vfio_user_endpoint::set_irq_triggers(std::uint32_t index, std::uint32_t start,
                                            std::span<unique_fd> eventfds) {
  interrupt_lines* const lines = lines_of(index);
  if (lines == nullptr || !lines->assign(start, eventfds)) {
    return answer::refuse(EINVAL);
  }
  if (lines == &pin_) {
    pin_masked_ = false;
    update_pin();
  }
  return answer::ok();
}

void vfio_user_endpoint::disable_irqs(std::uint32_t index) {
  if (interrupt_lines* const lines = lines_of(index)) {
    lines->clear();
  }
}

answer vfio_user_endpoint::trigger_irqs(const vfio::irq_vectors& which) {
  const interrupt_lines* const lines = lines_of(which.index);
  const bool tried = lines != nullptr && lines->try_out(which.start, which.count);
  return tried ? answer::ok() : answer::refuse(EINVAL);
}

void vfio_user_endpoint::mask_irq(std::uint32_t index, bool masked) {
  if (static_cast<pci_irq>(index) == pci_irq::intx) {
    pin_masked_ = masked;
    update_pin();
  }
}

/// A client that assigns a vector its eventfd wants to be told by it, as with VFIO, where this is
/// how vectors are enabled; not all pass on what a guest writes to configuration space.
void vfio_user_endpoint::raise(std::uint16_t vector) noexcept {
  if (config_.msix_enabled() || msix_.has_eventfd(vector)) {
    msix_.raise(vector);
  } else {
    update_pin();
  }
}

/// The pin is a level, an eventfd is not: it is told once, and looked at again when unmasked.
void vfio_user_endpoint::update_pin() noexcept {
  if (pin_masked_ || config_.msix_enabled() || config_.intx_disabled() || !session_ ||
      !session_->nvme.pin_asserted()) {
    return;
  }
  pin_masked_ = true;
  pin_.raise(0);
}

}  // namespace runnel::target
